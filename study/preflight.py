"""What is looked at before anything starts: where comparisons run, and whether their data are there."""

from __future__ import annotations

from pathlib import Path

import torch

from study.cluster import available_cpus
from study.experiment import Experiment, ExperimentError
from trainables.comparison import resolve_device
from trainables.config import Runtime, TrialConfig
from trainables.data import DatasetError, load


def runtime(experiment: Experiment, device: str = "auto") -> Runtime:
    """Where the experiment's comparisons run."""
    data_dir: str | Path = experiment.data_dir
    try:
        data_dir = data_dir if "://" in experiment.data_dir else Path(data_dir).expanduser().resolve()
    except RuntimeError as error:
        raise DatasetError(f"data_dir {experiment.data_dir!r}: {error}; give the folder's whole path") from None
    return Runtime.model_validate(
        {
            "device": device,
            "threads": experiment.resources.cpu,
            "data_dir": str(data_dir),
            "trace": experiment.trace,
            "memory_gib": experiment.resources.memory_gib,
        }
    )


def under_ray(experiment: Experiment) -> Runtime:
    """The same under Ray, where a comparison that was given no GPU uses none."""
    return runtime(experiment, "cuda" if experiment.resources.gpu else "cpu")


def check(experiment: Experiment, device: str = "cpu") -> None:
    """Look for ``device``, and read every data set that the search can ask for, before anything starts.

    Raises:
        DatasetError: names the data set or file and the remedy.
        DeviceError: the device is not there.
    """
    resolve_device(runtime(experiment, device))
    where = runtime(experiment, "cpu")
    for dataset in {TrialConfig.from_dotted(corner).dataset for corner in experiment.corners()}:
        load(dataset, where.data_dir, resolve_device(where))


def check_resources(experiment: Experiment) -> None:
    """Whether this machine can run one comparison; Tune would wait for ever for what is not there.

    Raises:
        ExperimentError: it asks for more cores or GPUs than there are.
    """
    errors = []
    cores, gpus = available_cpus(), torch.cuda.device_count()
    if experiment.resources.cpu > cores:
        errors.append(f"resources.cpu: {experiment.resources.cpu}: this machine has {cores} CPU cores")
    if experiment.resources.gpu > gpus:
        errors.append(
            f"resources.gpu: {experiment.resources.gpu}: this machine has {gpus} GPUs; set it to 0 for the CPU"
        )
    if errors:
        raise ExperimentError(experiment.name, errors)
