import math
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from analysis.database import TableError
from analysis.gaps import label
from analysis.rules import DTYPES, LEAF, rules, threshold
from analysis.statistics import ENOUGH


def frame_of(gaps, seeds=1, **keys):
    """A frame of pairs of these configurations, each with ``seeds`` comparisons of one gap; __ stands for a dot.

    A further key, which does nothing, makes each configuration differ from all others.
    """
    table = pd.DataFrame({name.replace("__", "."): values for name, values in keys.items()}).assign(gap=gaps)
    table["idle"] = np.random.default_rng(9).permutation(len(table))
    table = table.loc[np.repeat(np.arange(len(table)), seeds)].reset_index(drop=True)
    names = {"trial_id": [f"trial{n:05}" for n in range(len(table))], "number": np.arange(len(table))}
    gap = {"baseline_learned": True, "gap/test_accuracy": table.pop("gap").to_numpy("float64")}
    return table.assign(**names, seed=np.arange(len(table)) % seeds, **gap)


def obeys(frame, rule):
    """Which rows of ``frame`` the conditions of ``rule`` hold for, by their words."""
    holds = pd.Series(True, index=frame.index)
    for said in [] if rule == "all" else rule.split(" and "):
        text, loose = re.subn(r" \(or not set\)$", "", said)
        if parts := re.fullmatch(r"(?:(\S+) ≤ )?(\S+) (?:(<|≥) (\S+))", text):
            low, key, sign, end = parts.groups()
            values = frame[key].astype("float64")
            met = (values < float(end)) if sign == "<" else (values >= float(end))
            met &= True if low is None else values >= float(low)
        elif parts := re.fullmatch(r"(\S+) is (neither |not (?!set$))?(.*)", text):
            key, denied, listed = parts.groups()
            named = frame[key].map(label)
            met = named != "not set" if listed == "set" else named.isin(re.split(r", | or | nor ", listed))
            met = ~met if denied else met
        holds &= (met | frame[key].isna()) if loose else met
    return holds


def test_the_planted_rule_is_found_with_its_gap():
    # 12 of 96 comparisons have at least 100 classes and no schedule; there the gap is +5 pp, everywhere else −1 pp.
    classes, schedule = np.tile([10, 10, 10, 20, 20, 20, 100, 200], 12), np.repeat(["none", "cosine"], 48)
    gaps = np.where((classes >= 100) & (schedule == "none"), 0.05, -0.01)
    found = rules(frame_of(gaps, dataset__classes=classes, schedule__name=schedule), "test_accuracy", 0)
    first = found.rows.iloc[0]
    assert first["rule"] == "dataset.classes ≥ 100 and schedule.name is none"
    assert first["says"] == "dataset.classes ≥ 100 and schedule.name is none → +5.00 pp (12 comparisons)"
    assert (first["comparisons"], first["configurations"]) == (12, 12)
    assert first[["median", "median_low", "median_high"]].tolist() == pytest.approx([0.05] * 3)
    assert set(found.rows["rule"][1:]) == {
        "dataset.classes < 100",
        "dataset.classes ≥ 100 and schedule.name is cosine",
    }
    assert found.rows["median"].tolist()[1:] == pytest.approx([-0.01, -0.01])
    assert found.explained > 0.9


def test_conditions_on_one_key_are_merged():
    # A bump: good between 0.02 and 0.1 alone.
    rates = np.array([0.001, 0.002, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5])
    values = np.repeat(rates, 8)
    found = rules(frame_of((values >= 0.02) & (values < 0.1), optimizer__lr=values), "test_accuracy", 0)
    assert found.rows["rule"].tolist()[0] == "0.02 ≤ optimizer.lr < 0.1"
    assert set(found.rows["rule"][1:]) == {"optimizer.lr < 0.02", "optimizer.lr ≥ 0.1"}


@pytest.mark.parametrize(
    ("values", "good", "expected"),
    [
        (["Adam", "SGD"], ["Adam"], {"k is Adam", "k is SGD"}),
        (["Adam", "Lion", "SGD"], ["Adam"], {"k is Adam", "k is not Adam"}),
        (["Adam", "SGD", None], [None], {"k is not set", "k is set"}),
        ([True, False], [True], {"k is yes", "k is no"}),
        ([16, 64], [64], {"k is 64", "k is 16"}),
        ([16, 64, 128], [64, 128], {"k ≥ 64", "k is 16"}),
        ([0.5, 0.9, np.nan], [np.nan], {"k is not set", "k is set"}),
        ([0.5, 0.9, np.nan], [0.5, np.nan], {"k is 0.5 (or not set)", "k is 0.9"}),
        ([0.0, 0.5, 0.9, np.nan], [0.5, 0.9, np.nan], {"k ≥ 0.5 (or not set)", "k is 0"}),
    ],
)
def test_how_conditions_read(values, good, expected):
    values = values * 10
    gaps = [any(value is one or value == one or (value != value and one != one) for one in good) for value in values]
    found = rules(frame_of(gaps, k=values), "test_accuracy", 0)
    assert set(found.rows["rule"]) == expected
    assert found.explained > 0.9


def test_several_categories_are_listed():
    values = ["a", "b", "c", "d", "e"] * 20
    gaps = [{"a": 1.0, "b": 3.0}.get(value, 0.0) for value in values]
    found = rules(frame_of(gaps, k=values), "test_accuracy", 0)
    assert found.rows["rule"].tolist() == ["k is b", "k is a", "k is neither a nor b"]


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(10, 80), st.integers(1, 3))
def test_each_comparison_obeys_one_rule_and_rules_mean_what_they_say(seed, n, seeds):
    rng = np.random.default_rng(seed)
    keys = {
        "lr": 10 ** rng.uniform(-4, 0, n),
        "momentum": rng.choice([0, 0.5, 0.9, np.nan], n),
        "wide": np.where(rng.random(n) < 0.3, np.nan, rng.normal(0, 1000, n)),
        "classes": pd.array(rng.choice([10, 20, 100], n), dtype="Int64"),
        "name": pd.array(rng.choice(["a", "b", "c", "d", None], n), dtype="string"),
        "flag": pd.array(rng.choice([True, False, None], n), dtype="boolean"),
    }
    effects = {
        "lr": keys["lr"] > 0.01,
        "momentum": np.isnan(keys["momentum"]),
        "wide": keys["wide"] > 0,
        "classes": np.asarray(keys["classes"]) == 20,
        "name": pd.Series(keys["name"]).isin(["a", "c"]).to_numpy(),
    }
    gaps = rng.normal(0, 0.1, n) + sum(rng.choice([0, 1, 2]) * effect for effect in effects.values())
    frame = frame_of(gaps, seeds, **keys)
    found = rules(frame, "test_accuracy", seed).rows
    told = [obeys(frame, rule) for rule in found["rule"]]
    assert (sum(map(np.asarray, told)) == 1).all()
    for row, holds in zip(found.to_dict("records"), told, strict=True):
        assert row["comparisons"] == holds.sum() == seeds * row["configurations"]
        averages = frame.loc[holds, "gap/test_accuracy"].to_numpy().reshape(-1, seeds).mean(axis=1)
        assert row["median"] == pytest.approx(np.median(averages))
        assert row["configurations"] >= LEAF
        assert row["configurations"] < ENOUGH or row["median_low"] <= row["median"] <= row["median_high"]
        assert row["says"].startswith(f"{row['rule']} → ")
    assert found["median"].is_monotonic_decreasing


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_a_threshold_separates(one, other):
    below, above = sorted((one, other))
    assume(below < above and label(above) != label(below) and abs(above) < 1e300 and abs(below) < 1e300)
    assert below < float(threshold(below, above)) <= above


@pytest.mark.parametrize(
    ("below", "above", "expected"),
    [
        (10, 100, "100"),
        (16, 64, "64"),
        (0.0312345, 0.0587654, "0.04"),
        (0.0123456, 0.0123999, "0.01237"),
        (-1.2345, 2.3456, "0.6"),
        (10.111, 99.999, "30"),
        (0, 0.12345, "0.06"),
        (99.9951, 104.3321, "100"),
        (1e-7, 1.23456e-5, "1e-06"),
    ],
)
def test_thresholds_are_readable(below, above, expected):
    assert threshold(below, above) == expected


def test_noise_is_no_rule():
    single, explained = 0, []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        keys = {"lr": rng.random(40), "name": rng.choice(["a", "b", "c"], 40), "momentum": rng.choice([0, 0.9], 40)}
        found = rules(frame_of(rng.normal(size=40), **keys), "test_accuracy", seed)
        single += found.rows["rule"].tolist() == ["all"]
        explained.append(found.explained)
    assert single >= 16  # 19 are to be expected; fewer than 16 have a chance below 1 in 100
    assert np.median(explained) <= 0
    assert np.mean(explained) <= 0


def test_what_is_explained_is_out_of_sample():
    # The key explains half of the variance: gaps are ±1 by the key, plus noise of deviation 1.
    rng = np.random.default_rng(0)
    on = np.arange(2000) % 2
    found = rules(frame_of(2 * on - 1 + rng.normal(size=2000), on=on, lr=rng.random(2000)), "test_accuracy", 0)
    assert found.explained == pytest.approx(0.5, abs=0.03)
    assert found.rows["rule"].tolist() == ["on is 1", "on is 0"]
    assert found.rows["configurations"].tolist() == [1000, 1000]


def test_seeds_count_as_comparisons_and_not_as_configurations():
    # The median is of configurations: 0.2 of four seeds weighs as much as 0.0 of one.
    frame = frame_of([0.2, 0.0], seeds=4, batch_size=[16, 32]).iloc[:5]
    row = rules(frame, "test_accuracy", 0).rows.iloc[0]
    assert row["says"] == "all → +10.00 pp (5 comparisons)"
    assert row["configurations"] == 2
    assert row["median"] == pytest.approx(0.1)
    assert math.isnan(row["median_low"])


def test_of_one_configuration_the_seeds_tell():
    frame = frame_of([0.0], seeds=6, batch_size=[16]).assign(**{"gap/test_accuracy": [0.1, 0.2, 0.3] * 2})
    row = rules(frame, "test_accuracy", 0).rows.iloc[0]
    assert (row["rule"], row["comparisons"], row["configurations"]) == ("all", 6, 1)
    assert row[["median", "median_low", "median_high"]].tolist() == pytest.approx([0.2, 0.1, 0.3])


@pytest.mark.parametrize("n", [1, 2, 2 * LEAF - 1])
def test_few_configurations_have_one_rule(n):
    found = rules(frame_of(np.arange(n) / 100, batch_size=np.arange(n)), "test_accuracy", 0)
    assert found.rows["rule"].tolist() == ["all"]
    assert found.rows["comparisons"].tolist() == [n]
    assert math.isnan(found.explained)


@pytest.mark.parametrize("gaps", [[], [np.nan]])
def test_without_a_gap_there_is_no_rule(gaps):
    found = rules(frame_of(gaps, batch_size=np.arange(len(gaps))), "test_accuracy", 0)
    assert found.rows.empty
    assert found.rows.dtypes.astype(str).to_dict() == DTYPES
    assert math.isnan(found.explained)


def test_equal_gaps_have_one_rule():
    found = rules(frame_of(np.full(30, 0.1), batch_size=np.arange(30)), "test_accuracy", 0)
    assert found.rows["says"].tolist() == ["all → +10.00 pp (30 comparisons)"]
    assert math.isnan(found.explained)


def test_numbers_too_large_to_tell_apart_or_infinite_are_no_trouble():
    keys = {"big": pd.array([2**62, 2**62 + 1] * 10, dtype="Int64"), "clip": [1.0, np.inf] * 10}
    found = rules(frame_of([0.0, 1.0] * 10, **keys), "test_accuracy", 0)
    assert found.rows["rule"].tolist() == ["clip is inf", "clip is 1"]


def test_the_order_of_rows_changes_nothing():
    rng = np.random.default_rng(0)
    rates = 10 ** rng.uniform(-4, 0, 60)
    frame = frame_of((rates > 0.01) + rng.normal(0, 0.3, 60), lr=rates, name=rng.choice(["a", "b"], 60))
    found, again = (rules(rows, "test_accuracy", 0) for rows in (frame, frame.sample(frac=1, random_state=1)))
    pd.testing.assert_frame_equal(found.rows, again.rows, check_exact=True)
    assert found.explained == again.explained


def test_a_metric_without_a_gap_is_refused():
    with pytest.raises(TableError, match=r"steps.*has no gap"):
        rules(frame_of([0.1], batch_size=[16]), "steps", 0)


def test_text_is_not_escaped_here():
    names = ["<b>", "a & b"] * 10
    found = rules(frame_of([0.0, 1.0] * 10, name=names), "test_accuracy", 0)
    assert found.rows["rule"].tolist() == ["name is a & b", "name is <b>"]
