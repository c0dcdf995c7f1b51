"""Temporary folders that are this process's alone; what dead processes have left of theirs is removed.

A process locks each of its folders (flock), and the lock ends with the process, however that ends. A process id would
say nothing in another container or on another host that shares the file system. A lock on the folder itself also keeps
systemd-tmpfiles away from it. Some file systems know such locks within one host only; so the folder's name says under
which running kernel it was made, and only processes under the same one may remove it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import shutil
import tempfile
from hashlib import sha256
from pathlib import Path

PREFIX = "filter-study-"
LONGEST_TEMPDIR = 8  # the path of a socket has 107 characters at most, and Ray takes up to 62 of them
BOOT = Path("/proc/sys/kernel/random/boot_id")

_held: dict[Path, int] = {}


def temporary() -> Path:
    """Where such folders are made: where temporary files go, unless that is too long a path for Ray's sockets."""
    place = tempfile.gettempdir()
    return Path(place if len(place) <= LONGEST_TEMPDIR else "/tmp")


def make() -> Path:
    """A new folder that only its owner can read, this process's until it is removed or the process ends."""
    _sweep()
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_prefix(), dir=temporary()))
        lock = os.open(folder, os.O_RDONLY)  # closed in child processes, so that none of them holds the folder
        with contextlib.suppress(OSError):  # no locks here: nobody else can take it either, so that the folder stays
            fcntl.flock(lock, fcntl.LOCK_EX)
        _held[folder] = lock
        if folder.is_dir():  # nobody took it for a dead process's before it was locked
            return folder
        remove(folder)


def remove(folder: Path) -> None:
    """Remove a folder that :func:`make` has made."""
    shutil.rmtree(folder, ignore_errors=True)
    os.close(_held.pop(folder))


def remove_all() -> None:
    """Remove every folder of this process, where it ends without leaving its blocks."""
    for folder in list(_held):
        remove(folder)


def _prefix() -> str:
    """How the names of this kernel's folders begin; never with a number, which older versions take for a process id."""
    try:
        kernel = BOOT.read_text()
    except OSError:  # not Linux
        kernel = platform.node()
    return f"{PREFIX}k{sha256(kernel.encode()).hexdigest()[:7]}-"


def _sweep() -> None:
    for folder in temporary().glob(f"{_prefix()}*"):
        with contextlib.suppress(OSError):  # in use, another user's, or just removed by somebody else
            if folder.stat().st_uid != os.getuid():
                continue
            lock = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
