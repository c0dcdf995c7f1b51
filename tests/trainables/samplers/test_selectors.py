"""Filters, selectors and quotas as pure functions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from thesis import argmax, beliefs

from trainables.samplers import ProbeResult, filters, selection, selectors
from trainables.samplers.selection import Chance, Judged
from trainables.samplers.selectors import Selector

ODD = st.sampled_from([math.nan, math.inf, 0.0, 1.0, 1.0, 2.5])
LOSSES = st.lists(ODD | st.floats(0, 100, width=32), max_size=30)
SEEDS = st.integers(0, 2**32)
COUNTED: dict[str, Callable[[int], Selector]] = {
    "top_k": selectors.top_k,
    "uniform": selectors.uniform,
    "loss_weighted": selectors.loss_weighted,
}
MANY = 600


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def select(selector: Selector, losses: list[float], seed: int = 0) -> list[int]:
    return selector(torch.tensor(losses, dtype=torch.float32), random(seed)).tolist()


def infinite_if_nan(losses: list[float]) -> list[float]:
    return [math.inf if math.isnan(value) else value for value in losses]


def is_fair(counts: Counter, expected: dict) -> bool:
    """Chi-square at 0.1%; the seeds are fixed, so this passes always or never."""
    assert set(counts) <= set(expected)
    total = sum(counts.values())
    observed = [counts[key] for key in expected]
    return chisquare(observed, [p * total for p in expected.values()]).pvalue > 0.001


# ------------------------------------------------------------------------------------------------------- selectors


@given(LOSSES, st.integers(1, 40), SEEDS, st.sampled_from(sorted(COUNTED)))
def test_k_different_candidates_or_all_are_selected_and_again_by_the_same_seed(
    losses: list[float], k: int, seed: int, name: str
) -> None:
    selector = COUNTED[name](k)
    positions = select(selector, losses, seed)
    assert len(positions) == len(set(positions)) == min(k, len(losses))
    assert set(positions) <= set(range(len(losses)))
    assert select(selector, losses, seed) == positions


@given(LOSSES)
def test_everyone_is_everyone_in_order(losses: list[float]) -> None:
    assert select(selectors.everyone, losses) == list(range(len(losses)))


@given(LOSSES, st.integers(1, 40))
def test_top_k_are_the_first_of_the_losses_sorted_largest_first_ties_in_the_order_drawn(
    losses: list[float], k: int
) -> None:
    values = infinite_if_nan(losses)
    assert select(selectors.top_k(k), losses) == sorted(range(len(values)), key=lambda i: (-values[i], i))[:k]


@given(LOSSES, st.floats(0, 1, exclude_max=True))
def test_top_q_are_the_losses_from_the_quantile_on(losses: list[float], q: float) -> None:
    values = infinite_if_nan(losses)
    positions = select(selectors.top_q(q), losses)
    assert positions == sorted(positions)
    if losses:
        place = math.ceil(q * (len(losses) - 1))
        assert positions == [i for i in range(len(values)) if values[i] >= sorted(values)[place]]
        assert len(positions) >= len(losses) - place >= 1
    else:
        assert positions == []


@pytest.mark.parametrize(
    ("losses", "q", "expected"),
    [
        ([3.0, 1.0, 2.0, 5.0, 4.0], 0.5, [0, 3, 4]),
        ([3.0, 1.0, 2.0, 5.0, 4.0], 0.0, [0, 1, 2, 3, 4]),
        ([3.0, 1.0, 2.0, 5.0, 4.0], 0.99, [3]),
        ([1.0, 1.0, 1.0, 1.0], 0.9, [0, 1, 2, 3]),
        ([1.0, math.nan, math.inf, 2.0], 0.6, [1, 2]),
        ([1.0, 2.0, 3.0, 4.0], 0.5, [2, 3]),
    ],
)
def test_top_q_by_hand(losses: list[float], q: float, expected: list[int]) -> None:
    assert select(selectors.top_q(q), losses) == expected


def test_uniform_gives_every_subset_the_same_chance_in_the_order_drawn() -> None:
    losses = [9.0, 0.0, 1.0, math.inf, 2.0]
    counts = Counter(tuple(select(selectors.uniform(2), losses, seed)) for seed in range(MANY))
    assert is_fair(counts, {(i, j): 1 / 10 for i in range(5) for j in range(i + 1, 5)})


def test_loss_weighted_draws_one_after_the_other_in_proportion_to_the_losses_that_are_left() -> None:
    losses = [1.0, 2.0, 3.0, 4.0]
    counts = Counter(tuple(select(selectors.loss_weighted(2), losses, seed)) for seed in range(MANY))
    total = sum(losses)
    sequential = {
        (i, j): losses[i] / total * losses[j] / (total - losses[i]) for i in range(4) for j in range(4) if i != j
    }
    assert sum(sequential.values()) == pytest.approx(1)
    assert is_fair(counts, sequential)


@pytest.mark.slow
def test_a_chi_square_test_can_fail() -> None:
    losses = [1.0, 2.0, 3.0, 4.0]
    counts = Counter(tuple(select(selectors.loss_weighted(1), losses, seed)) for seed in range(MANY))
    assert not is_fair(counts, {(i,): 1 / 4 for i in range(4)})


@given(SEEDS)
@settings(max_examples=25)
def test_loss_weighted_takes_infinite_losses_first_and_losses_of_0_only_if_there_is_nothing_else(seed: int) -> None:
    losses = [0.0, 1.0, math.inf, 0.0, 2.0, math.nan]
    assert set(select(selectors.loss_weighted(2), losses, seed)) == {2, 5}
    assert set(select(selectors.loss_weighted(4), losses, seed)) == {1, 2, 4, 5}
    assert set(select(selectors.loss_weighted(5), losses, seed)) > {1, 2, 4, 5}
    assert len(select(selectors.loss_weighted(3), [0.0] * 4, seed)) == 3


@given(LOSSES, st.integers(1, 8), st.integers(2, 6), st.sampled_from([0.5, 1.0, 2.0, 7.5]), SEEDS)
def test_q_split_takes_equally_many_from_every_bucket_or_all_there_are(
    losses: list[float], each: int, buckets: int, power: float, seed: int
) -> None:
    positions = select(selectors.q_split(each * buckets, buckets, power), losses, seed)
    assert len(positions) == len(set(positions)) <= min(each * buckets, len(losses))
    assert set(positions) <= set(range(len(losses)))
    assert len(positions) >= min(each, len(losses))  # no loss is in no bucket


@given(LOSSES, st.integers(2, 5), st.sampled_from([0.5, 1.0, 2.0]))
def test_q_splits_buckets_have_every_candidate_once(losses: list[float], buckets: int, power: float) -> None:
    everything = select(selectors.q_split(buckets * 30, buckets, power), losses)
    assert sorted(everything) == list(range(len(losses)))


@pytest.mark.slow
def test_q_split_draws_uniformly_within_buckets() -> None:
    losses = [1.0, 8.0, 1.0, 1.0, 1.0, 4.0, 1.0, 3.0]  # 1 1 1 1 1 3 4 | 8: cumulative 1 2 3 4 5 8 12 20, split at 10
    low, high = [0, 2, 3, 4, 6, 7, 5], [1]
    counts: Counter = Counter()
    for seed in range(MANY):
        one, other = select(selectors.q_split(2, 2, 1.0), losses, seed)
        assert other in high
        counts[one] += 1
    assert is_fair(counts, {position: 1 / len(low) for position in low})


def test_a_high_power_leaves_few_in_the_last_bucket() -> None:
    losses = [1.0] * 20 + [2.0] * 4 + [10.0, 10.0, 10.0]
    low, high = (select(selectors.q_split(12, 2, power), losses) for power in (0.5, 3.0))
    assert len(low) == 12
    assert len(high) == 6 + 1
    assert high[6:] == [26]


# --------------------------------------------------------------------------------------------------------- filters

SCORES = st.lists(st.integers(-5, 5).map(float) | ODD | st.just(-math.inf), min_size=3, max_size=3)
PROBED = st.lists(st.tuples(SCORES, st.integers(0, 2)), max_size=20)


def result(samples: list[tuple[list[float], int]]) -> ProbeResult:
    logits = torch.tensor([scores for scores, _ in samples], dtype=torch.float32).view(-1, 3)
    return ProbeResult(logits, torch.tensor([label for _, label in samples], dtype=torch.int64))


@given(PROBED)
def test_the_hard_filter_keeps_what_the_model_gets_wrong(samples: list[tuple[list[float], int]]) -> None:
    judgement = filters.hard(result(samples))
    assert judgement.candidates.tolist() == [argmax(scores) != label for scores, label in samples]
    assert judgement.marginal is None


@given(PROBED, st.sampled_from([0.01, 0.1, 0.35, 0.9]))
def test_the_soft_filter_adds_what_is_barely_right(samples: list[tuple[list[float], int]], margin: float) -> None:
    judgement = filters.soft(margin)(result(samples))
    wrong, marginal = [], []
    for scores, label in samples:
        p, q = sorted(beliefs(scores), reverse=True)[:2]
        wrong.append(argmax(scores) != label)
        marginal.append(not wrong[-1] and p - q <= margin)
    assert judgement.candidates.tolist() == wrong
    assert judgement.marginal.tolist() == marginal


@given(PROBED)
def test_without_a_filter_everything_is_a_candidate(samples: list[tuple[list[float], int]]) -> None:
    judgement = filters.everything(result(samples))
    assert judgement.candidates.tolist() == [True] * len(samples)
    assert judgement.marginal is None


@given(st.lists(st.tuples(st.lists(st.floats(-20, 20), min_size=3, max_size=3), st.integers(0, 2)), max_size=9))
def test_losses_are_cross_entropies(samples: list[tuple[list[float], int]]) -> None:
    losses = result(samples).losses.tolist()
    assert losses == pytest.approx([-math.log(beliefs(scores)[label]) for scores, label in samples], rel=1e-4, abs=1e-5)


@given(PROBED, st.integers(1, 7))
def test_results_join_in_order(samples: list[tuple[list[float], int]], size: int) -> None:
    whole = result(samples)
    parts = [result(samples[start : start + size]) for start in range(0, len(samples), size)]
    if parts:
        joined = ProbeResult.join(parts)
        assert torch.equal(joined.logits.nan_to_num(7), whole.logits.nan_to_num(7))
        assert torch.equal(joined.labels, whole.labels)


# ------------------------------------------------------------------------------------------------------ selections


@given(PROBED, st.integers(1, 9), st.integers(0, 25), SEEDS)
def test_a_judged_selection_is_the_selectors_then_the_marginal_then_random_ones(
    samples: list[tuple[list[float], int]], k: int, fallback: int, seed: int
) -> None:
    probed = result(samples)
    plain = Judged(filters.soft(0.35), selectors.top_k(k))(probed, random(seed)).tolist()
    judgement = filters.soft(0.35)(probed)
    wrong, marginal = (mask.nonzero().flatten().tolist() for mask in (judgement.candidates, judgement.marginal))
    picked = select(selectors.top_k(k), [probed.losses.tolist()[i] for i in wrong])
    assert plain == [wrong[i] for i in picked] + marginal
    assert Judged(filters.soft(0.35))(probed, random(seed)).tolist() == wrong + marginal
    filled = Judged(filters.soft(0.35), selectors.top_k(k), fallback)(probed, random(seed)).tolist()
    assert filled[: len(plain)] == plain
    assert len(filled) == len(set(filled)) == max(len(plain), min(fallback, len(samples)))


def test_the_fallback_draws_uniformly_from_the_rejected() -> None:
    probed = result([([0.0, 1.0, 0.0], 0)] + [([9.0, 0.0, 0.0], 0)] * 4)
    falling = Judged(filters.hard, fallback=2)
    counts = Counter(tuple(falling(probed, random(seed)).tolist()) for seed in range(MANY))
    assert is_fair(counts, {(0, i): 1 / 4 for i in range(1, 5)})


@given(st.floats(0.01, 1), st.integers(1, 50), SEEDS)
def test_a_share_is_rounded_up_or_down(ratio: float, size: int, seed: int) -> None:
    positions = Chance(selection.share(ratio))(0, size, random(seed)).tolist()
    assert positions == sorted(set(positions))
    assert set(positions) <= set(range(size))
    assert math.floor(ratio * size) <= len(positions) <= math.ceil(ratio * size)


@pytest.mark.parametrize(("ratio", "size"), [(0.25, 10), (0.01, 7), (0.999, 3)])
def test_a_share_has_the_mean_that_it_says(ratio: float, size: int) -> None:
    counts = [len(Chance(selection.share(ratio))(0, size, random(seed))) for seed in range(MANY)]
    assert sum(counts) / MANY == pytest.approx(ratio * size, abs=4 * 0.5 / math.sqrt(MANY))


def test_chance_is_uniform() -> None:
    chance = Chance(selection.exactly(2))
    counts = Counter(tuple(chance(0, 4, random(seed)).tolist()) for seed in range(MANY))
    assert is_fair(counts, {(i, j): 1 / 6 for i in range(4) for j in range(i + 1, 4)})


def test_a_trace_is_read_unit_by_unit_when_it_is_asked_for() -> None:
    trace: list[int] = []
    quota = selection.as_traced(lambda: trace)
    trace += [3, 0, 9]
    assert [len(Chance(quota)(unit, 5, random())) for unit in range(3)] == [3, 0, 5]
