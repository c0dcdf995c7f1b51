"""What is looked at before anything starts: where comparisons run, and whether their data are there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from random import Random
from typing import Any

import torch

from search_spaces.domains import combined
from study import storage
from study.cluster import nodes, slots
from study.experiment import Experiment, ExperimentError
from study.limits import available_cpus
from trainables.comparison import resolve_device
from trainables.config import DatasetConfig, Runtime, TrialConfig
from trainables.data import CLASSES, DatasetError, load
from trainables.errors import UserError
from trainables.places import Place
from trainables.precision import check_precision
from trainables.samplers.filling import unfillable

CPU = torch.device("cpu")

FILLING = frozenset(
    {
        "batch_size",
        "epochs",
        "dataset.name",
        "dataset.classes",
        "dataset.samples_per_class",
        "dataset.validation_fraction",
    }
)
"""The keys that decide, with those of the arms, whether batches can be filled."""

THREADS_PER_CORE = 64
"""Threads that ``train`` takes at most: more than cores, for results are bit-identical for the same number of them."""


def runtime(experiment: Experiment, device: str = "auto") -> Runtime:
    """Where the experiment's comparisons run."""
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
        }
    )


def under_ray(experiment: Experiment) -> Runtime:
    """The same under Ray, where a comparison that was given no GPU uses none."""
    return runtime(experiment, "cuda" if experiment.resources.gpu else "cpu")


def check(experiment: Experiment, device: str | None = None, begun: bool = False) -> None:
    """Check storage, arithmetic and threads, and read every data set that the search can ask for, before a start.

    Args:
        experiment: what is to run.
        device: auto, cpu or cuda: where ``train`` trains in this process. None: in Ray's workers, which use a GPU if
            ``resources.gpu`` is above 0; whether there is one, :func:`check_resources` says.
        begun: whether the study has begun, so that its configurations are what they are: it goes on with batches that
            cannot be filled.

    Raises:
        UserError: of several errors, all are named.
    """
    _all(experiment, [partial(storage.probe, experiment), *_checks(experiment, device, begun)])


def check_data(experiment: Experiment, device: str | None = None) -> None:
    """The same without the storage.

    Raises:
        UserError: of several errors, all are named.
    """
    _all(experiment, _checks(experiment, device, begun=False))


def _checks(experiment: Experiment, device: str | None, begun: bool) -> list[Callable[[], object]]:
    """What is to be checked of arithmetic, threads, data and batches."""
    where = runtime(experiment, "cpu")
    corners = [TrialConfig.from_dotted(corner) for corner in experiment.corners()]
    checks: list[Callable[[], object]] = []
    if device:
        checks += [partial(_check_threads, experiment), partial(resolve_device, runtime(experiment, device))]
    kind = _kind(experiment, device)
    checks += [partial(check_precision, precision, kind) for precision in {corner.precision for corner in corners}]
    checks += [partial(load, data, where.data_dir, CPU) for data in {corner.dataset for corner in corners}]
    checks += [] if begun else [partial(_check_batches, experiment, corners, where.data_dir)]
    return checks


def _all(experiment: Experiment, checks: Sequence[Callable[[], object]]) -> None:
    """Raise what the checks raise, of several all at once."""
    errors = [error for one in checks if (error := _error(one)) is not None]
    if len(errors) > 1:
        raise ExperimentError(experiment.name, [str(error) for error in errors])
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


def _valid(values: Mapping[str, Any]) -> TrialConfig | None:
    """The configuration of these dotted keys; None where there is none: another check says so."""
    try:
        return TrialConfig.from_dotted(values)
    except ValueError:
        return None


def _training_samples(dataset: DatasetConfig, data_dir: str) -> int | None:
    """How many training samples a data set has; None where it cannot be read: another check says so."""
    if dataset.samples_per_class is not None:
        return dataset.samples_per_class * (dataset.classes or CLASSES[dataset.name])
    try:
        return len(load(dataset, data_dir, CPU).train.labels)
    except DatasetError:
        return None


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
