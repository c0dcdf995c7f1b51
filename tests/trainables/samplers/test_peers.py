"""Selective Backprop and InfoBatch against the formulas of their papers."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainables.comparison import Comparison, prepare
from trainables.config import Runtime, TrialConfig
from trainables.records import REPRODUCIBLE
from trainables.samplers import ProbeResult
from trainables.samplers.peers import InfoBatch, SelectiveBackprop
from trainables.seeds import generator

CPU = torch.device("cpu")
LOSSES = st.lists(st.floats(0, 20, width=32), min_size=1, max_size=40)


def probed(losses: list[float]) -> ProbeResult:
    """A probe's result with these losses, as cross-entropy over two classes gives them."""
    values = torch.tensor(losses, dtype=torch.float64)
    return ProbeResult(
        torch.stack((torch.zeros_like(values), values.expm1().log()), 1), torch.zeros(len(losses)).long()
    )


@given(st.lists(LOSSES, min_size=1, max_size=4), st.sampled_from([0.5, 1.0, 2.0, 3.0]), st.integers(1, 50))
def test_selective_backprop_selects_by_the_power_of_the_losss_rank(
    batches: list[list[float]], beta: float, window: int
) -> None:
    peer = SelectiveBackprop(beta, window, CPU)
    history: list[float] = []
    for losses in batches:
        result = probed(losses)
        peer(result, generator(0))
        losses = result.losses.tolist()
        history = (history + losses)[-window:]
        expected = [(sum(past <= loss for past in history) / len(history)) ** beta for loss in losses]
        assert peer.probabilities(result.losses).tolist() == pytest.approx(expected, abs=1e-6)


def test_selective_backprop_draws_with_these_probabilities() -> None:
    peer = SelectiveBackprop(2.0, 8, CPU)
    result = probed([0.5, 1.0, 2.0, 4.0])
    times = torch.zeros(4)
    for seed in range(4000):
        times[peer(result, generator(seed))] += 1
    assert times / 4000 == pytest.approx(torch.tensor([1 / 16, 1 / 4, 9 / 16, 1.0]), abs=0.03)


def test_a_loss_that_is_not_a_number_has_the_highest_rank() -> None:
    peer = SelectiveBackprop(1.0, 8, CPU)
    result = ProbeResult(torch.tensor([[math.nan, 0.0], [5.0, 0.0]]), torch.zeros(2).long())
    assert 0 in peer(result, generator(0)).tolist()
    assert peer.probabilities(torch.tensor([math.inf])).item() == 1.0


def infobatch(scores: list[float], prune: float = 0.5, anneal: float = 0.875, epochs: int = 10) -> InfoBatch:
    peer = InfoBatch(prune, anneal, epochs, len(scores), CPU)
    peer.loss(torch.arange(len(scores)), torch.tensor(scores))
    return peer


def test_infobatch_prunes_nothing_before_it_knows_a_loss() -> None:
    peer = InfoBatch(0.9, 0.875, 10, 50, CPU)
    assert peer(torch.arange(50), 1, generator(0)).tolist() == list(range(50))


@pytest.mark.parametrize("prune", [0.2, 0.5, 0.8])
def test_infobatch_prunes_what_is_below_the_mean_with_probability_r(prune: float) -> None:
    peer = infobatch([0.0, 1.0, 2.0, 9.0], prune)  # mean 3
    times = torch.zeros(4)
    for seed in range(3000):
        times[peer(torch.arange(4), 2, generator(seed))] += 1
    assert times / 3000 == pytest.approx(torch.tensor([1 - prune] * 3 + [1.0]), abs=0.03)


def test_infobatch_rescales_what_stays_so_that_the_expected_gradient_is_that_of_the_whole_set() -> None:
    prune, scores = 0.6, [0.0, 1.0, 2.0, 9.0]
    peer = infobatch(scores, prune)
    peer(torch.arange(4), 2, generator(0))
    losses = torch.tensor(scores, requires_grad=True)
    peer.loss(torch.arange(4), losses).backward()
    assert losses.grad is not None
    assert (4 * losses.grad).tolist() == pytest.approx([1 / (1 - prune)] * 3 + [1.0])
    kept = torch.tensor([1 - prune] * 3 + [1.0])
    assert (4 * losses.grad * kept).tolist() == pytest.approx([1.0] * 4)


def test_infobatch_stops_pruning_after_the_share_of_epochs_that_it_anneals() -> None:
    peer = infobatch([0.0, 9.0], prune=0.99, anneal=0.5, epochs=10)
    kept = {epoch: len(peer(torch.arange(2), epoch, generator(1))) for epoch in (5, 6)}
    assert kept == {5: 1, 6: 2}
    assert peer.weights.tolist() == [1.0, 1.0]


def test_infobatch_remembers_the_loss_of_a_samples_last_update() -> None:
    peer = infobatch([1.0, 1.0, 1.0])
    peer.loss(torch.tensor([2]), torch.tensor([math.nan]))
    assert peer.scores.tolist() == [1.0, 1.0, math.inf]
    assert peer.below().tolist() == [True, True, False]


@pytest.fixture
def config() -> TrialConfig:
    return TrialConfig.from_dotted(
        {
            "dataset.samples_per_class": 20,
            "model.name": "FCNet10",
            "batch_size": 16,
            "optimizer.lr": 0.05,
            "epochs": 6,
            "arms.selective_backprop.window": 64,
            "arms.infobatch.prune": 0.5,
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
