"""A data set that Hugging Face's ``datasets`` saved to disk (``save_to_disk``); the package is optional."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import numpy as np

from trainables import fetch
from trainables.config import HuggingFace
from trainables.data.arrays import Arrays, Whole, checked
from trainables.data.dataset import DatasetError
from trainables.data.decoding import pixels, stacked


def whole(config: HuggingFace, data_dir: str) -> Whole:
    """All samples of a saved data set; ``data_dir`` plays no part.

    Raises:
        DatasetError: the package is not installed, or says what is wrong with the folder.
    """
    try:
        library = import_module("datasets")
    except ImportError:
        raise DatasetError(
            "dataset.name huggingface needs the package datasets, which is not installed: pip install datasets"
        ) from None
    try:
        saved = library.load_from_disk(str(fetch.folder(config.path)))
    except Exception as error:  # whatever the library says of a folder that it did not write
        raise DatasetError(f"dataset.path: {config.path}: cannot be read: {error}") from None
    if not hasattr(saved, "keys"):
        raise DatasetError(f"{config.path}: is one split; save a DatasetDict with training and test images")
    parts = [_samples(saved, split, config) for split in (config.train_split, config.test_split)]
    label = saved[config.train_split].features[config.label_column]
    return checked(Arrays(parts[0], parts[1], getattr(label, "names", None) or ()), config.title)


def _samples(saved: Any, split: str, config: HuggingFace) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of one split."""
    if split not in saved:
        raise DatasetError(f"{config.path}: has no split {split!r}, but {', '.join(saved.keys())}; set train_split")
    rows = saved[split]
    for key in ("image_column", "label_column"):
        if (column := getattr(config, key)) not in rows.features:
            there = ", ".join(rows.features)
            raise DatasetError(f"{config.path}: {split} has no column {column!r}; set dataset.{key} to one of {there}")

    def images() -> Iterator[tuple[str, np.ndarray]]:
        for index, image in enumerate(rows[config.image_column]):
            name = f"{config.path}: {split} image {index}"
            try:
                array = pixels(image, config.size)
            except (AttributeError, OSError, ValueError) as error:
                raise DatasetError(f"{name}: is no image: {error}") from None
            yield name, array

    return stacked(images()), np.asarray(rows[config.label_column])
