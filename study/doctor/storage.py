"""Whether the study's record and checkpoints can be kept; what is written to see that is removed."""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import psutil

from study.doctor.asking import Ask, here
from study.doctor.findings import KIBIBYTE, Finding, everywhere, guarded, size
from study.experiment import Experiment
from study.folder import FolderError, locked, made
from study.recorder import Recorder, RecordError
from trainables import models
from trainables.checkpoints import Checkpoints, is_uri
from trainables.config import TrialConfig
from trainables.data import CHANNELS, CLASSES
from trainables.seeds import generator

EPOCH_BYTES = 8 * KIBIBYTE  # of an arm: its row, and its line in W&B's file, which is the larger

NETWORK_FILE_SYSTEMS = (
    "9p", "afs", "beegfs", "ceph", "cifs", "fuse", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "ocfs2", "orangefs",
    "panfs", "smb", "virtiofs", "wekafs",
)  # fmt: skip
LOCAL_FUSE = ("fuseblk", "fuse.fuse-overlayfs")


def keeping(experiment: Experiment, folder: Path, at_once: int, ask: Ask) -> Iterator[Finding]:
    """Whether the study's record and checkpoints can be kept; what is written to see that is removed."""
    from study.runner import checkpoint_root  # here, for the processes that measure start faster without Tune

    mark = f".doctor-{secrets.token_hex(4)}"
    root = checkpoint_root(experiment, folder / mark, mark)
    with ExitStack() as stack:
        stack.enter_context(_traceless(folder))
        if not is_uri(root):
            stack.enter_context(_traceless(Path(root).parent.parent))
        stack.callback(here, _remove, root.rpartition("/")[0])
        stack.callback(shutil.rmtree, folder / mark, ignore_errors=True)
        yield from guarded("study folder", partial(study_folder, folder / mark))
        yield from guarded("file system", partial(file_system, folder.resolve(), _mounts()))
        yield from guarded("disk", partial(space, folder, experiment.cost * EPOCH_BYTES, "the record"))
        yield from guarded("storage", partial(shared, root, ask))
        if not is_uri(root):
            number = (experiment.recovery.checkpoints + 1) * at_once  # and the one that is being written
            place = Path(root).parents[1]
            yield from guarded("disk", lambda: space(place, number * checkpoint_bytes(experiment), "checkpoints"))


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
    sizes = {(c.model, c.dataset.name): 0 for c in configs}
    for model, dataset in sizes:
        network = models.build(model, CHANNELS[dataset], CLASSES[dataset], generator(0, "weights"))
        sizes[model, dataset] = sum(tensor.nbytes for tensor in network.state_dict().values())
    kept = {"SGD": 2, "Adam": 4, "AdamW": 4}  # copies of the weights; with momentum, or AMSGrad, they are no more
    return max(sizes[c.model, c.dataset.name] * kept[c.optimizer.name] * len(c.arms) for c in configs)


def shared(root: str, ask: Ask) -> list[Finding]:
    """Whether every machine can write checkpoints under ``root`` that this one reads, and read what this one writes."""
    secret = secrets.token_hex(8)
    failed = {name: answer for name, answer in here(_write, f"{root}/driver", secret).items() if answer is not None}
    answers = failed or ask(_exchange, root, secret)
    return everywhere("storage", answers, partial(exchanged, root=root, secret=secret))


def exchanged(answer: tuple[str, bool] | str, root: str, secret: str) -> Finding:
    """Judge a machine's answer: its own folder's name and whether it saw this machine's, or why it could not write."""
    place = root.rsplit("/", 2)[0]
    remedy = "--set storage=FOLDER, or a URI, that every machine can write"
    if isinstance(answer, str):
        return Finding("error", "storage", f"{place}: {answer}", remedy)
    name, saw = answer
    if not (saw and _read(f"{root}/{name}") == secret):
        text = f"{place} is not the same there as where the study starts: its checkpoints would not be found"
        return Finding("error", "storage", text, remedy)
    return Finding("ok", "storage", f"{place} can be written and read")


def _exchange(root: str, secret: str) -> tuple[str, bool] | str:
    name = secrets.token_hex(4)
    problem = _write(f"{root}/{name}", secret)
    return problem if problem is not None else (name, _read(f"{root}/driver") == secret)


def _write(folder: str, text: str) -> str | None:
    """Leave ``text`` as a comparison leaves its state; why it cannot be."""
    try:
        Checkpoints(folder).save(1, {"text": text})
    except (OSError, ValueError) as error:
        return str(error)
    return None


def _read(folder: str) -> str | None:
    return next((str(state["text"]) for _, state in Checkpoints(folder).newest()), None)


def _remove(folder: str) -> None:
    Checkpoints(folder).remove()


def _mounts() -> list[tuple[str, str]]:
    return [(part.mountpoint, part.fstype) for part in psutil.disk_partitions(all=True)]


@contextmanager
def _traceless(folder: Path) -> Iterator[None]:
    """Leave no folder that was not there before, if nothing else came into it."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            for path in made:
                path.rmdir()
