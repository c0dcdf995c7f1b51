"""A data set in one npz file: its arrays by name."""

from __future__ import annotations

import zlib
from io import BytesIO
from typing import Any
from zipfile import BadZipFile

import numpy as np

from trainables.config import Npz
from trainables.data.arrays import Arrays, Whole, checked
from trainables.data.dataset import DatasetError
from trainables.places import Place

USUAL = {
    "train_images": ("x_train", "train_images"),
    "train_labels": ("y_train", "train_labels"),
    "test_images": ("x_test", "test_images"),
    "test_labels": ("y_test", "test_labels"),
}
"""The names that an array is looked for under where none is set."""


def whole(config: Npz, data_dir: str) -> Whole:
    """All samples of an npz file; ``data_dir`` plays no part.

    Raises:
        DatasetError: names the file and what is wrong with it.
    """
    try:
        place = Place.of(config.path)
        with np.load(place.local or BytesIO(place.read()), allow_pickle=False) as file:
            return checked(_arrays(file, config), str(place))
    except DatasetError:
        raise
    except FileNotFoundError:
        raise DatasetError(f"dataset.path: {config.path}: there is no such file") from None
    except (OSError, ValueError, EOFError, BadZipFile, zlib.error, AttributeError) as error:
        raise DatasetError(f"dataset.path: {config.path}: cannot be read as an npz file: {error}") from None


def _arrays(file: Any, config: Npz) -> Arrays:
    found, errors = {}, []
    for key, usual in USUAL.items():
        named = getattr(config, key)
        sought = (named,) if named else usual
        name = next((name for name in sought if name in file.files), None)
        if name is None:
            errors.append(f"{config.path}: has no array {' or '.join(sought)}; set dataset.{key} to one of ")
        else:
            found[key] = file[name]
    if errors:
        raise DatasetError("\n".join(error + ", ".join(file.files) for error in errors))
    names = config.class_names or "class_names"
    if config.class_names and names not in file.files:
        raise DatasetError(f"{config.path}: has no array {names}; dataset.class_names must be one of the file's")
    return Arrays(
        (found["train_images"], found["train_labels"]),
        (found["test_images"], found["test_labels"]),
        file[names].tolist() if names in file.files else (),
    )
