"""Folders and files by path or URI, on this machine's disk or in a store such as ``s3://bucket/studies``.

What is under a place is joined to the path in its file system, never to the text that names it: a URI may end in a
query. Files are removed one by one, by their names; a folder only if it is empty, and only on a disk, where the
operating system itself refuses to remove one that is not. In an object store empty folders stay.
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import fsspec
from pyarrow import ArrowInvalid, fs

_URI = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://")
_FLAT = frozenset({"s3", "gs", "gcs", "abfs", "abfss"})  # stores without folders: a name with slashes is all it takes
_ARROW = _FLAT | {"file", "hdfs", "viewfs"}  # schemes that pyarrow reads itself


@dataclass(frozen=True)
class Place:
    """A folder or file: ``root`` is an absolute path or a URI as it was written, ``below`` the path under it.

    Both are plain text, so that a place travels as ``dataclasses.asdict(place)`` and is made again by
    ``Place(**values)``. Nothing is opened until it is asked for.

    Raises:
        ValueError: from every method that opens it: its file system is not known, or the URI is not valid.
        OSError: from every method that opens it: it cannot be reached, read or written.
    """

    root: str
    below: str = ""

    @classmethod
    def of(cls, named: str | Path) -> Place:
        """The place that a user named by a URI or by a path; a relative path starts at the working directory.

        Raises:
            ValueError: nothing is named, or a home folder that is not there.
        """
        text = str(named)
        if not text.strip():
            raise ValueError("is empty; give a folder or a URI")
        if is_uri(text):
            return cls(text)
        try:
            return cls(str(Path(text).expanduser().resolve()))
        except RuntimeError as error:
            raise ValueError(f"{error}; give the folder's whole path") from None

    def __truediv__(self, name: str) -> Place:
        if name in ("", ".", "..") or "/" in name:
            raise ValueError(f"{name!r} is not the name of a file or folder")
        return Place(self.root, f"{self.below}/{name}" if self.below else name)

    def __str__(self) -> str:
        """For messages: without the URI's query, and without a password."""
        root = self.root
        if is_uri(root):
            root = re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:***@", root.partition("?")[0])
        return f"{root.rstrip('/')}/{self.below}" if self.below else root

    @property
    def parent(self) -> Place:
        """The folder that holds it; the root is its own parent."""
        return Place(self.root, self.below.rpartition("/")[0])

    @property
    def local(self) -> Path | None:
        """Its path, where it is on this machine's disk; None for what is in a store."""
        return Path(self._path) if self._scheme in (None, "file") else None

    def is_folder(self) -> bool:
        """Whether a folder is there."""
        return bool(self._files.get_file_info(self._path).type == fs.FileType.Directory)

    def files(self) -> list[str]:
        """The names of the files in this folder; none where there is no folder."""
        return self._names(fs.FileType.File)

    def folders(self) -> list[str]:
        """The names of the folders in this folder, of a store only those with files; none where there is no folder."""
        if self._scheme not in _FLAT:
            return self._names(fs.FileType.Directory)
        found = self._files.get_file_info(fs.FileSelector(self._path, allow_not_found=True, recursive=True))
        files = [info.path[len(self._path) + 1 :] for info in found if info.type == fs.FileType.File]
        return sorted({name for name, slash, _ in (path.partition("/") for path in files) if slash})

    def read(self) -> bytes:
        """The content of this file."""
        with self._files.open_input_file(self._path) as file:
            return bytes(file.read())

    def write(self, *parts: bytes | memoryview) -> None:
        """Make this file of the parts, one after the other, and its folder; it is there whole or not at all."""
        unfinished = f"{self._path}.part"
        if self._scheme not in _FLAT:
            self._files.create_dir(self._path.rpartition("/")[0], recursive=True)
        try:
            with self._files.open_output_stream(unfinished) as file:
                for part in parts:
                    file.write(part)
            if self.local:
                _to_disk(unfinished)
            self._files.move(unfinished, self._path)
        except BaseException:
            with contextlib.suppress(OSError):
                self._files.delete_file(unfinished)
            raise

    def copy(self, to: Path) -> None:
        """Copy all that is in this folder into a folder on the disk."""
        fs.copy_files(self._path, str(to), source_filesystem=self._files)

    def remove_file(self) -> None:
        """Remove this file, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            self._files.delete_file(self._path)

    def remove_folder(self) -> None:
        """Remove this folder, if it is on a disk and empty."""
        if self.local:
            with contextlib.suppress(OSError):
                self.local.rmdir()

    def _names(self, kind: fs.FileType) -> list[str]:
        found = self._files.get_file_info(fs.FileSelector(self._path, allow_not_found=True))
        return sorted(info.base_name for info in found if info.type == kind)

    @property
    def _scheme(self) -> str | None:
        uri = _URI.match(self.root)
        return uri["scheme"] if uri else None

    @property
    def _files(self) -> fs.FileSystem:
        return _opened(self.root)[0]

    @property
    def _path(self) -> str:
        root = _opened(self.root)[1]
        return f"{root}/{self.below}" if self.below else root or "/"


def is_uri(text: str) -> bool:
    """Whether this is a URI, such as ``s3://bucket/studies``, and not a path."""
    return _URI.match(text) is not None


@lru_cache(maxsize=32)
def _opened(root: str) -> tuple[fs.FileSystem, str]:
    """The file system of a path or URI, and the path in it without a slash at its end.

    Raises:
        ValueError: no file system is known by that name, its package is missing, or the URI is not valid.
        OSError: it cannot be reached.
    """
    uri = _URI.match(root)
    if not uri:
        return fs.LocalFileSystem(), root.rstrip("/")
    if uri["scheme"] in _ARROW:
        try:
            files, path = fs.FileSystem.from_uri(root.replace(" ", "%20"))
        except ArrowInvalid as error:
            raise ValueError(str(error).replace(root, str(Place(root)))) from None
        if uri["scheme"] != "file" and not path.strip("/"):
            raise ValueError("names no bucket")
        return files, path.rstrip("/")
    try:
        other, path = fsspec.core.url_to_fs(root)
    except (ImportError, ValueError) as error:
        raise ValueError(f"{error}; use a folder that every node can write, or s3:// or gs://") from None
    return fs.PyFileSystem(fs.FSSpecHandler(other)), path.rstrip("/")


def _to_disk(path: str) -> None:
    """Wait until the file is on the disk, so that its name never stands for less than all of it."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
