"""Checkpoints with a checksum, in any folder that every node can write: a path, or a URI such as ``s3://bucket/study``.

A file that was cut short or altered does not verify, and the one before it is taken; so is one that holds anything but
plain values and tensors, whatever its checksum says: no pickled code is run.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import fsspec
import torch
from pyarrow import ArrowInvalid, fs

SUFFIX = ".pt"
DIGEST = hashlib.sha256().digest_size


class Checkpoints:
    """The newest ``keep`` checkpoints of one comparison, in a folder of its own.

    Raises:
        OSError: from every method, where the folder cannot be reached, read or written.
    """

    def __init__(self, folder: str, keep: int = 2) -> None:
        self._files, self._folder = filesystem(folder)
        self._keep = keep

    def save(self, epoch: int, state: Mapping[str, Any]) -> None:
        """Write the state after ``epoch``; it is there whole or not at all."""
        payload = io.BytesIO()
        torch.save(dict(state), payload)
        content = payload.getbuffer()
        path = self._path(epoch)
        self._files.create_dir(self._folder, recursive=True)
        with self._files.open_output_stream(f"{path}.part") as file:
            file.write(hashlib.sha256(content).digest())
            file.write(content)
        if isinstance(self._files, fs.LocalFileSystem):
            _to_disk(f"{path}.part")
        self._files.move(f"{path}.part", path)
        self.forget(after=epoch)  # of a past that was not gone on with, for they could not be used
        for old in self._epochs()[self._keep :]:
            self._delete(old)

    def newest(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Epoch and state of every checkpoint that verifies, newest first."""
        for epoch in self._epochs():
            with contextlib.suppress(FileNotFoundError), self._files.open_input_file(self._path(epoch)) as file:
                digest, content = file.read(DIGEST), file.read()
                state = _state(content) if hashlib.sha256(content).digest() == digest else None
                if state is not None:
                    yield epoch, state

    def forget(self, after: int) -> None:
        """Remove the checkpoints of epochs after this one."""
        for epoch in self._epochs():
            if epoch > after:
                self._delete(epoch)

    def remove(self) -> None:
        """Remove the folder and all that is in it."""
        with contextlib.suppress(FileNotFoundError):
            self._files.delete_dir(self._folder)

    def _epochs(self) -> list[int]:
        found = self._files.get_file_info(fs.FileSelector(self._folder, allow_not_found=True))
        names = [Path(info.path) for info in found if info.type == fs.FileType.File]
        return sorted((int(p.stem) for p in names if p.suffix == SUFFIX and p.stem.isdecimal()), reverse=True)

    def _path(self, epoch: int) -> str:
        return f"{self._folder}/{epoch:09d}{SUFFIX}"

    def _delete(self, epoch: int) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._files.delete_file(self._path(epoch))


def _state(content: bytes) -> dict[str, Any] | None:
    """The state that a checkpoint's content holds; None where it is something else, such as code."""
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception:  # not one kind: whatever a reader stumbles over in what another program has written
        return None
    return state if isinstance(state, dict) else None


def is_uri(folder: str) -> bool:
    """Whether this is a URI, such as ``s3://bucket/studies``, and not a path."""
    return "://" in folder


def filesystem(folder: str) -> tuple[fs.FileSystem, str]:
    """The file system that a path or URI names, and the path in it.

    Raises:
        ValueError: no file system is known by that name, or its package is missing.
    """
    if not is_uri(folder):
        return fs.LocalFileSystem(), str(Path(folder).absolute())
    try:
        files, path = fs.FileSystem.from_uri(folder)
    except ArrowInvalid:  # not one of pyarrow's own
        try:
            other, path = fsspec.core.url_to_fs(folder)
        except (ImportError, ValueError) as error:
            raise ValueError(f"{folder}: {error}; use a folder that every node can write, or s3:// or gs://") from None
        files = fs.PyFileSystem(fs.FSSpecHandler(other))
    return files, path.rstrip("/")


def _to_disk(path: str) -> None:
    """Wait until the file is on the disk, so that its name never stands for less than all of it."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
