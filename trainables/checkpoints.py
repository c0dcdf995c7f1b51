"""Checkpoints with a checksum, in any folder that every node can write.

A file that was cut short or altered does not verify, and the one before it is taken; so is one that holds anything but
plain values and tensors, whatever its checksum says: no pickled code is run.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from trainables.places import Place

DIGEST = hashlib.sha256().digest_size
HANG = "hang.txt"
_CHECKPOINT = re.compile(r"(\d{9})\.pt")
_UNFINISHED = re.compile(r"\d{9}\.pt\.part")


class Checkpoints:
    """The newest ``keep`` checkpoints of one comparison, in a folder of its own.

    What is removed has exactly the name of a checkpoint; other files stay, and the folder with them.

    Raises:
        OSError: from every method, where the folder cannot be reached, read or written.
        ValueError: from every method, where the folder's file system is not known.
    """

    def __init__(self, folder: Place, keep: int = 2) -> None:
        self._folder = folder
        self._keep = keep

    def save(self, epoch: int, state: Mapping[str, Any]) -> None:
        """Write the state after ``epoch``; it is there whole or not at all."""
        payload = io.BytesIO()
        torch.save(dict(state), payload)
        content = payload.getbuffer()
        self._file(epoch).write(hashlib.sha256(content).digest(), content)
        self.forget(after=epoch)  # of a past that was not gone on with, for they could not be used
        for old in self._epochs()[self._keep :]:
            self._file(old).remove_file()

    def newest(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Epoch and state of every checkpoint that verifies, newest first."""
        for epoch in self._epochs():
            content = self._content(epoch)
            state = None if content is None else _state(content)
            if state is not None:
                yield epoch, state

    def has(self, until: int) -> bool:
        """Whether the checkpoint of an epoch up to this one is there, with a checksum that is right."""
        return any(self._content(epoch) is not None for epoch in self._epochs() if epoch <= until)

    def forget(self, after: int) -> None:
        """Remove the checkpoints of epochs after this one."""
        for epoch in self._epochs():
            if epoch > after:
                self._file(epoch).remove_file()

    def tidy(self) -> None:
        """Remove all but the checkpoints: what was cut short, and the watchdog's file; and the folder, if empty."""
        for name in self._folder.files():
            if name == HANG or _UNFINISHED.fullmatch(name):
                (self._folder / name).remove_file()
        self._folder.remove_folder()

    def remove(self) -> None:
        """Remove every checkpoint and all that :meth:`tidy` does."""
        self.forget(after=-1)
        self.tidy()

    def _content(self, epoch: int) -> bytes | None:
        """What a checkpoint holds; None where its checksum is wrong, or it has just been removed."""
        try:
            file = self._file(epoch).read()
        except FileNotFoundError:
            return None
        digest, content = file[:DIGEST], file[DIGEST:]
        return content if hashlib.sha256(content).digest() == digest else None

    def _epochs(self) -> list[int]:
        names = [_CHECKPOINT.fullmatch(name) for name in self._folder.files()]
        return sorted((int(name[1]) for name in names if name), reverse=True)

    def _file(self, epoch: int) -> Place:
        return self._folder / f"{epoch:09d}.pt"


def _state(content: bytes) -> dict[str, Any] | None:
    """The state that a checkpoint's content holds; None where it is something else, such as code."""
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception:  # not one kind: whatever a reader stumbles over in what another program has written
        return None
    return state if isinstance(state, dict) else None
