"""Where a study's checkpoints lie, and that they are its own: nobody else's are read, written or removed.

In a storage that studies share, each has a folder by its id. A copy of a study's folder has the same id. So whoever
writes there first leaves a claim, a random word, in a file beside the checkpoints and in the study's own folder, a new
one in each run. A study whose folder does not know the claim that it finds is not the one that wrote last.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import secrets
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from study import manifest
from study.experiment import Experiment
from study.history import History
from trainables.checkpoints import Checkpoints
from trainables.errors import UserError
from trainables.places import Place

CHECKPOINTS = "checkpoints"
MARKER = "study.txt"
CLAIMS = "storage.claims"
LONGEST_NAME = 255  # bytes that file systems allow
PROBE = "0000-00000000"  # as a comparison is called
_TRIAL = re.compile(r"\d{4,}-[0-9a-f]{8}")


class StorageError(UserError):
    """A study's checkpoints cannot be kept or found, or they are not its own."""


def checkpoint_root(experiment: Experiment, folder: Path, study: str) -> Place:
    """The folder in which every comparison of the study with this id has one for its checkpoints.

    It lies in a folder of the study, which lies in the storage.

    Raises:
        ValueError: ``storage`` names no folder.
    """
    if experiment.storage is None:
        own = Path(Place.of(folder).root)
        return Place.of(own.parent) / own.name / CHECKPOINTS
    return Place.of(experiment.storage) / _shortened(study) / CHECKPOINTS


def _shortened(name: str) -> str:
    """The name of a folder that no other study's id gives; an id too long for a folder ends in a digest of it."""
    encoded = name.encode()
    if len(encoded) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(encoded).hexdigest()[:32]
    return f"{encoded[: LONGEST_NAME - 33].decode(errors='ignore')}-{digest}"


def trial_root(experiment: Experiment, folder: Path) -> Place:
    """The folder in which a study in ``folder``, which need not exist, would keep the files of :func:`probe`.

    Raises:
        ValueError: ``storage`` names no folder.
    """
    on_disk = experiment.storage is None or Place.of(experiment.storage).local
    mark = secrets.token_hex(4) if on_disk else "0" * 8  # in a store empty folders stay: they are to be few
    return checkpoint_root(experiment, folder, f"{experiment.name}-{mark}") / PROBE


def probe(experiment: Experiment) -> None:
    """Write, read and remove a file where a study would keep checkpoints; if ``storage`` is set.

    Raises:
        StorageError: why it cannot be done.
    """
    if experiment.storage is None:
        return
    word = secrets.token_bytes(8)
    with explained(experiment):
        file = trial_root(experiment, Path()) / f"{word.hex()}.probe"
        with traceless(file.parent):
            try:
                file.write(word)
                found = file.read()
            finally:
                file.remove_file()
    if found != word:
        raise StorageError(f"storage: {file.parent}: what is read there is not what was written")


@contextmanager
def traceless(folder: Place) -> Iterator[None]:
    """Leave no folder on the disk that was not there before, if nothing else came into it."""
    path = folder.local
    made = [] if path is None else [one for one in (path, *path.parents) if not one.exists()]
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            for one in made:
                with contextlib.suppress(FileNotFoundError):
                    one.rmdir()


def check(experiment: Experiment, folder: Path) -> None:
    """Whether the study in ``folder`` is the one that wrote its checkpoints last.

    Raises:
        StorageError: it was another study, or another copy of this one; or the storage cannot be read.
    """
    if experiment.storage is not None:
        with explained(experiment):
            _check(checkpoint_root(experiment, folder, manifest.identity(folder)), folder)


def claim(experiment: Experiment, folder: Path) -> Place:
    """The folder of the study's checkpoints, claimed for this run; in the study's own folder, no claim is needed.

    Raises:
        StorageError: as :func:`check`, or the claim cannot be written.
    """
    with explained(experiment):
        root = checkpoint_root(experiment, folder, manifest.identity(folder))
        if experiment.storage is not None:
            _check(root, folder)
            word = secrets.token_hex(8)
            with (folder / CLAIMS).open("a") as claims:  # first: a claim that is known and not written does no harm
                claims.write(f"{word}\n")
            since = datetime.now(UTC).isoformat(timespec="seconds")
            text = f"{word}\n{folder.resolve()} on {socket.gethostname()} since {since}\n"
            (root.parent / MARKER).write(text.encode())
        return root


def release(root: Place, folder: Path) -> None:
    """Remove the study's folders and its claim, if no checkpoint is left.

    Raises:
        OSError: the storage cannot be read or written.
    """
    if any((root / name).files() for name in root.folders()) or root.files():
        return
    root.remove_folder()
    word, _ = _claimed(root)
    if word in _claims(folder):
        (root.parent / MARKER).remove_file()
        root.parent.remove_folder()


def clean(root: Place, trial_id: str, status: str) -> None:
    """Remove the checkpoints of a comparison that ended in this status; a failed one keeps them, to be tried again.

    Where that cannot be done now, the next run of the study does it.
    """
    checkpoints = Checkpoints(root / trial_id)
    with contextlib.suppress(OSError):
        if status == "failed":
            checkpoints.tidy()
        else:
            checkpoints.remove()


def remove_strays(root: Place, kept: Sequence[str]) -> None:
    """Remove the checkpoints of every comparison but those with the ids ``kept``; all else stays.

    Raises:
        OSError: the storage cannot be read or written.
    """
    for name in root.folders():
        if _TRIAL.fullmatch(name) and name not in kept:
            Checkpoints(root / name).remove()


def demand(experiment: Experiment, folder: Path, history: History, due: float) -> None:
    """See that every comparison that is to go on has the checkpoint that it must have, if one was ``due`` (seconds).

    Raises:
        StorageError: it names those that have none; or the storage cannot be read.
    """
    going_on = [past for past in history.comparisons if past.unfinished and past.epoch > 1]
    promised = [past for past in going_on if past.seconds and past.seconds >= due]  # 0: rows are lost, which is named
    with explained(experiment):
        root = checkpoint_root(experiment, folder, manifest.identity(folder))
        lost = [past for past in promised if not Checkpoints(root / past.trial_id).has(until=past.epoch)]
    if lost:
        rows = ", ".join(f"{past.trial_id} (rows up to epoch {past.epoch})" for past in lost[:5])
        others = f" and {len(lost) - 5} more" if len(lost) > 5 else ""
        raise StorageError(
            f"no checkpoint can be read in {root} of {rows}{others}: resume would train from epoch 0 again. If the "
            "checkpoints are elsewhere, put them there, or name the place by --set storage=FOLDER_OR_URI; to train "
            "these comparisons again from their start: --from-start"
        )


@contextmanager
def explained(experiment: Experiment) -> Iterator[None]:
    """Turn what can be wrong with a storage into one message.

    Raises:
        StorageError: in place of an OSError or ValueError.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        named = Place(experiment.storage) if experiment.storage is not None else "the folder of the study"
        raise StorageError(f"storage: {named}: {error}") from error


def _check(root: Place, folder: Path) -> None:
    word, holder = _claimed(root)
    if word is not None and word not in _claims(folder):
        raise StorageError(
            f"the checkpoints in {root.parent} are not those of {folder}: another study of the same id, or another "
            f"copy of this one, has used them last ({holder}). Go on with that one; or let this one go on with a "
            "storage of its own: --set storage=FOLDER_OR_URI --from-start"
        )


def _claimed(root: Place) -> tuple[str | None, str]:
    """The claim on the checkpoints, None where there is none, and whose it is."""
    try:
        text = (root.parent / MARKER).read().decode(errors="replace")
    except FileNotFoundError:
        return None, ""
    word, _, holder = text.partition("\n")
    return word, holder.strip()


def _claims(folder: Path) -> list[str]:
    """What the study in ``folder`` has claimed so far."""
    try:
        return (folder / CLAIMS).read_text().splitlines()
    except FileNotFoundError:
        return []
