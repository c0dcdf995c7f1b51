"""Active Bias against the formulas of its paper."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peer_helpers import (
    is_the_pass_as_it_is,
    looks_drawn_from,
    of_chance,
    of_loss,
    remembering,
    trained,
    updates_without_waiting,
    whole,
)
from pydantic import ValidationError

from trainables.contracts import SelectionContract
from trainables.methods import Memory
from trainables.methods.active_bias import ActiveBias

VARIANTS = ["spv", "wpv", "stc", "wtc"]
CHANCES = st.lists(st.floats(0.01, 0.99), min_size=1, max_size=12)


class TestWeighingContract(SelectionContract):
    selection = ActiveBias()


class TestDrawingContract(SelectionContract):
    selection = ActiveBias(variant="spv", epsilon=0.02)


class TestThresholdClosenessContract(SelectionContract):
    selection = ActiveBias(variant="stc")


def following(peer: ActiveBias, histories: list[list[float]]) -> Memory:
    """The memory after each sample's label had these probabilities."""
    memory = remembering(peer, len(histories))
    for sample, history in enumerate(histories):
        for chance in history:
            trained(peer, memory, [sample], of_chance([chance]))
    return memory


def prediction_variance(history: list[float]) -> float:
    """The estimate of the standard deviation, with that of its own error."""
    if len(history) == 1:
        return 0.0
    variance = float(np.var(history))  # ddof 0
    return math.sqrt(variance + variance**2 / (len(history) - 1))


def closeness(history: list[float]) -> float:
    mean = sum(history) / len(history)
    return mean * (1 - mean)


def score(variant: str, history: list[float]) -> float:
    return prediction_variance(history) if variant in ("spv", "wpv") else closeness(history)


@given(st.lists(CHANCES, min_size=1, max_size=5), st.sampled_from(VARIANTS))
def test_scores_are_those_of_the_paper(histories: list[list[float]], variant: str) -> None:
    peer = ActiveBias(variant=variant)
    memory = following(peer, histories)
    expected = [score(variant, history) for history in histories]
    assert peer.scores(torch.arange(len(histories)), memory).tolist() == pytest.approx(expected, abs=2e-4)


@given(CHANCES)
def test_mean_and_variance_are_those_of_all_visits(history: list[float]) -> None:
    memory = following(ActiveBias(), [history])
    assert memory.seen.tolist() == [len(history)]
    assert memory.mean.item() == pytest.approx(np.mean(history), abs=1e-5)
    assert memory.deviation.item() / len(history) == pytest.approx(np.var(history), abs=1e-5)


HISTORIES = [[0.1, 0.9], [0.5, 0.5, 0.5], [0.3, 0.4, 0.2], [0.9]]


def weighing(peer: ActiveBias, epoch: int = 9) -> Memory:
    memory = following(peer, HISTORIES)
    assert is_the_pass_as_it_is(peer.choose(whole(4, epoch), None, memory), 4)
    return memory


@pytest.mark.parametrize("variant", ["wpv", "wtc"])
@pytest.mark.parametrize("epsilon", [0.02, "mean"])
def test_weights_are_the_scores_and_epsilon_with_mean_1_in_the_batch(variant: str, epsilon: float | str) -> None:
    peer = ActiveBias(variant=variant, epsilon=epsilon)
    memory = weighing(peer)
    scores = [score(variant, history) for history in HISTORIES]
    added = sum(scores) / 4 if epsilon == "mean" else epsilon
    batch = [3, 0, 1]
    raw = [scores[i] + added for i in batch]
    expected = [value / (sum(raw) / 3) for value in raw]
    weights = peer.weights(torch.tensor(batch), memory)
    assert weights.tolist() == pytest.approx(expected, rel=1e-4)
    assert weights.mean().item() == pytest.approx(1.0)


def test_a_sample_seen_once_weighs_epsilon() -> None:
    peer = ActiveBias(epsilon=0.3)
    memory = weighing(peer)
    first, once = peer.weights(torch.tensor([0, 3]), memory).tolist()
    assert once / first == pytest.approx(0.3 / (0.3 + prediction_variance(HISTORIES[0])), rel=1e-4)


@pytest.mark.parametrize("epsilon", [0.0, 0.2, "mean"])
def test_constant_probabilities_weigh_the_same(epsilon: float | str) -> None:
    peer = ActiveBias(epsilon=epsilon)
    memory = following(peer, [[0.25] * 3, [0.5] * 2, [0.5]])
    peer.choose(whole(3, 9), None, memory)
    assert peer.weights(torch.arange(3), memory).tolist() == [1.0, 1.0, 1.0]


def test_a_weight_is_that_of_the_history_before_the_batch() -> None:
    peer = ActiveBias(epsilon=0.02)
    memory = weighing(peer)
    weights = peer.weights(torch.tensor([0, 2]), memory)
    logits = of_loss([1.0, 3.0]).requires_grad_()
    loss = trained(peer, memory, [0, 2], logits)
    assert loss.item() == pytest.approx(((weights[0] * 1 + weights[1] * 3) / 2).item())
    (gradient,) = torch.autograd.grad(loss, logits)
    p = logits.detach().softmax(1)[:, 0]
    assert gradient[:, 0].tolist() == pytest.approx((weights * (p - 1) / 2).tolist())
    assert memory.seen.tolist() == [3.0, 3.0, 4.0, 1.0]
    assert peer.weights(torch.tensor([0, 2]), memory).tolist() != weights.tolist()


def test_smoothing_changes_the_loss_and_no_probability() -> None:
    peer = ActiveBias()
    memory = remembering(peer, 1)
    plain = trained(peer, memory, [0], of_chance([0.8])).item()
    assert trained(peer, memory, [0], of_chance([0.8]), smoothing=0.1).item() > plain
    assert memory.mean.item() == pytest.approx(0.8)


@pytest.mark.parametrize("variant", VARIANTS)
def test_warming_up_is_uniform(variant: str) -> None:
    peer = ActiveBias(variant=variant, warmup=0.3)
    memory = following(peer, HISTORIES)
    for epoch, number in [(1, 1), (3, 3), (9, 1)]:
        assert is_the_pass_as_it_is(peer.choose(whole(4, epoch, number), None, memory), 4)
        assert peer.weights(torch.arange(4), memory).tolist() == [1.0] * 4
    assert peer.choose(whole(4, 4), None, memory).repeats == (variant in ("spv", "stc"))
    assert len(set(peer.weights(torch.arange(4), memory).tolist())) > 1


@pytest.mark.parametrize("variant", ["spv", "stc"])
@pytest.mark.parametrize("epsilon", [0.02, "mean"])
def test_samples_are_drawn_by_score_and_epsilon(variant: str, epsilon: float | str) -> None:
    peer = ActiveBias(variant=variant, epsilon=epsilon)
    memory = following(peer, HISTORIES)
    memory.batch_size = 1
    order, counts = [2, 0, 3, 1], torch.zeros(4)
    for seed in range(800):
        positions = peer.choose(whole(4, 9, seed=seed, order=order), None, memory).positions
        counts += torch.bincount(torch.tensor(order)[positions], minlength=4)
    scores = [score(variant, history) for history in HISTORIES]
    added = sum(scores) / 4 if epsilon == "mean" else epsilon
    assert looks_drawn_from(counts, [value + added for value in scores])


@pytest.mark.parametrize("variant", ["spv", "stc"])
def test_drawn_samples_are_not_weighted(variant: str) -> None:
    peer = ActiveBias(variant=variant)
    memory = following(peer, HISTORIES)
    peer.choose(whole(4, 9), None, memory)
    assert trained(peer, memory, [0, 1], of_loss([1.0, 3.0])).item() == pytest.approx(2.0)


def test_no_sample_is_drawn_twice_in_a_batch() -> None:
    peer = ActiveBias(variant="spv", epsilon=0)
    memory = remembering(peer, 10)  # all scores are 0
    for seed in range(20):
        positions = peer.choose(whole(10, 9, seed=seed), None, memory).positions
        assert [len(set(batch.tolist())) for batch in positions.split(4)] == [4, 4, 2]


def test_a_probability_that_is_not_a_number_counts_as_0() -> None:
    memory = remembering(peer := ActiveBias(), 2)
    trained(peer, memory, [1], torch.tensor([[math.nan, 0.0]]))
    assert memory.mean.tolist() == [0.0, 0.0]
    assert memory.seen.tolist() == [0.0, 1.0]


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_update_waits_for_nothing(variant: str) -> None:
    assert updates_without_waiting(ActiveBias(variant=variant))


@pytest.mark.parametrize(
    "options", [{"variant": "pv"}, {"epsilon": -0.1}, {"epsilon": "median"}, {"warmup": 1.0}, {"warmup": -0.1}]
)
def test_options_out_of_range_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(options))):
        ActiveBias(**options)
