"""OrderDP, dynamic pruning by ordered losses (Jin et al. 2026, arXiv:2606.08574). Cost of an epoch: 3qsN; no probe.

By the authors' public code (github.com/shengze-xu/OrderDP) and the paper's abstract. Its text could not be read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from trainables.methods.selection import Batch, Choice, Memory, ProbeResult, Run, Unit, Unprobed


class OrderDP(Unprobed):
    """Of a random share of the data, the part whose last training losses are the largest.

    Every epoch draws the share ``subset`` (s) at random, and trains on the share ``top`` (q) of that. A sample's loss
    is that of its last update, and infinite before the first, so that no sample is passed over for good. Nothing is
    weighted. The authors' code begins with equal losses instead, which leaves the choice of the first epochs to the
    order of the data. Remembered: each sample's last loss.
    """

    granularities: ClassVar[Sequence[str]] = ("epoch",)
    batches: ClassVar[Sequence[str]] = ("stable",)

    name: Literal["order_dp"] = "order_dp"
    subset: float = Field(0.75, gt=0, le=1, description="s: share of the data that an epoch draws at random")
    top: float = Field(0.85, gt=0, le=1, description="q: share of what was drawn that is trained on, by the last loss")

    def most(self, unit: int) -> int:
        """The share of the share."""
        return max(int(self.top * int(self.subset * unit)), 1)

    def begin(self, run: Run, memory: Memory) -> None:
        """No loss is known."""
        memory.losses = torch.full((run.size,), math.inf, device=run.device)

    def choose(self, unit: Unit, seen: ProbeResult | None, memory: Memory) -> Choice:
        """The largest losses of a random subset, in the order drawn; of equal ones, which is chance."""
        drawn = torch.randperm(len(unit), generator=unit.random)[: max(int(self.subset * len(unit)), 1)]
        losses = memory.losses[unit.index[drawn.to(unit.index.device)]].cpu()
        largest = losses.argsort(descending=True, stable=True)[: self.most(len(unit))]
        return Choice(drawn[largest].sort().values)

    def loss(self, batch: Batch, memory: Memory) -> Float[Tensor, ""]:
        """The mean loss; each sample's is remembered."""
        losses = batch.losses
        memory.losses[batch.index] = losses.detach().float().nan_to_num(math.inf, math.inf)
        return losses.mean()
