import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.gaps import (
    amount,
    bins,
    configurations,
    hyperparameters,
    interval,
    label,
    settings,
    summarize,
    telling,
    tuned,
    verdict,
)
from analysis.pairs import pair
from trainables.records import CLOCKS


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def ends(trial, study):
    """The pairs of trials of one epoch that end at these (baseline, treatment) test accuracies."""

    def make(*accuracies, configs=(), changes=None):
        configs = [*configs, *[{}] * (len(accuracies) - len(configs))]
        return pair(
            study(
                *(
                    trial(n, {"archetype": [0.1, ours], "filtered": [0.1, theirs]}, config=config, changes=changes)
                    for n, ((ours, theirs), config) in enumerate(zip(accuracies, configs, strict=True))
                )
            )
        )

    return make


def test_the_statistics_of_four_gaps(ends, rng):
    frame = ends((0.5, 0.75), (0.5, 0.5), (0.5, 0.25), (0.1, 0.35)).frame
    row = summarize(frame, ["test_accuracy"], rng).iloc[0]
    assert row["comparisons"] == 4
    assert row["wins"] == (2 + 0.5) / 4
    assert row["ties"] == 1
    assert row["unlearned_wins"] == 1
    assert row["median"] == pytest.approx(0.125)
    assert row["mean"] == pytest.approx(0.0625)
    assert (row["min"], row["max"]) == pytest.approx((-0.25, 0.25))
    # The variance of 0.25, 0, −0.25 and 0.25 is 0.171875 / 3, and Student's t of 3 degrees of freedom 3.182446.
    half = 3.182446 * math.sqrt(0.171875 / 3 / 4)
    assert (row["low"], row["high"]) == pytest.approx((0.0625 - half, 0.0625 + half), abs=1e-6)


def test_groups_are_summarized_apart(ends, rng):
    configs = [{"optimizer.momentum": 0.9}, {"optimizer.momentum": 0.0}, {"optimizer.momentum": 0.9}]
    frame = ends((0.5, 0.75), (0.5, 0.25), (0.5, 1.0), (0.5, 0.5), configs=configs).frame
    summary = summarize(frame, ["test_accuracy", "test_mean_loss"], rng, ["optimizer.momentum"])
    assert summary["optimizer.momentum"].tolist() == ["0", "0", "0.9", "0.9", "not set", "not set"]
    assert summary["metric"].tolist() == ["test_accuracy", "test_mean_loss"] * 3
    assert summary["comparisons"].tolist() == [1, 1, 2, 2, 1, 1]
    assert summary["median"].tolist() == pytest.approx([-0.25, -0.25, 0.375, 0.375, 0, 0])


# Three configurations on two seeds each, whose gaps are (0.1, 0.2), (0.0, 0.3) and (−0.2, 0.0), and averages 0.15, 0.15
# and −0.1: their mean is 1/15, the variance of the averages 0.0208333.
SEEDED = [(0.5, 0.6), (0.5, 0.7), (0.5, 0.5), (0.5, 0.8), (0.5, 0.3), (0.5, 0.5)]
RATES = [{"optimizer.lr": rate} for rate in (0.1, 0.1, 0.2, 0.2, 0.3, 0.3)]


def test_seeds_of_a_configuration_are_averaged_before_an_interval_is_formed(ends, rng):
    frame = ends(*SEEDED, configs=RATES).frame
    assert configurations(frame).tolist() == [0, 0, 1, 1, 2, 2]
    row = summarize(frame, ["test_accuracy"], rng).iloc[0]
    assert (row["comparisons"], row["units"]) == (6, 3)
    assert row["mean"] == pytest.approx(1 / 15)
    half = 4.302653 * math.sqrt(0.0208333 / 3)  # Student's t of 2 degrees of freedom
    assert (row["low"], row["high"]) == pytest.approx((1 / 15 - half, 1 / 15 + half), abs=1e-5)
    assert (row["ties"], row["wins"]) == (2, 4 / 6)  # of comparisons, as are the median and the range
    assert (row["median"], row["min"], row["max"]) == pytest.approx((0.05, -0.2, 0.3))


def test_a_configuration_with_more_seeds_does_not_count_for_more(ends, rng):
    row = summarize(ends(*SEEDED[:3], configs=RATES[:3]).frame, ["test_accuracy"], rng).iloc[0]
    assert row["mean"] == pytest.approx((0.15 + 0.0) / 2)
    assert row["units"] == 2
    assert math.isnan(row["low"])


def test_of_one_configuration_the_interval_is_over_its_seeds(ends, rng):
    summary = summarize(ends(*SEEDED, configs=[{}] * 6).frame, ["test_accuracy"], rng)
    assert summary.iloc[0]["units"] == 6
    grouped = summarize(ends(*SEEDED * 2, configs=RATES * 2).frame, ["test_accuracy"], rng, ["optimizer.lr"])
    assert grouped["units"].tolist() == [4, 4, 4]
    assert grouped["low"].notna().all()


def test_one_seed_of_each_configuration_is_as_without_seeds(ends, rng):
    frame = ends(*SEEDED, configs=rates(*(0.1 * n for n in range(1, 7)))).frame
    row = summarize(frame, ["test_accuracy"], rng).iloc[0]
    gaps = frame["gap/test_accuracy"].to_numpy()
    assert row["units"] == 6
    assert (row["mean"], row["low"], row["high"]) == (gaps.mean(), *interval(gaps, rng))


def test_splits_are_draws_too(ends):
    frame = ends(*SEEDED[:2], configs=[{"dataset.split_seed": 0}, {"dataset.split_seed": 1}]).frame
    assert configurations(frame).tolist() == [0, 0]


def test_a_verdict_says_what_its_interval_is_of(ends, rng):
    lines = verdict(ends(*SEEDED, configs=RATES), rng).splitlines()
    assert "beats archetype in 3 of 6 comparisons" in lines[0]
    assert lines[0].endswith("pp (over 3 configurations, each averaged over its seeds).")
    lines = verdict(ends(*SEEDED[:4], configs=RATES[:4]), rng).splitlines()
    assert lines[1] == "2 configurations: too few to tell which arm is better."
    same = [(0.5, 0.6), (0.5, 0.7)] * 3
    lines = verdict(ends(*same, configs=RATES), rng).splitlines()
    assert lines[1] == "The interval leaves out 0, but 3 configurations are few; confirm it on fresh seeds."


def test_a_gap_that_was_not_measured_is_not_counted(ends, rng):
    frame = ends((0.5, 0.75), changes={("filtered", 1): {"test_q90_loss": None}}).frame
    row = summarize(frame, ["test_q90_loss"], rng).iloc[0]
    assert row["comparisons"] == 0
    assert math.isnan(row["wins"])
    assert math.isnan(row["median"])


@pytest.mark.parametrize("size", [3, 20, 21])
def test_an_interval_of_equal_gaps_is_that_gap(size, rng):
    assert interval(np.full(size, 0.2), rng) == (0.2, 0.2)


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


@pytest.mark.parametrize(("size", "count", "least"), [(5, 400, 370), (40, 100, 86)])
def test_an_interval_covers_the_mean_about_as_often_as_it_says(size, count, least):
    draws = np.random.default_rng(1)  # a bootstrap of 5 gaps covers the mean 4 times in 5
    trials = [interval(draws.normal(0.3, 1, size), draws) for _ in range(count)]
    assert least <= sum(low <= 0.3 <= high for low, high in trials) <= count


def test_equal_gaps_have_equal_intervals(ends, rng):
    frame = ends((0.5, 0.75), (0.5, 0.6), (0.5, 0.25), (0.1, 0.35)).frame
    summary = summarize(frame, ["test_accuracy", "validation_accuracy"], rng)
    assert summary["low"].nunique() == 1


def test_few_values_are_their_own_bins():
    binned = bins(pd.Series([0.9, None, 0.0, 0.9], dtype="float64"))
    assert binned.tolist() == ["0.9", "not set", "0", "0.9"]
    assert binned.cat.categories.tolist() == ["0", "0.9", "not set"]
    assert bins(pd.Series([10, 2, 10], dtype="Int64")).cat.categories.tolist() == ["2", "10"]
    assert bins(pd.Series([True, False, None], dtype="boolean")).tolist() == ["yes", "no", "not set"]
    assert bins(pd.Series(["b", "a"], dtype="string")).cat.categories.tolist() == ["a", "b"]


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


def rates(*values):
    return [{"optimizer.lr": value} for value in values]


def test_tuned_arms_come_from_the_same_trials_and_are_reported_on_test(ends):
    # Validation accuracy chooses trial 1 for the baseline and trial 0 for the treatment.
    frame = ends((0.5, 0.9), (0.8, 0.6), configs=rates(0.1, 0.2)).frame
    (cell,) = tuned(frame.assign(**{"baseline/test_accuracy": [0.99, 0.7]}))
    assert (cell.baseline_trial, cell.treatment_trial, cell.trials) == (1, 0, 2)
    assert cell.chosen_by == "validation_accuracy"
    assert (cell.baseline_test, cell.treatment_test) == (0.7, 0.9)
    assert cell.gap == pytest.approx(0.2)


def test_seeds_are_averaged_and_a_lucky_one_is_not_chosen(ends):
    # Over two seeds each, a rate of 0.2 is best on average for both arms (0.75, 0.8); the best single trial of either
    # arm (0.95, 0.99) is one of 0.1, whose other seed failed to learn (averages 0.55, 0.6).
    accuracies = [(0.95, 0.21), (0.7, 0.75), (0.15, 0.99), (0.8, 0.85), (0.3, 0.3)]
    frame = ends(*accuracies, configs=rates(0.1, 0.2, 0.1, 0.2, 0.3)).frame
    (cell,) = tuned(frame)
    assert cell.trials == 3
    assert (cell.baseline_trial, cell.treatment_trial) == (1, 1)
    assert (cell.baseline_test, cell.treatment_test) == pytest.approx((0.75, 0.8))
    assert cell.gap == pytest.approx(0.05)
    # In any order of the trials, and with what is reported averaged apart from what chooses.
    shuffled = frame.iloc[[4, 3, 2, 1, 0]].assign(**{"treatment/test_accuracy": [0.0, 0.1, 0.0, 0.2, 0.0]})
    (cell,) = tuned(shuffled)
    assert (cell.baseline_trial, cell.treatment_trial) == (3, 3)
    assert (cell.baseline_test, cell.treatment_test) == pytest.approx((0.75, 0.15))


def test_seeds_alone_are_nothing_to_tune(ends, rng):
    pairs = ends((0.5, 0.9), (0.8, 0.6), (0.7, 0.7))
    assert pairs.frame["seed"].nunique() == 3
    assert tuned(pairs.frame) == []
    assert "No cell has two configurations, so the arms cannot be compared" in verdict(pairs, rng)


def test_a_setting_that_is_missing_is_a_configuration_too(ends):
    (cell,) = tuned(ends((0.5, 0.9), (0.8, 0.6), configs=[{"optimizer.momentum": 0.9}]).frame)
    assert cell.trials == 2
    assert (cell.baseline_trial, cell.treatment_trial) == (1, 0)


@pytest.mark.parametrize(
    ("small", "large"),
    [({"batch_size": 32}, {"batch_size": 64}), ({"dataset.label_noise": 0.0}, {"dataset.label_noise": 0.4})],
)
def test_tuned_arms_share_their_cell(ends, small, large):
    slow, fast = rates(0.1, 0.2)
    configs = [small | slow, small | fast, large | slow, large | fast]
    cells = tuned(ends((0.5, 0.6), (0.7, 0.5), (0.9, 0.8), (0.8, 0.9), configs=configs).frame)
    assert [(cell.cell, cell.gap) for cell in cells] == [
        (small, pytest.approx(-0.1)),
        (large, pytest.approx(0.0)),
    ]
    assert tuned(ends((0.5, 0.6), (0.9, 0.8), configs=[small, large]).frame) == []
    assert tuned(ends((0.5, 0.6), (0.9, 0.8), configs=[small | slow, large | fast]).frame) == []


def test_without_validation_training_accuracy_chooses(ends):
    none = {"validation_accuracy": None}
    changes, configs = {(arm, 1): none for arm in ("archetype", "filtered")}, rates(0.1, 0.2)
    frame = ends((0.5, 0.6), (0.7, 0.5), changes=changes, configs=configs).frame
    assert tuned(frame)[0].chosen_by == "train_accuracy"
    partly = ends((0.5, 0.6), (0.7, 0.5), changes={("filtered", 1): none}, configs=configs)
    assert "as nothing is held out" in verdict(partly, _rng())


def test_a_key_that_follows_another_is_no_setting(ends):
    adam, sgd = {"optimizer.name": "Adam", "optimizer.amsgrad": False}, {"optimizer.name": "SGD"}
    subset = sgd | {"dataset.samples_per_class": 10}
    frame = ends((0.5, 0.6), (0.5, 0.6), (0.5, 0.6), configs=[adam, sgd, subset]).frame
    assert settings(frame) == ["optimizer.name", "seed", "dataset.samples_per_class"]
    assert hyperparameters(frame) == ["optimizer.name", "dataset.samples_per_class"]


def test_the_most_telling_key_separates_the_gaps(ends):
    configs = [{"optimizer.momentum": m, "batch_size": b} for m, b in [(0.0, 32), (0.0, 64), (0.9, 32), (0.9, 64)]]
    frame = ends((0.5, 0.9), (0.5, 0.8), (0.5, 0.6), (0.5, 0.5), configs=configs).frame
    assert telling(frame, "test_accuracy") == "optimizer.momentum"
    assert telling(ends((0.5, 0.9), (0.5, 0.8)).frame, "test_accuracy") is None


def _rng():
    return np.random.default_rng(0)


def test_a_verdict_counts_and_names_its_clock(ends, rng):
    accuracies = [(0.5, 0.75), (0.5, 0.5), (0.5, 0.25), (0.1, 0.35)]
    lines = verdict(ends(*accuracies, configs=rates(0.1, 0.2, 0.3, 0.4)), rng).splitlines()
    assert lines[0].startswith(
        "Measured by test accuracy at equal epochs (the last, 1), filtered beats archetype in 2 of 4 comparisons "
        "and ties in 1 (62%, a tie counting half). The median gap is +12.50 pp, the mean +6.25 pp with a 95% interval"
    )
    assert lines[1] == "The interval includes 0: these comparisons do not tell which arm is better on average."
    assert lines[2].startswith("1 of the wins is over a baseline that did not learn")
    assert "Tuned against tuned (each arm at its own best of 4 configurations, chosen on validation)" in lines[3]
    assert "filtered reaches 75.0% on test and archetype 50.0%, a gap of +25.00 pp" in lines[3]


@pytest.mark.parametrize(
    ("accuracies", "sentence"),
    [
        ([(0.5, 0.9)], "1 comparison: too few to tell which arm is better."),
        ([(0.5, 0.9)] * 2, "2 comparisons: too few to tell which arm is better."),
        ([(0.5, 0.9)] * 3, "3 comparisons are few; confirm it on fresh seeds."),
        ([(0.5, 0.9)] * 6, "On average over these comparisons, filtered is better than archetype."),
        ([(0.9, 0.5)] * 6, "On average over these comparisons, archetype is better than filtered."),
        ([(0.5, 0.5)] * 6, "The interval includes 0"),
    ],
)
def test_a_verdict_says_no_more_than_it_knows(ends, rng, accuracies, sentence):
    said = verdict(ends(*accuracies), rng)
    assert sentence in said
    assert ("is better than" in said) == sentence.startswith("On average")


def test_a_verdict_says_what_it_leaves_out(mixed, rng):
    lines = verdict(pair(mixed), rng).splitlines()
    assert "6 trials could not be counted: 1 stopped early by the scheduler" in lines[-2]
    assert lines[-1].startswith("The scheduler chose which trials finish, so those counted need not stand for all")
    assert "at epoch 1, filtered beats archetype in 1 of 4" in verdict(pair(mixed, at=1), rng)


@pytest.mark.parametrize("clock", [clock for clock in CLOCKS if clock != "epochs"])
def test_a_verdict_at_another_clock_than_epochs_says_whom_it_favours(mixed, rng, clock):
    lines = verdict(pair(mixed, clock=clock), rng).splitlines()
    assert f"at equal {clock} (interpolated between epochs)" in lines[0]
    assert lines[2] == (
        f"At equal {clock} an arm that has spent more is read before its end, between two epochs and before its "
        "schedule has run out, which favours the other; read this beside the gap at equal epochs."
    )


@pytest.mark.parametrize("at", ["final", "best", 1])
def test_a_verdict_at_equal_epochs_has_no_caveat_of_its_clock(mixed, rng, at):
    assert "which favours the other" not in verdict(pair(mixed, at=at), rng)


def test_a_verdict_does_not_count_a_repeated_comparison(ends, rng):
    said = verdict(ends((0.5, 0.9), (0.5, 0.9), configs=[{"seed": 7}, {"seed": 7}]), rng)
    assert "filtered beats archetype in 1 of 1 comparison " in said
    assert said.splitlines()[-1] == "1 trial could not be counted: 1 repeated another comparison, seed and all."


def test_no_comparison_no_verdict(study, rng, trial):
    assert verdict(pair(study()), rng) == "No comparison can be judged by test accuracy, so there is no verdict."
    said = verdict(pair(study(trial(0, {}, status="failed"))), rng)
    assert said.splitlines()[1] == "1 trial could not be counted: 1 failed."
