"""For those who search with Optuna or Ray Tune in their own way: objectives, spaces, and studies of what they found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from filter_study import settings
from filter_study.reading import Study, load
from filter_study.settings import Device, Settings
from study import extras

if TYPE_CHECKING:
    import optuna
    from ray.tune import ResultGrid

    from study.plain_optuna import Objective


def objective(
    experiment: str | Path = "quickstart",
    set: Settings | None = None,
    data_dir: str | Path | None = None,
    device: Device = "auto",
    threads: int = 1,
    pruned_by: str | None = None,
) -> Objective:
    """A function of a trial for ``optuna.Study.optimize``: it trains the comparison that the trial suggests.

    The study is Optuna's own: its sampler, its storage, and its pruner, which hears of every epoch. What the experiment
    says of search and scheduler does not count. ``optuna.create_study(directions=objective.directions)`` has the right
    directions, and :func:`from_objective` makes a study of what was trained.

    Args:
        experiment: the name of a built-in one, or a file: its space, its settings, its objective and its seeds.
        set: keys to set over the file's.
        data_dir: folder or URI that data sets are read from.
        device: auto: CUDA where there is one.
        threads: CPU threads; for the whole process.
        pruned_by: the metric that the pruner hears of, such as ``better/validation_accuracy``, by which comparisons are
            stopped that do badly in both arms; none: the objective. A pruner that looks at the gap flatters the gap.

    Raises:
        UserError: the experiment cannot be an objective, or data are missing; of several errors all are named.
    """
    extras.demand("train", "objective")
    from study import preflight
    from study.plain_optuna import Objective
    from trainables import imports

    settled = settings.unscheduled(experiment, set, data_dir, threads)
    preflight.check_alone(settled, device)
    imports.provide(settled.code)
    return Objective(settled, preflight.runtime(settled, device), pruned_by)


def from_objective(objective: Objective, to: str | Path) -> Study:
    """The study of what an :func:`objective` of this process has trained so far.

    Args:
        objective: the function that Optuna called.
        to: an empty folder, or one to be made, for its tables, from which :func:`load` reads it again.

    Raises:
        TableError: the folder is not empty or cannot be written.
    """
    return _written(objective.tables(), to)


def from_result_grid(grid: ResultGrid, to: str | Path) -> Study:
    """The study that a ``tune.Tuner`` of one's own with :class:`Comparison` or :class:`Arm` left behind.

    Trials of :class:`Arm` that differ in ``arm`` alone are one comparison.

    Args:
        grid: what ``Tuner.fit()`` returned.
        to: an empty folder, or one to be made, for its tables, from which :func:`load` reads it again.

    Raises:
        TableError: it is of another trainable, or the folder is not empty or cannot be written.
    """
    from study import plain_tune

    return _written(plain_tune.tables(grid), to)


def tune_space(experiment: str | Path = "quickstart", set: Settings | None = None) -> dict[str, Any]:
    """An experiment's space as Ray Tune's domains, with its fixed settings: a ``param_space`` for :class:`Comparison`.

    A key that exists under a condition is drawn by a function of the others (``tune.sample_from``) and left out where
    the condition does not hold. Random and grid search take these; Ray's ``OptunaSearch`` does not: give it
    :func:`optuna_space`.

    Args:
        experiment: the name of a built-in one, or a file.
        set: keys to set over the file's.

    Raises:
        UserError: a setting cannot be; of several errors all are named.
    """
    extras.demand("train", "tune_space")
    from search_spaces import tune_domains

    settled = settings.unscheduled(experiment, set)
    return tune_domains.domains(settled.space, settled.fixed)


def optuna_space(
    experiment: str | Path = "quickstart", set: Settings | None = None
) -> Callable[[optuna.Trial], dict[str, Any]]:
    """An experiment's space as a define-by-run function: it suggests every key and returns the whole configuration.

    For an objective of one's own, and for Ray's ``OptunaSearch(space=…)``, whose configurations :class:`Comparison`
    takes.

    Args:
        experiment: the name of a built-in one, or a file.
        set: keys to set over the file's.

    Raises:
        UserError: a setting cannot be; of several errors all are named.
    """
    extras.demand("train", "optuna_space")
    from search_spaces import convert

    settled = settings.unscheduled(experiment, set)
    return convert.DefineByRun(settled.space, settled.fixed)


def _written(made: Mapping[str, pd.DataFrame], to: str | Path) -> Study:
    """The study of tables that are written to a folder."""
    from study import plain

    folder = Path(to).expanduser()
    plain.write(made, folder)
    return load(folder)
