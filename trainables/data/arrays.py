"""What a data set of one's own gives, and everything that is checked about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from trainables.data.dataset import DatasetError, Split

SHAPES = "[n, height, width], [n, channels, height, width] or [n, height, width, channels] with 1 or 3 channels"


class Arrays(NamedTuple):
    """What a callable that gives a data set returns; a plain ``((images, labels), (images, labels))`` will do as well.

    Images are uint8, of one size, 1 or 3 channels: [n, h, w], [n, c, h, w] or [n, h, w, c]. Labels are whole numbers
    from 0, one for each image. Both may be NumPy arrays or tensors.

    Attributes:
        train: training images and their labels.
        test: test images and their labels.
        names: the classes' names, in the order of the labels; empty: the classes have their numbers as names.
    """

    train: tuple[Any, Any]
    test: tuple[Any, Any]
    names: Sequence[str] = ()


class Whole(NamedTuple):
    """All samples of a data set, checked, on the CPU, and a name for every class."""

    train: Split
    test: Split
    names: tuple[str, ...]


def checked(given: Any, where: str) -> Whole:
    """The samples that ``given`` holds.

    Args:
        given: :class:`Arrays`, or the same as a plain tuple.
        where: what messages begin with: who gave it.

    Raises:
        DatasetError: with every error, each on a line of its own.
    """
    arrays, errors = _unpacked(given)
    train, test = (_split(part, pair, errors) for part, pair in (("training", arrays.train), ("test", arrays.test)))
    names = tuple(map(str, arrays.names))
    if train and test:
        if train.images.shape[1:] != test.images.shape[1:]:
            shapes = [" x ".join(map(str, split.images.shape[1:])) for split in (train, test)]
            errors.append(f"training images are {shapes[0]} (channels x height x width), and test images {shapes[1]}")
        names = names or tuple(map(str, range(int(train.labels.max()) + 1)))
        errors += _misfits(train, test, names)
    if errors or not (train and test):
        raise DatasetError("\n".join(f"{where}: {error}" for error in errors))
    return Whole(train, test, names)


def _unpacked(given: Any) -> tuple[Arrays, list[str]]:
    """The parts of what was given, and what is wrong with its form."""
    form = "must give ((train_images, train_labels), (test_images, test_labels)), or Arrays(train, test, names)"
    nothing = Arrays((None, None), (None, None))
    if isinstance(given, tuple | list) and len(given) == 1:
        return nothing, [f"gives no test set; it {form}"]
    if not isinstance(given, tuple | list) or len(given) not in (2, 3):
        return nothing, [f"{form}, not {_kind(given)}"]
    errors = []
    pairs: list[tuple[Any, Any]] = []
    for part, pair in zip(("training", "test"), given, strict=False):
        if isinstance(pair, tuple | list) and len(pair) == 2:
            pairs.append((pair[0], pair[1]))
        else:
            pairs.append((None, None))
            errors.append(f"gives no {part} set" if pair is None else f"the {part} set is {_kind(pair)}; it {form}")
    return Arrays(pairs[0], pairs[1], given[2] if len(given) == 3 else ()), errors


def _kind(value: Any) -> str:
    shape = f" of shape {list(value.shape)}" if hasattr(value, "shape") else ""
    count = f" of {len(value)}" if isinstance(value, tuple | list) else ""
    return f"a {type(value).__name__}{shape}{count}"


def _split(part: str, pair: tuple[Any, Any], errors: list[str]) -> Split | None:
    """The samples of one part; None where something is wrong, which is added to the errors."""
    if pair[0] is None and pair[1] is None:  # said already
        return None
    found: list[str] = []
    images = _images(part, pair[0], found)
    labels = _labels(part, pair[1], found)
    if images is not None and labels is not None and len(images) != len(labels):
        found.append(f"{len(labels):,} labels for {len(images):,} {part} images")
    errors += found
    if found or images is None or labels is None:
        return None
    return Split(images, labels)


def _images(part: str, given: Any, errors: list[str]) -> Tensor | None:
    """The images as [n, c, h, w]."""
    array = _array(given)
    if array.ndim not in (3, 4) or (array.ndim == 4 and not {array.shape[1], array.shape[3]} & {1, 3}):
        errors.append(f"{part} images have the shape {list(array.shape)}; it must be {SHAPES}")
    elif array.dtype != np.uint8:
        hint = "; multiply by 255, round and convert them" if array.dtype.kind == "f" else ""
        errors.append(f"{part} images are {array.dtype}; they must be uint8, from 0 to 255{hint}")
    elif 0 in array.shape:
        errors.append(f"there are no {part} images: their shape is {list(array.shape)}")
    else:
        images = torch.from_numpy(np.require(array, requirements=["C", "W"]))
        if images.ndim == 3:
            return images.unsqueeze(1)
        return images if images.shape[1] in (1, 3) else images.permute(0, 3, 1, 2).contiguous()
    return None


def _labels(part: str, given: Any, errors: list[str]) -> Tensor | None:
    """The labels as int64, [n]."""
    array = _array(given)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        errors.append(f"{part} labels have the shape {list(array.shape)}; it must be [n], a number for each image")
    elif array.dtype.kind not in "biuf":
        errors.append(f"{part} labels are {array.dtype}; they must be whole numbers from 0")
    elif array.dtype.kind == "f" and not np.array_equal(array, np.round(array)):
        place = int((array != np.round(array)).argmax())
        errors.append(f"{part} label {array[place]!s} at {place} is not a whole number")
    elif len(array) and array.min() < 0:
        place = int((array < 0).argmax())
        errors.append(f"{part} label {array[place]!s} at {place} is below 0")
    else:
        return torch.from_numpy(array.astype(np.int64))
    return None


def _array(given: Any) -> np.ndarray:
    """The array; of what is none, one without a shape, which the checks refuse."""
    try:
        return given.numpy(force=True) if isinstance(given, Tensor) else np.asarray(given)
    except (ValueError, TypeError):
        return np.asarray(None)


def _misfits(train: Split, test: Split, names: Sequence[str]) -> list[str]:
    """What is wrong with the labels of both parts as those of the classes ``names``."""
    errors = []
    if len(names) < 2:
        return [f"there is {len(names)} class; there must be 2 or more"]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        errors.append(f"classes have the same name: {', '.join(twice)}")
    for part, split in (("training", train), ("test", test)):
        place = int(split.labels.argmax())
        if (label := int(split.labels[place])) >= len(names):
            errors.append(f"{part} label {label} at {place} is out of range: classes are 0 to {len(names) - 1}")
    if not errors:
        counts = torch.bincount(train.labels, minlength=len(names))
        empty = [f"{place} ({names[place]})" for place in (counts == 0).nonzero().flatten().tolist()]
        if empty:
            errors.append(f"no training image has the label {', '.join(empty[:5])}{' …' if len(empty) > 5 else ''}")
    return errors
