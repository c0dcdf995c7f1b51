"""A data set as image files, ``train/CLASS/*.png`` and ``test/CLASS/*.png``, decoded once into a cache.

The cache holds a file for each class of each part. So what was decoded when a process was ended is not decoded again,
and where files of one class change, only this class is decoded anew: the name of the cached file is a digest of names,
sizes and times of the class's files. The first process to ask decodes, others wait for it.
"""

from __future__ import annotations

import hashlib
import math
import os
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np
from filelock import FileLock

from trainables import fetch
from trainables.config import ImageFolder
from trainables.data.arrays import Arrays, Whole, checked
from trainables.data.dataset import DatasetError
from trainables.data.decoding import coloured, pixels, stacked

SUFFIXES = (".png", ".jpg", ".jpeg")
FORM = 1
"""Of the cached files; to be raised whenever they are to be decoded anew."""
NOTE_SECONDS = 10
"""Between two notes of how far decoding is."""


class Shelf(NamedTuple):
    """The image files of one class in one part, and the cached file of their pixels."""

    files: Sequence[Path]
    cached: Path


def whole(config: ImageFolder, data_dir: str) -> Whole:
    """All samples of a folder of image files; ``data_dir`` plays no part.

    Raises:
        DatasetError: names the file or folder and what is wrong with it.
    """
    try:
        root = fetch.folder(config.path)
        names = _folders(root / "train")
        if extra := sorted(set(_folders(root / "test")) - {*names}):
            raise DatasetError(f"{root / 'test' / extra[0]}: there is no class {extra[0]!r} in {root / 'train'}")
        return checked(_read(root, names, config.size), str(root))
    except (OSError, ValueError, RuntimeError) as error:  # the last, where there is no home for the cache
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(f"dataset.path: {config.path}: cannot be read: {error}") from None


def _folders(part: Path) -> list[str]:
    if not part.is_dir():
        raise DatasetError(f"{part}: there is no such folder; images must lie in train/CLASS and test/CLASS")
    names = sorted(path.name for path in part.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not names:
        raise DatasetError(f"{part}: has no folders; images must lie in {part.name}/CLASS")
    return names


def _read(root: Path, names: Sequence[str], size: int | tuple[int, int] | None) -> Arrays:
    """Images and labels of both parts, from the cache where they are there."""
    cache = fetch.cache() / "folders" / _digest([str(root.resolve()), str(size)])
    shelves = {(part, name): _shelf(root / part / name, cache) for part in ("train", "test") for name in names}
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / "lock"):
        missing = sum(len(shelf.files) for shelf in shelves.values() if not shelf.cached.is_file())
        progress = _noted(missing, root)
        arrays = {key: _pixels(shelf, size, progress) for key, shelf in shelves.items() if shelf.files}
        for stale in {*cache.glob("*.npz")} - {shelf.cached for shelf in shelves.values()}:
            stale.unlink(missing_ok=True)
    _one_size(arrays, shelves)
    channels = max(array.shape[-1] for array in arrays.values())
    parts = []
    for part in ("train", "test"):
        there = [(label, arrays[part, name]) for label, name in enumerate(names) if (part, name) in arrays]
        if not there:
            raise DatasetError(f"{root / part}: has no images ({', '.join(SUFFIXES)}) in the folders of its classes")
        images = np.concatenate([coloured(array, channels) for _, array in there])
        parts.append((images, np.concatenate([np.full(len(array), label) for label, array in there])))
    return Arrays(parts[0], parts[1], names)


def _shelf(folder: Path, cache: Path) -> Shelf:
    """The image files of a class's folder, in the order of their names; none where there is no folder."""
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    files = [path for path in found if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")]
    state = [f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in files]
    return Shelf(files, cache / f"{_digest([str(FORM), folder.parent.name, folder.name, *state])}.npz")


def _digest(lines: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:20]


def _pixels(shelf: Shelf, size: int | tuple[int, int] | None, progress: Iterator[None]) -> np.ndarray:
    """The images of a class, [n, h, w, c]: the cached ones if they are whole, which their checksum says."""
    try:
        with np.load(shelf.cached, allow_pickle=False) as file:
            return np.asarray(file["images"])
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error):
        pass
    images = stacked((str(path), _decoded(path, size, progress)) for path in shelf.files)
    part = shelf.cached.with_suffix(f".{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            np.savez(file, images=images)
        part.replace(shelf.cached)
    finally:
        part.unlink(missing_ok=True)
    return images


def _decoded(path: Path, size: int | tuple[int, int] | None, progress: Iterator[None]) -> np.ndarray:
    from PIL import Image, UnidentifiedImageError

    next(progress)
    try:
        with Image.open(path) as image:
            return pixels(image, size)
    except UnidentifiedImageError:
        raise DatasetError(f"{path}: is no image that can be decoded") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DatasetError(f"{path}: cannot be decoded: {error}") from None


def _noted(missing: int, root: Path) -> Iterator[None]:
    """To be advanced before each image: says on standard error what is decoded, and now and then how far it is."""
    said = -math.inf
    for done in range(sys.maxsize):
        if time.monotonic() - said > NOTE_SECONDS:
            so_far = f", {done:,} done" if done else ", once"
            print(f"{root}: decoding {missing:,} images{so_far}", file=sys.stderr)
            said = time.monotonic()
        yield


def _one_size(arrays: dict[tuple[str, str], np.ndarray], shelves: dict[tuple[str, str], Shelf]) -> None:
    """Refuse classes whose images have another size than those of the first.

    Raises:
        DatasetError: names a file of each.
    """
    (first, array), *others = arrays.items() if arrays else [(("", ""), np.zeros((0, 0, 0, 0)))]
    for key, other in others:
        if other.shape[1:3] != array.shape[1:3]:
            sizes = [f"{one.shape[1]} x {one.shape[2]}" for one in (other, array)]
            raise DatasetError(
                f"{shelves[key].files[0]}: is {sizes[0]}, and {shelves[first].files[0]} is {sizes[1]}; all images must "
                "have one size: set dataset.size"
            )
