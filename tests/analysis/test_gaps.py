import math

import numpy as np
import pandas as pd
import pytest
from comparisons import frame_of, rates
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from analysis.database import TableError
from analysis.gaps import (
    amount,
    bins,
    chooser,
    hyperparameters,
    label,
    p_value,
    settings,
    summarize,
    telling,
    win_map,
)
from analysis.pairs import pair
from analysis.statistics import holm


def test_the_statistics_of_four_gaps():
    frame = frame_of((0.5, 0.75), (0.5, 0.5), (0.5, 0.25), (0.1, 0.35))
    row = summarize(frame, ["test_accuracy"]).iloc[0]
    assert row["comparisons"] == 4
    assert row["wins"] == (2 + 0.5) / 4
    assert row["ties"] == 1
    assert row["unlearned_wins"] == 1
    assert row["median"] == pytest.approx(0.125)
    assert row["mean"] == pytest.approx(0.0625)
    assert (row["min"], row["max"]) == pytest.approx((-0.25, 0.25))
    assert row[["median_low", "median_high"]].isna().all()
    assert row[["p", "p_holm"]].isna().all()


def test_groups_are_summarized_apart():
    configs = [{"optimizer.momentum": 0.9}, {"optimizer.momentum": 0.0}, {"optimizer.momentum": 0.9}]
    frame = frame_of((0.5, 0.75), (0.5, 0.25), (0.5, 1.0), (0.5, 0.5), configs=configs)
    summary = summarize(frame, ["test_accuracy", "test_mean_loss"], ["optimizer.momentum"])
    assert summary["optimizer.momentum"].tolist() == ["0", "0", "0.9", "0.9", "not set", "not set"]
    assert summary["metric"].tolist() == ["test_accuracy", "test_mean_loss"] * 3
    assert summary["comparisons"].tolist() == [1, 1, 2, 2, 1, 1]
    assert summary["median"].tolist() == pytest.approx([-0.25, -0.25, 0.375, 0.375, 0, 0])


def test_groups_by_several_keys_and_by_study():
    configs = [{"optimizer.lr": rate, "batch_size": size} for rate in (0.1, 0.2) for size in (32, 64)]
    frame = frame_of((0.5, 0.6), (0.5, 0.7), (0.5, 0.8), (0.5, 0.9), configs=configs).assign(study=["b", "a", "a", "a"])
    summary = summarize(frame, ["test_accuracy"], ["batch_size", "optimizer.lr"])
    assert summary[["batch_size", "optimizer.lr"]].to_numpy().tolist() == [
        ["32", "0.1"], ["32", "0.2"], ["64", "0.1"], ["64", "0.2"],
    ]  # fmt: skip
    assert summary["mean"].tolist() == pytest.approx([0.1, 0.3, 0.2, 0.4])
    by_study = summarize(frame, ["test_accuracy"], ["study"])
    assert by_study[["study", "units"]].to_numpy().tolist() == [["a", 3], ["b", 1]]


def test_families_of_tests_are_corrected_together():
    frame = frame_of(
        *[(0.5, 0.5 + gap) for gap in (0.1, 0.2, 0.3, 0.4, 0.5, 0.1, 0.1, 0.1, 0.2, 0.3, 0.3, 0.3, -0.4)],
        configs=[{"model.name": "a"}] * 6 + [{"model.name": "b"}] * 7,
    )
    metrics = ["test_accuracy", "test_mean_loss", "cumulative_seconds"]
    groups = summarize(frame, metrics, ["model.name"])
    # All of 6 agree: 2 / 64. Of 7 one does not: 2 · (1 + 7) / 128.
    assert groups["p"].tolist() == pytest.approx([1 / 32, 1 / 32, math.nan, 1 / 8, 1 / 8, math.nan], nan_ok=True)
    for _, family in groups.groupby("metric"):
        assert family["p_holm"].tolist() == pytest.approx(holm(family["p"]).tolist(), nan_ok=True)
    assert groups["p_holm"][0] == 2 / 32  # of two groups
    whole = summarize(frame[:6], metrics)  # of two metrics, for the third has no test
    assert whole["p_holm"].tolist() == pytest.approx([2 / 32, 2 / 32, math.nan], nan_ok=True)


# Three configurations on two seeds each, whose gaps are (0.1, 0.2), (0.0, 0.3) and (−0.2, 0.0), and averages 0.15, 0.15
# and −0.1: their mean is 1/15, the variance of the averages 0.0208333.
SEEDED = [(0.5, 0.6), (0.5, 0.7), (0.5, 0.5), (0.5, 0.8), (0.5, 0.3), (0.5, 0.5)]
RATES = rates(0.1, 0.1, 0.2, 0.2, 0.3, 0.3)


def test_seeds_of_a_configuration_are_averaged_before_an_interval_is_formed():
    frame = frame_of(*SEEDED, configs=RATES)
    row = summarize(frame, ["test_accuracy"]).iloc[0]
    assert (row["comparisons"], row["units"]) == (6, 3)
    assert row["mean"] == pytest.approx(1 / 15)
    assert row["median"] == pytest.approx(0.15)
    assert math.isnan(row["p"])
    assert (row["ties"], row["wins"]) == (2, 4 / 6)  # of comparisons, as is the range
    assert (row["min"], row["max"]) == pytest.approx((-0.2, 0.3))


def test_a_configuration_with_more_seeds_does_not_count_for_more():
    row = summarize(frame_of(*SEEDED[:3], configs=RATES[:3]), ["test_accuracy"]).iloc[0]
    assert row["mean"] == pytest.approx((0.15 + 0.0) / 2)
    assert row["units"] == 2
    assert math.isnan(row["median_low"])


def test_of_one_configuration_the_interval_is_over_its_seeds():
    summary = summarize(frame_of(*SEEDED, configs=[{}] * 6), ["test_accuracy"])
    assert summary.iloc[0]["units"] == 6
    grouped = summarize(frame_of(*SEEDED * 2, configs=RATES * 2), ["test_accuracy"], ["optimizer.lr"])
    assert grouped["units"].tolist() == [4, 4, 4]
    assert summary["median_low"].notna().all()


def test_one_seed_of_each_configuration_is_as_without_seeds():
    frame = frame_of(*SEEDED, configs=rates(*(0.1 * n for n in range(1, 7))))
    row = summarize(frame, ["test_accuracy"]).iloc[0]
    gaps = frame["gap/test_accuracy"].to_numpy()
    assert row["units"] == 6
    expected = (gaps.mean(), np.median(gaps), gaps.min(), gaps.max())
    assert tuple(row[["mean", "median", "median_low", "median_high"]]) == pytest.approx(expected)


def test_a_gap_that_was_not_measured_is_not_counted():
    frame = frame_of((0.5, 0.75), (0.5, 0.75)).assign(**{"gap/test_q90_loss": math.nan})
    row = summarize(frame, ["test_q90_loss"]).iloc[0]
    assert row["comparisons"] == 0
    assert row[["wins", "median", "mean", "median_low", "p", "p_holm", "min"]].isna().all()


def test_a_comparison_that_an_arm_lost_by_its_outcome_counts_as_the_worst_or_the_best():
    frame = frame_of(*[(0.5, 0.6)] * 6).assign(**{"gap/test_accuracy": [-math.inf, 0.1, 0.2, 0.3, 0.4, math.inf]})
    row = summarize(frame, ["test_accuracy"]).iloc[0]
    assert (row["comparisons"], row["wins"]) == (6, 5 / 6)
    assert (row["median"], row["mean"]) == pytest.approx((0.25, 0.25))  # the mean is of the finite four
    assert tuple(row[["median_low", "median_high", "min", "max"]]) == (-math.inf, math.inf, -math.inf, math.inf)
    table = win_map(frame, "test_accuracy", ("optimizer.lr", "batch_size"))
    assert table[["comparisons", "wins", "median"]].to_numpy().tolist() == [[6, 5 / 6, pytest.approx(0.25)]]
    assert amount("test_accuracy", -math.inf) == "−∞"


def test_without_comparisons_there_is_a_row_of_none_and_no_group():
    for frame in (frame_of(), frame_of((0.5, 0.6)).iloc[:0]):
        summary = summarize(frame, ["test_accuracy", "test_mean_loss"])
        assert summary["comparisons"].tolist() == [0, 0]
        grouped = summarize(frame, ["test_accuracy"], ["optimizer.lr"])
        assert grouped.empty
        assert grouped.columns.tolist() == ["optimizer.lr", *summary.columns]
        assert win_map(frame, "test_accuracy", ("optimizer.lr", "batch_size")).empty


def test_equal_gaps_have_equal_intervals():
    frame = frame_of(*[(0.5, 0.5 + gap / 100) for gap in range(30)])
    summary = summarize(frame, ["test_accuracy", "validation_accuracy"])
    assert summary["median_low"].nunique() == 1


def test_what_cannot_be_asked_is_named():
    frame = frame_of(*SEEDED, configs=RATES)
    with pytest.raises(TableError, match="'steps' has no gap"):
        summarize(frame, ["steps"])
    with pytest.raises(TableError, match=r"no comparison has lr; keys that vary: optimizer\.lr, seed"):
        summarize(frame, ["test_accuracy"], ["lr"])
    with pytest.raises(TableError, match="two different keys, not seed, seed"):
        win_map(frame, "test_accuracy", ("seed", "seed"))


def test_a_win_map_counts_comparisons_and_averages_configurations():
    # At batch size 32 and momentum 0, two rates: one of gaps 0.1 and 0.2, the other of −0.2.
    places = [(32, 0.0, 0.1), (32, 0.0, 0.1), (32, 0.0, 0.2), (64, 0.0, 0.1), (32, 0.9, 0.1), (8, 0.9, 0.1)]
    configs = [{"batch_size": b, "optimizer.momentum": m, "optimizer.lr": lr} for b, m, lr in places]
    ends = [(0.5, 0.6), (0.5, 0.7), (0.5, 0.3), (0.5, 0.5), (0.5, 0.9), (0.5, 0.6)]
    frame = frame_of(*ends, configs=configs)
    table = win_map(frame, "test_accuracy", ("batch_size", "optimizer.momentum"))
    assert table["batch_size"].cat.categories.tolist() == ["8", "32", "64"]
    assert table["optimizer.momentum"].cat.categories.tolist() == ["0", "0.9"]
    expected = [["8", "0.9", 1, 1.0, 0.1], ["32", "0", 3, 2 / 3, -0.025], ["32", "0.9", 1, 1.0, 0.4]]
    expected += [["64", "0", 1, 0.5, 0.0]]
    assert table.columns.tolist() == ["batch_size", "optimizer.momentum", "comparisons", "wins", "median"]
    for row, values in zip(table.to_numpy().tolist(), expected, strict=True):
        assert row[:2] == values[:2]
        assert row[2:] == pytest.approx(values[2:])


def test_a_win_map_leaves_out_what_was_not_measured_and_takes_what_is_not_set():
    configs = [{"optimizer.momentum": 0.9}, {}, {"optimizer.momentum": 0.9}]
    frame = frame_of((0.5, 0.6), (0.5, 0.4), (0.5, 0.9), configs=configs)
    frame.loc[2, "gap/test_accuracy"] = math.nan
    table = win_map(frame, "test_accuracy", ("optimizer.momentum", "dataset.name"))
    assert table[["optimizer.momentum", "comparisons"]].to_numpy().tolist() == [["0.9", 1], ["not set", 1]]
    assert win_map(frame.iloc[2:], "test_accuracy", ("optimizer.momentum", "dataset.name")).empty


KEYED = st.lists(
    st.tuples(st.sampled_from([0.3, 0.5, 0.7]), st.sampled_from([32, 64]), st.sampled_from([0.0, 0.9])), max_size=15
)


@examples(deadline=None)
@given(KEYED)
def test_a_win_map_says_of_each_place_what_the_summary_says_of_the_group(comparisons):
    configs = [{"batch_size": size, "optimizer.momentum": momentum} for _, size, momentum in comparisons]
    frame = frame_of(*[(0.5, end) for end, _, _ in comparisons], configs=configs)
    frame["optimizer.momentum"] = [momentum for _, _, momentum in comparisons]
    keys = ("batch_size", "optimizer.momentum")
    table = win_map(frame, "test_mean_loss", keys)
    summary = summarize(frame, ["test_mean_loss"], keys)
    assert len(table) == len(summary)
    for name in (*keys, "comparisons"):
        assert table[name].tolist() == summary[name].tolist()
    for name in ("wins", "median"):
        assert table[name].to_numpy("float64") == pytest.approx(summary[name].to_numpy("float64"))


def test_few_values_are_their_own_bins():
    binned = bins(pd.Series([0.9, None, 0.0, 0.9], dtype="float64"))
    assert binned.tolist() == ["0.9", "not set", "0", "0.9"]
    assert binned.cat.categories.tolist() == ["0", "0.9", "not set"]
    assert bins(pd.Series([10, 2, 10], dtype="Int64")).cat.categories.tolist() == ["2", "10"]
    assert bins(pd.Series([True, False, None], dtype="boolean")).tolist() == ["yes", "no", "not set"]
    assert bins(pd.Series(["b", "a"], dtype="string")).cat.categories.tolist() == ["a", "b"]
    mixed = pd.Series(["100", "all", None, "20"], dtype="string")
    assert bins(mixed).cat.categories.tolist() == ["20", "100", "all", "not set"]


def test_many_numbers_fall_into_ranges():
    values = pd.Series([0.001, 0.002, 0.01, 0.05, 0.1, 0.5, 1.0, 3.0])
    assert bins(values).cat.categories.tolist() == ["0.001–0.002", "0.01–0.05", "0.1–0.5", "1–3"]
    assert bins(values).value_counts().tolist() == [2, 2, 2, 2]
    sizes = pd.Series([16, 32, 64, 128, 1024, 2048], dtype="Int64")
    assert bins(sizes).cat.categories.tolist()[-1] == "1024–2048"


@given(st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), min_size=1, max_size=40))
def test_every_value_is_in_a_bin_and_bins_are_in_order(values):
    values = pd.Series(values, dtype="float64")
    binned = bins(values)
    assert binned.notna().all()
    assert ((binned == "not set") == values.isna()).all()
    given_ = values.dropna()
    codes = binned.cat.codes[given_.index]
    assert codes[given_.sort_values().index].is_monotonic_increasing


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1, "0.1"), (1e-5, "1e-05"), (64.0, "64"), (np.float64(0.123456), "0.1235"), (True, "yes"), (pd.NA, "not set")],
)
def test_values_as_a_person_writes_them(value, text):
    assert label(value) == text


@pytest.mark.parametrize(
    ("metric", "gap", "text"),
    [
        ("test_accuracy", 0.0123, "+1.23 pp"),
        ("test_accuracy", -0.00001, "0.00 pp"),
        ("test_mean_loss", -0.4, "−0.400 nats"),
        ("cumulative_compute", 43968.0, "+44.0k fwd-eq"),
        ("cumulative_seconds", 332.4, "+332 s"),
        ("test_accuracy", math.nan, "–"),
    ],
)
def test_gaps_have_sign_and_unit(metric, gap, text):
    assert amount(metric, gap) == text


@pytest.mark.parametrize(
    ("p", "text"), [(1, "1.000"), (0.03125, "0.031"), (0.001, "0.001"), (0.0009, "<0.001"), (math.nan, "–")]
)
def test_p_values_as_text(p, text):
    assert p_value(p) == text


def test_hyperparameters_are_chosen_on_validation_unless_nothing_is_held_out():
    frame = frame_of((0.5, 0.6), (0.5, 0.6))
    assert chooser(frame) == "validation_accuracy"
    frame.loc[1, "treatment/validation_accuracy"] = math.nan
    assert chooser(frame) == "train_accuracy"


def test_a_key_that_follows_another_is_no_setting():
    adam, sgd = {"optimizer.name": "Adam", "optimizer.amsgrad": False}, {"optimizer.name": "SGD"}
    subset = sgd | {"dataset.samples_per_class": 10}
    frame = frame_of((0.5, 0.6), (0.5, 0.6), (0.5, 0.6), configs=[adam, sgd, subset]).assign(study=["a", "b", "b"])
    assert settings(frame) == ["seed", "optimizer.name", "dataset.samples_per_class"]
    assert hyperparameters(frame) == ["optimizer.name", "dataset.samples_per_class"]


def test_a_key_follows_neither_three_values_nor_a_key_that_is_not_always_set():
    a, b, c = ({"optimizer.name": name} for name in ("Adam", "SGD", "Rprop"))
    three = frame_of(*[(0.5, 0.6)] * 3, configs=[a | {"optimizer.amsgrad": False}, b, c])
    assert hyperparameters(three) == ["optimizer.name", "optimizer.amsgrad"]
    gaps = frame_of(*[(0.5, 0.6)] * 3, configs=[a | {"optimizer.amsgrad": False}, b, {"optimizer.name": None}])
    assert hyperparameters(gaps) == ["optimizer.name", "optimizer.amsgrad"]


def test_the_settings_of_trials_are_those_of_their_pairs(mixed):
    assert settings(mixed.trials) == ["optimizer.lr", "seed", "epochs"]
    assert settings(pair(mixed).frame) == ["optimizer.lr", "seed"]


def test_the_most_telling_key_separates_the_gaps():
    configs = [{"optimizer.momentum": m, "batch_size": b} for m, b in [(0.0, 32), (0.0, 64), (0.9, 32), (0.9, 64)]]
    frame = frame_of((0.5, 0.9), (0.5, 0.8), (0.5, 0.6), (0.5, 0.5), configs=configs)
    assert telling(frame, "test_accuracy") == "optimizer.momentum"
    assert telling(frame_of((0.5, 0.9), (0.5, 0.8)), "test_accuracy") is None
