"""Selective Backprop and InfoBatch against the formulas of their papers."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainables.comparison import Comparison, prepare
from trainables.config import Runtime, TrialConfig
from trainables.methods import Batch, Memory, ProbeResult, Run, Unit
from trainables.methods.infobatch import InfoBatch
from trainables.methods.selective_backprop import SelectiveBackprop
from trainables.records import REPRODUCIBLE

CPU = torch.device("cpu")
LOSSES = st.lists(st.floats(0, 20, width=32), min_size=1, max_size=40)


def probed(losses: list[float]) -> ProbeResult:
    """A probe's result with these losses, as cross-entropy over two classes gives them."""
    values = torch.tensor(losses, dtype=torch.float64)
    return ProbeResult(
        torch.stack((torch.zeros_like(values), values.expm1().log()), 1), torch.zeros(len(losses)).long()
    )


def remembering(method: Any, size: int, epochs: int = 10) -> Memory:
    memory = Memory()
    labels = torch.zeros(size, dtype=torch.int64)
    method.begin(Run(size, 2, labels, 4, epochs, CPU, Any, Any, Any, lambda spent: None), memory)
    return memory


def unit(size: int, seed: int = 0, epoch: int = 1) -> Unit:
    return Unit(0, epoch, epoch, torch.arange(size), size, seed, lambda arm: [], lambda spent: None)


@given(st.lists(LOSSES, min_size=1, max_size=4), st.sampled_from([0.5, 1.0, 2.0, 3.0]), st.integers(1, 50))
def test_selective_backprop_selects_by_the_power_of_the_losss_rank(
    batches: list[list[float]], beta: float, window: int
) -> None:
    peer = SelectiveBackprop(beta=beta, window=window)
    memory = remembering(peer, 0)
    history: list[float] = []
    for losses in batches:
        result = probed(losses)
        peer.choose(unit(len(losses)), result, memory)
        losses = result.losses.tolist()
        history = (history + losses)[-window:]
        expected = [(sum(past <= loss for past in history) / len(history)) ** beta for loss in losses]
        assert peer.probabilities(result.losses, memory).tolist() == pytest.approx(expected, abs=1e-6)


def test_selective_backprop_draws_with_these_probabilities() -> None:
    peer = SelectiveBackprop(beta=2.0, window=8)
    memory = remembering(peer, 0)
    result = probed([0.5, 1.0, 2.0, 4.0])
    times = torch.zeros(4)
    for seed in range(4000):
        times[peer.choose(unit(4, seed), result, memory).positions] += 1
    assert times / 4000 == pytest.approx(torch.tensor([1 / 16, 1 / 4, 9 / 16, 1.0]), abs=0.03)


def test_a_loss_that_is_not_a_number_has_the_highest_rank() -> None:
    peer = SelectiveBackprop(window=8)
    memory = remembering(peer, 0)
    result = ProbeResult(torch.tensor([[math.nan, 0.0], [5.0, 0.0]]), torch.zeros(2).long())
    assert 0 in peer.choose(unit(2), result, memory).positions.tolist()
    assert peer.probabilities(torch.tensor([math.inf]), memory).item() == 1.0


def update(peer: InfoBatch, memory: Memory, index: list[int], losses: list[float]) -> torch.Tensor:
    """An update on a batch with these losses; they are leaves, so that their gradients can be read."""
    values = torch.tensor(losses, requires_grad=True)

    class WithLosses(Batch):
        losses = values

    labels = torch.zeros(len(index)).long()
    batch = WithLosses(torch.tensor(index), torch.zeros(len(index), 2), labels, torch.tensor(0))
    peer.loss(batch, memory).backward()
    assert values.grad is not None
    return values.grad


def infobatch(scores: list[float], prune: float = 0.5, anneal: float = 0.875) -> tuple[InfoBatch, Memory]:
    peer = InfoBatch(prune=prune, anneal=anneal)
    memory = remembering(peer, len(scores))
    update(peer, memory, list(range(len(scores))), scores)
    return peer, memory


def test_infobatch_prunes_nothing_before_it_knows_a_loss() -> None:
    peer = InfoBatch(prune=0.9)
    assert peer.choose(unit(50), None, remembering(peer, 50)).positions.tolist() == list(range(50))


@pytest.mark.parametrize("prune", [0.2, 0.5, 0.8])
def test_infobatch_prunes_what_is_below_the_mean_with_probability_r(prune: float) -> None:
    peer, memory = infobatch([0.0, 1.0, 2.0, 9.0], prune)  # mean 3
    times = torch.zeros(4)
    for seed in range(3000):
        times[peer.choose(unit(4, seed, epoch=2), None, memory).positions] += 1
    assert times / 3000 == pytest.approx(torch.tensor([1 - prune] * 3 + [1.0]), abs=0.03)


def test_infobatch_rescales_what_stays_so_that_the_expected_gradient_is_that_of_the_whole_set() -> None:
    prune, scores = 0.6, [0.0, 1.0, 2.0, 9.0]
    peer, memory = infobatch(scores, prune)
    peer.choose(unit(4, epoch=2), None, memory)
    gradient = update(peer, memory, [0, 1, 2, 3], scores)
    assert (4 * gradient).tolist() == pytest.approx([1 / (1 - prune)] * 3 + [1.0])
    kept = torch.tensor([1 - prune] * 3 + [1.0])
    assert (4 * gradient * kept).tolist() == pytest.approx([1.0] * 4)


def test_infobatch_stops_pruning_after_the_share_of_epochs_that_it_anneals() -> None:
    peer, memory = infobatch([0.0, 9.0], prune=0.99, anneal=0.5)
    kept = {epoch: len(peer.choose(unit(2, 1, epoch), None, memory).positions) for epoch in (5, 6)}
    assert kept == {5: 1, 6: 2}
    assert memory.weights.tolist() == [1.0, 1.0]


def test_infobatch_remembers_the_loss_of_a_samples_last_update() -> None:
    peer, memory = infobatch([1.0, 1.0, 1.0])
    update(peer, memory, [2], [math.nan])
    assert memory.scores.tolist() == [1.0, 1.0, math.inf]
    assert peer.below(memory).tolist() == [True, True, False]


@pytest.fixture
def config() -> TrialConfig:
    return TrialConfig.from_dotted(
        {
            "dataset.samples_per_class": 20,
            "model.name": "FCNet10",
            "batch_size": 16,
            "optimizer.lr": 0.05,
            "epochs": 6,
            "arms.selective_backprop.selector.window": 64,
            "arms.infobatch.selector.prune": 0.5,
        }
    )


def rows(comparison: Comparison) -> list[tuple[object, ...]]:
    found = []
    while not comparison.done:
        found += [tuple(row[name] for name in REPRODUCIBLE) for row in comparison.step()]
    return found


@pytest.mark.slow
def test_peers_are_arms_that_restore_in_mid_run(config: TrialConfig, tmp_path) -> None:
    runtime = Runtime(device="cpu")
    undisturbed = rows(prepare(config, runtime))
    first = prepare(config, runtime)
    for _ in range(4):
        first.step()
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second = prepare(config, runtime)
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert rows(second) == undisturbed[-3 * len(config.arms) :]


def test_infobatch_probes_nothing_and_selective_backprop_every_sample(config: TrialConfig) -> None:
    comparison = prepare(config, Runtime(device="cpu"))
    while not comparison.done:
        arms = {row["arm"]: row for row in comparison.step()}
        if comparison.epoch:
            assert arms["infobatch"]["samples_probed"] == 0
            assert arms["selective_backprop"]["samples_probed"] == 200
            assert arms["selective_backprop"]["samples_overflowed"] == 0
            for arm in ("infobatch", "selective_backprop"):
                assert arms[arm]["samples_kept"] + arms[arm]["samples_rejected"] == 200
    assert arms["infobatch"]["samples_kept"] == 200  # annealed
