"""MentorNet's predefined curriculum, and self-paced learning (Jiang et al. 2018, arXiv:1712.05055). Cost: 3N.

Samples of no weight are still in the batch, as in the authors' code, so nothing is saved. This is a method against
wrong labels, not one for speed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int64
from pydantic import Field
from torch import Tensor

from trainables.methods.scores import finite
from trainables.methods.selection import Batch, Choice, Memory, ProbeResult, Run, Unit, Unprobed

BURN_IN, LINEAR = 0.19, 0.90
"""Shares of training up to which the predefined curriculum trains on all samples, and from which it weighs linearly."""

EARLY = 0.17
"""The share of training in which more of a batch is dropped."""

MOMENTUM = 0.5
"""Of the moving percentile."""


class Curriculum(Unprobed):
    """Multiplies the loss of every sample by a weight, and takes the mean over the whole batch.

    Subclass it, and define :meth:`weigh` and :meth:`dropped`. Remembered: λ, a moving percentile of the losses, and how
    far training has come.
    """

    granularities: ClassVar[Sequence[str]] = ("epoch",)
    batches: ClassVar[Sequence[str]] = ("stable",)
    weighted: ClassVar[bool] = True

    percentile: float = Field(0.75, gt=0, le=1, description="p: of a batch's losses, towards which λ moves")

    def begin(self, run: Run, memory: Memory) -> None:
        """λ is 0, and nothing is trained."""
        memory.threshold = torch.zeros((), device=run.device)
        memory.epochs = run.epochs
        memory.batch_size = run.batch_size
        memory.done = torch.zeros((), device=run.device)  # share of all training
        memory.step = torch.zeros((), device=run.device)  # share of all training that an update is

    def choose(self, unit: Unit, seen: ProbeResult | None, memory: Memory) -> Choice:
        """The whole pass; in every batch, so many random samples have the weight 0 and the others 1."""
        begun = (unit.epoch - 1) / memory.epochs
        memory.done.fill_(begun)
        memory.step.fill_(1 / (memory.epochs * math.ceil(len(unit) / memory.batch_size)))
        weights = kept(len(unit), memory.batch_size, self.dropped(begun), unit.random)
        return Choice(torch.arange(len(unit)), weights)

    def loss(self, batch: Batch, memory: Memory) -> Float[Tensor, ""]:
        """The mean over the batch of weight times loss; a sample without weight counts as 0, whatever its loss."""
        assert batch.weight is not None
        losses = batch.losses
        values = finite(losses.detach().float())
        memory.threshold.copy_(moved(memory.threshold, values, self.percentile))
        weights = batch.weight * self.weigh(values, batch.labels, memory)
        memory.done.add_(memory.step)
        return torch.where(weights > 0, losses * weights.to(losses), 0.0).mean()

    def weigh(self, losses: Float[Tensor, " n"], labels: Int64[Tensor, " n"], memory: Memory) -> Float[Tensor, " n"]:
        """The weights of samples with these losses and labels."""
        raise NotImplementedError

    def dropped(self, done: float) -> float:
        """The share of every batch that has no weight, when that share of training is done."""
        raise NotImplementedError


class MentorNet(Curriculum):
    """Weighs a sample by whether its loss is small beside a moving percentile λ of losses: easy samples come first.

    With δ = loss - λ, ``curriculum: predefined`` takes all samples in the first 19 % of training, and then those with
    δ ≤ 0. In the last 10 % all count, with the weight 1 - δ, between 0 and 1. ``self_paced`` (Kumar et al. 2010) takes
    those with δ ≤ 0 throughout. The loss is the mean over the whole batch of weight times loss. λ starts at 0, and at
    each update it moves halfway to the batch's ``percentile``, before it is used.

    A random share of every batch has no weight: ``early_dropout`` in the first 17 % of training, ``dropout`` after.

    It is the opposite of accuracy filtering, and a control for it under label noise. These are the closed forms that
    the paper trains its network to imitate; the network itself is not here, for the authors found that its architecture
    does not matter much. Its data-driven form is :class:`~trainables.methods.data_driven.DataDriven`. Unlike the
    authors' code, the weight decay of the network is not multiplied by the batch's mean weight. Remembered: λ and how
    far training has come.
    """

    name: Literal["mentornet"] = "mentornet"
    curriculum: Literal["predefined", "self_paced"] = Field("predefined", description="which samples count, and when")
    early_dropout: float = Field(0.5, ge=0, lt=1, description="share of a batch without weight, early in training")
    dropout: float = Field(0.05, ge=0, lt=1, description="share of a batch without weight, after that")

    def weigh(self, losses: Float[Tensor, " n"], labels: Int64[Tensor, " n"], memory: Memory) -> Float[Tensor, " n"]:
        """By how far the losses are above λ."""
        return self.weights(losses - memory.threshold, memory.done)

    def dropped(self, done: float) -> float:
        """More of a batch early in training."""
        return self.early_dropout if done < EARLY else self.dropout

    def weights(self, above: Float[Tensor, " n"], done: Float[Tensor, ""]) -> Float[Tensor, " n"]:
        """The weights of samples whose losses are ``above`` λ by so much, when the share ``done`` is trained."""
        easy = (above <= 0).float()
        if self.curriculum == "self_paced":
            return easy
        graded = (1 - above).clamp(0, 1)
        return torch.where(done < BURN_IN, torch.ones_like(easy), torch.where(done < LINEAR, easy, graded))


def moved(threshold: Float[Tensor, ""], losses: Float[Tensor, " n"], percentile: float) -> Float[Tensor, ""]:
    """λ halfway to a percentile of a batch's losses."""
    return MOMENTUM * threshold + (1 - MOMENTUM) * torch.quantile(losses, percentile)


def kept(size: int, batch_size: int, dropped: float, generator: torch.Generator) -> Float[Tensor, " n"]:
    """1 for all samples of a pass but a random share ``dropped`` of every batch, which has 0."""
    weights = torch.ones(size)
    for start in range(0, size, batch_size):
        count = min(batch_size, size - start)
        order = torch.randperm(count, generator=generator)
        weights[start + order[int(count * (1 - dropped)) :]] = 0
    return weights
