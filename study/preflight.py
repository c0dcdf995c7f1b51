"""What is looked at before anything starts: where comparisons run, and whether their data are there."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from random import Random
from types import MappingProxyType
from typing import Any

import torch

from search_spaces.domains import combined
from study import code, memory, references, storage, trackers
from study.cluster import nodes, slots
from study.experiment import Experiment, ExperimentError
from study.limits import available_cpus
from trainables import augment, imports, models
from trainables.augment import Augmentation
from trainables.comparison import resolve_device
from trainables.config import AnyModel, DatasetConfig, Runtime, TrialConfig, UsedModel, kind
from trainables.data import CLASSES, DatasetError, Dimensions, dimensions, load
from trainables.errors import UserError
from trainables.imports import CodeError
from trainables.methods.filling import unfillable
from trainables.metrics import trial_run
from trainables.places import Place
from trainables.precision import check_precision
from trainables.rehearsal import rehearse

CPU = torch.device("cpu")

FILLING = frozenset(
    {
        "batch_size",
        "epochs",
        "dataset.name",
        "dataset.classes",
        "dataset.samples_per_class",
        "dataset.validation_fraction",
        "dataset.imbalance",
    }
)
"""The keys that decide, with those of the arms, whether batches can be filled."""

PARTS = {"train": "training", "validation": "validation", "test": "test"}
LISTED = 10
"""Classes whose names a line holds."""

REHEARSED = 8
"""Configurations whose arms are rehearsed, at most: each takes a moment for every arm."""

THREADS_PER_CORE = 64
"""Threads that ``train`` takes at most: more than cores, for results are bit-identical for the same number of them."""


def runtime(
    experiment: Experiment, device: str = "auto", known: Mapping[str, tuple[float, float]] = MappingProxyType({})
) -> Runtime:
    """Where the experiment's comparisons run; ``known`` are the references of its study."""
    try:
        data_dir = Place.of(experiment.data_dir).root
    except ValueError as error:
        raise DatasetError(f"data_dir {experiment.data_dir!r}: {error}") from None
    return Runtime.model_validate(
        {
            "device": device,
            "threads": experiment.resources.cpu,
            "data_dir": data_dir,
            "trace": experiment.trace,
            "cuda_graphs": experiment.resources.cuda_graphs,
            "deterministic": experiment.resources.deterministic,
            "memory_gib": experiment.resources.memory_gib,
            "reference": dict(known),
        }
    )


def under_ray(experiment: Experiment, known: Mapping[str, tuple[float, float]] = MappingProxyType({})) -> Runtime:
    """The same under Ray, where a comparison that was given no GPU uses none."""
    return runtime(experiment, "cuda" if experiment.resources.gpu else "cpu", known)


def check(experiment: Experiment, device: str | None = None, begun: bool = False, here: bool = True) -> list[str]:
    """Check storage, arithmetic and threads, read every data set and build every network that the search can ask for.

    Args:
        experiment: what is to run.
        device: auto, cpu or cuda: where ``train`` trains in this process. None: in Ray's workers, which use a GPU if
            ``resources.gpu`` is above 0; whether there is one, :func:`check_resources` says.
        begun: whether the study has begun, so that its configurations are what they are: it goes on with batches that
            cannot be filled.
        here: whether comparisons train on this machine, so that they must have room in its memory.

    Returns:
        What :func:`networks` says.

    Raises:
        UserError: of several errors, all are named.
    """
    built: list[str] = []
    checks = _checks(experiment, device, begun)
    started = [partial(storage.probe, experiment), partial(trackers.check, experiment)]
    _all(experiment, [*started, *checks, lambda: built.extend(networks(experiment, here))])
    return built


def check_data(experiment: Experiment, device: str | None = None) -> None:
    """The same without storage, trackers and networks.

    Raises:
        UserError: of several errors, all are named.
    """
    _all(experiment, _checks(experiment, device, begun=False))


def check_alone(experiment: Experiment, device: str) -> None:
    """The same of what trains in this process and leaves no record: without storage and trackers.

    Raises:
        UserError: of several errors, all are named.
    """
    _all(experiment, [*_checks(experiment, device, begun=False), lambda: networks(experiment)])


def networks(experiment: Experiment, here: bool = True) -> list[str]:
    """Build every network that the search can ask for, for its data; each in a line: parameters and output.

    Args:
        experiment: what is to run.
        here: whether comparisons train on this machine, so that they must have room in its memory.

    Raises:
        ExperimentError: one cannot be built, does not take the images, or has no room; all errors at once.
    """
    data_dir = runtime(experiment, "cpu").data_dir
    found: dict[tuple[AnyModel, Dimensions], models.Examined | None] = {}
    dearest: dict[AnyModel, memory.Asked] = {}
    errors: list[str] = []
    lines: list[str] = []
    held = {title: _bytes(dataset, data_dir) for title, dataset in _largest(experiment).items()}
    for config in (TrialConfig.from_dotted(corner) for corner in experiment.corners()):
        try:
            shape = dimensions(config.dataset, data_dir)
            if isinstance(config.model, UsedModel):
                imports.find(config.model.use, "models")
        except UserError:  # another check says so
            continue
        if (config.model, shape) not in found:
            try:
                seen = found[config.model, shape] = models.examine(config.model, *shape)
            except CodeError as error:
                errors.append(str(error))
                found[config.model, shape] = None
                continue
            images = " x ".join(map(str, (shape.channels, *shape.size)))
            output = f"output [n, {', '.join(map(str, seen.output))}] for images of {images}"
            lines.append(f"{config.model.title}: {seen.parameters:,} parameters, {output}")
        if known := found[config.model, shape]:
            one = memory.Asked(config, known, shape, held[config.dataset.title])
            dearest[config.model] = max(dearest.get(config.model, one), one, key=memory.least)
    if here:
        troubles = [memory.trouble(asked, experiment.resources) for asked in dearest.values()]
        errors += [one for one in troubles if one]
    if errors:
        raise ExperimentError(experiment.name, errors)
    return list(dict.fromkeys(lines))


def _bytes(dataset: DatasetConfig, data_dir: str) -> int:
    """Bytes that a data set takes in memory; none where it cannot be read: another check says so."""
    try:
        splits = load(dataset, data_dir, CPU).splits()
    except UserError:
        return 0
    return sum(split.images.nbytes + split.labels.nbytes for _, split in splits)


def _checks(experiment: Experiment, device: str | None, begun: bool) -> list[Callable[[], object]]:
    """What is to be checked of arithmetic, threads, data and batches."""
    where = runtime(experiment, "cpu")
    corners = [TrialConfig.from_dotted(corner) for corner in experiment.corners()]
    checks: list[Callable[[], object]] = [partial(code.check, experiment)]
    if device:
        checks += [partial(_check_threads, experiment), partial(resolve_device, runtime(experiment, device))]
    trained_on = _kind(experiment, device)
    checks += [
        partial(check_precision, precision, trained_on) for precision in {corner.precision for corner in corners}
    ]
    checks += [partial(load, data, where.data_dir, CPU) for data in {corner.dataset for corner in corners}]
    shown = {(corner.dataset, corner.augmentation) for corner in corners}
    checks += [partial(_check_augmentation, *one, where.data_dir) for one in sorted(shown, key=repr)]
    checks += [partial(_check_metrics, experiment, corners, where.data_dir)]
    if not begun:
        checks.append(partial(_rehearse, experiment, corners))
    if not begun:
        checks.append(partial(_check_batches, experiment, corners, where.data_dir))
        checks.append(partial(references.check, experiment, where.data_dir))
    return checks


def _all(experiment: Experiment, checks: Sequence[Callable[[], object]]) -> None:
    """Raise what the checks raise, of several all at once."""
    errors = [error for one in checks if (error := _error(one)) is not None]
    if len(errors) > 1:
        told = [error.errors if isinstance(error, ExperimentError) else [str(error)] for error in errors]
        raise ExperimentError(experiment.name, [line for lines in told for line in lines])
    for error in errors:
        raise error


def _error(check: Callable[[], object]) -> UserError | None:
    """What a check raises."""
    try:
        check()
    except UserError as error:
        return error
    return None


def _kind(experiment: Experiment, device: str | None) -> str:
    """The type of the device that comparisons train on, be it there or not."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device or under_ray(experiment).device


def described(experiment: Experiment) -> dict[str, dict[str, Any]]:
    """What the data sets are that the search can ask for, by title: counts, shape, classes, the channels' means.

    Empty but for those that can be read; what is wrong with the others, :func:`check_data` says. Of
    several subsets of one data set, the largest is described.
    """
    data_dir = runtime(experiment, "cpu").data_dir
    found: dict[str, dict[str, Any]] = {}
    for title, dataset in sorted(_largest(experiment).items()):
        try:
            data = load(dataset, data_dir, CPU)
        except UserError:
            continue
        found[title] = {
            **{name: len(split.labels) for name, split in data.splits()},
            "channels": data.channels,
            "height": data.size[0],
            "width": data.size[1],
            "mean": [round(float(value), 4) for value in data.mean.flatten()],
            "classes": list(data.names),
        }
    return found


def _largest(experiment: Experiment) -> dict[str, DatasetConfig]:
    """Of every data set that the search can ask for, by title, the largest subset."""
    asked = {TrialConfig.from_dotted(corner).dataset for corner in experiment.corners()}
    return {dataset.title: dataset for dataset in sorted(asked, key=_amount)}


def _amount(dataset: DatasetConfig) -> tuple[float, ...]:
    """What orders subsets of one data set by how much they keep of it."""
    return dataset.classes or math.inf, dataset.samples_per_class or math.inf, -dataset.imbalance, -dataset.split_seed


def sentence(title: str, data: Mapping[str, Any]) -> str:
    """A data set in a line, from what :func:`described` says."""
    counts = ", ".join(f"{data[name]:,} {word}" for name, word in PARTS.items() if name in data)
    shape = f"{data['channels']} x {data['height']} x {data['width']}"
    names = [*data["classes"][:LISTED], *["…"] * (len(data["classes"]) > LISTED)]
    means = ", ".join(f"{value:.3f}" for value in data["mean"])
    return (
        f"{title}: {counts} images of {shape} (channels x height x width) in {len(data['classes'])} classes "
        f"({', '.join(names)}); channel means {means}"
    )


def _check_batches(experiment: Experiment, corners: Sequence[TrialConfig], data_dir: str) -> None:
    """Whether every arm can fill its batches, also where several keys that decide it are at their extremes."""
    decisive = {key for key in experiment.space if key in FILLING or key.startswith("arms.")}
    together = (
        [] if experiment.search.name == "points" else combined(experiment.space, experiment.fixed, decisive, Random(0))
    )
    configs = [*corners, *filter(None, map(_valid, together))]
    sizes = {data: _training_samples(data, data_dir) for data in {config.dataset for config in configs}}
    found: dict[str, str] = {}
    for config in sorted(configs, key=lambda config: -config.batch_size):
        size = sizes[config.dataset]
        found = (unfillable(config, size) if size is not None else {}) | found  # the first stands, of the largest batch
    if found:
        raise ExperimentError(experiment.name, list(found.values()))


def _check_metrics(experiment: Experiment, corners: Sequence[TrialConfig], data_dir: str) -> None:
    """Whether every own metric takes logits and labels and returns what it declares."""
    errors = []
    tried: list[tuple[Any, int]] = []
    for config in corners:
        if not config.metrics:
            continue
        try:
            classes = load(config.dataset, data_dir, CPU).classes
        except UserError:  # another check says so
            continue
        if (config.metrics, classes) not in tried:
            tried.append((config.metrics, classes))
            errors += trial_run(config.metrics, classes)
    if errors:
        raise ExperimentError(experiment.name, errors)


def _rehearse(experiment: Experiment, corners: Sequence[TrialConfig]) -> None:
    """Whether the arms go through all phases of their methods; of the first configurations that differ in them."""
    arms: dict[str, TrialConfig] = {}
    for config in corners:
        arms.setdefault(repr(config.arms), config)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the network is tiny
    try:
        errors = [error for config in [*arms.values()][:REHEARSED] if (error := rehearse(config))]
    finally:
        torch.set_num_threads(threads)
    if errors:
        raise ExperimentError(experiment.name, list(dict.fromkeys(errors)))


def _valid(values: Mapping[str, Any]) -> TrialConfig | None:
    """The configuration of these dotted keys; None where there is none: another check says so."""
    try:
        return TrialConfig.from_dotted(values)
    except ValueError:
        return None


def _training_samples(dataset: DatasetConfig, data_dir: str) -> int | None:
    """How many training samples a data set has; None where it cannot be read: another check says so."""
    classes = dataset.classes or CLASSES.get(str(kind(dataset)))
    if dataset.samples_per_class is not None and dataset.imbalance == 1 and classes:
        return dataset.samples_per_class * classes
    try:
        return len(load(dataset, data_dir, CPU).train.labels)
    except UserError:
        return None


def _check_augmentation(dataset: DatasetConfig, augmentation: Augmentation | None, data_dir: str) -> None:
    """Whether the augmentation suits the data set's images, if these can be read: another check says whether."""
    try:
        channels = dimensions(dataset, data_dir).channels
    except UserError:
        return
    augment.check(augmentation or "none", channels, f"the images of {dataset.title}")


def _check_threads(experiment: Experiment) -> None:
    """Whether this process can have that many threads: at 100,000, torch ends it without a word."""
    threads, cores = experiment.resources.cpu, available_cpus()
    if threads > (most := THREADS_PER_CORE * cores):
        error = f"resources.cpu: {threads}: this process may use {cores} CPU cores; set at most {most}"
        raise ExperimentError(experiment.name, [error])


def check_resources(experiment: Experiment) -> None:
    """Whether one comparison fits on a node of the Ray that was joined, or on this machine; Tune would wait for ever.

    Raises:
        ExperimentError: it asks for more cores or GPUs than any of them has.
    """
    resources, having = experiment.resources, nodes()
    if slots(having, resources.cpu, resources.gpu):
        return
    cores, gpus = max(node.cpus for node in having), max(node.gpus for node in having)
    what = "this machine has" if len(having) == 1 else f"none of {len(having)} nodes has both; the largest have"
    errors = []
    if resources.cpu > cores or resources.gpu <= gpus:
        errors.append(f"resources.cpu: {resources.cpu}: {what} {cores} CPU cores")
    if resources.gpu > gpus:
        errors.append(f"resources.gpu: {resources.gpu}: {what} {gpus} GPUs; set it to 0 for the CPU")
    raise ExperimentError(experiment.name, errors)
