import math

import pytest

from analysis.gaps import summarize
from analysis.outcomes import counted_by_arm, decided, finite_gaps, reached
from analysis.pairs import pair
from analysis.statistics import evidence
from analysis.tables import gap_table
from analysis.verdict import verdict
from trainables.records import BUILT_IN, METRICS, out_of_memory

ARMS = ("archetype", "filtered")
SIDES = {"archetype": "baseline", "filtered": "treatment"}


@pytest.fixture
def broken(trial):
    """A comparison in which these arms diverge in its second epoch of ten, when the others have reached 0.5."""

    def make(number, *arms, **settings):
        curves = {arm: [0.1, 0.1 if arm in arms else 0.5] for arm in ARMS}
        changes = {(arm, 1): {"train_mean_loss": None} for arm in arms}
        return trial(number, curves, status="diverged", changes=changes, **settings)

    return make


@pytest.mark.parametrize("arm", ARMS)
def test_an_arm_that_diverges_has_lost(study, trial, broken, arm):
    loaded = study(trial(0, {"archetype": [0.1, 0.5, 0.6], "filtered": [0.1, 0.4, 0.7]}), broken(1, arm))
    worse = -math.inf if arm == "filtered" else math.inf
    for reading in ({}, {"at": "best"}, {"clock": "compute"}, {"at": 1}):
        pairs = pair(loaded, **reading)
        assert pairs.dropped == {}
        row = pairs.frame.iloc[1]
        assert row["outcome"] == f"{SIDES[arm]} diverged"
        measured = [name for name in BUILT_IN.evaluations if loaded.epochs[name].notna().any()]
        assert len(measured) > 10
        assert {row[f"gap/{name}"] for name in measured} == {worse}
        assert all(math.isnan(row[f"gap/{name}"]) for name in METRICS if name not in measured)  # costs, and no metric
        assert math.isnan(row[f"{SIDES[arm]}/test_accuracy"])
        other = "treatment" if arm == "archetype" else "baseline"
        assert (row[f"{other}/test_accuracy"], row[f"{other}/epoch"]) == (0.5, 1)
    assert not pair(loaded).frame["baseline_learned"].iloc[1] or arm == "filtered"


def test_before_it_diverges_an_arm_is_compared(study, broken):
    loaded = study(broken(0, "filtered"))
    assert pair(loaded, at=0).frame["outcome"].tolist() == ["measured"]
    for epoch in (1, 7):
        assert pair(loaded, at=epoch).frame["gap/test_accuracy"].tolist() == [-math.inf]


def test_where_both_arms_diverge_nobody_wins(study, broken):
    pairs = pair(study(broken(0, *ARMS)))
    assert pairs.frame.empty
    assert pairs.dropped == {"diverged: archetype, filtered": 1}


def test_a_control_that_diverges_decides_nothing_between_the_others(study, trial):
    curves = {arm: [0.1, 0.5] for arm in (*ARMS, "random")}
    loaded = study(trial(0, curves, status="diverged", changes={("random", 1): {"train_mean_loss": None}}))
    assert pair(loaded).dropped == {"diverged: random": 1}
    assert pair(loaded, against="random").frame["outcome"].tolist() == ["baseline diverged"]
    assert pair(loaded, at=1).frame["gap/test_accuracy"].tolist() == [0]


@pytest.mark.parametrize(
    ("steps", "accuracy", "outcome"),
    [
        (1, 0.12, "treatment without updates"),
        (2, 0.12, "measured"),  # once an epoch, as gradient descent on the whole set does
        (1, 0.4, "measured"),  # it has learned: a filter that accepts little late in training
    ],
)
def test_an_arm_that_made_too_few_updates_has_lost(study, trial, steps, accuracy, outcome):
    curves = {"archetype": [0.1, 0.5, 0.6], "filtered": [0.1, 0.1, accuracy]}
    loaded = study(trial(0, curves, changes={("filtered", 2): {"cumulative_steps": steps, "test_worst_loss": 0.1}}))
    row = pair(loaded).frame.iloc[0]
    assert row["outcome"] == outcome
    lost = outcome != "measured"
    assert (row["gap/test_accuracy"] == -math.inf) == lost
    assert (row["gap/test_worst_loss"] == -math.inf) == lost  # an untrained model's worst loss is no merit
    assert math.isnan(row["gap/cumulative_compute"]) == lost  # nor is what it did not spend
    assert row["treatment/test_accuracy"] == accuracy


def test_where_neither_arm_made_updates_nobody_wins(study, trial):
    changes = {(arm, 2): {"cumulative_steps": 0} for arm in ARMS}
    loaded = study(trial(0, {arm: [0.1, 0.1, 0.1] for arm in ARMS}, changes=changes))
    assert pair(loaded).dropped == {"without updates: archetype, filtered": 1}


@pytest.mark.parametrize("arm", ARMS)
def test_an_arm_that_ran_out_of_memory_has_lost(study, trial, arm):
    error = f"Traceback …\ntrainables.comparison.OutOfMemory: {out_of_memory(arm)}: tried to allocate 9 GiB"
    others = [
        trial(0, {arm: [0.1, 0.5] for arm in ARMS}),
        trial(1, {}, status="failed", error="the worker died"),
        trial(2, {}, status="failed", error=error),
    ]
    pairs = pair(study(*others))
    assert pairs.frame["outcome"].tolist() == ["measured", f"{SIDES[arm]} out of memory"]
    assert pairs.frame["gap/test_accuracy"].tolist() == [0, -math.inf if arm == "filtered" else math.inf]
    assert pairs.dropped == {"failed": 1}
    assert counted_by_arm(pairs.frame) == {f"{arm} ran out of memory": 1}
    assert finite_gaps(pairs.frame, "test_accuracy").tolist() == [0, 0]  # nothing is known of the other arm


def test_of_no_comparison_none_is_lost(study):
    assert counted_by_arm(pair(study()).frame) == {}


def test_chance_stands_in_for_an_arm_that_lost(study, trial, broken):
    loaded = study(
        trial(0, {"archetype": [0.1, 0.5], "filtered": [0.1, 0.6]}),
        broken(1, "filtered", config={"dataset.classes": 4}),
        broken(2, "archetype", config={"dataset.classes": 4}),
    )
    frame = pair(loaded).frame
    assert decided(frame).tolist() == [False, True, True]
    assert counted_by_arm(frame) == {"archetype diverged": 1, "filtered diverged": 1}
    assert finite_gaps(frame, "test_accuracy").tolist() == pytest.approx([0.1, 0.25 - 0.5, 0.5 - 0.25])
    assert finite_gaps(frame, "test_mean_loss").tolist() == pytest.approx([0.1, 0, 0.1])  # no worse than what there is
    assert reached(frame, "treatment", "test_accuracy").tolist() == [0.6, 0.25, 0.5]
    assert reached(frame, "baseline", "test_mean_loss").tolist() == [0.5, 0.5, math.inf]


def gapped(trial, broken, arm, gap, number):
    """Twenty comparisons: in ten the arm diverges, in the others the treatment's gap is this, ``number`` times."""
    curves = [{"archetype": [0.1, 0.5], "filtered": [0.1, 0.5 + (gap if n < number else -gap)]} for n in range(10)]
    measured = [trial(n, curve, config={"optimizer.lr": n / 100}) for n, curve in enumerate(curves)]
    return [*measured, *(broken(n, arm, config={"optimizer.lr": n / 100}) for n in range(10, 20))]


@pytest.mark.parametrize(("arm", "wins", "mean"), [("filtered", 8, "−18.50 pp"), ("archetype", 2, "+18.50 pp")])
def test_comparisons_in_which_an_arm_diverged_are_counted_against_it(study, trial, broken, arm, wins, mean):
    pairs = pair(study(*gapped(trial, broken, arm, 0.05, wins)))
    said = verdict(pairs)
    # It wins 8 of the 10 that were measured, and none of those in which it diverged; likewise the other way round.
    assert f"filtered beats archetype in {wins if arm == 'filtered' else 12} of 20 comparisons" in said
    assert f"10 of the 20 comparisons have no gap and count as lost by the arm named: {arm} diverged in 10." in said
    assert f"With chance accuracy in place of the arms named, the mean gap is {mean}." in said
    assert "is better than" not in said
    assert "could not be counted" not in said
    (row,) = summarize(pairs.frame, ["test_accuracy"]).to_dict("records")
    assert (row["comparisons"], row["without_gap"], row["mean"]) == (
        20,
        10,
        pytest.approx(0.03 * (1 if wins == 8 else -1)),
    )
    assert row["unlearned_wins"] == (10 if arm == "archetype" else 0)
    assert gap_table(summarize(pairs.frame, ["test_accuracy"])).loc[0, "Without a gap"] == "10"


@pytest.mark.parametrize(("arm", "better"), [("filtered", "filtered"), ("archetype", "archetype")])
def test_a_verdict_does_not_turn_on_leaving_out_what_diverged(study, trial, broken, arm, better):
    gap = 0.05 if better == "filtered" else -0.05
    pairs = pair(study(*gapped(trial, broken, arm, gap, 10)))
    said = verdict(pairs)
    assert (
        "Which arm is better turns on the comparisons without a gap: if they are counted, the arms are not told apart; "
        f"if they are left out, {better} is better in the median comparison."
    ) in said
    assert "is better than" not in said
    word = "better" if better == "filtered" else "worse"
    (row,) = evidence(pairs.frame, ["test_accuracy"]).to_dict("records")
    assert row["says"] == f"{word} only if comparisons without a gap are left out"


@pytest.mark.parametrize("arm", ARMS)
def test_a_verdict_does_not_turn_on_counting_what_diverged(study, broken, arm):
    pairs = pair(study(*(broken(n, arm, config={"optimizer.lr": n}) for n in range(10))))
    said = verdict(pairs)
    other = "archetype" if arm == "filtered" else "filtered"
    assert (
        f"if they are counted, {other} is better in the median comparison; if they are left out, no comparison" in said
    )
    assert "is better than" not in said
    word = "worse" if arm == "filtered" else "better"
    (row,) = evidence(pairs.frame, ["test_accuracy"]).to_dict("records")
    assert row["says"] == f"{word} only if comparisons without a gap are counted"


def test_what_holds_both_ways_is_said(study, trial, broken):
    curves = {"archetype": [0.1, 0.5], "filtered": [0.1, 0.4]}
    trials = [trial(n, curves, config={"optimizer.lr": n}) for n in range(12)]
    pairs = pair(study(*trials, broken(12, "filtered", config={"optimizer.lr": 12})))
    assert "In the median comparison, archetype is better than filtered." in verdict(pairs)
    assert evidence(pairs.frame, ["test_accuracy"])["says"].tolist() == ["worse"]


def test_a_treatment_that_did_not_train_is_no_evidence_against_the_method(study, trial):
    """Batches of 1024 from 180 samples: one update in ten epochs."""
    curves = {"archetype": [0.1, *[0.54] * 10], "filtered": [0.1, *[0.1] * 10]}
    changes = {("filtered", epoch): {"cumulative_steps": 1} for epoch in range(8, 11)}
    pairs = pair(study(*(trial(n, curves, changes=changes, config={"optimizer.lr": n}) for n in range(6))))
    said = verdict(pairs)
    assert "filtered beats archetype in 0 of 6 comparisons" in said
    assert "filtered made too few updates to learn in 6" in said
    assert "is better than" not in said
    summary = summarize(pairs.frame, ["test_accuracy"])
    assert summary["untrained"].tolist() == [6]
    assert gap_table(summary).loc[0, "Treatment without updates"] == "6"
