"""OrderDP, by what its public code does."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from scipy.stats import chisquare

from trainables.contracts import SelectionContract
from trainables.methods import Batch, Memory, Run, Unit
from trainables.methods.order_dp import OrderDP


class TestOrderDP(SelectionContract):
    selection = OrderDP(subset=0.8, top=0.5)


def begun(selection: OrderDP, losses: list[float]) -> Memory:
    memory = Memory()
    labels = torch.zeros(len(losses), dtype=torch.int64)
    selection.begin(Run(len(losses), 2, labels, 4, 3, torch.device("cpu"), Any, Any, Any, lambda spent: None), memory)
    memory.losses.copy_(torch.tensor(losses))
    return memory


def chosen(selection: OrderDP, memory: Memory, seed: int) -> list[int]:
    index = torch.arange(len(memory.losses)).flip(0)
    unit = Unit(0, 1, 1, index, 4, seed, lambda arm: [], lambda spent: None)
    return index[selection.choose(unit, None, memory).positions].tolist()


def test_it_takes_the_largest_losses_of_what_was_drawn() -> None:
    selection = OrderDP(subset=1.0, top=0.3)
    memory = begun(selection, [float(n % 7) for n in range(10)])
    assert chosen(selection, memory, 0) == [6, 5, 4]  # in the order of the pass, which is from the end


@pytest.mark.parametrize(("subset", "top", "expected"), [(0.75, 0.85, 5), (0.5, 0.5, 2), (0.1, 0.1, 1)])
def test_so_many_are_trained_on(subset: float, top: float, expected: int) -> None:
    selection = OrderDP(subset=subset, top=top)
    assert len(chosen(selection, begun(selection, [1.0] * 10), 0)) == expected == selection.most(10)


def test_a_sample_is_drawn_first_and_then_ranked() -> None:
    """Of 4 samples 2 are drawn and 1 is taken: the largest loss in 3 of 6 pairs, the next in 2, the third in 1."""
    selection = OrderDP(subset=0.5, top=0.5)
    memory = begun(selection, [4.0, 3.0, 2.0, 1.0])
    times = torch.zeros(4)
    for seed in range(3000):
        times[chosen(selection, memory, seed)] += 1
    assert times[3] == 0
    assert chisquare(times[:3].numpy(), [1500, 1000, 500]).pvalue > 0.001


def test_the_last_loss_counts_and_a_sample_that_was_never_trained_on_comes_first() -> None:
    selection = OrderDP(subset=1.0, top=0.5)
    memory = begun(selection, [math.inf] * 4)
    logits = torch.tensor([[2.0, 0.0], [0.0, 2.0], [0.0, math.nan]])
    loss = selection.loss(Batch(torch.tensor([0, 1, 3]), logits, torch.zeros(3).long(), None), memory)
    assert loss.shape == ()
    assert memory.losses.tolist() == pytest.approx([0.126928, 2.126928, math.inf, math.inf])
    assert chosen(selection, memory, 0) == [3, 2]
