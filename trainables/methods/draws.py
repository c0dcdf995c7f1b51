"""What methods share that draw samples, or wait until every sample has been trained on once."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from trainables.methods.scores import normalized
from trainables.methods.selection import Choice, Memory, Positions, Unit

ROUNDS = 3
"""Of draws with replacement, whose repeats are skipped; what is then still missing is drawn by sorting keys."""

SMALLEST = 1e-300
"""The least weight: samples of weight 0 are drawn once there are no others, each as likely as another."""


def warm_up(share: float, epochs: int) -> int:
    """How many epochs a warm-up of that share lasts: the first one at least."""
    return max(round(share * epochs), 1)


def warming_up(unit: Unit, memory: Memory) -> bool:
    """Whether the pass belongs to the warm-up of ``memory.warm_up`` epochs; the first pass always does.

    After the first pass, every sample has been trained on once.
    """
    return unit.pass_number == 1 or unit.epoch <= memory.warm_up


def draw_by_importance(scores: Float[Tensor, " n"], count: int, random: torch.Generator) -> Choice:
    """``count`` draws with replacement, each of a position with a probability p in proportion to its score.

    Weights of 1 / (n p) make up for that: the expected gradient is that of all n samples.
    """
    chances = normalized(scores)
    positions = torch.multinomial(chances, count, replacement=True, generator=random)
    return Choice(positions, (1 / (len(chances) * chances[positions])).float(), repeats=True)


def draw_batches(weights: Float[Tensor, " n"], batch_size: int, random: torch.Generator) -> Positions:
    """As many positions as there are weights: consecutive batches of ``batch_size``, the last one possibly smaller.

    Within a batch no position repeats: each is drawn with probability proportional to its weight among those that the
    batch does not have yet. Every batch draws from all positions anew.
    """
    weights = weights.double().cpu().clamp_min(SMALLEST)
    cumulative = weights.cumsum(0)
    size = len(weights)
    sizes = (min(batch_size, size - start) for start in range(0, size, batch_size))
    return torch.tensor([i for n in sizes for i in _distinct(weights, cumulative, n, random)], dtype=torch.int64)


def _distinct(
    weights: Float[Tensor, " n"], cumulative: Float[Tensor, " n"], size: int, random: torch.Generator
) -> list[int]:
    """``size`` distinct positions, drawn one after the other.

    To skip repeats is to draw among the rest, and costs little where a batch is a small part of the data. Otherwise the
    largest of the keys log(u) / weight, u uniform, are such a draw, too (Efraimidis and Spirakis 2006).
    """
    found: dict[int, None] = {}
    for _ in range(ROUNDS):
        chance = torch.rand(size, generator=random, dtype=torch.float64) * cumulative[-1]
        found |= dict.fromkeys(torch.searchsorted(cumulative, chance, right=True).tolist())
        if len(found) >= size:
            return list(found)[:size]
    keys = torch.rand(len(weights), generator=random, dtype=torch.float64).log() / weights
    keys[list(found)] = -torch.inf
    return [*found, *keys.topk(size - len(found)).indices.tolist()]
