"""Filters, selectors and quotas as pure functions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from thesis import argmax, beliefs

from trainables.methods import Memory, ProbeResult, Unit
from trainables.methods.chance import Random
from trainables.methods.filtering import FilteredSelection
from trainables.methods.filters import Hard, NoFilter, Soft
from trainables.methods.selectors import All, LossWeighted, QSplit, TopK, TopQ

ODD = st.sampled_from([math.nan, math.inf, 0.0, 1.0, 1.0, 2.5])
LOSSES = st.lists(ODD | st.floats(0, 100, width=32), max_size=30)
SEEDS = st.integers(0, 2**32)
COUNTED: dict[str, Callable[[int], Any]] = {
    "top_k": lambda k: TopK(k=k),
    "random": lambda k: Random(k=k),
    "loss_weighted": lambda k: LossWeighted(k=k),
}
MANY = 600


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def select(selector: Any, losses: list[float], seed: int = 0) -> list[int]:
    return selector.select(torch.tensor(losses, dtype=torch.float32), random(seed)).tolist()


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
    assert select(All(), losses) == list(range(len(losses)))


@given(LOSSES, st.integers(1, 40))
def test_top_k_are_the_first_of_the_losses_sorted_largest_first_ties_in_the_order_drawn(
    losses: list[float], k: int
) -> None:
    values = infinite_if_nan(losses)
    assert select(TopK(k=k), losses) == sorted(range(len(values)), key=lambda i: (-values[i], i))[:k]


@given(LOSSES, st.floats(0, 1, exclude_max=True))
def test_top_q_are_the_losses_from_the_quantile_on(losses: list[float], q: float) -> None:
    values = infinite_if_nan(losses)
    positions = select(TopQ(q=q), losses)
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
    assert select(TopQ(q=q), losses) == expected


def test_uniform_gives_every_subset_the_same_chance_in_the_order_drawn() -> None:
    losses = [9.0, 0.0, 1.0, math.inf, 2.0]
    counts = Counter(tuple(select(Random(k=2), losses, seed)) for seed in range(MANY))
    assert is_fair(counts, {(i, j): 1 / 10 for i in range(5) for j in range(i + 1, 5)})


def test_loss_weighted_draws_one_after_the_other_in_proportion_to_the_losses_that_are_left() -> None:
    losses = [1.0, 2.0, 3.0, 4.0]
    counts = Counter(tuple(select(LossWeighted(k=2), losses, seed)) for seed in range(MANY))
    total = sum(losses)
    sequential = {
        (i, j): losses[i] / total * losses[j] / (total - losses[i]) for i in range(4) for j in range(4) if i != j
    }
    assert sum(sequential.values()) == pytest.approx(1)
    assert is_fair(counts, sequential)


@pytest.mark.slow
def test_a_chi_square_test_can_fail() -> None:
    losses = [1.0, 2.0, 3.0, 4.0]
    counts = Counter(tuple(select(LossWeighted(k=1), losses, seed)) for seed in range(MANY))
    assert not is_fair(counts, {(i,): 1 / 4 for i in range(4)})


@given(SEEDS)
@settings(max_examples=25)
def test_loss_weighted_takes_infinite_losses_first_and_losses_of_0_only_if_there_is_nothing_else(seed: int) -> None:
    losses = [0.0, 1.0, math.inf, 0.0, 2.0, math.nan]
    assert set(select(LossWeighted(k=2), losses, seed)) == {2, 5}
    assert set(select(LossWeighted(k=4), losses, seed)) == {1, 2, 4, 5}
    assert set(select(LossWeighted(k=5), losses, seed)) > {1, 2, 4, 5}
    assert len(select(LossWeighted(k=3), [0.0] * 4, seed)) == 3


@given(LOSSES, st.integers(1, 8), st.integers(2, 6), st.sampled_from([0.5, 1.0, 2.0, 7.5]), SEEDS)
def test_q_split_takes_equally_many_from_every_bucket_or_all_there_are(
    losses: list[float], each: int, buckets: int, power: float, seed: int
) -> None:
    positions = select(QSplit(k=each * buckets, buckets=buckets, power=power), losses, seed)
    assert len(positions) == len(set(positions)) <= min(each * buckets, len(losses))
    assert set(positions) <= set(range(len(losses)))
    assert len(positions) >= min(each, len(losses))  # no loss is in no bucket


@given(LOSSES, st.integers(2, 5), st.sampled_from([0.5, 1.0, 2.0]))
def test_q_splits_buckets_have_every_candidate_once(losses: list[float], buckets: int, power: float) -> None:
    everything = select(QSplit(k=buckets * 30, buckets=buckets, power=power), losses)
    assert sorted(everything) == list(range(len(losses)))


@pytest.mark.slow
def test_q_split_draws_uniformly_within_buckets() -> None:
    losses = [1.0, 8.0, 1.0, 1.0, 1.0, 4.0, 1.0, 3.0]  # 1 1 1 1 1 3 4 | 8: cumulative 1 2 3 4 5 8 12 20, split at 10
    low, high = [0, 2, 3, 4, 6, 7, 5], [1]
    counts: Counter = Counter()
    for seed in range(MANY):
        one, other = select(QSplit(k=2, buckets=2, power=1.0), losses, seed)
        assert other in high
        counts[one] += 1
    assert is_fair(counts, {position: 1 / len(low) for position in low})


def test_a_high_power_leaves_few_in_the_last_bucket() -> None:
    losses = [1.0] * 20 + [2.0] * 4 + [10.0, 10.0, 10.0]
    low, high = (select(QSplit(k=12, buckets=2, power=power), losses) for power in (0.5, 3.0))
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
    judgement = Hard().judge(result(samples))
    assert judgement.candidates.tolist() == [argmax(scores) != label for scores, label in samples]
    assert judgement.marginal is None


@given(PROBED, st.sampled_from([0.01, 0.1, 0.35, 0.9]))
def test_the_soft_filter_adds_what_is_barely_right(samples: list[tuple[list[float], int]], margin: float) -> None:
    judgement = Soft(margin=margin).judge(result(samples))
    wrong, marginal = [], []
    for scores, label in samples:
        p, q = sorted(beliefs(scores), reverse=True)[:2]
        wrong.append(argmax(scores) != label)
        marginal.append(not wrong[-1] and p - q <= margin)
    assert judgement.candidates.tolist() == wrong
    assert judgement.marginal.tolist() == marginal


@given(PROBED)
def test_without_a_filter_everything_is_a_candidate(samples: list[tuple[list[float], int]]) -> None:
    judgement = NoFilter().judge(result(samples))
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


def unit(size: int, seed: int = 0, number: int = 0, kept: Sequence[int] = ()) -> Unit:
    return Unit(number, 1, 1, torch.arange(size), size, seed, lambda arm: kept, lambda spent: None)


def chosen(filter: Any, selector: Any, probed: ProbeResult, seed: int, fallback: int = 0) -> list[int]:
    selection = FilteredSelection(filter=filter, selector=selector, fallback=fallback)
    return selection.choose(unit(len(probed.labels), seed), probed, Memory()).positions.tolist()


@given(PROBED, st.integers(1, 9), st.integers(0, 25), SEEDS)
def test_a_judged_selection_is_the_selectors_then_the_marginal_then_random_ones(
    samples: list[tuple[list[float], int]], k: int, fallback: int, seed: int
) -> None:
    probed = result(samples)
    soft = Soft(margin=0.35)
    plain = chosen(soft, TopK(k=k), probed, seed)
    judgement = soft.judge(probed)
    wrong, marginal = (mask.nonzero().flatten().tolist() for mask in (judgement.candidates, judgement.marginal))
    picked = select(TopK(k=k), [probed.losses.tolist()[i] for i in wrong])
    assert plain == [wrong[i] for i in picked] + marginal
    assert chosen(soft, All(), probed, seed) == wrong + marginal
    filled = chosen(soft, TopK(k=k), probed, seed, fallback)
    assert filled[: len(plain)] == plain
    assert len(filled) == len(set(filled)) == max(len(plain), min(fallback, len(samples)))


def test_the_fallback_draws_uniformly_from_the_rejected() -> None:
    probed = result([([0.0, 1.0, 0.0], 0)] + [([9.0, 0.0, 0.0], 0)] * 4)
    counts = Counter(tuple(chosen(Hard(), All(), probed, seed, fallback=2)) for seed in range(MANY))
    assert is_fair(counts, {(0, i): 1 / 4 for i in range(1, 5)})


def drawn(selection: Random, size: int, seed: int = 0, number: int = 0, kept: Sequence[int] = ()) -> list[int]:
    return selection.choose(unit(size, seed, number, kept), None, Memory()).positions.tolist()


@given(st.floats(0.01, 1), st.integers(1, 50), SEEDS)
def test_a_share_is_rounded_up_or_down(ratio: float, size: int, seed: int) -> None:
    positions = drawn(Random(ratio=ratio), size, seed)
    assert positions == sorted(set(positions))
    assert set(positions) <= set(range(size))
    assert math.floor(ratio * size) <= len(positions) <= math.ceil(ratio * size)


@pytest.mark.parametrize(("ratio", "size"), [(0.25, 10), (0.01, 7), (0.999, 3)])
def test_a_share_has_the_mean_that_it_says(ratio: float, size: int) -> None:
    counts = [len(drawn(Random(ratio=ratio), size, seed)) for seed in range(MANY)]
    assert sum(counts) / MANY == pytest.approx(ratio * size, abs=4 * 0.5 / math.sqrt(MANY))


def test_chance_is_uniform() -> None:
    counts = Counter(tuple(drawn(Random(k=2), 4, seed)) for seed in range(MANY))
    assert is_fair(counts, {(i, j): 1 / 6 for i in range(4) for j in range(i + 1, 4)})


def test_what_another_arm_kept_is_read_unit_by_unit() -> None:
    followed = Random(like="other")
    assert [len(drawn(followed, 5, number=number, kept=[3, 0, 9])) for number in range(3)] == [3, 0, 5]
