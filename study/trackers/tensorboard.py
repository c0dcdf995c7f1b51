"""Logging to TensorBoard from the driver: one folder a comparison, metrics named as everywhere.

An epoch is one event, in the file when :meth:`TensorBoardTracker.log` returns. tensorboardX's own writers have a thread
each, and wait for it for ever when a full disk has ended it; of tensorboardX only the formats are used.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import masked_crc32c
from tensorboardX.summary import hparams

from study.trackers.base import Forgiving, forgiven, numbers

FOLDER = "tensorboard"


class TensorBoardTracker(Forgiving):
    """Writes event files to ``folder/tensorboard/TRIAL_ID``; a :class:`~study.trackers.base.Tracker`.

    A comparison that a resumed study continues gets a further file. A file begins by telling TensorBoard to forget what
    older ones hold from its first epoch on.
    """

    name = "TensorBoard"

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder / FOLDER
        self._configs: dict[str, dict[str, Any]] = {}
        self._files: dict[str, _EventFile] = {}

    @forgiven
    def start(self, trial_id: str, config: Mapping[str, Any]) -> None:
        """Remember the configuration; the file is opened with the first epoch, from which on older ones are void."""
        self._configs[trial_id] = dict(config)

    @forgiven
    def log(self, trial_id: str, epoch: int, metrics: Mapping[str, float]) -> None:
        """Write one epoch of a comparison, in the place of any that was written before, and of those after it."""
        if trial_id not in self._configs:
            return
        known = numbers(metrics)
        if trial_id not in self._files:
            self._files[trial_id] = _EventFile(self._folder / trial_id, epoch, self._configs[trial_id], known)
        self._files[trial_id].add(epoch, known)

    @forgiven
    def end(self, trial_id: str, status: str) -> None:
        """Close the file of a comparison."""
        self._configs.pop(trial_id, None)
        file = self._files.pop(trial_id, None)
        if file is not None:
            file.close(success=status not in ("failed", "interrupted"))

    @forgiven
    def close(self) -> None:
        """Close what is still open."""
        for trial_id in list(self._files):
            self.end(trial_id, "interrupted")


class _EventFile:
    """The events of a comparison from one start on: records with a checksum of their length and one of themselves."""

    def __init__(self, folder: Path, epoch: int, config: Mapping[str, Any], metrics: Collection[str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads the files of a folder in the order of their names
        self._stream = (folder / f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}").open("xb")
        self._write(Event(file_version="brain.Event:2"))
        self._forget(epoch)  # a first start too: TensorBoard takes only a second one for a restart
        self._next = epoch
        plain = {key: v if isinstance(v, int | float | str | None) else str(v) for key, v in config.items()}
        experiment, start, self._success = hparams(plain, [name for name in metrics if name.startswith("gap/")])
        self._write(Event(summary=experiment))
        self._write(Event(summary=start))

    def add(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Add an epoch; those from it on that stand already are forgotten."""
        if epoch < self._next:
            self._forget(epoch)
        values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        self._write(Event(step=epoch, summary=Summary(value=values)))
        self._next = epoch + 1

    def close(self, success: bool) -> None:
        """Close the file, and the comparison in TensorBoard's table of hyperparameters if it got through."""
        if success:
            self._write(Event(summary=self._success))
        self._stream.close()

    def _forget(self, epoch: int) -> None:
        self._write(Event(step=epoch, session_log=SessionLog(status=SessionLog.START)))

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        data = event.SerializeToString()
        length = struct.pack("<Q", len(data))
        self._stream.write(length + _checksum(length) + data + _checksum(data))
        self._stream.flush()


def _checksum(data: bytes) -> bytes:
    return struct.pack("<I", masked_crc32c(data))
