"""A data set held whole on one device as uint8, and its splits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from trainables.errors import UserError

RESIDENT = 2**28
"""Bytes that a split's normalized images may take to be kept beside its uint8 ones: 256 MiB, all of MNIST."""


class DatasetError(UserError, ValueError):
    """A data set is missing, damaged, or smaller than what was asked of it."""


class Split(NamedTuple):
    """Images and their labels, on one device."""

    images: UInt8[Tensor, "n c h w"]
    labels: Int64[Tensor, " n"]

    def select(self, indices: Int64[Tensor, " m"]) -> Split:
        """The samples at ``indices``, in that order."""
        return Split(self.images.index_select(0, indices), self.labels.index_select(0, indices))

    def to(self, device: torch.device) -> Split:
        """The split on ``device``."""
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Dataset:
    """A data set on one device; ``mean`` and ``std`` are the training images' own, per channel, in [0, 1]."""

    train: Split
    validation: Split | None
    test: Split
    classes: int
    mean: Float[Tensor, "c 1 1"]
    std: Float[Tensor, "c 1 1"]
    names: tuple[str, ...] = ()
    """The classes' names, one for each, or none."""
    true_labels: Int64[Tensor, " n"] | None = None
    """Of the training samples, before some were replaced; None where none were."""

    @property
    def channels(self) -> int:
        """Channels of every image: 1 or 3."""
        return self.train.images.shape[1]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of every image."""
        height, width = self.train.images.shape[2:]
        return height, width

    def splits(self) -> Iterator[tuple[str, Split]]:
        """Name and samples of each split there is."""
        yield "train", self.train
        if self.validation is not None:
            yield "validation", self.validation
        yield "test", self.test

    def normalize(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Images in [0, 1] brought to mean 0 and deviation 1."""
        return (images - self.mean) / self.std

    def clean(self, name: str, which: slice | Int64[Tensor, " m"]) -> Float[Tensor, "m c h w"]:
        """The normalized images of the split ``name`` in a slice or at positions, without augmentation."""
        kept = self._normalized.get(name)
        if kept is None:
            images = dict(self.splits())[name].images
            return self.normalize(_at(images, which).float() / 255)
        return _at(kept, which)

    @cached_property
    def _normalized(self) -> Mapping[str, Float[Tensor, "n c h w"]]:
        """All images of the splits whose floats take no more than :data:`RESIDENT` bytes."""
        small = [(name, split.images) for name, split in self.splits() if 4 * split.images.numel() <= RESIDENT]
        return {name: self.normalize(images.float() / 255) for name, images in small}


def _at(images: Tensor, which: slice | Int64[Tensor, " m"]) -> Tensor:
    return images[which] if isinstance(which, slice) else images.index_select(0, which)
