"""Data sets that lie behind a URI are fetched once per node, into a cache that its processes share."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from filelock import FileLock

from trainables.places import Place, is_uri


def cache() -> Path:
    """Where fetched data sets are kept: ``$XDG_CACHE_HOME/filter-study``, or ``~/.cache/filter-study``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "filter-study"


def local(data_dir: str, folder: str) -> Path:
    """A path under which ``folder`` of ``data_dir`` can be read: the directory itself, or this node's copy of a URI.

    The first process to ask fetches, others wait for it; what was fetched is not fetched again.

    Raises:
        OSError: the URI cannot be read, or the cache not be written.
        ValueError: no file system is known by the URI's name.
    """
    if not is_uri(data_dir):
        return Path(data_dir)
    root = _place_of(data_dir)
    _fetch(Place(data_dir, folder), root / folder)
    return root


def folder(named: str) -> Path:
    """A folder that is named by a path or a URI, on this machine's disk; see :func:`local`.

    Raises:
        OSError: the URI cannot be read, or the cache not be written.
        ValueError: no file system is known by the URI's name, or the path leads nowhere.
    """
    place = Place.of(named)
    if place.local:
        return place.local
    target = _place_of(named) / "whole"
    _fetch(place, target)
    return target


def _place_of(uri: str) -> Path:
    """Where in the cache the copies of what is under a URI lie."""
    return cache() / hashlib.sha256(uri.encode()).hexdigest()[:16]


def _fetch(source: Place, target: Path) -> None:
    """Copy a folder, if it is there and not yet copied; of several processes one does, and the others wait."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if not target.is_dir() and source.is_folder():
            part = Path(tempfile.mkdtemp(dir=target.parent))
            try:
                source.copy(part)
                part.rename(target)
            except BaseException:
                shutil.rmtree(part, ignore_errors=True)
                raise
