"""InfoBatch (Qin et al. 2023, arXiv:2303.04947). Cost: 3 per sample that stays; nothing is probed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from trainables.methods.selection import Batch, Choice, Memory, ProbeResult, Run, Unit, Unprobed


class InfoBatch(Unprobed):
    """Samples whose last loss is below the mean are pruned at random, each with probability ``prune`` (r).

    The loss of those that stay is scaled by 1 / (1 - r), so that the expected gradient is that of the whole set. A
    sample's loss is that of its last update; before the first, nothing is pruned. After the share ``anneal`` (δ) of all
    epochs, nothing is pruned any more. Remembered: losses and scales by sample.
    """

    granularities: ClassVar[Sequence[str]] = ("epoch",)
    batches: ClassVar[Sequence[str]] = ("stable",)

    name: Literal["infobatch"] = "infobatch"
    prune: float = Field(0.5, gt=0, lt=1, description="r: chance that a sample below the mean is pruned")
    anneal: float = Field(0.875, gt=0, le=1, description="δ: share of the epochs in which it prunes")

    def begin(self, run: Run, memory: Memory) -> None:
        """All samples have the same loss, so that none is below the mean."""
        memory.last_pruned_epoch = math.floor(self.anneal * run.epochs)
        memory.scores = torch.ones(run.size, device=run.device)
        memory.weights = torch.ones(run.size, device=run.device)

    def below(self, memory: Memory) -> Bool[Tensor, " N"]:
        """Whether a sample's last loss is below the mean of all."""
        return memory.scores < memory.scores.mean()

    def choose(self, unit: Unit, seen: ProbeResult | None, memory: Memory) -> Choice:
        """The samples that stay, in the order drawn."""
        pruning = unit.epoch <= memory.last_pruned_epoch
        prunable = self.below(memory) if pruning else torch.zeros_like(memory.scores, dtype=torch.bool)
        memory.weights.copy_(torch.where(prunable, 1 / (1 - self.prune), 1.0))
        chance = torch.rand(len(unit), generator=unit.random).to(unit.index.device)
        return Choice((~prunable[unit.index] | (chance >= self.prune)).nonzero().flatten())

    def loss(self, batch: Batch, memory: Memory) -> Float[Tensor, ""]:
        """The rescaled mean of the batch's losses, which are remembered."""
        losses = batch.losses
        memory.scores[batch.index] = losses.detach().nan_to_num(math.inf, math.inf).to(memory.scores.dtype)
        return (losses * memory.weights[batch.index]).mean()
