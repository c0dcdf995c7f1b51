"""A method: train on the samples that have become harder than they were."""

import math

import torch
from pydantic import Field
from torch import Tensor

from trainables.methods import Batch, Choice, Memory, ProbeResult, Run, Selection, Unit

DECAY = 0.7


class Surprising(Selection):
    """The samples whose loss is highest above their own running mean.

    Attributes:
        keep: the share of a unit that is trained on.
    """

    keep: float = Field(0.5, gt=0, le=1, description="share of a unit that is trained on")

    def most(self, unit: int) -> int:
        """Exactly so many are chosen."""
        return math.ceil(self.keep * unit)

    def begin(self, run: Run, memory: Memory) -> None:
        """Before training, every sample's mean is 0."""
        memory.mean = torch.zeros(run.size, device=run.device)

    def choose(self, unit: Unit, seen: ProbeResult | None, memory: Memory) -> Choice:
        """All samples were looked at; take those that surprise most."""
        assert seen is not None
        surprise = seen.losses - memory.mean[unit.index]
        return Choice(surprise.topk(self.most(len(unit))).indices)

    def loss(self, batch: Batch, memory: Memory) -> Tensor:
        """The usual loss. The mean learns from training's own forward pass, which costs nothing."""
        losses = batch.losses.detach()
        memory.mean[batch.index] = DECAY * memory.mean[batch.index] + (1 - DECAY) * losses
        return batch.mean_loss
