import math
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.pairs import pair
from analysis.tradeoffs import front, tradeoffs

COLUMNS = ["number", "label", "accuracy", "worst_loss", "compute", "comparisons", "unlearned", "lost", "front"]


def made(*comparisons, **keys):
    """Pairs with these (accuracy gap, worst-loss gap, treatment compute, baseline compute)."""
    accuracy, worst, ours, theirs = np.array(comparisons, dtype="float64").reshape(-1, 4).T
    n = len(accuracy)
    measured = {"gap/test_accuracy": accuracy, "gap/test_worst_loss": worst}
    measured |= {"treatment/cumulative_compute": ours, "baseline/cumulative_compute": theirs}
    return pd.DataFrame(
        {"trial_id": [f"t{place}" for place in range(n)], "number": range(n), "baseline_learned": True}
        | keys
        | measured
    )


def test_only_what_no_other_beats_is_on_the_front():
    frame = made(
        (0.02, 1, 10, 10),  # the best accuracy
        (-0.01, 5, 10, 10),  # the best worst loss
        (-0.01, 4, 10, 10),  # beaten by the one before
        (-0.02, 0, 4, 10),  # the cheapest
        (-0.02, 0, 6, 10),  # beaten by the one before
        **{"optimizer.lr": [0.1, 0.2, 0.3, 0.4, 0.5]},
    )
    table = tradeoffs(frame)
    assert table.columns.tolist() == COLUMNS
    assert table["front"].tolist() == [True, True, False, True, False]
    assert table["compute"].tolist() == pytest.approx([1, 1, 1, 0.4, 0.6])
    assert table["number"].tolist() == [0, 1, 2, 3, 4]
    assert table["label"].tolist() == [f"optimizer.lr 0.{n}" for n in range(1, 6)]


def test_equals_are_on_the_front_together():
    frame = made((0.1, 1, 1, 2), (0.1, 1, 1, 2), (0.1, 1, 1.5, 2), **{"optimizer.lr": [0.1, 0.2, 0.3]})
    assert tradeoffs(frame)["front"].tolist() == [True, True, False]


def test_seeds_are_averaged_and_ratios_geometrically():
    frame = made(
        (0.1, 1, 1, 2),
        (0.5, 0, 1, 1),
        (0.3, 3, 4, 2),
        (math.nan, 3, 4, 2),
        **{"optimizer.lr": [0.1, 0.2, 0.1, 0.1], "seed": [0, 0, 1, 2]},
    )
    first, second = tradeoffs(frame).to_dict("records")
    assert (first["number"], first["label"], first["comparisons"]) == (0, "optimizer.lr 0.1", 2)
    assert (first["accuracy"], first["worst_loss"]) == (pytest.approx(0.2), 2)
    assert first["compute"] == pytest.approx(1)  # a half and double
    assert (second["number"], second["comparisons"]) == (1, 1)


def test_what_was_not_measured_is_not_on_the_front():
    frame = made(
        (math.nan, 1, 1, 2), (0.1, math.inf, 1, 2), (0.1, 1, 0, 2), (-0.5, -1, 9, 2), **{"optimizer.lr": [1, 2, 3, 4]}
    )
    table = tradeoffs(frame)
    assert table["front"].tolist() == [False, False, False, True]
    assert table["comparisons"].tolist() == [0, 0, 0, 1]
    assert table.loc[:2, ["accuracy", "worst_loss", "compute"]].isna().all(axis=None)


def test_without_any_compute_the_other_two_make_the_front():
    rates = {"optimizer.lr": [1, 2, 3]}
    table = tradeoffs(made((0.1, 1, math.nan, math.nan), (0.1, 0, 0, 0), (0.2, 0, math.nan, 2), **rates))
    assert table["front"].tolist() == [True, False, True]
    assert table["compute"].isna().all()


def test_labels_name_what_varies_and_is_set():
    frame = made(
        *[(0.1, 1, 1, 2)] * 3,
        **{
            "model.name": pd.array(["LeNet", "LeNet", "DLA"], dtype="string"),
            "optimizer.momentum": [0.9, math.nan, 0.5],
            "nesterov": pd.array([True, False, None], dtype="boolean"),
            "batch_size": pd.array([64, 64, 64], dtype="Int64"),
            "seed": [0, 1, 2],
        },
    )
    assert tradeoffs(frame)["label"].tolist() == [
        "model.name LeNet, optimizer.momentum 0.9, nesterov yes",
        "model.name LeNet, nesterov no",
        "model.name DLA, optimizer.momentum 0.5",
    ]


def test_one_configuration_is_its_own_front():
    (only,) = tradeoffs(made((0.1, 1, 1, 2), (0.3, 1, 1, 2), seed=[0, 1])).to_dict("records")
    assert (only["label"], only["comparisons"], only["front"]) == ("all alike", 2, True)


def test_pairs_of_a_study(mixed, study):
    table = tradeoffs(pair(mixed).frame)
    # Rates 0.1 and 0.2, the second with the gaps -0.05 and 0; per epoch the filtered arm trains half the samples.
    assert table["accuracy"].tolist() == pytest.approx([0.1, -0.025])
    assert table["worst_loss"].tolist() == pytest.approx([0.1, -0.025])
    assert table["compute"].tolist() == pytest.approx([0.5, 0.5])
    assert table["front"].tolist() == [True, False]
    assert table["unlearned"].tolist() == [0, 1]
    empty = tradeoffs(pair(study()).frame)
    assert empty.columns.tolist() == COLUMNS
    assert empty.empty


def test_a_configuration_that_loses_a_comparison_is_not_on_the_front():
    lost = (-math.inf, -math.inf, math.nan, math.nan)
    frame = made((0.3, 3, 1, 2), lost, (0.1, 1, 1, 2), (0.2, 2, 1, 2), **{"optimizer.lr": [0.1, 0.1, 0.2, 0.3]})
    table = tradeoffs(frame)
    assert table["lost"].tolist() == [1, 0, 0]
    assert table["front"].tolist() == [False, False, True]
    assert table["accuracy"].tolist() == pytest.approx([0.3, 0.1, 0.2])  # of the comparisons that have a gap


def dominated(points):
    """By the definition, pair by pair."""
    return [
        any(all(q >= p for q, p in zip(other, point, strict=True)) and other != point for other in points)
        for point in points
    ]


@given(st.lists(st.tuples(*[st.sampled_from([-1.0, -0.0, 0.0, 0.5, 2.0])] * 3), max_size=25))
def test_the_sweep_is_the_definition(points):
    assert front(np.array(points).reshape(-1, 3)).tolist() == [not one for one in dominated(points)]


@given(st.lists(st.tuples(*[st.floats(-1e3, 1e3)] * 3), max_size=25))
def test_the_sweep_is_the_definition_without_ties_too(points):
    assert front(np.array(points).reshape(-1, 3)).tolist() == [not one for one in dominated(points)]


@pytest.mark.parametrize("shape", ["random", "all on the front", "all in a row"])
def test_10000_points_take_no_time(shape):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(10_000, 3))
    if shape == "all on the front":
        points[:, 2] = -points[:, 0] - points[:, 1]
    if shape == "all in a row":
        points[:, 1] = points[:, 2] = points[:, 0]
    start = time.perf_counter()
    found = front(points).sum()
    assert time.perf_counter() - start < 2
    assert {"all on the front": found == 10_000, "all in a row": found == 1}.get(shape, 1 < found < 1000)
