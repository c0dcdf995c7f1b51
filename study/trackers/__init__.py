"""Where a study's comparisons are shown beside its own record: W&B, TensorBoard, MLflow, or a place of one's own.

All go through one door, :func:`opened`. None is the record of truth, and no fault of one touches a study: it ends its
own tracking, which is said once.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import util
from pathlib import Path

from study import manifest
from study.experiment import Experiment
from study.extras import MissingError
from study.trackers.base import Tracker
from trainables import imports
from trainables.errors import UserError

PROVIDED = ("folder", "study")
"""What a tracker of one's own is given beside its options."""


class TrackerError(UserError, ValueError):
    """A tracker that an experiment names cannot be used."""


def check(experiment: Experiment) -> None:
    """Find the trackers of one's own, and the libraries of the others.

    Raises:
        TrackerError: one is not there, or takes other options; all errors at once.
        MissingError: the library of one is not installed.
    """
    if experiment.mlflow.uri is not None and util.find_spec("mlflow") is None:
        raise MissingError("mlflow", "mlflow.uri is set, and MLflow")
    imports.provide(experiment.code)
    errors = []
    for name, tracker in experiment.trackers.items():
        try:
            found = imports.find(tracker.use, "trackers")
            problems = imports.misfits(found, tracker.options, PROVIDED) if callable(found) else ["is not callable"]
        except imports.CodeError as error:
            problems = [str(error)]
        errors += [f"trackers.{name}: {problem}" for problem in problems]
    if errors:
        raise TrackerError("; ".join(errors))


def finish(experiment: Experiment, folder: Path, say: Callable[[str], None]) -> None:
    """Hand the tables of a study that has ended to the trackers that keep them; ``say`` is told of trouble."""
    if experiment.wandb.mode == "disabled" or not experiment.wandb.artifact:
        return
    from analysis import export, sources
    from study.trackers.weights_and_biases import keep_tables

    try:
        tables = export.export(sources.read([str(folder)]), folder / "tables", "parquet")
    except UserError as error:  # such as a full disk, which whoever asks for the report is told of
        say(f"W&B has not got the tables: {error}")
        return
    if trouble := keep_tables(experiment.wandb, folder, manifest.identity(folder), tables):
        say(trouble)


def opened(experiment: Experiment, folder: Path, say: Callable[[str], None]) -> list[Tracker]:
    """The trackers that an experiment asks for, for the study in ``folder``; ``say`` is told of trouble with them."""
    study = manifest.identity(folder)
    trackers: list[Tracker] = []
    if experiment.wandb.mode != "disabled":
        from study.trackers import weights_and_biases as wandb

        settings, remark = wandb.settle(experiment.wandb, folder)
        if remark:
            say(remark)
        sweep = wandb.sweep_run() if experiment.trials == 1 else None
        trackers.append(wandb.WandbTracker(settings, folder, study, sweep))
    if experiment.tensorboard:
        from study.trackers.tensorboard import TensorBoardTracker

        trackers.append(TensorBoardTracker(folder))
    if experiment.mlflow.uri is not None:
        from study.trackers.mlflow import MlflowTracker

        trackers.append(MlflowTracker(experiment.mlflow, study))
    for name, own in experiment.trackers.items():
        from study.trackers.own import OwnTracker

        trackers.append(OwnTracker(name, own, folder, study))
    return trackers
