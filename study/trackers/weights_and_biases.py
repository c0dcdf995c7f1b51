"""Logging to Weights & Biases from the driver: one run a comparison, metrics named as everywhere.

W&B's own Tune callback starts two processes for every trial; this one starts none. W&B is never the record of truth:
when it fails, the study says so once and goes on without it.

A comparison that a resumed study continues gets a further run folder under the same id. ``wandb sync`` uploads the
folders of an id in the order of their start, as one run, but shifts the steps of one that begins before the end of the
one before. So no epoch is logged that an earlier folder holds, and what a killed process left half-written, at which
``wandb sync`` would stop, is cut off.
"""

from __future__ import annotations

import os
import re
import shlex
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from shlex import quote
from ssl import SSLError
from threading import Thread
from typing import Any, Literal
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen
from zlib import crc32

import wandb
import wandb.apis.public  # its first run does, when workers wait for it and more modules make it three times as slow
from wandb.errors import AuthenticationError
from wandb.proto import wandb_internal_pb2

from study.experiment import Wandb
from study.trackers.base import Forgiving, forgiven, numbers

Mode = Literal["online", "offline"]

ANSWER_SECONDS = 3.0  # for W&B to show that it is there, before a study starts
INIT_SECONDS: dict[Mode, float] = {"online": 5.0, "offline": 15.0}  # to open a run; offline only the machine is slow
UPLOAD_SECONDS = 10.0  # for what is left of a run when it ends

_HEADER, _BLOCK, _FRAME = 7, 2**15, struct.Struct("<IHB")
_FULL, _FIRST, _LAST = 1, 2, 4


def settle(settings: Wandb, folder: Path) -> tuple[Wandb, str | None]:
    """How the study in ``folder`` can log: as it should, or offline where W&B is out of reach, and a remark on that."""
    reason = unreachable() if settings.mode == "online" else None
    if reason is None:
        return settings, None
    remark = f"W&B is logged offline: {reason}. To upload it later: filter-study wandb sync {quote(str(folder))}"
    return settings.model_copy(update={"mode": "offline"}), remark


def unreachable(seconds: float = ANSWER_SECONDS) -> str | None:
    """Why nothing can be uploaded to W&B now, and the remedy; None if it can. Waits no longer than ``seconds``."""
    settings = wandb.setup(wandb.Settings(silent=True)).settings
    if settings.mode != "online":
        return f"W&B is {settings.mode} on this machine (run: wandb online; or unset WANDB_MODE)"
    answers: list[str | None] = []
    asking = Thread(target=lambda: answers.append(_ask(settings.base_url)), daemon=True)
    asking.start()
    asking.join(seconds)  # a look-up of the host's name has no timeout of its own
    return answers[0] if answers else f"{settings.base_url} gave no answer within {seconds:g} s (look at the network)"


def _ask(url: str) -> str | None:
    try:
        urlopen(Request(url, method="HEAD"), timeout=2 * ANSWER_SECONDS).close()
    except HTTPError:
        pass  # an answer
    except OSError as error:
        reason = error.reason if isinstance(error, URLError) else error
        if not isinstance(reason, SSLError):  # there, and W&B has its own settings for certificates
            return f"{url} cannot be reached: {reason} (look at the network, or at WANDB_BASE_URL)"
    try:
        known = wandb.login(prompt=False, verify=True)
    except AuthenticationError as error:
        return f"{str(error).rstrip('.')} (run: wandb login)"
    return None if known else f"no API key for {url} (run: wandb login; or set WANDB_API_KEY)"


def sync(folder: Path, say: Callable[[str], None]) -> int:
    """Upload the offline runs of the study in ``folder`` with W&B's own command, or say why not and what to run later.

    The study must not be running: what a killed process left half-written is cut off. The exit code: 0 if nothing waits
    any more.
    """
    for file in _waiting(folder):
        _mend(file)
    count = len(_waiting(folder))
    if not count:
        say(f"No offline run in {folder / 'wandb'} waits to be uploaded.")
        return 0
    command = f"wandb sync {shlex.quote(str(folder / 'wandb'))}"
    waiting = f"{count} offline {'run waits' if count == 1 else 'runs wait'} in {folder / 'wandb'} to be uploaded."
    reason = unreachable()
    if reason:
        say(f"{waiting} Not now: {reason}. Later, or wherever this folder is copied: {command}")
        return 1
    say(waiting)
    upload = [sys.executable, "-P", "-m", "wandb", "sync", "wandb"]
    subprocess.run(upload, cwd=folder, stdin=subprocess.DEVNULL, check=False)  # there, for it leaves a log of its own
    left = len(_waiting(folder))
    say(f"{left} of {count} could not be uploaded; try again: {command}" if left else f"Uploaded all {count}.")
    return 1 if left else 0


class WandbTracker(Forgiving):
    """Keeps a W&B run open for every comparison that trains; a :class:`~study.trackers.base.Tracker`.

    ``study`` names the group and is part of every run's id: no other study's, and the same when this one is resumed,
    moved or renamed. In a sweep of W&B's own, ``run`` is the id that its agent gave the one comparison.
    """

    name = "W&B"

    def __init__(self, settings: Wandb, folder: Path, study: str, run: str | None = None) -> None:
        super().__init__(on=settings.mode != "disabled")
        self._mode = settings.mode
        self._project = settings.project
        self._folder = folder
        self._study = study
        self._run = run
        self._runs: dict[str, Any] = {}
        self._next: dict[str, int] = {}
        self._uploads: list[Thread] = []
        self._uploaded: list[str] = []

    @forgiven
    def start(self, trial_id: str, config: Mapping[str, Any]) -> None:
        """Open the run of a comparison, or continue it; offline where an earlier part still waits for its upload."""
        if trial_id in self._runs:
            return
        run_id = self._run or _id(self._study, trial_id)
        earlier = sorted(self._folder.glob(f"wandb/*run-*-{run_id}/run-{run_id}.wandb"))
        waiting = [file for file in earlier if _waits(file)]
        last = max([_mend(file) if file in waiting else _read(file)[0] for file in earlier], default=-1)
        mode: Mode = "online" if self._mode == "online" and not waiting else "offline"
        if mode == "online" and (reason := unreachable()):  # W&B does not let go of an id that it could not open
            mode = self._leave(trial_id, reason)
        try:
            run = self._open(mode, run_id, trial_id, config, resume=mode == "online" or bool(earlier))
        except Exception as error:  # W&B raises many kinds
            if mode == "offline":
                raise
            self._leave(trial_id, str(error))
            return
        self._runs[trial_id] = run
        self._next[trial_id] = run.step if mode == "online" else last + 1  # online, W&B knows what it has

    def _leave(self, trial_id: str, reason: str) -> Mode:
        """Log offline from now on."""
        self._mode = "offline"
        self.failure = (
            f"W&B is logged offline since comparison {trial_id}: {reason}. "
            f"To upload it later: filter-study wandb sync {quote(str(self._folder))}"
        )
        return "offline"

    def _open(
        self,
        mode: Mode,
        run_id: str,
        trial_id: str,
        config: Mapping[str, Any],
        resume: bool,
    ) -> Any:
        return wandb.init(
            project=self._project,
            group=self._study,
            id=run_id,
            name=trial_id,
            config=dict(config),
            mode=mode,
            resume="allow" if resume else None,
            dir=self._folder,
            reinit="create_new",
            settings=_settings(mode),
        )

    @forgiven
    def log(self, trial_id: str, epoch: int, metrics: Mapping[str, float]) -> None:
        """Log one epoch of a comparison, unless it was logged before."""
        if trial_id in self._runs and epoch >= self._next[trial_id]:
            self._runs[trial_id].log(numbers(metrics), step=epoch, commit=True)
            self._next[trial_id] = epoch + 1

    @forgiven
    def end(self, trial_id: str, status: str) -> None:
        """Close the run of a comparison; the upload of what is left of it keeps nobody waiting."""
        run = self._runs.pop(trial_id, None)
        if run is None:
            return
        run.summary["status"] = status
        exit_code = 1 if status in ("failed", "interrupted") else 0
        if run.offline:
            run.finish(exit_code)
        else:
            self._uploads.append(Thread(target=self._upload, args=(run, exit_code), daemon=True))
            self._uploads[-1].start()

    def _upload(self, run: Any, exit_code: int) -> None:
        try:
            run.finish(exit_code)
        except Exception:  # the connection is gone, in any of several ways
            return
        self._uploaded.append(run.id)

    @forgiven
    def close(self) -> None:
        """Close what is still open, wait a little for the last uploads, and end W&B's process: then all is on disk."""
        for trial_id in list(self._runs):
            self.end(trial_id, "interrupted")
        deadline = time.monotonic() + UPLOAD_SECONDS + 1
        for upload in self._uploads:
            upload.join(max(deadline - time.monotonic(), 0))
        wandb.teardown()
        missing = len(self._uploads) - len(self._uploaded)
        if missing and not self.failure:
            self.failure = (
                f"W&B has not got the whole of {missing} of {len(self._uploads)} runs; the study's record has"
            )


def keep_tables(settings: Wandb, folder: Path, study: str, tables: Sequence[Path]) -> str | None:
    """Keep a study's exported tables as an artifact, a further version each time; why not, or None.

    Args:
        settings: the project, and whether online.
        folder: the study's.
        study: its id.
        tables: the files.
    """
    settings, remark = settle(settings, folder)
    mode: Mode = "online" if settings.mode == "online" else "offline"
    try:
        run = wandb.init(
            project=settings.project,
            group=study,
            id=_id(study, f"tables-{time.time_ns() // 1000}"),
            name="tables",
            job_type="tables",
            mode=mode,
            dir=folder,
            reinit="create_new",
            settings=_settings(mode),
        )
        artifact = wandb.Artifact(_id(study, "tables"), type="tables")
        for file in tables:
            artifact.add_file(str(file))
        run.log_artifact(artifact)
        run.finish()
    except Exception as error:  # W&B raises many kinds
        return f"W&B has not got the tables: {error}"
    finally:
        wandb.teardown()
    return remark


def sweep_run() -> str | None:
    """The id that the agent of a W&B sweep gave to the one run of this process; None where there is no sweep."""
    return os.environ.get("WANDB_RUN_ID") if os.environ.get("WANDB_SWEEP_ID") else None


def _id(study: str, name: str) -> str:
    """A name that W&B takes."""
    return re.sub(r"[^\w.-]", "-", f"{study}-{name}", flags=re.ASCII)[-128:]


def _settings(mode: Mode) -> wandb.Settings:
    """W&B's settings of a run: nothing of this process is sent but what is logged."""
    return wandb.Settings(
        silent=True,
        console="off",
        disable_git=True,
        disable_code=True,
        x_disable_stats=True,  # the driver's, which say nothing of a comparison; its rows have the worker's
        x_disable_meta=True,
        x_save_requirements=False,
        init_timeout=INIT_SECONDS[mode],
        finish_timeout=UPLOAD_SECONDS,
        finish_timeout_raises=True,
    )


def _waiting(folder: Path) -> list[Path]:
    """The files of a study's offline runs that are not uploaded."""
    return sorted(file for file in folder.glob("wandb/offline-run-*/*.wandb") if _waits(file))


def _waits(file: Path) -> bool:
    return file.parent.name.startswith("offline-") and not file.with_suffix(".wandb.synced").exists()


def _mend(file: Path) -> int:
    """Cut off what follows the last whole record; the last step, or -1.

    A file that does not even name a run, which W&B could not upload, is renamed; nothing is removed with it.
    """
    last, whole = _read(file)
    if not whole:
        file.rename(file.with_suffix(".unreadable"))
    elif whole < file.stat().st_size:
        with file.open("r+b") as stream:
            stream.truncate(whole)
    return last


def _read(file: Path) -> tuple[int, int]:
    """The last step that a run's file holds, -1 if none, and the bytes of its whole records, 0 if it names no run."""
    last, whole, begun = -1, 0, False
    for end, record in _records(file.read_bytes()):
        begun = begun or record.HasField("run")
        whole = end
        if record.HasField("history"):
            steps = [int(item.value_json) for item in record.history.item if "_step" in (item.key, *item.nested_key)]
            last = max([last, *steps])
    return last, whole if begun else 0


def _records(data: bytes) -> Iterator[tuple[int, wandb_internal_pb2.Record]]:
    """The whole records of a run's file, with the offset where each ends: LevelDB's log format behind a header."""
    position, payload = _HEADER, b""
    while True:
        left = _BLOCK - position % _BLOCK
        if left < _FRAME.size:
            position += left
        if position + _FRAME.size > len(data):
            return
        checksum, length, kind = _FRAME.unpack_from(data, position)
        position += _FRAME.size
        piece = data[position : position + length]
        position += length
        if crc32(bytes([kind]) + piece) != checksum:
            return
        payload = piece if kind in (_FULL, _FIRST) else payload + piece
        if kind in (_FULL, _LAST):
            yield position, wandb_internal_pb2.Record.FromString(payload)
