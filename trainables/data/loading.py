"""From the files of a data set to its splits on a device.

After the samples are read, in this order: classes are left out, validation is held out, training is cut to
``samples_per_class``, then made long-tailed (``imbalance``), and last some of its labels are made wrong on purpose
(``label_noise``). Validation and test stay whole and clean. Training metrics count the wrong labels as the right ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import torch

from trainables.config import DatasetConfig, kind
from trainables.data import built_in, folder, hugging_face, npz, own, torchvision_sets
from trainables.data.arrays import Whole
from trainables.data.built_in import CHANNELS, CLASSES
from trainables.data.dataset import Dataset, DatasetError, Split
from trainables.data.subsets import first_per_class, long_tailed, mislabel, stratify

READERS: Mapping[str | None, Callable[[Any, str], Whole]] = {
    **dict.fromkeys(CLASSES, built_in.whole),
    "npz": npz.whole,
    "folder": folder.whole,
    "torchvision": torchvision_sets.whole,
    "huggingface": hugging_face.whole,
    "use": own.whole,
}
"""What reads each kind of data set: from its configuration and ``data_dir`` to all its samples."""


class Dimensions(NamedTuple):
    """What a network must know of a data set: channels of its images, their (height, width), number of classes."""

    channels: int
    size: tuple[int, int]
    classes: int


def dimensions(config: DatasetConfig, data_dir: str) -> Dimensions:
    """The dimensions of a data set; of a built-in one without reading it.

    Raises:
        DatasetError: it cannot be read.
        CodeError: code of one's own cannot be found, or raises.
    """
    if (name := kind(config)) in CLASSES:
        return Dimensions(CHANNELS[name], (32, 32), config.classes or CLASSES[name])
    dataset = load(config, data_dir, torch.device("cpu"))
    return Dimensions(dataset.channels, dataset.size, dataset.classes)


@lru_cache(maxsize=4)
def load(config: DatasetConfig, data_dir: str, device: torch.device) -> Dataset:
    """The data set of ``config`` on ``device``; read once per process.

    Raises:
        DatasetError: it is not there (says where it was looked for), a file is damaged (says which and how), or a
            subset is larger than the data.
        CodeError: code of one's own cannot be found, or raises.
    """
    train, test, names = READERS[kind(config)](config, data_dir)
    classes = config.classes or len(names)
    if classes > len(names):
        raise DatasetError(f"dataset.classes is {classes}, but {config.title} has {len(names)} classes")
    train, test = (split.select((split.labels < classes).nonzero().flatten()) for split in (train, test))
    held_out, kept = stratify(train.labels, config.validation_fraction, config.split_seed, "validation")
    if config.validation_fraction and not len(held_out):
        raise DatasetError(
            f"dataset.validation_fraction {config.validation_fraction} holds out no sample of {config.title}; raise "
            "it, or set it to 0"
        )
    validation = train.select(held_out) if len(held_out) else None
    train = train.select(kept)
    if len(train.labels) == 0 or int(torch.bincount(train.labels, minlength=classes).min()) == 0:
        raise DatasetError(
            f"dataset.validation_fraction {config.validation_fraction} leaves a class of {config.title} without "
            "training samples; lower it"
        )
    if config.samples_per_class is not None:
        available = int(torch.bincount(train.labels, minlength=classes).min())
        if config.samples_per_class > available:
            raise DatasetError(
                f"dataset.samples_per_class is {config.samples_per_class}, but the smallest class of {config.title} "
                f"has {available} training samples (validation_fraction {config.validation_fraction} held out)"
            )
        train = train.select(first_per_class(train.labels, config.samples_per_class, config.split_seed))
    if config.imbalance > 1:
        train = train.select(long_tailed(train.labels, config.imbalance, classes, config.split_seed))
    true_labels = train.labels
    train = Split(train.images, mislabel(true_labels, config.label_noise, classes, config.split_seed))
    pixels = train.images.double() / 255
    mean, std = pixels.mean((0, 2, 3)), pixels.std((0, 2, 3), correction=0).clamp_min(1 / 255)
    return Dataset(
        train=train.to(device),
        validation=validation and validation.to(device),
        test=test.to(device),
        classes=classes,
        mean=mean.float().view(-1, 1, 1).to(device),
        std=std.float().view(-1, 1, 1).to(device),
        names=names[:classes],
        true_labels=true_labels.to(device) if config.label_noise else None,
    )
