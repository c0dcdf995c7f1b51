"""The references of a study: which it needs for budgets of reference seconds, and how they are measured beforehand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from random import Random
from typing import Any

import torch

from search_spaces import domains
from search_spaces.domains import Parameter, SpaceError
from study.experiment import Experiment, ExperimentError
from trainables import clocks, imports
from trainables.clocks import Reference
from trainables.config import Runtime, TrialConfig
from trainables.data import dimensions
from trainables.errors import UserError
from trainables.reference import measured

CLOCK = "reference_seconds"
MOST = 256
"""References that are measured of a study at most: of small networks in two minutes, of large ones in hours."""
DRAWS = 4
"""How often the keys that no reference depends on are drawn: some of their values may not suit all others."""
DECISIVE = frozenset({"batch_size", "precision", "augmentation", "optimizer.name", "optimizer.use"})
"""The keys that a reference depends on, beside those of the network and of what an image is."""
SAMPLES = frozenset({"samples_per_class", "validation_fraction", "imbalance", "label_noise", "split_seed"})
"""Keys of a data set that say which samples there are, and not what an image is."""

Known = dict[str, tuple[float, float]]
"""Seconds per sample of a forward pass and of an update, by :func:`trainables.clocks.key`."""


def needed(experiment: Experiment) -> bool:
    """Whether a budget that the search can propose is in reference seconds."""
    configs = [TrialConfig.from_dotted(corner) for corner in experiment.corners()]
    return any(config.allotment(name).clock == CLOCK for config in configs for name in config.arms)


def asked(experiment: Experiment, data_dir: str) -> dict[str, TrialConfig]:
    """A configuration for every reference that the search can ask for, by key.

    Raises:
        ExperimentError: they cannot be listed, or are too many: says why, and what to do.
        UserError: a data set cannot be read.
    """
    found: dict[str, TrialConfig] = {}
    for config in _configurations(experiment):
        found.setdefault(clocks.key(config, dimensions(config.dataset, data_dir)), config)
    if len(found) > MOST:
        raise ExperimentError(experiment.name, [_too_many(experiment, f"{len(found):,}")])
    return found


def check(experiment: Experiment, data_dir: str) -> None:
    """Whether the references that the experiment needs can be measured beforehand.

    Raises:
        ExperimentError: its search can ask for too many, or for some that cannot be listed.
    """
    if needed(experiment):
        try:
            asked(experiment, data_dir)
        except ExperimentError:
            raise
        except UserError:  # of the data, of which another check tells
            return


def measure_here(configs: Mapping[str, TrialConfig], runtime: Runtime) -> Known:
    """The references of these configurations, measured in this process as ``runtime`` says.

    Raises:
        ExperimentError: one cannot be measured.
    """
    return _accepted(_outcomes(_plain(configs), runtime.model_dump(), ()))


def measure_under_ray(
    configs: Mapping[str, TrialConfig], experiment: Experiment, runtime: Runtime, folders: Sequence[str]
) -> Known:
    """The same in a worker of the Ray that was started or joined; it gets what one comparison gets.

    ``folders`` are those of the researcher's own code, as workers find them.

    Raises:
        ExperimentError: one cannot be measured.
    """
    import ray

    resources = experiment.resources
    task = ray.remote(num_cpus=resources.cpu, num_gpus=resources.gpu, max_calls=1)(_outcomes)
    try:
        return _accepted(ray.get(task.remote(_plain(configs), runtime.model_dump(), tuple(folders))))
    except ray.exceptions.RayError as error:
        said = str(error).strip().splitlines()[-1]
        raise ExperimentError(experiment.name, [f"budget: no reference seconds could be measured: {said}"]) from None


def _plain(configs: Mapping[str, TrialConfig]) -> dict[str, dict[str, Any]]:
    return {key: config.to_dotted() for key, config in configs.items()}


def _outcomes(
    configs: Mapping[str, Mapping[str, Any]], runtime: Mapping[str, Any], folders: Sequence[str]
) -> dict[str, Reference | str]:
    """The reference of each configuration, or why there is none; this runs where comparisons run."""
    imports.provide(folders)
    found: dict[str, Reference | str] = {}
    threads = torch.get_num_threads()
    for key, values in configs.items():
        try:
            found[key] = measured(TrialConfig.from_dotted(values), Runtime.model_validate(runtime))
        except (UserError, MemoryError, torch.OutOfMemoryError) as error:
            found[key] = str(error).strip() or "there is not enough memory"
    torch.set_num_threads(threads)
    return found


def _accepted(outcomes: Mapping[str, Reference | str]) -> Known:
    known: Known = {}
    errors = []
    for key, outcome in outcomes.items():
        if isinstance(outcome, str):
            errors.append(f"budget: no reference seconds of {key}: {outcome}")
        else:
            known[key] = (outcome[0], outcome[1])
    if errors:
        raise ExperimentError("reference seconds", errors)
    return known


def _configurations(experiment: Experiment) -> Iterator[TrialConfig]:
    """Configurations of which each reference is that of one: all, where the search has listed them for good."""
    if experiment.search.name in ("grid", "points"):
        yield from map(TrialConfig.from_dotted, experiment.configurations or ())
        return
    yield from map(TrialConfig.from_dotted, experiment.points)
    space = {key: parameter for key, parameter in experiment.space.items() if _decisive(key)}
    if endless := [key for key, parameter in space.items() if parameter.choice is None and parameter.integer is None]:
        raise ExperimentError(experiment.name, [f"space.{key}: {_UNLISTED}" for key in endless])
    number = prod(map(domains.count, space.values()))
    if number > MOST * DRAWS:
        raise ExperimentError(experiment.name, [_too_many(experiment, f"up to {number:,}")])
    for seed in range(DRAWS):
        for values in _combinations(experiment, space, Random(seed)):
            try:
                yield TrialConfig.from_dotted(values)
            except ValueError:  # these values do not suit one another, so that no search proposes them
                continue


def _combinations(experiment: Experiment, listed: domains.Space, rng: Random) -> list[dict[str, Any]]:
    """Every combination of the values of the ``listed`` keys, and of those that they are conditional on."""
    looked_at = {other for parameter in listed.values() for other in parameter.when}
    narrowed = {}
    for key, parameter in experiment.space.items():
        if key in listed:
            narrowed[key] = parameter
        else:
            values = parameter.telling(rng) if key in looked_at else (parameter.draw(rng),)
            narrowed[key] = Parameter(choice=values, when=parameter.when)
    try:
        return domains.grid(narrowed, experiment.fixed)
    except SpaceError:
        raise ExperimentError(experiment.name, [_too_many(experiment, "too many")]) from None


def _decisive(key: str) -> bool:
    """Whether a reference depends on the setting."""
    section, _, option = key.partition(".")
    return key in DECISIVE or section == "model" or (section == "dataset" and option not in SAMPLES)


_UNLISTED = (
    "a budget of reference seconds needs every value beforehand, for it is measured before anything runs; give them as "
    "choice, or take the clock compute"
)


def _too_many(experiment: Experiment, number: str) -> str:
    sizes = {
        key: domains.count(parameter)
        for key, parameter in experiment.space.items()
        if _decisive(key) and (parameter.choice is not None or parameter.integer is not None)
    }
    largest = max(sizes, key=lambda key: sizes[key], default="search")
    values = f" (space.{largest} alone has {sizes[largest]:,} values)" if largest in sizes else ""
    return (
        f"budget: reference seconds are measured before anything runs, for at most {MOST} networks, batch sizes and "
        f"the like, and this search can ask for {number}{values}; give fewer as choice, or take the clock compute"
    )
