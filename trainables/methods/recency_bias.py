"""Recency Bias (Song et al. 2020, arXiv:1911.08050) and Online Batch (Loshchilov and Hutter 2015, arXiv:1511.06343).

Cost of an epoch: 3N. Nothing is probed; an epoch draws N samples, some of them more than once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field, PositiveInt
from torch import Tensor

from trainables.methods.draws import draw_batches, warm_up, warming_up
from trainables.methods.selection import Batch, Choice, Memory, ProbeResult, Run, Unit, Unprobed


class PressureSelection(Unprobed):
    """Draws a sample of index Q with a probability proportional to s_e^(-Q / N).

    The index lies between 0 and N, and the method says what it is. So a sample of index 0 is s_e times as likely as one
    of index N. The selection pressure s_e falls exponentially, from ``pressure`` (s_0) at the end of the warm-up to 1
    in the last epoch, where every sample is as likely as another.

    Probabilities are computed before every pass. A pass draws N samples as batches: without replacement within a batch,
    with replacement between batches. While warming up, a pass trains on every sample once. The drawn samples are not
    weighted: the gradient is biased, as in the papers.
    """

    granularities: ClassVar[Sequence[str]] = ("epoch",)
    batches: ClassVar[Sequence[str]] = ("stable",)

    pressure: float = Field(100.0, ge=1, description="s_0: how much likelier an index of 0 is than N, at first")
    warmup: float = Field(0.1, ge=0, lt=1, description="share of the epochs that draw nothing; the first at least")

    def begin(self, run: Run, memory: Memory) -> None:
        """The sizes of the run."""
        memory.batch_size = run.batch_size
        memory.epochs = run.epochs
        memory.warm_up = warm_up(self.warmup, run.epochs)

    def choose(self, unit: Unit, seen: ProbeResult | None, memory: Memory) -> Choice:
        """The pass as it is while warming up, then N draws."""
        if warming_up(unit, memory):
            return Choice(torch.arange(len(unit)))
        return Choice(draw_batches(self.weights(unit, memory), memory.batch_size, unit.random), repeats=True)

    def weights(self, unit: Unit, memory: Memory) -> Float[Tensor, " n"]:
        """What the probabilities of the unit's samples are proportional to."""
        return (-math.log(self.pressure_in(unit.epoch, memory)) / len(unit) * self.index(unit, memory)).exp()

    def pressure_in(self, epoch: int, memory: Memory) -> float:
        """s_e, the selection pressure in an epoch after the warm-up."""
        left = (memory.epochs - epoch) / max(memory.epochs - memory.warm_up, 1)
        return float(self.pressure**left)

    def index(self, unit: Unit, memory: Memory) -> Float[Tensor, " n"]:
        """Q of each of the unit's samples, on the CPU: the lower, the likelier."""
        raise NotImplementedError


class RecencyBias(PressureSelection):
    """Prefers samples whose recent predictions disagree.

    The uncertainty F of a sample is the entropy of the classes that the last ``window`` (q) forward passes of training
    predicted for it, divided by log C. Its index is Q = ceil((1 - F) N).

    The authors' code fills the windows with class 0 before the first prediction, and so invents predictions where a
    sample has fewer than ``window``. Here only the predictions that there are count. The paper therefore asks for a
    warm-up of at least ``window`` epochs; here a shorter one makes F coarser, but invents nothing. The last batch of a
    pass is smaller, so that a pass trains on N samples; the authors' last batch is full.

    Remembered: the last ``window`` predicted classes of each sample, and how many predictions there were.
    """

    name: Literal["recency_bias"] = "recency_bias"
    window: PositiveInt = Field(10, description="q: last predictions of a sample that its uncertainty is computed from")

    def begin(self, run: Run, memory: Memory) -> None:
        """Nothing has been predicted."""
        super().begin(run, memory)
        memory.classes = run.classes
        memory.predictions = torch.full((run.size, self.window), -1, dtype=torch.int32, device=run.device)
        memory.seen = torch.zeros(run.size, dtype=torch.int64, device=run.device)

    def loss(self, batch: Batch, memory: Memory) -> Float[Tensor, ""]:
        """The mean loss; the batch's predictions are remembered."""
        seen = memory.seen[batch.index]
        memory.predictions[batch.index, seen % self.window] = batch.logits.detach().argmax(1).to(torch.int32)
        memory.seen[batch.index] = seen + 1
        return batch.mean_loss

    def uncertainty(self, memory: Memory) -> Float[Tensor, " N"]:
        """F of every sample, from 0 (its predictions agree) to 1 (every class was predicted as often)."""
        ring = memory.predictions.cpu()
        known = ring >= 0
        count = known.sum(1, keepdim=True).clamp_min(1)
        # A prediction's class has the share h of the window: the mean of -log h over the predictions is the entropy.
        alike = torch.stack([(ring == one[:, None]).sum(1) for one in ring.unbind(1)], 1)
        surprise = torch.where(known, -(alike.double() / count).log(), 0.0)
        return (surprise.sum(1) / count[:, 0]) / math.log(max(memory.classes, 2))

    def index(self, unit: Unit, memory: Memory) -> Float[Tensor, " n"]:
        """ceil((1 - F) N); the last bits of F do not matter."""
        return ((1 - self.uncertainty(memory)[unit.index.cpu()]) * len(unit) - 1e-9).ceil().clamp_min(0)


class OnlineBatch(PressureSelection):
    """Prefers samples whose last training loss was large.

    The index of a sample is its rank from 1 to N among the last losses, the largest first; of equal losses, the first
    in the shuffled pass comes first. A loss that is not a number counts as infinite.

    The loss of a sample is that of its last update. The authors can also recompute losses several times an epoch, and
    Song et al. do so after every epoch, by a forward pass over all samples. Both are left out here, for they cost what
    a probe costs. Batches are drawn as Song et al. draw them. In the authors' own code, as a public port of it shows, a
    batch can hold a sample twice, and losses are sorted anew after every hundred draws and not once a pass. The default
    pressure and its decay are those that Song et al. compare with.

    Remembered: each sample's last loss.
    """

    name: Literal["online_batch"] = "online_batch"

    def begin(self, run: Run, memory: Memory) -> None:
        """No loss is known."""
        super().begin(run, memory)
        memory.losses = torch.full((run.size,), math.inf, device=run.device)

    def loss(self, batch: Batch, memory: Memory) -> Float[Tensor, ""]:
        """The mean loss; the batch's losses are remembered."""
        losses = batch.losses.detach().nan_to_num(math.inf, math.inf)
        memory.losses[batch.index] = losses.to(memory.losses.dtype)
        return batch.mean_loss

    def index(self, unit: Unit, memory: Memory) -> Float[Tensor, " n"]:
        """The rank of the last loss."""
        order = memory.losses[unit.index].cpu().argsort(descending=True, stable=True)
        ranks = torch.empty(len(unit), dtype=torch.float64)
        ranks[order] = torch.arange(1, len(unit) + 1, dtype=torch.float64)
        return ranks
