"""What is looked at before anything starts: where comparisons run, and whether their data are there."""

from __future__ import annotations

from pathlib import Path

from study.cluster import nodes, slots
from study.experiment import Experiment, ExperimentError
from trainables.checkpoints import filesystem, is_uri
from trainables.comparison import resolve_device
from trainables.config import Runtime, TrialConfig
from trainables.data import DatasetError, load


def runtime(experiment: Experiment, device: str = "auto") -> Runtime:
    """Where the experiment's comparisons run."""
    data_dir: str | Path = experiment.data_dir
    try:
        data_dir = data_dir if is_uri(experiment.data_dir) else Path(data_dir).expanduser().resolve()
    except RuntimeError as error:
        raise DatasetError(f"data_dir {experiment.data_dir!r}: {error}; give the folder's whole path") from None
    return Runtime.model_validate(
        {
            "device": device,
            "threads": experiment.resources.cpu,
            "data_dir": str(data_dir),
            "trace": experiment.trace,
            "cuda_graphs": experiment.resources.cuda_graphs,
            "deterministic": experiment.resources.deterministic,
            "memory_gib": experiment.resources.memory_gib,
        }
    )


def under_ray(experiment: Experiment) -> Runtime:
    """The same under Ray, where a comparison that was given no GPU uses none."""
    return runtime(experiment, "cuda" if experiment.resources.gpu else "cpu")


def check(experiment: Experiment, device: str = "cpu") -> None:
    """Look for ``device``, and read every data set that the search can ask for, before anything starts.

    Raises:
        ExperimentError: nobody knows the file system of its storage.
        DatasetError: names the data set or file and the remedy.
        DeviceError: the device is not there.
    """
    if experiment.storage is not None:
        try:
            filesystem(experiment.storage)
        except (ValueError, OSError) as error:
            raise ExperimentError(experiment.name, [f"storage: {error}"]) from None
    resolve_device(runtime(experiment, device))
    where = runtime(experiment, "cpu")
    for dataset in {TrialConfig.from_dotted(corner).dataset for corner in experiment.corners()}:
        load(dataset, where.data_dir, resolve_device(where))


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
