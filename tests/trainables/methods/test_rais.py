"""RAIS and O-SGD (Johnson and Guestrin 2018), against their formulas and a numerical optimizer."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.stats import chisquare

from trainables.contracts import SelectionContract
from trainables.methods import Batch, Memory, Run, Unit
from trainables.methods.osgd import OSGD
from trainables.methods.rais import RAIS, gain, learned, robust

CPU = torch.device("cpu")
N, B = 12, 4


class TestRAIS(SelectionContract):
    selection = RAIS(window=20)


class TestRAISWithGain(SelectionContract):
    selection = RAIS(gain=True, decay=0.5)


class TestOSGD(SelectionContract):
    selection = OSGD()


def begun(selection: RAIS) -> Memory:
    memory = Memory()
    selection.begin(Run(N, 3, torch.zeros(N).long(), B, 3, CPU, Any, Any, Any, lambda spent: None), memory)
    return memory


def unit(number: int, norms: torch.Tensor | None = None) -> Unit:
    order = torch.arange(N).flip(0)
    return Unit(
        0, 1, number, order, N, 0, lambda arm: [], lambda spent: None, gradient_norms=lambda at: norms[order[at]]
    )


def logits_of(index: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.stack((index * 0.3, torch.ones(len(index)), -index * 0.1), 1).float()


def train_pass(selection: RAIS, memory: Memory, number: int, scale: float = 1.0) -> torch.Tensor:
    """A pass in batches; the samples trained on."""
    this = unit(number)
    choice = selection.choose(this, None, memory)
    trained = this.index[choice.positions]
    assert choice.weights is not None
    for index, weight in zip(trained.split(B), choice.weights.split(B), strict=True):
        batch = Batch(index, logits_of(index, scale), torch.zeros(len(index)).long(), None, weight)
        selection.loss(batch, memory)
    return trained


def problem(seed: int, n: int = 300) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Features of samples, what was measured, the weights of the draws, and the sum of all features."""
    rng = np.random.default_rng(seed)
    last = rng.gamma(2, 1, n)
    features = np.stack([np.ones(n), last, last * rng.uniform(0.7, 1.3, n)], 1)
    norms = np.abs(rng.uniform(0.3, 1) * last + rng.uniform(0, 0.5) + rng.normal(0, 0.1 + 0.2 * last))
    return features, norms, rng.uniform(0.5, 2, n), 3 * features.sum(0)


@pytest.mark.parametrize("seed", range(4))
def test_c_and_d_are_those_that_an_optimizer_finds(seed: int) -> None:
    features, norms, weights, total = problem(seed)
    c, d = learned(features, norms, weights, total)
    assert (c >= 0).all()
    assert (d >= 0).all()

    errors = weights * (features @ c - norms) ** 2
    assert (errors / (features @ d)).mean() == pytest.approx(1)

    def objective(logs: np.ndarray) -> float:
        """The sum of d·s when d is scaled so that the constraint holds, from the logarithms of c and d."""
        c, d = np.split(np.exp(logs), 2)
        return math.log(total @ d * (weights * (features @ c - norms) ** 2 / (features @ d)).mean())

    starts = np.random.default_rng(9).uniform(-3, 0, (5, 6))
    found = [minimize(objective, start, method="L-BFGS-B", bounds=[(-20, 5)] * 6).fun for start in starts]
    assert math.log(total @ d) <= min(found) + 0.005


def test_norms_that_features_foretell_exactly_leave_no_uncertainty() -> None:
    features, _, weights, total = problem(0)
    c, d = learned(features, features[:, 1], weights, total)
    assert c == pytest.approx([0, 1, 0], abs=1e-6)
    assert d == pytest.approx([0, 0, 0], abs=1e-6)
    assert robust(features, c, d) == pytest.approx(features[:, 1], rel=1e-4)  # the distribution of O-SGD


def test_the_worst_case_is_the_largest_sum_of_norms_in_the_uncertainty_set() -> None:
    """max Σv such that the mean of (c·s - v)² / d·s is at most 1, by a numerical optimizer."""
    features, _, _, _ = problem(1, 5)
    c, d = np.array([0.1, 0.6, 0.2]), np.array([0.05, 0.1, 0.02])
    expected = minimize(
        lambda v: -v.sum(),
        features @ c,
        constraints={"type": "ineq", "fun": lambda v: 1 - ((features @ c - v) ** 2 / (features @ d)).mean()},
        method="SLSQP",
        options={"ftol": 1e-12},
    )
    assert robust(features, c, d) == pytest.approx(expected.x, rel=1e-3)


def test_two_passes_are_uniform_and_then_the_most_uncertain_norms_are_drawn_most() -> None:
    selection = RAIS(window=24)
    memory = begun(selection)
    for number in (1, 2):
        assert train_pass(selection, memory, number, scale=1 + number).tolist() == list(range(N))[::-1]
        assert int(memory.count) == N * (number - 1)
    v = robust(memory.features.double().numpy(), *two(memory))
    p = torch.from_numpy(v / v.sum())
    times = torch.zeros(N)
    for number in range(3, 403):
        drawn = selection.choose(unit(number), None, memory)
        index = unit(number).index[drawn.positions]
        assert drawn.weights is not None
        assert drawn.weights.tolist() == pytest.approx((1 / (N * p[index])).tolist(), rel=1e-4)
        times += torch.bincount(index, minlength=N)
    assert chisquare(times.numpy(), (400 * N * p).numpy()).pvalue > 0.001


def two(memory: Memory) -> tuple[np.ndarray, np.ndarray]:
    kept = memory.measured[: int(memory.count)].double().numpy()
    return learned(kept[:, :3], kept[:, 3], kept[:, 4], memory.features.double().numpy().sum(0))


def test_what_is_remembered_is_the_last_norm_and_the_average_of_all() -> None:
    selection = RAIS(decay=0.75)
    memory = begun(selection)
    everything = torch.arange(N)
    norms = []
    for number, scale in ((1, 1.0), (2, 2.0)):
        train_pass(selection, memory, number, scale)
        p = logits_of(everything, scale).softmax(1)
        norms.append(((1 - p[:, 0]) ** 2 + p[:, 1] ** 2 + p[:, 2] ** 2).sqrt())
    assert memory.features[:, 1].tolist() == pytest.approx(norms[1].tolist(), rel=1e-5)
    assert memory.features[:, 2].tolist() == pytest.approx((0.75 * norms[0] + 0.25 * norms[1]).tolist(), rel=1e-5)
    measured = memory.measured[:N]
    order = everything.flip(0)
    assert measured[:, 1].tolist() == pytest.approx(norms[0][order].tolist(), rel=1e-5)  # as it was when drawn
    assert measured[:, 3].tolist() == pytest.approx(norms[1][order].tolist(), rel=1e-5)
    assert measured[:, 4].tolist() == [1.0] * N


def test_the_gain_is_1_of_a_uniform_distribution_and_never_less() -> None:
    one = torch.tensor(2.0)
    assert float(gain(one, one, torch.tensor(0.3), 8)) == 1
    assert float(gain(torch.tensor(1.0), one, torch.tensor(0.3), 8)) == 1
    assert float(gain(one, one, torch.tensor(0.0), 8)) == 1


def test_the_gain_of_two_values_is_the_ratio_of_the_expected_squares() -> None:
    """Gradients of one dimension, 1 and 3 with equal share: by enumeration of all batches of two draws."""
    values, uniform = [1.0, 3.0], [0.5, 0.5]
    drawn = [1 / 4, 3 / 4]  # in proportion to the norms
    weights = [0.5 / p for p in drawn]

    def square(chances: list[float], factors: list[float]) -> float:
        return sum(
            chances[i] * chances[j] * ((factors[i] * values[i] + factors[j] * values[j]) / 2) ** 2
            for i, j in product(range(2), repeat=2)
        )

    of_uniform, of_drawn = square(uniform, [1, 1]), square(drawn, weights)
    one_uniform = sum(p * v**2 for p, v in zip(uniform, values, strict=True))
    one_drawn = sum(p * (w * v) ** 2 for p, w, v in zip(drawn, weights, values, strict=True))
    ours = gain(torch.tensor(one_uniform), torch.tensor(one_drawn), torch.tensor(of_drawn), 2)
    assert float(ours) == pytest.approx(of_uniform / of_drawn)


def test_the_rate_is_the_gain_where_it_is_asked_for() -> None:
    memory = begun(RAIS())
    assert RAIS().rate(memory) == 1.0
    asked = RAIS(gain=True, decay=0.0)
    train_pass(asked, memory, 1)
    assert float(asked.rate(memory)) == pytest.approx(1.0)  # uniform


def test_osgd_draws_by_the_true_norms_and_is_unbiased() -> None:
    norms = torch.arange(N).float()
    p = norms.double() / norms.sum()
    times = torch.zeros(N)
    for number in range(1, 401):
        choice = OSGD().choose(unit(number, norms), None, Memory())
        index = unit(number).index[choice.positions]
        assert choice.weights is not None
        assert choice.weights.tolist() == pytest.approx((1 / (N * p[index])).tolist(), rel=1e-5)
        times += torch.bincount(index, minlength=N)
    assert times[0] == 0
    assert chisquare(times[1:].numpy(), (400 * N * p[1:]).numpy()).pvalue > 0.001
    losses = torch.rand(N, generator=torch.Generator().manual_seed(0)).double()
    expected = sum(float(p[i]) * float(losses[i]) / (N * float(p[i])) for i in range(1, N))
    assert expected == pytest.approx(float(losses[1:].sum()) / N)
    assert not math.isnan(expected)
