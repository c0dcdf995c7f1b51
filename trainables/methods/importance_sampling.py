"""Importance sampling by a bound of the gradient norm (Katharopoulos and Fleuret 2018, arXiv:1803.00942).

Cost of an update on b samples: ``presample`` · b + 3b while it draws by importance, 3b while it does not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from trainables.methods.draws import draw_by_importance
from trainables.methods.scores import finite, gradient_bound
from trainables.methods.selection import Batch, Choice, Memory, Positions, ProbeResult, Run, Selection, Unit


class ImportanceSampling(Selection):
    """Draws each batch from a larger raw batch, a sample with a probability p in proportion to its score.

    With B = ``presample`` · b samples in the raw batch, b are drawn with replacement, and the loss of each is weighted
    by 1 / (B p), so that the expected gradient is that of the raw batch (eq. 2). It pays only where scores differ: τ,
    the root mean square of the scores by their mean, says by which factor a uniform batch would have to be larger to
    have as little variance (eq. 26). While the moving average of τ is not above ``threshold``, batches are uniform and
    nothing is probed; τ is then that of the batch that is trained on.

    Scores: ``bound`` is ||p - y||, the norm of the gradient by the logits (eq. 20). The paper sets it against ``loss``
    and ``gradient_norm``, the norm by all parameters. The last costs 3 a sample of the raw batch in place of 1, and
    while nothing is probed τ is that of the bound.

    Unlike the authors' code, a raw batch is a part of a shuffled pass and not drawn from all of the data with
    replacement, and a sample that is drawn several times shows another augmentation each time. Remembered: the moving
    average of τ.
    """

    granularities: ClassVar[Sequence[str]] = ("batch",)
    batches: ClassVar[Sequence[str]] = ("unstable",)
    own_raw_batches: ClassVar[bool] = True
    weighted: ClassVar[bool] = True

    name: Literal["importance_sampling"] = "importance_sampling"
    score: Literal["bound", "loss", "gradient_norm"] = Field("bound", description="what a sample is drawn by")
    presample: float = Field(3.0, ge=1, description="B / b: how much larger the raw batch is than the batch")
    threshold: float | None = Field(
        None, ge=0, description="τ from which on samples are drawn by importance; None: (B + 3b) / (3b), their cost"
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="of the moving average of τ")

    @property
    def least(self) -> float:
        """The threshold of τ; at the default a batch by importance costs less than a uniform one of its variance."""
        return (self.presample + 3) / 3 if self.threshold is None else self.threshold

    def begin(self, run: Run, memory: Memory) -> None:
        """Nothing is known of τ: its average starts at 0, as in the authors' code."""
        memory.tau = torch.zeros((), device=run.device)
        memory.uniform = torch.ones((), dtype=torch.bool, device=run.device)
        memory.batch_size = run.batch_size
        memory.by_importance = False

    def most(self, unit: int) -> int:
        """As many as are drawn; a uniform batch is its raw batch."""
        return unit

    def draw(self, raw_batch_size: int, memory: Memory) -> int:
        """A batch, or what one is drawn from."""
        memory.by_importance = bool(memory.tau > self.least)
        memory.uniform.fill_(not memory.by_importance)
        return math.ceil(self.presample * raw_batch_size) if memory.by_importance else raw_batch_size

    def look(self, unit: Unit, memory: Memory) -> bool | Positions:
        """Only to draw by what a forward pass says."""
        return memory.by_importance and self.score != "gradient_norm"

    def choose(self, unit: Unit, seen: ProbeResult | None, memory: Memory) -> Choice:
        """The whole raw batch with equal weights, or b draws from it with the weights that make up for them."""
        if not memory.by_importance:
            return Choice(torch.arange(len(unit)))
        scores = self._scores(unit, seen)
        memory.tau.copy_(self._averaged(memory.tau, tau(scores)))
        return draw_by_importance(scores, min(memory.batch_size, len(unit)), unit.random)

    def loss(self, batch: Batch, memory: Memory) -> Float[Tensor, ""]:
        """The weighted mean of the losses; of a uniform batch, its τ is averaged in."""
        logits, losses = batch.logits.detach(), batch.losses.detach()
        scores = losses if self.score == "loss" else gradient_bound(logits, batch.labels)
        averaged = self._averaged(memory.tau, tau(scores))
        memory.tau.copy_(torch.where(memory.uniform, averaged, memory.tau))
        return batch.mean_loss

    def _scores(self, unit: Unit, seen: ProbeResult | None) -> Float[Tensor, " n"]:
        if self.score == "gradient_norm":
            return unit.gradient_norms(torch.arange(len(unit)))
        assert seen is not None
        return seen.losses if self.score == "loss" else gradient_bound(seen.logits, seen.labels)

    def _averaged(self, before: Float[Tensor, ""], now: Float[Tensor, ""]) -> Float[Tensor, ""]:
        return self.momentum * before + (1 - self.momentum) * now.to(before)


def tau(scores: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """The root mean square of scores by their mean, from 1 (all equal) to √n (one alone is above 0).

    The paper writes it as 1 / √(1 - Σ(p - 1/n)² / Σp²) with p the scores divided by their sum (eq. 26), which is the
    same. Without a score above 0 it is 1.
    """
    values = finite(scores.double())
    mean = values.mean()
    return torch.where(mean > 0, values.square().mean().sqrt() / mean, 1.0)
