import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.behaviour import QUANTITIES, by_step, over_time

COLUMNS = ["arm", "epoch", "quantity", "comparisons", "low", "median", "high"]
BEFORE = {"samples_probed": 0, "samples_kept": 0, "samples_overflowed": 0, "steps": 0}


def spent(kept, overflowed, steps, batches=10):
    """What a filter's epoch of 10 raw batches of 10 leaves behind."""
    columns = {"samples_probed": 100, "samples_kept": kept, "samples_overflowed": overflowed, "steps": steps}
    return columns | {"acceptance": kept / 100, "raw_batches_per_step": batches / steps if steps else None}


def behaving(trial, *runs, arm="filtered", **options):
    """Trials whose ``arm`` spends the epochs of each run; the archetype probes nothing."""
    plain = {"samples_probed": 0, "samples_kept": 100, "samples_overflowed": 0, "steps": 10}
    return [
        trial(
            number,
            {"archetype": [0.1] * (len(run) + 1), arm: [0.1] * (len(run) + 1)},
            changes={(arm, 0): BEFORE, ("archetype", 0): BEFORE}
            | {(arm, epoch): one for epoch, one in enumerate(run, 1)}
            | {("archetype", epoch): plain for epoch in range(1, len(run) + 1)},
            **options,
        )
        for number, run in enumerate(runs)
    ]


def of(table, quantity):
    rows = table[table["quantity"] == quantity]
    return rows[["epoch", "comparisons", "low", "median", "high"]].to_numpy("float64").tolist()


@pytest.fixture(scope="module")
def three(study, trial):
    """Three comparisons of two epochs; the third makes no update in its second."""
    return study(
        *behaving(
            trial,
            [spent(80, 8, 5), spent(40, 4, 2)],
            [spent(60, 0, 4), spent(20, 0, 1)],
            [spent(50, 10, 2), spent(0, 0, 0)],
        )
    )


def test_median_and_quartiles_over_comparisons(three):
    table = over_time(three)
    assert table.columns.tolist() == COLUMNS
    assert set(table["arm"]) == {"filtered"}
    # Shares kept of 0.5, 0.6 and 0.8, then of 0, 0.2 and 0.4; quartiles lie half-way between neighbours.
    acceptance = [[1, 3, 0.55, 0.6, 0.7], [2, 3, 0.1, 0.2, 0.3]]
    np.testing.assert_allclose(of(table, "acceptance"), acceptance)
    # Overflow of 0, 0.1 and 0.2; nothing is kept in the third one's second epoch.
    np.testing.assert_allclose(of(table, "overflow"), [[1, 3, 0.05, 0.1, 0.15], [2, 2, 0.025, 0.05, 0.075]])
    # 10 raw batches for 5, 4 and 2 updates; then for 2, 1 and none.
    np.testing.assert_allclose(of(table, "raw_batches_per_step"), [[1, 3, 2.25, 2.5, 3.75], [2, 2, 6.25, 7.5, 8.75]])


def test_epochs_without_an_update_are_counted(three):
    rows = of(over_time(three), "epochs_without_update")
    expected = [[1, 3, math.nan, 0, math.nan], [2, 3, math.nan, 1 / 3, math.nan]]
    np.testing.assert_allclose(rows, expected)


def test_quantities_stand_in_order(three):
    table = over_time(three)
    assert table["quantity"].drop_duplicates().tolist() == [*QUANTITIES, "epochs_without_update"]
    assert table["epoch"].tolist() == [1, 2] * 4


def test_arms_that_probe_nothing_in_their_comparison_are_left_out(study, trial):
    """The same name may filter in one comparison and select at random in another."""
    probing = behaving(trial, [spent(80, 8, 5)])[0]
    blind = behaving(trial, [], [spent(80, 8, 5) | {"samples_probed": 0}])[1]
    assert over_time(study(probing, blind))["comparisons"].tolist() == [1] * 4
    assert over_time(study(blind)).empty


def test_arms_have_curves_of_their_own(study, trial):
    runs = [spent(80, 8, 5)]
    soft = behaving(trial, [], runs, arm="soft")[1]
    table = over_time(study(behaving(trial, runs)[0], soft))
    assert table["arm"].tolist() == ["filtered"] * 4 + ["soft"] * 4


def test_stopped_trials_count_up_to_their_end(study, trial):
    one, two = behaving(trial, [spent(80, 8, 5)] * 2, [spent(40, 4, 2)])
    two["row"]["status"] = "stopped"
    assert [row[1] for row in of(over_time(study(one, two)), "acceptance")] == [2, 1]


def test_without_rows_there_is_no_behaviour(study, trial, mixed):
    for nothing in (study(), study(trial(0, {}, status="failed")), mixed):
        table = over_time(nothing)
        assert table.columns.tolist() == COLUMNS
        assert table.empty


def test_columns_that_nobody_filled_in_are_no_obstacle(three):
    bare = three.epochs.assign(steps=pd.NA, acceptance=np.nan, samples_kept=pd.NA).astype({"steps": "Int64"})
    table = over_time(replace(three, epochs=bare))
    assert set(table["quantity"]) == {"raw_batches_per_step"}


def traced(study, *updates):
    """The study with these updates of its filtered arm: trial, epoch, step, raw batches, probed, kept, overflowed."""
    names = ("trial_id", "epoch", "step", "raw_batches", "samples_probed", "samples_kept", "samples_overflowed")
    steps = pd.DataFrame(updates, columns=names).assign(arm="filtered", samples_trained=10)
    return replace(study, steps=steps)


def test_updates_by_progress(three):
    """In halves of two epochs: the first trial makes two updates and one, the second one and none."""
    study = traced(
        three,
        ("trial0", 1, 1, 1, 10, 8, 0),
        ("trial0", 1, 2, 3, 30, 8, 4),
        ("trial0", 2, 1, 6, 60, 12, 0),
        ("trial1", 1, 1, 4, 40, 20, 2),
    )
    table = by_step(study, parts=2)
    assert table.columns.tolist() == ["arm", "progress", *COLUMNS[2:]]
    rows = table.set_index(["quantity", "progress"])[["comparisons", "low", "median", "high"]]
    # Raw batches of an update: (1 + 3) / 2 and 4; then 6 alone.
    assert rows.loc[("raw_batches_per_step", 0.25)].tolist() == [2, 2.5, 3, 3.5]
    assert rows.loc[("raw_batches_per_step", 0.75)].tolist() == [1, 6, 6, 6]
    assert rows.loc[("acceptance", 0.25)].tolist() == pytest.approx([2, 0.425, 0.45, 0.475])
    assert rows.loc[("overflow", 0.25)].tolist() == pytest.approx([2, 0.1375, 0.175, 0.2125])
    assert len(rows) == 6


def test_progress_is_of_the_epochs_due(three):
    """Two epochs of ten: the last update of the second lies before a fifth."""
    study = replace(three, trials=three.trials.assign(epochs=10))
    table = by_step(traced(study, ("trial0", 1, 1, 1, 10, 8, 0), ("trial0", 2, 1, 1, 10, 8, 0)), parts=10)
    assert sorted(set(table["progress"])) == pytest.approx([0.05, 0.15])
    gone = replace(study, trials=three.trials.drop(columns="epochs"))
    table = by_step(traced(gone, ("trial0", 2, 1, 1, 10, 8, 0)), parts=10)
    assert sorted(set(table["progress"])) == pytest.approx([0.75])


def test_updates_of_arms_that_probe_nothing_are_left_out(three):
    assert by_step(traced(three, ("trial0", 1, 1, 0, 0, 100, 0))).empty


def test_a_study_that_traced_nothing_has_no_updates(three, study):
    for nothing in (three, study()):
        table = by_step(nothing)
        assert table.columns.tolist() == ["arm", "progress", *COLUMNS[2:]]
        assert table.empty


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 100), min_size=1, max_size=9), st.randoms(use_true_random=False))
def test_quartiles_are_numpy_s_in_any_order(three, kept, order):
    rows = three.epochs[(three.epochs["trial_id"] == "trial0") & (three.epochs["epoch"] < 2)]
    order.shuffle(kept)
    epochs = pd.concat(
        [rows.assign(trial_id=f"t{n}", acceptance=value / 100) for n, value in enumerate(kept)], ignore_index=True
    )
    (found,) = of(over_time(replace(three, epochs=epochs)), "acceptance")
    np.testing.assert_allclose(found, [1, len(kept), *np.quantile(np.array(kept) / 100, [0.25, 0.5, 0.75])])
