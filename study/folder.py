"""A study directory: made once, opened by one driver at a time."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from study import manifest
from study.experiment import Experiment, ExperimentError, load
from trainables.errors import UserError

EXPERIMENT = "experiment.yaml"
LOCK = ".lock"


class FolderError(UserError):
    """The study directory cannot be used."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold ``folder``, which is made if it is not there, until the block or this process ends.

    Raises:
        FolderError: another process holds it, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("a+")
    except OSError as error:
        raise FolderError(f"--dir {folder}: {error.strerror}") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise FolderError(
                f"{folder} is in use by {holder}: wait until it has ended, or stop it; to look on: "
                f"filter-study status {folder}"
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield


def in_use(folder: Path) -> bool:
    """Whether a driver holds the study directory."""
    try:
        with (folder / LOCK).open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def create(folder: Path, experiment: Experiment, confirms: dict[str, object] | None = None) -> None:
    """Write the resolved experiment and the manifest into ``folder``, which must hold nothing yet.

    Raises:
        FolderError: it holds something already, or cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(path.name != LOCK for path in folder.iterdir()):
            raise FolderError(f"{folder} is not empty; a study needs a folder of its own: choose another --dir")
        manifest.write(manifest.collect(experiment, confirms), folder)
        (folder / EXPERIMENT).write_text(experiment.to_yaml(), "utf-8")
    except OSError as error:
        raise FolderError(f"--dir {folder}: {error.strerror}") from None


CHANGEABLE = ("resources", "recovery", "wandb", "tensorboard", "data_dir")


def reopen(folder: Path, overrides: Sequence[str] = (), more: int = 0) -> Experiment:
    """The experiment of the study in ``folder``, with ``more`` configurations to try.

    Arguments:
        overrides: ``key=value`` for keys that change no result.

    Raises:
        FolderError: there is no study.
        ExperimentError: the experiment, or an override, is not valid.
    """
    if not (folder / EXPERIMENT).is_file():
        raise FolderError(f"{folder} holds no study: there is no {EXPERIMENT} in it")
    errors = [
        f"--set {override}: a study goes on as it began; what can be changed is {', '.join(CHANGEABLE)}"
        for override in overrides
        if override.partition("=")[0].partition(".")[0].strip() not in CHANGEABLE
    ]
    if errors:
        raise ExperimentError(str(folder), errors)
    experiment = load(str(folder / EXPERIMENT), overrides)
    search = experiment.search
    if more and search.trials is None:
        raise ExperimentError(str(folder), [f"--add-trials {more}: search.name {search.name} has run every point"])
    if more and search.trials is not None:
        experiment = load(str(folder / EXPERIMENT), [*overrides, f"search.trials={search.trials + more}"])
    return experiment.model_copy(update={"name": manifest.read(folder).get("name", experiment.name)})


def keep(folder: Path, experiment: Experiment) -> None:
    """Put ``experiment`` in the place of the one that the study had, at once or not at all."""
    part = folder / f"{EXPERIMENT}.part"
    part.write_text(experiment.to_yaml(), "utf-8")
    part.replace(folder / EXPERIMENT)
