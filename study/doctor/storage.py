"""Whether the study's record and checkpoints can be kept; what is written to see that is removed."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import psutil

from study import preflight
from study.doctor.asking import Ask, here
from study.doctor.findings import KIBIBYTE, Finding, everywhere, guarded, size
from study.experiment import Experiment
from study.folder import FolderError, locked, made
from study.recorder import Recorder, RecordError
from study.storage import traceless, trial_root
from trainables import models
from trainables.config import TrialConfig
from trainables.data import dimensions
from trainables.places import Place
from trainables.seeds import generator

EPOCH_BYTES = 8 * KIBIBYTE  # of an arm: its row, and its line in W&B's file, which is the larger

NETWORK_FILE_SYSTEMS = (
    "9p", "afs", "beegfs", "ceph", "cifs", "fuse", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "ocfs2", "orangefs",
    "panfs", "smb", "virtiofs", "wekafs",
)  # fmt: skip
LOCAL_FUSE = ("fuseblk", "fuse.fuse-overlayfs")


def keeping(experiment: Experiment, folder: Path, at_once: int, ask: Ask) -> Iterator[Finding]:
    """Whether the study's record and checkpoints can be kept; what is written to see that is removed."""
    mark = f".doctor-{secrets.token_hex(4)}"
    root = trial_root(experiment, folder / mark)
    with ExitStack() as stack:
        for place in (Place.of(folder), root):
            stack.enter_context(traceless(place))
        stack.callback(shutil.rmtree, folder / mark, ignore_errors=True)
        yield from guarded("study folder", partial(study_folder, folder / mark))
        yield from guarded("file system", partial(file_system, folder.resolve(), _mounts()))
        yield from guarded("disk", partial(space, folder, experiment.cost * EPOCH_BYTES, "the record"))
        yield from guarded("storage", partial(shared, root, ask))
        if path := root.local:
            number = (experiment.recovery.checkpoints + 1) * at_once  # and the one that is being written
            disk = path.parents[2]
            yield from guarded("disk", lambda: space(disk, number * checkpoint_bytes(experiment), "checkpoints"))


def study_folder(folder: Path) -> Finding:
    """Whether a study can be recorded in ``folder``: a lock held, and SQLite's journal written ahead."""
    try:
        with locked(made(folder)), Recorder(folder):
            pass
    except (FolderError, RecordError) as error:
        return Finding("error", "study folder", str(error.__cause__ or error), "choose another --dir")
    return Finding("ok", "study folder", f"{folder.parent} can be written")


def file_system(folder: Path, mounts: Sequence[tuple[str, str]]) -> Finding:
    """Whether the folder's file system, one of ``mounts`` as (folder, type), is one that SQLite can rely on."""
    around = [(len(point), place, kind) for place, (point, kind) in enumerate(mounts) if folder.is_relative_to(point)]
    kind = max(around)[2] if around else "unknown"
    if kind.startswith(NETWORK_FILE_SYSTEMS) and kind not in LOCAL_FUSE:
        text = f"{folder} is on {kind}, where SQLite's journal can break"
        return Finding(
            "warning", "file system", text, "a --dir on a local disk, and --set storage=FOLDER on the shared one"
        )
    return Finding("ok", "file system", f"{folder} is on {kind}")


def space(folder: Path, needed: int, what: str) -> Finding:
    """Whether the disk of ``folder``, which need not exist, has room for what is needed."""
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    text = f"{existing} has {size(free)} free, {what} may take {size(needed)}"
    if needed > free / 2:
        return Finding("error" if needed > free else "warning", "disk", text, "make room, or choose another disk")
    return Finding("ok", "disk", text)


def checkpoint_bytes(experiment: Experiment) -> int:
    """About the size of the largest checkpoint of a comparison: each arm's weights and what its optimizer keeps."""
    configs = [TrialConfig.from_dotted(corner) for corner in experiment.corners()]
    data_dir = preflight.runtime(experiment).data_dir
    sizes = {(c.model, c.dataset): 0 for c in configs}
    for model, dataset in sizes:
        network = models.build(model, *dimensions(dataset, data_dir), generator(0, "weights"))
        sizes[model, dataset] = sum(tensor.nbytes for tensor in network.state_dict().values())
    kept = {"SGD": 2}  # copies of the weights; with momentum, or AMSGrad, they are no more
    return max(sizes[c.model, c.dataset] * kept.get(c.optimizer.name, 4) * len(c.arms) for c in configs)


def shared(root: Place, ask: Ask) -> list[Finding]:
    """Whether every machine can write checkpoints in ``root`` that this one reads, and read what this one writes."""
    secret, driver = secrets.token_hex(8), f"{secrets.token_hex(8)}.probe"
    failed = {name: answer for name, answer in here(_write, root / driver, secret).items() if answer is not None}
    answers = failed or ask(_exchange, root, driver, secret)
    try:
        return everywhere("storage", answers, partial(exchanged, root=root, secret=secret))
    finally:
        names = [driver, *(answer[0] for answer in answers.values() if isinstance(answer, tuple))]
        for remove in (here, *([] if failed else [ask])):
            remove(_remove, root, names)


def exchanged(answer: tuple[str, bool] | str, root: Place, secret: str) -> Finding:
    """Judge a machine's answer: its own file's name and whether it saw this machine's, or why it could not write."""
    place = root.parent.parent.parent
    remedy = "--set storage=FOLDER, or a URI, that every machine can write"
    if isinstance(answer, str):
        return Finding("error", "storage", f"{place}: {answer}", remedy)
    name, saw = answer
    if not (saw and _read(root / name) == secret):
        text = f"{place} is not the same there as where the study starts: its checkpoints would not be found"
        return Finding("error", "storage", text, remedy)
    return Finding("ok", "storage", f"{place} can be written and read")


def _exchange(root: Place, driver: str, secret: str) -> tuple[str, bool] | str:
    name = f"{secrets.token_hex(8)}.probe"
    problem = _write(root / name, secret)
    return problem if problem is not None else (name, _read(root / driver) == secret)


def _write(file: Place, text: str) -> str | None:
    """Leave ``text`` where a comparison would leave its state; why it cannot be."""
    try:
        file.write(text.encode())
    except (OSError, ValueError) as error:
        return str(error)
    return None


def _read(file: Place) -> str | None:
    try:
        return file.read().decode()
    except FileNotFoundError:
        return None


def _remove(root: Place, names: Sequence[str]) -> None:
    """Remove these files, and the study's folders that they were written in."""
    for name in names:
        (root / name).remove_file()
    for folder in (root, root.parent, root.parent.parent):
        folder.remove_folder()


def _mounts() -> list[tuple[str, str]]:
    return [(part.mountpoint, part.fstype) for part in psutil.disk_partitions(all=True)]
