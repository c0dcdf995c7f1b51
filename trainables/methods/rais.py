"""RAIS, robust approximate importance sampling (Johnson and Guestrin 2018, NeurIPS). Cost of an epoch: 3N.

The paper has no public code. What it leaves open was derived here, and is marked so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field, PositiveInt
from scipy.optimize import nnls
from torch import Tensor
from torch.nn.functional import one_hot

from trainables.methods.draws import draw_by_importance
from trainables.methods.scores import gradient_bound
from trainables.methods.selection import Batch, Choice, Memory, ProbeResult, Run, Unit, Unprobed

FEATURES = 3
"""A sample's features: 1, the norm that was measured last, and the moving average of its norms."""

ROUNDS = 200
"""Of the solver, in each of which the objective falls; it takes milliseconds."""

Matrix = np.ndarray
Vector = np.ndarray


class RAIS(Unprobed):
    """Draws by a robust estimate of each sample's gradient norm, learned from what updates have measured.

    Of a sample with features s, the norm is taken to lie in an uncertainty set around c·s, as wide as d·s allows. Its
    worst case is v = c·s + k d·s, and samples are drawn with probability p in proportion to v, their losses weighted by
    1 / (N p), so that the expected gradient is that of the whole set. c and d, both at least 0, are the smallest
    uncertainty that is consistent with the norms of the last ``window`` samples that were trained on: they minimize the
    sum of d·s over all samples such that (c·s - v)² / d·s is at most 1 in the mean. k = √(N / Σ d·s) follows from that
    set (derived here). Nothing is probed. The first pass is uniform, so that every sample has a norm, and so is the
    second, which measures how well that norm foretells the next.

    With ``gain``, the learning rate is multiplied by r = E||g_U||² / E||g_R||² ≥ 1, the factor by which uniform
    sampling's squared gradient is larger: so much larger a step has the same expected squared length.

    The norm is that of the gradient by the logits (the paper takes that of the loss layer). For the gain, g_U and g_R
    are gradients by the logits as well, so that all are of one space; the paper's are by all parameters. Three choices
    are ours: the features beyond the last norm, the averages' ``decay``, and probabilities that are renewed once an
    epoch. The schedule is read at the share of the budget that is spent, not at the sum of gains.

    Remembered: each sample's norms, the last ``window`` measurements, c, d, and the averages of the gain.
    """

    granularities: ClassVar[Sequence[str]] = ("epoch",)
    batches: ClassVar[Sequence[str]] = ("stable",)
    weighted: ClassVar[bool] = True

    name: Literal["rais"] = "rais"
    gain: bool = Field(False, description="whether the learning rate is multiplied by the gain ratio")
    window: PositiveInt = Field(10_000, description="|D|: measured norms that c and d are learned from")
    decay: float = Field(0.9, ge=0, lt=1, description="of a sample's average norm, and of the averages of the gain")

    def begin(self, run: Run, memory: Memory) -> None:
        """No norm is known."""
        memory.batch_size = run.batch_size
        memory.features = torch.ones(run.size, FEATURES, device=run.device)
        memory.seen = torch.zeros(run.size, dtype=torch.bool, device=run.device)
        memory.measured = torch.zeros(self.window, FEATURES + 2, device=run.device)  # features when drawn, norm, weight
        memory.count = torch.zeros((), dtype=torch.int64, device=run.device)
        memory.c = torch.tensor([0.0, 1.0, 0.0])
        memory.d = torch.tensor([1.0, 0.0, 0.0])
        memory.uniform_squares = torch.zeros((), device=run.device)
        memory.drawn_squares = torch.zeros((), device=run.device)
        memory.batch_squares = torch.zeros((), device=run.device)

    def choose(self, unit: Unit, seen: ProbeResult | None, memory: Memory) -> Choice:
        """The pass as it is, until norms and their forecasts are known; then N draws, weighted to make up for them."""
        if not bool(memory.seen.all()) or not int(memory.count):
            return Choice(torch.arange(len(unit)), torch.ones(len(unit)))
        features = memory.features.double().cpu().numpy()
        kept = memory.measured[: int(memory.count)].double().cpu().numpy()
        c, d = learned(kept[:, :FEATURES], kept[:, FEATURES], kept[:, FEATURES + 1], features.sum(0))
        memory.c.copy_(torch.from_numpy(c))
        memory.d.copy_(torch.from_numpy(d))
        norms = torch.from_numpy(robust(features, c, d))[unit.index.cpu()]
        return draw_by_importance(norms, len(unit), unit.random)

    def loss(self, batch: Batch, memory: Memory) -> Float[Tensor, ""]:
        """The weighted mean of the losses; the norms of the batch are remembered."""
        assert batch.weight is not None
        norms = gradient_bound(batch.logits.detach(), batch.labels).float()
        self._measure(batch, norms, memory)
        self._average(batch, norms, memory)
        return batch.mean_loss

    def _measure(self, batch: Batch, norms: Float[Tensor, " n"], memory: Memory) -> None:
        """Keep what was measured with the features that it was drawn by, then renew the features."""
        assert batch.weight is not None
        before, known = memory.features[batch.index], memory.seen[batch.index]
        rows = torch.cat((before, norms[:, None], batch.weight[:, None].float()), 1)
        place = memory.count + torch.arange(len(norms), device=norms.device)
        memory.measured[place % self.window] = rows
        # In the first pass there are no features yet: the count stays, and the next batch writes in the same place.
        memory.count.copy_(torch.where(known.all(), memory.count + len(norms), memory.count))
        average = torch.where(known, self.decay * before[:, 2] + (1 - self.decay) * norms, norms)
        memory.features[batch.index] = torch.stack((torch.ones_like(norms), norms, average), 1)
        memory.seen[batch.index] = True

    def _average(self, batch: Batch, norms: Float[Tensor, " n"], memory: Memory) -> None:
        """Squared gradients by the logits: of one sample drawn uniformly, of one as drawn here, and of this batch."""
        assert batch.weight is not None
        weight = batch.weight.float()
        error = batch.logits.detach().float().softmax(1) - one_hot(batch.labels, batch.logits.shape[1])
        squares = {
            "uniform_squares": (weight * norms.square()).mean(),
            "drawn_squares": (weight * norms).square().mean(),
            "batch_squares": (weight[:, None] * error).mean(0).square().sum(),
        }
        for name, value in squares.items():
            average = getattr(memory, name)
            average.copy_(self.decay * average + (1 - self.decay) * value.nan_to_num(0.0))

    def rate(self, memory: Memory) -> float | Float[Tensor, ""]:
        """The gain ratio, if asked for."""
        if not self.gain:
            return 1.0
        return gain(memory.uniform_squares, memory.drawn_squares, memory.batch_squares, memory.batch_size)


def gain(
    uniform: Float[Tensor, ""], drawn: Float[Tensor, ""], batch: Float[Tensor, ""], size: int
) -> Float[Tensor, ""]:
    """r, at least 1, from the expected squares of a single sample's gradient and of a batch's of that ``size``.

    Of both distributions the expected square of a batch's gradient is |F'|² + (that of one - |F'|²) / size. F', the
    gradient of the whole set, is the same; so r = 1 + (uniform - drawn) / (size · batch).
    """
    ratio = 1 + (uniform - drawn) / (size * batch.clamp_min(torch.finfo(batch.dtype).tiny))
    return torch.where(batch > 0, ratio, 1.0).clamp_min(1.0)


def robust(features: Matrix, c: Vector, d: Vector) -> Vector:
    """v, the norms of the worst case in the uncertainty set: c·s + √(n / Σ d·s) d·s."""
    spread = features @ d
    total = spread.sum()
    return features @ c + (math.sqrt(len(features) / total) * spread if total > 0 else 0.0)


def learned(features: Matrix, norms: Vector, weights: Vector, total: Vector) -> tuple[Vector, Vector]:
    """c and d, at least 0, that minimize ``total``·d such that the mean of weights (c·s - v)² / d·s is at most 1.

    The problem is convex. For a given d, c is a non-negative least-squares fit. For a given c, a step multiplies each
    entry of d by the square root of what its condition for a minimum lacks, which never raises the objective (a
    majorization of 1 / d·s). Then d is scaled so that the constraint holds with equality.

    Arguments:
        features: of the samples that were trained on, when they were drawn; shape (D, 3).
        norms: v, what was then measured.
        weights: 1 / (n p), by which they were drawn.
        total: the sum of the features of all samples.
    """
    d, best = np.ones(FEATURES), math.inf
    for _ in range(ROUNDS):
        scale = np.sqrt(weights / (features @ d))
        q, r = np.linalg.qr(scale[:, None] * features)
        c, _ = nnls(r, q.T @ (scale * norms))
        errors = weights * (features @ c - norms) ** 2
        if errors.mean() <= np.finfo(float).eps * (weights * norms**2).mean():
            return c, np.zeros(FEATURES)
        pull = (errors[:, None] * features / (features @ d)[:, None] ** 2).mean(0)
        d = np.maximum(d * np.sqrt(pull / total), np.finfo(float).tiny)
        d *= (errors / (features @ d)).mean()
        objective = float(total @ d)
        if objective > best * (1 - 1e-9):
            break
        best = objective
    return c, d
