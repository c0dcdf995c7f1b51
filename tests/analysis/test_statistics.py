import itertools
import math

import numpy as np
import pandas as pd
import pytest
from comparisons import frame_of, rates
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.database import TableError
from analysis.statistics import (
    ENOUGH,
    better,
    configurations,
    evidence,
    gaps_of,
    holm,
    improvement,
    interval,
    units,
    wilcoxon,
)

FINITE = st.floats(-100, 100, allow_subnormal=False)
TIED = st.integers(-4, 4).map(float)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_seeds_splits_and_studies_make_no_configuration():
    configs = [{"optimizer.lr": 0.1}, {"optimizer.lr": 0.2}, {"optimizer.lr": 0.1, "dataset.split_seed": 1}]
    frame = frame_of(*[(0.5, 0.6)] * 3, configs=configs).assign(study=["a", "a", "b"])
    assert configurations(frame).tolist() == [0, 1, 0]
    assert configurations(frame.drop(columns="optimizer.lr")).tolist() == [0, 0, 0]
    assert configurations(frame.iloc[:0]).tolist() == []


def test_a_setting_that_is_missing_makes_a_configuration():
    frame = frame_of(*[(0.5, 0.6)] * 3, configs=[{"optimizer.momentum": 0.9}, {}, {}])
    assert configurations(frame).tolist() == [0, 1, 1]


def test_units_are_averages_of_configurations_or_the_seeds_of_one():
    assert units(np.array([1.0, 2.0, 3.0]), ["b", "a", "b"]).tolist() == [2.0, 2.0]
    assert units(np.array([1.0, 5.0, 3.0]), [1, 0, 2]).tolist() == [1.0, 5.0, 3.0]
    assert units(np.array([1.0, 2.0]), [7, 7]).tolist() == [1.0, 2.0]
    assert units(np.zeros(0), []).tolist() == []


@pytest.mark.parametrize("size", [3, 20, 21, 201])
def test_an_interval_of_equal_gaps_is_that_gap(size, rng):
    assert interval(np.full(size, 0.2), rng) == (0.2, 0.2)


@pytest.mark.parametrize("size", [21, 201])
def test_an_interval_of_gaps_whose_squares_vanish_is_their_mean(size, rng):
    low, high = interval(np.array([1e-300] + [0.0] * (size - 1)), rng)
    assert 0 <= low <= high <= 1e-300


def test_an_interval_needs_three_gaps(rng):
    assert all(map(math.isnan, interval(np.array([0.1, 0.2]), rng)))
    assert all(map(math.isfinite, interval(np.array([0.1, 0.2, 0.3]), rng)))


@pytest.mark.parametrize(
    ("gaps", "mean", "half"),
    [
        ([1.0, 2.0, 3.0], 2.0, 4.302653 / math.sqrt(3)),  # variance 1; t of 2 degrees of freedom
        ([0.0, 1.0] * 10, 0.5, 2.093024 * math.sqrt(1 / 76)),  # variance 5/19, over 20 gaps; t of 19
    ],
)
def test_an_interval_of_up_to_twenty_gaps_is_students_t_and_needs_no_draws(gaps, mean, half, rng):
    before = rng.bit_generator.state
    assert interval(np.array(gaps), rng) == pytest.approx((mean - half, mean + half), abs=1e-6)
    assert rng.bit_generator.state == before


def test_an_interval_of_more_gaps_is_a_bootstrap_that_its_generator_decides():
    gaps = np.random.default_rng(9).normal(size=21)
    first, again = (interval(gaps, np.random.default_rng(5)) for _ in range(2))
    assert first == again
    assert first != interval(gaps, np.random.default_rng(6))
    # A bootstrap's spread is that of the gaps as they are (divided by n), for which a normal curve holds roughly.
    half = 1.96 * gaps.std() / math.sqrt(21)
    assert first == pytest.approx((gaps.mean() - half, gaps.mean() + half), abs=0.1 * half)
    # It is not Student's t (20 degrees of freedom: 2.085963), which is the same on both sides of the mean.
    assert first[1] - first[0] < 2 * 2.085963 * gaps.std(ddof=1) / math.sqrt(21)
    assert gaps.mean() - first[0] != pytest.approx(first[1] - gaps.mean(), rel=1e-6)


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng, n: rng.normal(size=n),
        lambda rng, n: rng.exponential(size=n),
        lambda rng, n: rng.lognormal(size=n),
        lambda rng, n: (rng.random(n) < 0.8).astype(float),
    ],
    ids=["normal", "exponential", "log-normal", "two values"],
)
def test_an_interval_of_very_many_gaps_is_the_bootstraps_without_its_draws(draw, rng):
    gaps = draw(np.random.default_rng(4), 400)
    before = rng.bit_generator.state
    low, high = interval(gaps, rng)
    assert rng.bit_generator.state == before
    drawn = stats.bootstrap((gaps,), np.mean, n_resamples=30_000, method="percentile", batch=1000, rng=1)
    drawn = drawn.confidence_interval
    error = gaps.std() / 20
    assert (low - drawn.low) / error == pytest.approx(0, abs=0.06)
    assert (high - drawn.high) / error == pytest.approx(0, abs=0.06)


def test_where_one_outlier_rules_very_many_gaps_the_bootstrap_is_drawn(rng):
    gaps = np.concatenate([np.linspace(-1, 1, 399), [10_000.0]])
    low, high = interval(gaps, rng)
    assert rng.bit_generator.state != np.random.default_rng(0).bit_generator.state
    # The outlier is drawn 0 times in 37% of resamples, up to 3 times in 98.1%: 3 / 400 of it is the upper end.
    assert low == pytest.approx(0, abs=0.1)
    assert high == pytest.approx(75, abs=0.1)


@pytest.mark.parametrize(("size", "count", "least"), [(5, 400, 370), (40, 100, 86), (300, 2000, 1870)])
def test_an_interval_covers_the_mean_about_as_often_as_it_says(size, count, least):
    draws = np.random.default_rng(1)  # a bootstrap of 5 gaps covers the mean 4 times in 5
    trials = [interval(draws.normal(0.3, 1, size), draws) for _ in range(count)]
    assert least <= sum(low <= 0.3 <= high for low, high in trials) < count


def signs(values):
    """The p of the signed-rank test by counting every choice of signs."""
    ranks = stats.rankdata(np.abs(values)) * (np.asarray(values) != 0)
    mine = ranks @ np.sign(values)
    every = [ranks @ np.array(choice) for choice in itertools.product((-1, 1), repeat=len(values))]
    return np.mean(np.abs(every) >= abs(mine) - 1e-9)


@pytest.mark.parametrize(
    ("values", "p"),
    [
        ([1.0, 2.0, 3.0], 2 / 8),
        ([1.0, 2.0, 3.0, 4.0, 5.0], 2 / 32),  # of 5 no two-sided test says more
        ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2 / 64),
        ([-1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 4 / 64),
        ([0.0, 0.0, 0.0, 1.0, 2.0, 3.0], 2 / 8),  # ties are no evidence for either arm
        ([0.0, 0.0, 0.0], 1.0),
        ([1.0, -1.0, 1.0, -1.0], 1.0),
        ([0.3, 0.1 + 0.2, -0.3], 1.0),  # equal but for rounding: 2 wins of 3 with one rank
    ],
)
def test_the_signed_rank_test_of_a_few_gaps(values, p):
    assert wilcoxon(np.array(values)) == pytest.approx(p)


def test_the_signed_rank_test_needs_three_gaps():
    assert math.isnan(wilcoxon(np.array([])))
    assert math.isnan(wilcoxon(np.array([1.0, 2.0])))


def test_from_enough_gaps_on_the_signed_rank_test_can_tell():
    assert wilcoxon(np.arange(1.0, ENOUGH)) >= 0.05 > wilcoxon(np.arange(1.0, ENOUGH + 1))


@given(st.lists(TIED, min_size=3, max_size=9))
def test_the_signed_rank_test_is_exact_with_ties_and_zeros(values):
    assert wilcoxon(np.array(values)) == pytest.approx(signs(values))


@given(st.lists(st.one_of(TIED, FINITE), min_size=3, max_size=60), st.randoms(use_true_random=False))
def test_the_signed_rank_test_knows_neither_order_nor_arm_nor_unit(values, random):
    p = wilcoxon(np.array(values))
    assert 0 < p <= 1
    shuffled = random.sample(values, len(values))
    assert wilcoxon(np.array(shuffled)) == pytest.approx(p)
    assert wilcoxon(-np.array(values)) == pytest.approx(p)
    assert wilcoxon(4 * np.array(values)) == pytest.approx(p)


@pytest.mark.parametrize("size", [30, 50, 51, 200])
def test_the_signed_rank_test_is_scipys_without_ties(size):
    values = np.random.default_rng(size).normal(0.2, 1, size)
    assert wilcoxon(values) == pytest.approx(stats.wilcoxon(values).pvalue, rel=1e-9)


def test_the_normal_limit_takes_over_without_a_step():
    values = np.round(np.random.default_rng(3).normal(0.3, 1, 51), 1)
    assert wilcoxon(values[:50]) == pytest.approx(
        stats.wilcoxon(values[:50], zero_method="pratt", method="asymptotic").pvalue, rel=0.05
    )


def test_holm_multiplies_the_smallest_by_the_number_of_tests_and_never_steps_back():
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.5]).tolist() == [1.0, 1.0]
    assert holm([]).tolist() == []
    corrected = holm([math.nan, 0.04, math.nan, 0.02])
    assert corrected[[1, 3]].tolist() == pytest.approx([0.04, 0.04])
    assert np.isnan(corrected[[0, 2]]).all()


@given(st.lists(st.one_of(st.floats(0, 1), st.just(math.nan)), max_size=12))
def test_holm_lies_between_the_p_values_and_bonferronis_and_keeps_their_order(p):
    p = np.array(p)
    corrected = holm(p)
    assert (np.isnan(corrected) == np.isnan(p)).all()
    known = ~np.isnan(p)
    assert (p[known] <= corrected[known]).all()
    assert (corrected[known] <= np.minimum(1, known.sum() * p[known]) + 1e-12).all()
    order = np.argsort(p[known])
    assert (np.diff(corrected[known][order]) >= 0).all()


def test_the_probability_of_improvement_is_of_configurations(rng):
    # Shares won: 1 of 2 with a tie is 0.75, 0 of 1 is 0, 1 of 1 is 1.
    frame = frame_of((0.5, 0.6), (0.5, 0.5), (0.5, 0.4), (0.5, 0.9), configs=rates(0.1, 0.1, 0.2, 0.3))
    share, low, high = improvement(frame, "test_accuracy", rng)
    assert share == pytest.approx(1.75 / 3)
    assert 0 < low < share < high < 1


def test_the_probability_of_improvement_of_one_configuration_is_of_its_seeds(rng):
    share, low, high = improvement(frame_of((0.5, 0.6), (0.5, 0.7), (0.5, 0.4)), "test_accuracy", rng)
    # Wilson's interval of 2 of 3: (2 + 1.9207) / (3 + 3.8415) give or take 1.95996 / (3 + 3.8415) √(2/3 + 0.96037).
    half = 1.959964 / 6.841459 * math.sqrt(2 / 3 + 3.841459 / 4)
    assert (share, low, high) == pytest.approx(
        (2 / 3, 3.920729 / 6.841459 - half, 3.920729 / 6.841459 + half), abs=1e-6
    )


@pytest.mark.parametrize("size", [6, 40])
def test_always_winning_is_no_certainty(size, rng):
    frame = frame_of(*[(0.5, 0.6)] * size, configs=rates(*range(size)))
    share, low, high = improvement(frame, "test_accuracy", rng)
    assert (share, high) == (1, 1)
    assert low == pytest.approx(size / (size + 1.959964**2))  # Wilson's lower end


def test_many_configurations_are_resampled(rng):
    wins = np.random.default_rng(2).random(100) < 0.7
    frame = frame_of(*[(0.5, 0.6 if won else 0.4) for won in wins], configs=rates(*range(100)))
    share, low, high = improvement(frame, "test_accuracy", rng)
    assert share == wins.mean()
    half = 1.96 * math.sqrt(share * (1 - share) / 100)
    assert (low, high) == pytest.approx((share - half, share + half), abs=0.02)


def test_the_probability_of_improvement_of_too_few(rng):
    assert all(map(math.isnan, improvement(frame_of(), "test_accuracy", rng)))
    share, low, high = improvement(frame_of((0.5, 0.6), (0.5, 0.5)), "test_accuracy", rng)
    assert share == 0.75
    assert math.isnan(low)
    assert math.isnan(high)


def test_a_metric_without_a_gap_is_named(rng):
    with pytest.raises(TableError, match="'steps' has no gap; metrics that have one: train_accuracy"):
        improvement(frame_of((0.5, 0.6)), "steps", rng)
    with pytest.raises(TableError, match="'epoch' has no gap"):
        evidence(frame_of((0.5, 0.6)), ["test_accuracy", "epoch"], rng)


ACCURACIES = st.sampled_from([0.1, 0.3, 0.4, 0.5, 0.6, 0.7])
COMPARISONS = st.lists(st.tuples(ACCURACIES, ACCURACIES, st.sampled_from([0.1, 0.2, 0.3])), max_size=12)


def made(comparisons):
    return frame_of(*[pair[:2] for pair in comparisons], configs=rates(*[pair[2] for pair in comparisons]))


@given(COMPARISONS)
def test_swapping_the_arms_negates_the_evidence(comparisons):
    metrics = ["test_accuracy", "test_worst_loss", "cumulative_seconds"]
    rows = evidence(made(comparisons), metrics, np.random.default_rng(0))
    other = evidence(made([(b, a, rate) for a, b, rate in comparisons]), metrics, np.random.default_rng(0))
    same = ["metric", "comparisons", "units", "seeds", "p", "p_holm"]
    pd.testing.assert_frame_equal(rows[same], other[same])
    swapped = {"mean": -other["mean"], "low": -other["high"], "high": -other["low"]}
    swapped |= {"improvement": 1 - other["improvement"], "improvement_low": 1 - other["improvement_high"]}
    for name, values in swapped.items():
        assert rows[name].to_numpy() == pytest.approx(values.to_numpy(), abs=1e-9, nan_ok=True)
    opposite = {"better": "worse", "worse": "better"}
    assert rows["says"].tolist() == [opposite.get(said, said) for said in other["says"]]


@given(COMPARISONS, st.randoms(use_true_random=False))
def test_the_order_of_comparisons_says_nothing(comparisons, random):
    frame = made(comparisons)
    order = random.sample(range(len(frame)), len(frame))
    rows = [evidence(f, ["test_accuracy"], np.random.default_rng(0)) for f in (frame, frame.iloc[order])]
    pd.testing.assert_frame_equal(*rows)


def test_the_evidence_of_six_configurations(rng):
    gaps = [0.01, 0.02, 0.03, 0.04, 0.05, 0.06]
    frame = frame_of(*[(0.5, 0.5 + gap) for gap in gaps], configs=rates(*gaps))
    row = evidence(frame, ["test_accuracy"], rng).iloc[0]
    assert (row["comparisons"], row["units"], row["seeds"]) == (6, 6, 1)
    assert row["mean"] == pytest.approx(0.035)
    assert (row["low"], row["high"]) == pytest.approx(interval(np.array(gaps), rng))
    assert (row["p"], row["p_holm"]) == (2 / 64, 2 / 64)
    assert row["improvement"] == row["improvement_high"] == 1
    assert row["says"] == "better"


@pytest.mark.parametrize(
    ("seeds", "rate_count", "says"),
    [
        (5, 1, "too few seeds to tell"),
        (1, 5, "too few configurations to tell"),
        (2, 5, "too few configurations to tell"),
    ],
)
def test_too_few_to_tell(seeds, rate_count, says, rng):
    frame = frame_of(*[(0.5, 0.6)] * seeds * rate_count, configs=rates(*range(rate_count)) * seeds)
    row = evidence(frame, ["test_accuracy"], rng).iloc[0]
    assert (row["seeds"], row["says"]) == (seeds, says)


def test_a_family_of_tests_needs_more_to_tell(rng):
    # Six that agree have a p of 1/32, which Holm doubles for two metrics; seven have 1/64.
    metrics = ["test_accuracy", "test_mean_loss"]
    six = evidence(frame_of(*[(0.5, 0.6)] * 6), metrics, rng)
    assert six["p_holm"].tolist() == [1 / 16, 1 / 16]
    assert six["says"].tolist() == ["too few seeds to tell"] * 2
    seven = evidence(frame_of(*[(0.5, 0.6)] * 7), [*metrics, "cumulative_seconds"], rng)
    assert seven["p_holm"].tolist()[:2] == [1 / 32, 1 / 32]  # nobody measured time: it is no test
    assert seven["says"].tolist() == ["better", "better", "not measured"]


def test_evidence_of_nothing(rng):
    row = evidence(frame_of(), ["test_accuracy"], rng).iloc[0]
    assert (row["comparisons"], row["units"], row["says"]) == (0, 0, "not measured")
    assert row[["seeds", "mean", "low", "high", "p", "p_holm", "improvement"]].isna().all()
    assert evidence(frame_of(), [], rng).empty


def test_all_ties_are_not_told_apart(rng):
    row = evidence(frame_of(*[(0.5, 0.5)] * 10), ["test_accuracy"], rng).iloc[0]
    assert (row["p"], row["improvement"], row["says"]) == (1, 0.5, "not told apart")


@pytest.mark.parametrize(
    ("low", "high", "p", "share", "told"),
    [
        (0.1, 0.2, 0.01, 0.9, 1),
        (-0.2, -0.1, 0.01, 0.1, -1),
        (0.1, 0.2, 0.05, 0.9, 0),  # the test does not tell
        (-0.1, 0.2, 0.01, 0.9, 0),  # the interval does not
        (0.1, 0.2, 0.01, 0.3, 0),  # a few large wins and many losses
        (math.nan, math.nan, math.nan, 1.0, 0),
    ],
)
def test_it_takes_interval_test_and_share_to_tell(low, high, p, share, told):
    assert better(low, high, p, share) == told


def test_gaps_are_floats():
    frame = frame_of((0.5, 0.75)).astype({"gap/test_accuracy": "Float64"})
    assert gaps_of(frame, "test_accuracy").tolist() == [0.25]
