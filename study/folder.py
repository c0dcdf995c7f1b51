"""A study directory: made once, opened by one driver at a time."""

from __future__ import annotations

import errno
import fcntl
import os
import shlex
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import TextIO

from analysis.names import similar
from analysis.writing import write_text
from study import code, manifest
from study.experiment import Experiment, ExperimentError, load
from study.located import located
from trainables.errors import UserError

EXPERIMENT = "experiment.yaml"
STUDIES = Path("studies")
"""Where studies are kept unless it is said."""
LOCK = ".lock"
HELD = (errno.EWOULDBLOCK, errno.EACCES)
"""What flock says where another process holds the lock."""
LOOK_SECONDS = 0.5
"""A driver tries for so long to take the lock: whoever looks whether there is a driver holds it for a moment."""


class FolderError(UserError):
    """The study directory cannot be used."""


def name(stem: str = "") -> str:
    """A name that begins with ``stem`` and says the present second."""
    return f"{stem}{'-' if stem else ''}{datetime.now():%Y%m%d-%H%M%S}"


def new(parent: Path, stem: str = "") -> Path:
    """Make a folder in ``parent`` that no other process has, named after ``stem`` and the time.

    Raises:
        FolderError: it cannot be made.
    """
    made(parent)
    base = name(stem)
    names = (f"{base}-{number}" if number > 1 else base for number in count(1))
    return next(parent / one for one in names if _claimed(parent / one))


def _claimed(folder: Path) -> bool:
    """Whether this process has made ``folder``; it has not where it is there."""
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    except OSError as error:
        raise FolderError(f"{folder}: {error.strerror}; name another folder with --dir") from None
    return True


def made(folder: Path) -> Path:
    """``folder``, made if it is not there.

    Raises:
        FolderError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise FolderError(f"--dir {folder}: is a file; name a folder") from None
    except OSError as error:
        raise FolderError(f"--dir {folder}: {error.strerror}") from None
    return folder


def existing(folder: Path) -> Path:
    """``folder``, if a study lies in it.

    Raises:
        FolderError: none does; names a folder that may be meant.
    """
    try:
        if (folder / EXPERIMENT).is_file():
            return folder
        there, file = folder.exists(), folder.is_file()
    except OSError as error:
        raise FolderError(f"{folder}: {error.strerror}; give the folder of a study") from None
    if file:
        raise FolderError(f"{folder} is a file; give the folder of a study")
    if not there:
        raise FolderError(f"{folder} is not there{similar(folder) or '; give the folder of a study'}")
    raise FolderError(f"{folder} holds no study: there is no {EXPERIMENT} in it")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold ``folder``, which is there, until the block or this process ends.

    Raises:
        FolderError: another process holds it, or its file system has no locks, or it cannot be written.
    """
    try:
        file = (folder / LOCK).open("a+")
    except OSError as error:
        raise FolderError(
            f"{folder} cannot be written: {error.strerror}; a study goes on in a copy of its folder that you may "
            f"write: cp -r {shlex.quote(str(folder))} COPY"
        ) from None
    with file:
        _take(file, folder)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield


def _take(file: TextIO, folder: Path) -> None:
    """Lock ``file``, the lock of ``folder``."""
    deadline = time.monotonic() + LOOK_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in HELD:
                raise FolderError(
                    f"{folder} cannot be locked: {error.strerror}. Its file system has no locks, which the study's "
                    "SQLite file needs as well: keep the study on a local disk (--dir FOLDER, or a copy of this one), "
                    "and checkpoints that nodes share where storage says"
                ) from None
            if time.monotonic() > deadline:
                raise FolderError(_occupied(file, folder)) from None
            time.sleep(LOOK_SECONDS / 10)
        else:
            return


def _occupied(file: TextIO, folder: Path) -> str:
    """Who holds the lock ``file`` of ``folder``, and what to do."""
    file.seek(0)
    holder = file.read().strip() or "another process"
    elsewhere = " on " in holder and not holder.endswith(f" on {socket.gethostname()}")
    return (
        f"{folder} is in use by {holder}{', another machine' if elsewhere else ''}: wait until it has ended, or stop "
        f"it; to look on: filter-study status {shlex.quote(str(folder))}"
    )


def in_use(folder: Path) -> bool | None:
    """Whether a driver holds the study directory; None where that cannot be told. Nothing is written."""
    try:
        with (folder / LOCK).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError as error:
        return True if error.errno == errno.EWOULDBLOCK else None
    return False


def create(
    folder: Path,
    experiment: Experiment,
    confirms: dict[str, object] | None = None,
    known: Mapping[str, tuple[float, float]] = MappingProxyType({}),
) -> None:
    """Write the resolved experiment, its paths absolute, and the manifest into ``folder``, which must hold nothing yet.

    Of a confirmation, ``known`` are the references of the study that it confirms: its budgets are the same work.

    Raises:
        ExperimentError: a path leads nowhere.
        FolderError: it holds something already, or cannot be written.
    """
    text = located(experiment).to_yaml()
    made(folder)
    try:
        if any(path.name != LOCK for path in folder.iterdir()):
            raise FolderError(f"{folder} is not empty; a study needs a folder of its own: choose another --dir")
        manifest.write(manifest.collect(experiment, confirms, known), folder)
        write_text(folder / EXPERIMENT, text)
    except OSError as error:
        raise FolderError(f"--dir {folder}: {error.strerror}") from None


CHANGEABLE = ("resources", "recovery", "wandb", "tensorboard", "mlflow", "trackers", "data_dir", "storage", "code")


def recorded(folder: Path) -> Experiment:
    """The experiment of the study in ``folder`` as it began, to be looked at: code of one's own need not be there.

    Raises:
        FolderError: there is no study.
        ExperimentError: the file is not valid.
    """
    existing(folder)
    return load(str(folder / EXPERIMENT), begun=True, unchecked=True)


def reopen(folder: Path, overrides: Sequence[str] = (), more: int = 0) -> Experiment:
    """The experiment of the study in ``folder``, with ``more`` configurations to try.

    Arguments:
        overrides: ``key=value`` for keys that change no result.

    Raises:
        FolderError: there is no study.
        ExperimentError: the experiment, or an override, is not valid.
    """
    existing(folder)
    errors = [
        f"--set {override}: a study goes on as it began; what can be changed is {', '.join(CHANGEABLE)}"
        for override in overrides
        if override.partition("=")[0].partition(".")[0].strip() not in CHANGEABLE
    ]
    if errors:
        raise ExperimentError(str(folder), errors)
    experiment = load(str(folder / EXPERIMENT), overrides, begun=True)
    search = experiment.search
    if more and search.trials is None:
        raise ExperimentError(str(folder), [f"--add-trials {more}: search.name {search.name} has run every point"])
    if more and search.trials is not None:
        experiment = load(str(folder / EXPERIMENT), [*overrides, f"search.trials={search.trials + more}"], begun=True)
    return experiment.model_copy(update={"name": manifest.read(folder).get("name", experiment.name)})


def allow_changed_code(folder: Path, own: Mapping[str, object]) -> None:
    """Let the manifest of the study in ``folder`` say ``own`` of its own code, what has changed included.

    Raises:
        FolderError: it cannot be written.
    """
    try:
        manifest.write({**manifest.read(folder), code.FIELD: own}, folder)
    except OSError as error:
        raise FolderError(f"{folder} cannot be written: {error.strerror}") from None


def keep(folder: Path, experiment: Experiment) -> None:
    """Put ``experiment``, its paths absolute, in the place of the one that the study had, at once or not at all.

    Raises:
        FolderError: it cannot be written.
    """
    try:
        write_text(folder / EXPERIMENT, located(experiment).to_yaml())
    except OSError as error:
        raise FolderError(f"{folder} cannot be written: {error.strerror}") from None
