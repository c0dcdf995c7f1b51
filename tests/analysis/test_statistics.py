import math

import numpy as np
import pandas as pd
import pytest
from comparisons import frame_of, rates
from hypothesis import given
from hypothesis import strategies as st

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
    median,
    sign_test,
    units,
    unseen,
)

FINITE = st.floats(-100, 100, allow_subnormal=False)
TIED = st.integers(-4, 4).map(float)


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


def test_the_average_of_a_configuration_is_infinite_with_the_sign_of_most_of_its_lost_seeds():
    inf = math.inf
    values = np.array([1.0, -inf, 3.0, inf, -inf, 5.0, inf, -inf, -inf, 2.0])
    assert units(values, [0, 0, 1, 1, 2, 2, 2, 3, 3, 4]).tolist() == [-inf, inf, 0.0, -inf, 2.0]
    assert units(np.array([1.0, -inf]), [7, 7]).tolist() == [1.0, -inf]


def test_averages_that_differ_by_rounding_alone_are_equal():
    assert units(np.array([0.3, -0.1, -0.2, 1.0]), [0, 0, 0, 1]).tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("values", "middle"),
    [
        ([3.0, 1.0, 2.0], 2.0),
        ([4.0, 1.0, 2.0, 8.0], 3.0),
        ([-math.inf, 1.0, math.inf], 1.0),
        ([-math.inf, -math.inf, 1.0, 1.0], -math.inf),
        ([-math.inf, -math.inf, -math.inf, 1.0], -math.inf),
        ([-math.inf, math.inf], 0.0),
    ],
)
def test_the_median_counts_infinite_gaps(values, middle):
    assert median(np.array(values)) == middle


def test_nothing_has_no_median():
    assert math.isnan(median(np.zeros(0)))


@pytest.mark.parametrize(
    ("size", "place"),
    # Of tables of the sign test: 0 of 6, 1 of 9 to 11, 5 of 20 and 17 of 50 may lie on the far side.
    [(6, 1), (8, 1), (9, 2), (10, 2), (11, 2), (20, 6), (21, 6), (50, 18)],
)
def test_an_interval_of_the_median_is_from_one_gap_to_another(size, place):
    gaps = np.random.default_rng(0).permutation(np.arange(1.0, size + 1))
    assert interval(gaps) == (place, size + 1 - place)


@pytest.mark.parametrize("size", range(ENOUGH))
def test_too_few_gaps_have_no_interval(size):
    assert all(map(math.isnan, interval(np.arange(float(size)))))


def test_an_interval_ends_nowhere_where_too_many_lost_by_their_outcome():
    low, high = interval(np.array([-math.inf, -math.inf, *range(1, 9)]))
    assert (low, high) == (-math.inf, 7)
    assert interval(np.array([-math.inf, *range(1, 10)])) == (1, 8)


@given(st.lists(st.one_of(TIED, FINITE, st.just(math.inf)), max_size=60))
def test_the_sign_test_says_what_the_interval_says(values):
    values = np.array(values, dtype="float64")
    low, high = interval(values)
    assert (sign_test(values) < 0.05) == (low > 0 or high < 0)


@pytest.mark.parametrize(
    ("values", "p"),
    [
        ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], 2 / 128),
        ([1.0, 2.0, 3.0, 4.0, 5.0, math.inf], 2 / 64),
        ([-math.inf, 2.0, 3.0, 4.0, 5.0, 6.0], 2 * 7 / 64),
        ([0.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2 * 7 / 64),  # a tie is no win
        ([0.0] * 6, 1.0),
    ],
)
def test_the_sign_test_of_a_few_gaps(values, p):
    assert sign_test(np.array(values)) == pytest.approx(p)
    assert sign_test(-np.array(values)) == pytest.approx(p)


@pytest.mark.parametrize("size", range(ENOUGH))
def test_too_few_gaps_have_no_test(size):
    assert math.isnan(sign_test(np.arange(1.0, size + 1)))


def test_what_none_of_n_has_shown_may_be_about_three_in_n():
    assert unseen(10) == pytest.approx(0.2589, abs=1e-4)
    assert unseen(100) == pytest.approx(0.03, abs=1e-3)
    assert math.isnan(unseen(0))


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


def test_the_probability_of_improvement_is_of_configurations():
    # Shares won: 1 of 2 with a tie is 0.75, 0 of 1 is 0, 1 of 1 is 1.
    frame = frame_of((0.5, 0.6), (0.5, 0.5), (0.5, 0.4), (0.5, 0.9), configs=rates(0.1, 0.1, 0.2, 0.3))
    share, low, high = improvement(frame, "test_accuracy")
    assert share == pytest.approx(1.75 / 3)
    assert 0 < low < share < high < 1


def test_the_probability_of_improvement_of_one_configuration_is_of_its_seeds():
    share, low, high = improvement(frame_of((0.5, 0.6), (0.5, 0.7), (0.5, 0.4)), "test_accuracy")
    # Clopper and Pearson's: from the share with P(2 or 3 of 3) = 0.025 to the one with P(3 of 3) = 0.975.
    assert 3 * low**2 - 2 * low**3 == pytest.approx(0.025)
    assert (share, high) == pytest.approx((2 / 3, 0.975 ** (1 / 3)))


@pytest.mark.parametrize("size", [1, 6, 40])
def test_always_winning_is_no_certainty(size):
    frame = frame_of(*[(0.5, 0.6)] * size, configs=rates(*range(size)))
    share, low, high = improvement(frame, "test_accuracy")
    assert (share, high) == (1, 1)
    assert low == pytest.approx(0.025 ** (1 / size))


def test_a_comparison_lost_by_its_outcome_is_no_improvement():
    frame = frame_of((0.5, 0.6), (0.5, 0.6), (0.5, 0.6)).assign(**{"gap/test_accuracy": [-math.inf, 0.1, math.inf]})
    assert improvement(frame, "test_accuracy")[0] == pytest.approx(2 / 3)


def test_the_probability_of_improvement_of_nothing():
    assert all(map(math.isnan, improvement(frame_of(), "test_accuracy")))


def test_a_metric_without_a_gap_is_named():
    with pytest.raises(TableError, match="'steps' has no gap; metrics that have one: train_accuracy"):
        improvement(frame_of((0.5, 0.6)), "steps")
    with pytest.raises(TableError, match="'epoch' has no gap"):
        evidence(frame_of((0.5, 0.6)), ["test_accuracy", "epoch"])


ACCURACIES = st.sampled_from([0.1, 0.3, 0.4, 0.5, 0.6, 0.7])
COMPARISONS = st.lists(st.tuples(ACCURACIES, ACCURACIES, st.sampled_from([0.1, 0.2, 0.3])), max_size=12)


def made(comparisons):
    return frame_of(*[pair[:2] for pair in comparisons], configs=rates(*[pair[2] for pair in comparisons]))


@given(COMPARISONS)
def test_swapping_the_arms_negates_the_evidence(comparisons):
    metrics = ["test_accuracy", "test_worst_loss", "cumulative_seconds"]
    rows = evidence(made(comparisons), metrics)
    other = evidence(made([(b, a, rate) for a, b, rate in comparisons]), metrics)
    same = ["metric", "comparisons", "units", "seeds", "p", "p_holm"]
    pd.testing.assert_frame_equal(rows[same], other[same])
    swapped = {"mean": -other["mean"], "median": -other["median"]}
    swapped |= {"median_low": -other["median_high"], "median_high": -other["median_low"]}
    swapped |= {"improvement": 1 - other["improvement"], "improvement_low": 1 - other["improvement_high"]}
    for name, values in swapped.items():
        assert rows[name].to_numpy() == pytest.approx(values.to_numpy(), abs=1e-9, nan_ok=True)
    opposite = {"better": "worse", "worse": "better"}
    assert rows["says"].tolist() == [opposite.get(said, said) for said in other["says"]]


@given(COMPARISONS, st.randoms(use_true_random=False))
def test_the_order_of_comparisons_says_nothing(comparisons, random):
    frame = made(comparisons)
    order = random.sample(range(len(frame)), len(frame))
    rows = [evidence(f, ["test_accuracy"]) for f in (frame, frame.iloc[order])]
    pd.testing.assert_frame_equal(*rows)


def test_the_evidence_of_six_configurations():
    gaps = [0.01, 0.02, 0.03, 0.04, 0.05, 0.06]
    frame = frame_of(*[(0.5, 0.5 + gap) for gap in gaps], configs=rates(*gaps))
    row = evidence(frame, ["test_accuracy"]).iloc[0]
    assert (row["comparisons"], row["units"], row["seeds"]) == (6, 6, 1)
    assert (row["median"], row["mean"]) == pytest.approx((0.035, 0.035))
    assert (row["median_low"], row["median_high"]) == pytest.approx((0.01, 0.06))
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
def test_too_few_to_tell(seeds, rate_count, says):
    frame = frame_of(*[(0.5, 0.6)] * seeds * rate_count, configs=rates(*range(rate_count)) * seeds)
    row = evidence(frame, ["test_accuracy"]).iloc[0]
    assert (row["seeds"], row["says"]) == (seeds, says)


def test_a_family_of_tests_needs_more_to_tell():
    # Six that agree have a p of 1/32, which Holm doubles for two metrics; seven have 1/64.
    metrics = ["test_accuracy", "test_mean_loss"]
    six = evidence(frame_of(*[(0.5, 0.6)] * 6), metrics)
    assert six["p_holm"].tolist() == [1 / 16, 1 / 16]
    assert six["says"].tolist() == ["too few seeds to tell"] * 2
    seven = evidence(frame_of(*[(0.5, 0.6)] * 7), [*metrics, "cumulative_seconds"])
    assert seven["p_holm"].tolist()[:2] == [1 / 32, 1 / 32]  # nobody measured time: it is no test
    assert seven["says"].tolist() == ["better", "better", "not measured"]


def test_evidence_of_nothing():
    row = evidence(frame_of(), ["test_accuracy"]).iloc[0]
    assert (row["comparisons"], row["units"], row["says"]) == (0, 0, "not measured")
    assert row[["seeds", "mean", "median", "median_low", "median_high", "p", "p_holm", "improvement"]].isna().all()
    assert evidence(frame_of(), []).empty


def test_all_ties_are_not_told_apart():
    row = evidence(frame_of(*[(0.5, 0.5)] * 10), ["test_accuracy"]).iloc[0]
    assert (row["p"], row["improvement"], row["says"]) == (1, 0.5, "not told apart")


@pytest.mark.parametrize(
    ("low", "high", "p", "told"),
    [
        (0.1, 0.2, 0.01, 1),
        (0.1, math.inf, 0.01, 1),
        (-0.2, -0.1, 0.01, -1),
        (-math.inf, -0.1, 0.01, -1),
        (0.1, 0.2, 0.05, 0),  # the corrected test does not tell
        (-0.1, 0.2, 0.01, 0),  # the interval does not
        (math.nan, math.nan, math.nan, 0),
    ],
)
def test_it_takes_interval_and_test_to_tell(low, high, p, told):
    assert better(low, high, p) == told


def test_diverged_treatments_are_losses_in_the_evidence():
    """Half of the treatments are lost, and all others win: the median is no win, though every measured gap is one."""
    frame = frame_of(*[(0.5, 0.6)] * 20)
    frame.loc[:9, "gap/test_accuracy"] = -math.inf
    row = evidence(frame, ["test_accuracy"]).iloc[0]
    assert (row["comparisons"], row["improvement"], row["says"]) == (20, 0.5, "not told apart")
    assert (row["median_low"], row["median_high"]) == (-math.inf, pytest.approx(0.1))
    assert row["mean"] == pytest.approx(0.1)
    frame["gap/test_accuracy"] = -math.inf
    row = evidence(frame, ["test_accuracy"]).iloc[0]
    assert (row["median"], row["says"]) == (-math.inf, "worse")
    assert math.isnan(row["mean"])


def test_gaps_are_floats():
    frame = frame_of((0.5, 0.75)).astype({"gap/test_accuracy": "Float64"})
    assert gaps_of(frame, "test_accuracy").tolist() == [0.25]
