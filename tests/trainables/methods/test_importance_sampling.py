"""Importance sampling by a bound of the gradient norm, against the formulas of Katharopoulos and Fleuret 2018."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import nn
from torch.nn.functional import cross_entropy

from trainables.comparison import prepare
from trainables.config import Runtime, TrialConfig
from trainables.contracts import SelectionContract
from trainables.gradients import gradient_norms
from trainables.methods import Batch, Memory, ProbeResult, Run, Unit
from trainables.methods.importance_sampling import ImportanceSampling, tau
from trainables.methods.scores import gradient_bound, normalized

CPU = torch.device("cpu")
SCORES = st.lists(st.floats(0, 9, width=32), min_size=1, max_size=30)


class TestImportanceSampling(SelectionContract):
    selection = ImportanceSampling(presample=3, threshold=1.0)


class TestByGradientNorm(SelectionContract):
    selection = ImportanceSampling(score="gradient_norm", presample=2, threshold=0)


class TestByLoss(SelectionContract):
    selection = ImportanceSampling(score="loss", presample=2.5, threshold=1.01, momentum=0.5)


def begun(selection: ImportanceSampling, batch_size: int = 4) -> Memory:
    memory = Memory()
    selection.begin(Run(12, 3, torch.zeros(12).long(), batch_size, 3, CPU, Any, Any, Any, lambda spent: None), memory)
    return memory


def unit(size: int, seed: int = 0) -> Unit:
    return Unit(0, 1, 1, torch.arange(size), size, seed, lambda arm: [], lambda spent: None)


def random_logits(size: int, classes: int = 3, seed: int = 0) -> torch.Tensor:
    return 3 * torch.randn(size, classes, generator=torch.Generator().manual_seed(seed))


def by_importance(selection: ImportanceSampling, batch_size: int) -> Memory:
    """A memory that says to draw by importance."""
    memory = begun(selection, batch_size)
    memory.tau.fill_(100.0)
    assert selection.draw(batch_size, memory) == math.ceil(selection.presample * batch_size)
    return memory


def test_the_bound_is_the_norm_of_the_gradient_by_the_logits() -> None:
    logits, labels = random_logits(40).double().requires_grad_(), torch.arange(40) % 3
    cross_entropy(logits, labels, reduction="sum").backward()
    assert logits.grad is not None
    assert gradient_bound(logits.detach(), labels).tolist() == pytest.approx(logits.grad.norm(dim=1).tolist())


def test_the_norm_by_all_parameters_is_that_of_each_samples_own_gradient() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(12, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.ReLU(), nn.Linear(6, 3)
    )
    model(torch.randn(50, 3, 2, 2))  # statistics of its own
    before = {name: value.clone() for name, value in model.state_dict().items()}
    images, labels = torch.randn(9, 3, 2, 2), torch.arange(9) % 3
    norms = gradient_norms(model, images, labels)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model.eval()
    for place in range(9):
        model.zero_grad()
        cross_entropy(model(images[place : place + 1]), labels[place : place + 1]).backward()
        squares = sum(
            float(parameter.grad.square().sum()) for parameter in model.parameters() if parameter.grad is not None
        )
        assert float(norms[place]) == pytest.approx(math.sqrt(squares), rel=1e-4)


@given(SCORES)
def test_tau_is_equation_26(scores: list[float]) -> None:
    total = sum(scores)
    if total == 0:
        assert float(tau(torch.tensor(scores))) == 1
        return
    p = [score / total for score in scores]
    u = 1 / len(scores)
    paper = 1 / math.sqrt(1 - sum((one - u) ** 2 for one in p) / sum(one**2 for one in p))
    assert float(tau(torch.tensor(scores))) == pytest.approx(paper, rel=1e-3)


def test_tau_is_1_of_equal_scores_and_the_root_of_n_of_one_alone() -> None:
    assert float(tau(torch.ones(9))) == 1
    assert float(tau(torch.eye(9)[2])) == pytest.approx(3)


@pytest.mark.parametrize(("presample", "threshold"), [(3, 2.0), (5, 8 / 3)])
def test_the_threshold_is_what_importance_costs(presample: float, threshold: float) -> None:
    assert ImportanceSampling(presample=presample).least == pytest.approx(threshold)
    b = 128
    assert ImportanceSampling(presample=presample).least == pytest.approx((presample * b + 3 * b) / (3 * b))


def test_the_moving_average_starts_at_0() -> None:
    selection = ImportanceSampling(momentum=0.9)
    memory = begun(selection)
    logits = torch.tensor([[9.0, 0.0, 0.0]] * 3 + [[0.0, 9.0, 0.0]])
    batch = Batch(torch.arange(4), logits, torch.zeros(4).long(), None, torch.ones(4))
    now = float(tau(gradient_bound(logits, batch.labels)))
    for number in range(1, 6):
        assert selection.draw(4, memory) == 4
        assert selection.choose(unit(4), None, memory).positions.tolist() == [0, 1, 2, 3]
        selection.loss(batch, memory)
        assert float(memory.tau) == pytest.approx(now * (1 - 0.9**number))


def test_the_weighted_loss_and_its_gradient_are_those_of_the_whole_raw_batch_in_the_mean() -> None:
    """Over all draws of two of four samples, each with its probability: eq. 2."""
    images, labels = torch.randn(4, 5, generator=torch.Generator().manual_seed(1)).double(), torch.tensor([0, 1, 2, 0])
    weight = torch.randn(3, 5, generator=torch.Generator().manual_seed(2)).double().requires_grad_()
    logits = images @ weight.T
    p = normalized(gradient_bound(logits.detach(), labels))
    mean = torch.zeros((), dtype=torch.float64)
    for pair in product(range(4), repeat=2):
        chance = math.prod(float(p[place]) for place in pair)
        losses = cross_entropy(logits[list(pair)], labels[list(pair)], reduction="none")
        weights = torch.tensor([1 / (4 * float(p[place])) for place in pair])
        mean = mean + chance * (losses * weights).mean()
    whole = cross_entropy(logits, labels)
    assert float(mean.detach()) == pytest.approx(float(whole.detach()))
    ours = torch.autograd.grad(mean, weight, retain_graph=True)[0]
    assert ours.flatten().tolist() == pytest.approx(torch.autograd.grad(whole, weight)[0].flatten().tolist())


def test_draws_have_their_probabilities_and_weights() -> None:
    selection = ImportanceSampling(presample=3)
    memory = by_importance(selection, 4)
    logits, labels = random_logits(12), torch.arange(12) % 3
    p = normalized(gradient_bound(logits, labels))
    times = torch.zeros(12)
    for seed in range(1000):
        choice = selection.choose(unit(12, seed), ProbeResult(logits, labels), memory)
        assert len(choice.positions) == 4
        assert choice.repeats
        assert choice.weights is not None
        assert choice.weights.tolist() == pytest.approx((1 / (12 * p[choice.positions])).tolist(), rel=1e-5)
        times += torch.bincount(choice.positions, minlength=12)
    assert chisquare(times.numpy(), (4000 * p).numpy()).pvalue > 0.001


def test_samples_without_a_score_are_drawn_only_if_all_have_none() -> None:
    assert normalized(torch.tensor([0.0, 2.0, 2.0])).tolist() == [0, 0.5, 0.5]
    assert normalized(torch.zeros(4)).tolist() == [0.25] * 4
    assert normalized(torch.tensor([1.0, math.inf, math.nan, 3.0])).tolist() == [0.1, 0.3, 0.3, 0.3]
    assert normalized(torch.tensor([math.nan, math.inf])).tolist() == [0.5, 0.5]


def arms(**options: Any) -> TrialConfig:
    return TrialConfig.from_dotted(
        {
            "dataset.samples_per_class": 30,
            "model.name": "FCNet10",
            "batch_size": 10,
            "epochs": 4,
            "treatment": "importance_sampling",
            "arms.importance_sampling.granularity": "batch",
            "evaluate.train": "running",
        }
        | {f"arms.importance_sampling.selector.{name}": value for name, value in options.items()}
    )


@pytest.mark.parametrize(
    ("options", "steps", "probed", "compute"),
    [
        ({"threshold": 100.0}, 30, 0, 3 * 300),  # never by importance
        ({"threshold": 0.0, "presample": 3.0}, 10, 300, 300 + 3 * 100),
        ({"threshold": 0.0, "presample": 3.0, "score": "gradient_norm"}, 10, 0, 3 * 300 + 3 * 100),
        ({"threshold": 0.0, "presample": 1.0, "score": "loss"}, 30, 300, 300 + 3 * 300),
    ],
)
def test_an_epoch_costs_what_it_says(options: dict[str, Any], steps: int, probed: int, compute: int) -> None:
    comparison = prepare(arms(**options), Runtime(device="cpu"))
    for _ in range(3):
        row = comparison.step()[1]
    assert (row["steps"], row["samples_probed"], row["compute"]) == (steps, probed, compute)


def test_it_says_itself_how_large_a_raw_batch_is_and_needs_batches_that_are_not_held() -> None:
    with pytest.raises(ValueError, match="takes no raw_batch_size"):
        TrialConfig.from_dotted(arms().to_dotted() | {"arms.importance_sampling.raw_batch_size": 20})
    with pytest.raises(ValueError, match="needs unstable batches"):
        TrialConfig.from_dotted(arms().to_dotted() | {"arms.importance_sampling.batch": "stable"})
    with pytest.raises(ValueError, match="draws raw batches of its own"):
        TrialConfig.from_dotted(
            arms().to_dotted()
            | {"arms.random.selector.like": "importance_sampling", "arms.random.batch": "unstable"}
            | {"arms.random.granularity": "batch", "arms.random.selector.name": "random"}
        )
