"""A view is one augmented image: a sample as some epoch shows it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor


@dataclass(frozen=True)
class Views:
    """Samples by index, each with the epoch whose augmentation it wears.

    A filtered batch held over from an earlier epoch keeps that epoch, so an arm trains on the very images it judged.

    Attributes:
        weight: the factor of each sample's loss; None where the method gives no weights.
    """

    index: Int64[Tensor, " n"]
    epoch: Int64[Tensor, " n"]
    weight: Float[Tensor, " n"] | None = None

    @classmethod
    def of(cls, index: Int64[Tensor, " n"], epoch: int) -> Views:
        """The samples at ``index`` as ``epoch`` shows them."""
        return cls(index, torch.full_like(index, epoch))

    @classmethod
    def none(cls, device: torch.device) -> Views:
        """No views."""
        return cls.of(torch.empty(0, dtype=torch.int64, device=device), 0)

    def __len__(self) -> int:
        return self.index.numel()

    def __getitem__(self, key: slice | Bool[Tensor, " n"] | Int64[Tensor, " m"]) -> Views:
        """The views in a slice, under a mask, or at positions."""
        if isinstance(key, Tensor) and key.dtype == torch.int64:  # as below, in a third of the time
            weight = None if self.weight is None else self.weight.index_select(0, key)
            return Views(self.index.index_select(0, key), self.epoch.index_select(0, key), weight)
        return Views(self.index[key], self.epoch[key], None if self.weight is None else self.weight[key])

    def __add__(self, other: Views) -> Views:
        """Both, one after the other; of two that are not empty, both have weights or neither."""
        if not len(self) or not len(other):
            return self if len(self) else other
        weight = None if self.weight is None or other.weight is None else torch.cat((self.weight, other.weight))
        return Views(torch.cat((self.index, other.index)), torch.cat((self.epoch, other.epoch)), weight)

    def repeated(self, epochs: int) -> Views:
        """The same views, where the k-th repeat of a sample shows another image: that of ``epoch + k * epochs``.

        With ``epochs`` the number of all epochs, no other view has that image.
        """
        order = self.index.argsort(stable=True)
        sorted_index = self.index[order]
        place = torch.arange(len(self), device=self.index.device)
        first = torch.ones_like(sorted_index, dtype=torch.bool)
        first[1:] = sorted_index[1:] != sorted_index[:-1]
        start = torch.where(first, place, 0).cummax(0).values if len(self) else place
        repeat = torch.empty_like(place)
        repeat[order] = place - start
        return replace(self, epoch=self.epoch + epochs * repeat)

    def weighted(self, weight: Float[Tensor, " n"] | None) -> Views:
        """The same views with their weights multiplied by ``weight``; None: by 1."""
        factor = torch.ones(len(self), device=self.index.device) if weight is None else weight
        return replace(self, weight=factor if self.weight is None else self.weight * factor)

    def split(self, size: int) -> Iterator[Views]:
        """Consecutive pieces of ``size``, the last one possibly smaller; none if there are no views."""
        if 0 < len(self) <= size:
            yield self
            return
        for start in range(0, len(self), size):
            yield self[start : start + size]

    def tensors(self) -> dict[str, Tensor]:
        """The tensors that there are, by name."""
        return {"index": self.index, "epoch": self.epoch} | ({} if self.weight is None else {"weight": self.weight})

    def state_dict(self) -> dict[str, Tensor]:
        """The views as tensors of their own: a slice would be saved with all that it is cut from."""
        return {name: tensor.clone() for name, tensor in self.tensors().items()}

    @classmethod
    def from_state_dict(cls, state: dict[str, Tensor], device: torch.device) -> Views:
        """The views of :meth:`state_dict`, on ``device``."""
        return cls(**{name: tensor.to(device) for name, tensor in state.items()})
