"""Recency Bias and Online Batch against the formulas of their papers, and the draws that they share."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peer_helpers import (
    is_the_pass_as_it_is,
    looks_drawn_from,
    of_class,
    of_loss,
    of_ordered_batches,
    remembering,
    trained,
    updates_without_waiting,
    whole,
)
from pydantic import ValidationError

from trainables.contracts import SelectionContract
from trainables.methods import Memory, draws
from trainables.methods.draws import draw_batches
from trainables.methods.recency_bias import OnlineBatch, RecencyBias

PEERS = [RecencyBias(), OnlineBatch()]


class TestRecencyBiasContract(SelectionContract):
    selection = RecencyBias(window=2)


class TestOnlineBatchContract(SelectionContract):
    selection = OnlineBatch()


def predicting(histories: list[list[int]], classes: int, window: int, epochs: int = 10) -> tuple[RecencyBias, Memory]:
    """Recency Bias after it has seen these predictions of each sample, the oldest first."""
    peer = RecencyBias(window=window)
    memory = remembering(peer, len(histories), classes, epochs=epochs)
    for sample, history in enumerate(histories):
        for predicted in history:
            trained(peer, memory, [sample], of_class([predicted], classes))
    return peer, memory


def entropy(history: list[int], classes: int) -> float:
    """F of definition 3.1."""
    shares = [count / len(history) for count in Counter(history).values()]
    return -sum(h * math.log(h) for h in shares) / -math.log(1 / classes)


@given(
    st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=12), min_size=1, max_size=6),
    st.integers(1, 8),
)
def test_uncertainty_is_the_entropy_of_the_last_predictions(histories: list[list[int]], window: int) -> None:
    peer, memory = predicting(histories, 5, window)
    expected = [entropy(history[-window:], 5) for history in histories]
    assert peer.uncertainty(memory).tolist() == pytest.approx(expected, abs=1e-12)
    size = len(histories)
    indices = [math.ceil((1 - f) * size - 1e-9) for f in expected]
    order = list(reversed(range(size)))
    assert peer.index(whole(size, order=order), memory).tolist() == [indices[i] for i in order]


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([3] * 10, 0.0),
        (list(range(10)), 1.0),
        ([0, 7] * 5, math.log(2) / math.log(10)),
        ([4], 0.0),
        ([4, 5], math.log(2) / math.log(10)),  # no prediction is invented in the eight empty places
    ],
)
def test_uncertainty_of_known_histories(history: list[int], expected: float) -> None:
    peer, memory = predicting([history], 10, 10)
    assert peer.uncertainty(memory).item() == pytest.approx(expected, abs=1e-12)


def test_the_window_forgets_the_oldest_prediction() -> None:
    peer, memory = predicting([[1, 1, 1, 0, 0, 0]], 2, 3)
    assert peer.uncertainty(memory).item() == 0.0
    assert memory.seen.tolist() == [6]


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize(("warmup", "epochs", "last"), [(0.1, 100, 10), (0.0, 20, 1), (0.5, 4, 2), (0.1, 1, 1)])
def test_the_pressure_falls_exponentially_to_1(peer: RecencyBias, warmup: float, epochs: int, last: int) -> None:
    peer = type(peer)(warmup=warmup, pressure=100)
    memory = remembering(peer, 4, epochs=epochs)
    assert memory.warm_up == last
    for epoch in range(last, epochs + 1) if epochs > last else ():
        expected = 100 * math.exp(math.log(1 / 100) / (epochs - last)) ** (epoch - last)
        assert peer.pressure_in(epoch, memory) == pytest.approx(expected)
    assert peer.pressure_in(epochs, memory) == 1.0


def test_the_most_uncertain_are_as_many_times_as_likely_as_the_pressure_says() -> None:
    peer, memory = predicting([[0, 1, 2, 3], [2, 2, 2, 2], [0, 0, 1, 1]], 4, 4, epochs=20)  # F of 1, 0 and 1/2
    for epoch in (5, 12, 19):
        pressure = peer.pressure_in(epoch, memory)
        weights = peer.weights(whole(3, epoch), memory)
        assert (weights[0] / weights[1]).item() == pytest.approx(pressure)
        assert (weights[0] / weights[2]).item() == pytest.approx(pressure ** (2 / 3))  # Q = ceil(3/2) of 3
    assert peer.weights(whole(3, 20), memory).tolist() == [1.0, 1.0, 1.0]


def online(losses: list[float], epochs: int = 10) -> tuple[OnlineBatch, Memory]:
    peer = OnlineBatch()
    memory = remembering(peer, len(losses), epochs=epochs)
    trained(peer, memory, list(range(len(losses))), of_loss(losses))
    return peer, memory


@given(st.permutations([0.1, 0.3, 1.0, 2.0, 5.0]), st.permutations(range(5)))
def test_online_batch_ranks_the_last_losses(losses: list[float], order: list[int]) -> None:
    peer, memory = online(losses)
    expected = [1 + sum(other > losses[i] for other in losses) for i in order]
    unit = whole(5, 4, order=order)
    assert peer.index(unit, memory).tolist() == expected
    pressure = peer.pressure_in(4, memory)
    likely = [1 / math.exp(math.log(pressure) / 5) ** rank for rank in expected]  # equation 1 of Song et al.
    assert peer.weights(unit, memory).tolist() == pytest.approx(likely)


def test_of_equal_losses_the_first_of_the_pass_comes_first_and_nan_before_all() -> None:
    peer, memory = online([1.0, 1.0, 2.0, 1.0])
    trained(peer, memory, [3], torch.tensor([[math.nan, 0.0]]))
    assert peer.index(whole(4, order=[1, 0, 2, 3]), memory).tolist() == [3, 4, 2, 1]
    trained(peer, memory, [3], of_loss([0.5]))
    assert peer.index(whole(4), memory).tolist() == [2, 3, 1, 4]
    peer, memory = online([1.0] * 1000)
    assert peer.index(whole(1000), memory).tolist() == list(range(1, 1001))


@pytest.mark.parametrize("peer", PEERS)
def test_the_pass_is_as_it_is_while_warming_up(peer: RecencyBias) -> None:
    peer = type(peer)(warmup=0.3)
    memory = remembering(peer, 50)
    for epoch, number in [(1, 1), (3, 3), (1, 2), (7, 1)]:  # the first pass in a late epoch, too, under a budget
        assert is_the_pass_as_it_is(peer.choose(whole(50, epoch, number), None, memory), 50)
    for epoch, number in [(4, 4), (4, 2), (10, 10)]:
        choice = peer.choose(whole(50, epoch, number), None, memory)
        assert choice.repeats
        assert not is_the_pass_as_it_is(choice, 50)


@pytest.mark.parametrize("size", [1, 7, 40, 41])
def test_a_pass_draws_as_many_samples_as_there_are_and_none_twice_in_a_batch(size: int) -> None:
    peer, memory = online([float(i + 1) for i in range(size)])
    for seed in range(30):
        positions = peer.choose(whole(size, 2, seed=seed), None, memory).positions
        assert len(positions) == size
        assert all(len(set(batch.tolist())) == len(batch) for batch in positions.split(memory.batch_size))


def test_draws_have_the_probabilities_of_the_paper() -> None:
    peer, memory = predicting([[0, 1, 2, 3], [2, 2, 2, 2], [0, 0, 1, 1], [1, 1, 1, 1], [3, 1, 3, 3]], 4, 4)
    memory.batch_size = 1
    unit = whole(5, 3, order=[4, 3, 2, 1, 0])
    counts = torch.zeros(5)
    for seed in range(800):
        index = unit.index[peer.choose(whole(5, 3, seed=seed, order=unit.index.tolist()), None, memory).positions]
        counts += torch.bincount(index, minlength=5)
    pressure = 100 ** (7 / 9)  # epoch 3, warmed up for 1 of 10
    uncertain = [1, 0, 0.5, 0, entropy([3, 1, 3, 3], 4)]
    assert looks_drawn_from(counts, [pressure ** -(math.ceil((1 - f) * 5) / 5) for f in uncertain])


@pytest.mark.parametrize("rounds", [0, 1, 3], ids=["by keys", "by both", "by skipping repeats"])
def test_a_batch_is_drawn_without_replacement(rounds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draws, "ROUNDS", rounds)
    weights = [1.0, 2.0, 3.0, 6.0]
    expected = of_ordered_batches(weights, 3)
    random = torch.Generator().manual_seed(5)
    found = Counter(
        tuple(draw_batches(torch.tensor(weights), 3, random)[:3].tolist())  # the fourth is a batch of its own
        for _ in range(5000)
    )
    assert set(found) <= set(expected)
    assert looks_drawn_from([found[batch] for batch in expected], list(expected.values()))


def test_batches_are_drawn_independently_of_one_another() -> None:
    random = torch.Generator().manual_seed(1)
    weights = torch.tensor([1.0, 2.0, 4.0, 8.0])
    drawn = torch.stack([draw_batches(weights, 2, random) for _ in range(4000)])
    pairs = of_ordered_batches(weights.tolist(), 2)
    for batch in (drawn[:, :2], drawn[:, 2:]):
        counts = Counter(map(tuple, batch.tolist()))
        assert looks_drawn_from([counts[pair] for pair in pairs], list(pairs.values()))
    both = Counter(zip(drawn[:, 0].tolist(), drawn[:, 2].tolist(), strict=True))
    chances = (weights / weights.sum())[:, None] * (weights / weights.sum())
    assert looks_drawn_from([both[i, j] for i in range(4) for j in range(4)], chances.flatten())


@pytest.mark.parametrize("rounds", [0, 3])
def test_samples_of_weight_0_are_drawn_when_there_are_no_others(rounds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draws, "ROUNDS", rounds)
    random = torch.Generator().manual_seed(2)
    for _ in range(20):
        drawn = draw_batches(torch.tensor([0.0, 1.0, 0.0, 1.0]), 4, random).tolist()
        assert sorted(drawn[:2]) == [1, 3]
        assert sorted(drawn) == [0, 1, 2, 3]
    assert sorted(draw_batches(torch.zeros(3), 3, random).tolist()) == [0, 1, 2]


@pytest.mark.parametrize("peer", PEERS)
def test_the_loss_is_the_plain_mean_and_waits_for_nothing(peer: RecencyBias) -> None:
    memory = remembering(peer, 3)
    assert trained(peer, memory, [0, 2], of_loss([1.0, 3.0])).item() == pytest.approx(2.0)
    assert updates_without_waiting(peer)


@pytest.mark.parametrize("options", [{"pressure": 0.5}, {"warmup": 1.0}, {"warmup": -0.1}, {"window": 0}])
def test_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(options))):
        RecencyBias(**options)
