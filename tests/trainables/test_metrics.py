from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from trainables import metrics
from trainables.metrics import evaluate, judge, summarize
from trainables.models.resnet import BasicBlock
from trainables.records import EVALUATION_METRICS

SAMPLES = st.lists(st.tuples(st.floats(0, 1e4, width=32), st.booleans()), min_size=1, max_size=300)
LOSSES = [name for name in EVALUATION_METRICS if name.endswith("loss")]


@given(SAMPLES)
@settings(max_examples=150)
def test_the_summary_is_numpys(samples: list[tuple[float, bool]]) -> None:
    losses, correct = (np.array(column) for column in zip(*samples, strict=True))
    ours = summarize(torch.tensor(losses, dtype=torch.float32), torch.tensor(correct))
    expected = {
        "accuracy": correct.mean(),
        "mean_loss": losses.mean(),
        "best_loss": losses.min(),
        "q50_loss": np.quantile(losses, 0.5),
        "q90_loss": np.quantile(losses, 0.9),
        "q99_loss": np.quantile(losses, 0.99),
        "worst_loss": losses.max(),
    }
    assert list(ours) == list(EVALUATION_METRICS)
    assert ours == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert all(type(value) is float for value in ours.values())


def test_quantiles_are_numpys_on_a_set_of_the_size_of_mnist() -> None:
    losses = torch.rand(60_000, generator=torch.Generator().manual_seed(0)) ** 4
    ours = summarize(losses, losses < 0.3)
    for name, share in (("q50_loss", 0.5), ("q90_loss", 0.9), ("q99_loss", 0.99)):
        assert ours[name] == pytest.approx(np.quantile(losses.double().numpy(), share), rel=1e-12)
    assert ours["mean_loss"] == pytest.approx(losses.double().mean().item(), rel=1e-12)


@pytest.mark.parametrize("place", [0, 50, 99])
def test_one_nan_makes_every_loss_nan_and_leaves_accuracy(place: int) -> None:
    losses = torch.linspace(0, 1, 100)
    losses[place] = math.nan
    summary = summarize(losses, torch.arange(100) < 25)
    assert summary["accuracy"] == 0.25
    assert all(math.isnan(summary[name]) for name in LOSSES)


def test_one_infinite_loss_is_seen_in_mean_and_worst_alone() -> None:
    losses = torch.linspace(0, 1, 101)
    losses[7] = math.inf
    summary = summarize(losses, torch.ones(101, dtype=torch.bool))
    assert summary["mean_loss"] == summary["worst_loss"] == math.inf
    assert summary["best_loss"] == 0
    assert summary["q50_loss"] == pytest.approx(0.51)
    assert summary["q99_loss"] == 1


def test_no_samples_have_no_summary() -> None:
    with pytest.raises(ValueError, match="no samples"):
        summarize(torch.empty(0), torch.empty(0, dtype=torch.bool))


def test_judge_gives_the_cross_entropy_in_nats() -> None:
    logits = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 3.0]])
    judged = judge(logits, torch.tensor([0, 0, 0]))
    losses = [math.log(2), math.log1p(math.exp(-2)), 3 + math.log1p(math.exp(-3))]
    assert judged["mean_loss"] == pytest.approx(sum(losses) / 3)
    assert [judged[name] for name in ("best_loss", "q50_loss", "worst_loss")] == pytest.approx(sorted(losses))
    assert judged["accuracy"] == pytest.approx(2 / 3)


@pytest.fixture
def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(BasicBlock(3, 4, 2), nn.Flatten(), nn.Linear(4 * 16 * 16, 4))
        model(torch.randn(32, 3, 32, 32))  # running statistics unlike a batch's own
    return model


def test_evaluation_agrees_with_a_plain_loop_over_samples(network: nn.Module, make_dataset) -> None:
    data = make_dataset(test=37)
    ours = evaluate(network, data, "test")
    network.eval()
    losses, hits = [], 0
    with torch.no_grad():
        for image, label in zip(*data.test, strict=True):
            scores = network(((image / 255 - data.mean) / data.std)[None])[0]
            losses.append(float(scores.logsumexp(0) - scores[label]))
            hits += int(scores.argmax() == label)
    assert ours["accuracy"] == hits / 37
    assert ours["mean_loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert ours["worst_loss"] == pytest.approx(max(losses), rel=1e-5)


@pytest.mark.parametrize("chunk", [1, 7, 37, 1000])
def test_evaluation_does_not_depend_on_the_chunk(
    network: nn.Module, make_dataset, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_dataset(test=37)
    whole = evaluate(network, data, "test")
    monkeypatch.setitem(metrics.CHUNK, "cpu", chunk)
    assert evaluate(network, data, "test") == pytest.approx(whole, rel=1e-4, abs=1e-6)


def test_evaluation_records_no_gradients(network: nn.Module, make_dataset) -> None:
    data = make_dataset()
    seen = []
    network.register_forward_hook(lambda _module, _inputs, logits: seen.append(logits.requires_grad))
    evaluate(network, data, "test")
    assert seen == [False]


@pytest.mark.parametrize("training", [True, False])
def test_evaluation_is_repeatable_and_changes_nothing(network: nn.Module, make_dataset, training: bool) -> None:
    data = make_dataset()
    network.train(training)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    first = evaluate(network, data, "test")
    network.train(training)
    assert evaluate(network, data, "test") == first
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
