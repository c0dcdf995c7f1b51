"""A view is one augmented picture: a sample as some epoch shows it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int64
from torch import Tensor


@dataclass(frozen=True)
class Views:
    """Samples by index, each with the epoch whose augmentation it wears.

    A filtered batch held over from an earlier epoch keeps that epoch, so an arm trains on the very pictures it judged.
    """

    index: Int64[Tensor, " n"]
    epoch: Int64[Tensor, " n"]

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
            return Views(self.index.index_select(0, key), self.epoch.index_select(0, key))
        return Views(self.index[key], self.epoch[key])

    def __add__(self, other: Views) -> Views:
        if not len(self) or not len(other):
            return self if len(self) else other
        return Views(torch.cat((self.index, other.index)), torch.cat((self.epoch, other.epoch)))

    def split(self, size: int) -> Iterator[Views]:
        """Consecutive pieces of ``size``, the last one possibly smaller; none if there are no views."""
        if 0 < len(self) <= size:
            yield self
            return
        for start in range(0, len(self), size):
            yield self[start : start + size]

    def state_dict(self) -> dict[str, Tensor]:
        """The views as tensors of their own: a slice would be saved with all that it is cut from."""
        return {"index": self.index.clone(), "epoch": self.epoch.clone()}

    @classmethod
    def from_state_dict(cls, state: dict[str, Tensor], device: torch.device) -> Views:
        """The views of :meth:`state_dict`, on ``device``."""
        return cls(state["index"].to(device), state["epoch"].to(device))
