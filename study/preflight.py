"""What is looked at before anything starts: where comparisons run, and whether their data are there."""

from __future__ import annotations

from pathlib import Path

from study.experiment import Experiment
from trainables.comparison import resolve_device
from trainables.config import Runtime, TrialConfig
from trainables.data import load


def runtime(experiment: Experiment, device: str = "auto") -> Runtime:
    """Where the experiment's comparisons run."""
    if device == "auto" and not experiment.resources.gpu:
        device = "cpu"
    return Runtime.model_validate(
        {
            "device": device,
            "threads": experiment.resources.cpu,
            "data_dir": str(Path(experiment.data_dir).expanduser().resolve()),
        }
    )


def check(experiment: Experiment) -> None:
    """Read every data set that the search can ask for, so that a missing one is found before anything starts.

    Raises:
        DatasetError: names the data set or file and the remedy.
    """
    where = runtime(experiment, "cpu")
    for dataset in {TrialConfig.from_dotted(corner).dataset for corner in experiment.corners()}:
        load(dataset, where.data_dir, resolve_device(where))
