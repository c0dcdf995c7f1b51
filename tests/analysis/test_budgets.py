import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.answer import answer
from analysis.budgets import Budget, accuracy_by_budget, budget, budget_table, clocks_of, shared
from analysis.curve_charts import budget_chart
from analysis.load import TableError
from analysis.pairs import pair
from analysis.sources import combine
from analysis.tables import to_markdown
from analysis.tuning import cells
from analysis.verdict import verdict
from trainables.config import TrialConfig

FAIR = {"budget.clock": "compute", "budget.of": "archetype", "schedule.name": "cosine"}
OLD_CLOCKS = ["epochs", "steps", "samples", "compute", "seconds"]


@pytest.fixture(scope="module")
def comparison(trial):
    """A comparison whose arms cost 100 an epoch; all but the archetype make 1.5 passes over the data in one."""

    def make(number, epochs, ends, passes=1.5, costs=100.0, **config):
        curves = {arm: [0.1, *np.linspace(0.1, end, epochs + 1)[1:]] for arm, end in ends.items()}
        changes = {
            (arm, epoch): {
                "passes": epoch * (1.0 if arm == "archetype" else passes),
                "cumulative_compute": cost * epoch,
            }
            for arm in ends
            for cost in [100.0 if arm == "archetype" else costs]
            for epoch in range(epochs + 1)
        }
        return trial(number, curves, changes=changes, config={**FAIR, "epochs": epochs, **config})

    return make


@pytest.fixture(scope="module")
def several(comparison, study):
    """Budgets of 2 and 4 epochs of the archetype, on 7 seeds each, with a third arm."""
    made = []
    for epochs, gap in ((2, 0.1), (4, -0.1)):
        for seed in range(7):
            ends = {"archetype": 0.5 + 0.01 * seed, "filtered": 0.5 + gap + 0.02 * seed, "random": 0.4}
            made.append(comparison(len(made), epochs, ends, seed=seed))
    return study(*made)


ARMS = st.fixed_dictionaries(
    {
        "archetype": st.sampled_from([{}, {"epochs": 2.5}]),
        "filtered": st.sampled_from(
            [
                {},
                {"epochs": 2},
                {"budget": {"clock": "steps", "amount": 40}},
                {"budget": {"clock": "samples", "of": "archetype"}},
            ]
        ),
        "rs2": st.sampled_from([{"ratio": 0.25}, {"ratio": 0.5, "replacement": True}]).map(
            lambda options: {"selector": {"name": "rs2", **options}}
        ),
        "random": st.sampled_from([{"like": "filtered"}, {"like_compute": "filtered"}, {"ratio": 0.5}]).map(
            lambda options: (
                {"selector": {"name": "random", **options}} | ({} if "like" in options else {"granularity": "epoch"})
            )
        ),
    }
)
BUDGETS = st.sampled_from(
    [
        {},
        {"clock": "epochs", "amount": 3.5},
        {"clock": "epochs", "of": "filtered"},
        {"clock": "compute", "of": "archetype"},
        {"clock": "steps", "amount": 14.0},
    ]
)


@given(arms=ARMS, shared_budget=BUDGETS)
@settings(max_examples=60, deadline=None)
def test_a_budget_is_read_from_recorded_settings_as_training_takes_it(arms, shared_budget):
    values = {"epochs": 4, "arms": arms, "budget": shared_budget, "augmentation": "none"}
    try:
        config = TrialConfig.model_validate(values)
    except ValueError:  # budgets of one another, in a circle
        return
    recorded = config.to_dotted()
    for arm in config.arms:
        assert budget(recorded, arm) == Budget(*config.allotment(arm))


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({}, Budget("epochs", 5)),
        ({"budget.clock": "compute", "budget.of": "a"}, Budget("compute", of="a")),
        ({"budget.clock": "compute", "budget.of": "b"}, Budget("compute", of="b")),
        ({"budget.clock": "compute", "budget.of": "c"}, Budget("compute", of="c")),
        ({"budget.clock": "steps", "budget.amount": 9.0}, Budget("steps", 9)),
        ({"budget.clock": "steps", "budget.amount": 9.0, "arms.a.epochs": 2.0}, None),
        ({"arms.b.epochs": 2.0}, None),
        ({"arms.a.epochs": 2.0, "arms.b.epochs": 2.0}, Budget("epochs", 2)),
        (
            {"arms.b.budget.clock": "samples", "arms.b.budget.of": "a", "budget.clock": "epochs"},
            Budget("samples", of="a"),
        ),
    ],
)
def test_what_two_arms_may_spend_in_common(config, found):
    assert shared({"epochs": 5, "baseline": "a", "treatment": "b", **config}) == found


def test_passes_are_a_clock_only_where_they_are_not_epochs(several, mixed, comparison, study):
    assert clocks_of(mixed) == OLD_CLOCKS
    assert clocks_of(several) == ["epochs", "passes", *OLD_CLOCKS[1:]]
    assert clocks_of(study(comparison(0, 2, {"archetype": 0.5, "filtered": 0.6}, passes=1.0))) == OLD_CLOCKS
    own = study(comparison(0, 2, {"archetype": 0.5, "filtered": 0.6, "random": 0.5}))
    own.epochs.loc[own.epochs["arm"] == "filtered", "passes"] = own.epochs["epoch"].astype("float64")
    assert clocks_of(own) == OLD_CLOCKS  # a third arm alone makes other passes


def test_both_arms_are_read_after_as_many_passes(several):
    frame = pair(several, clock="passes").frame
    assert list(frame["baseline/passes"]) == pytest.approx(list(frame["treatment/passes"]))
    assert list(frame["treatment/epoch"].unique()) == pytest.approx([4 / 3, 8 / 3])


def test_a_study_that_did_not_record_passes_says_what_to_take_in_their_place(mixed):
    with pytest.raises(TableError, match=r"--clock passes: .* no value in the column passes.* take --clock epochs"):
        answer(mixed, clock="passes")


def test_comparisons_with_another_budget_are_another_problem(comparison, study):
    ends = {"archetype": 0.5, "filtered": 0.6}
    amounts = ({"budget.amount": 300.0, "budget.of": None}, {"budget.amount": 400.0, "budget.of": None}, {})
    loaded = study(*(comparison(n, 2, ends, **config) for n, config in enumerate(amounts)))
    assert cells(pair(loaded).frame).nunique() == 3


def test_a_study_of_an_earlier_version_has_the_budget_of_a_new_one_by_epochs(comparison, trial, study):
    ends = {"archetype": 0.5, "filtered": 0.6}
    new = study(comparison(0, 2, ends, **{"budget.clock": "epochs", "budget.of": None, "schedule.name": None}))
    old = study(trial(1, {arm: [0.1, 0.2, end] for arm, end in ends.items()}))
    frame = pair(combine([new, old])).frame
    assert len(frame) == 2
    assert cells(frame).nunique() == 1


# --------------------------------------------------------------------------------------------------------- the verdict
def test_a_verdict_names_the_budget_and_then_the_gap_at_equal_passes(several):
    lines = verdict(pair(several)).splitlines()
    assert lines[0].startswith(
        "Measured by test accuracy with the same compute (what archetype spends in 2 to 4 epochs), each schedule run "
        "to its end, filtered beats archetype in 7 of 14 comparisons"
    )
    assert lines[1].startswith(
        "At equal passes over the data (interpolated between epochs), the median gap of 14 comparisons is −"
    )
    assert lines[1].endswith(
        "filtered is read before its end, at 67% of its epochs (median); its schedule (cosine) is unfinished there, "
        "which favours the other arm."
    )
    assert "--fair" not in "".join(lines)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"budget.amount": 2500.0, "budget.of": None}, "with the same compute (2.5k fwd-eq), each schedule"),
        (
            {"budget.clock": "steps", "budget.of": "filtered"},
            "with the same number of updates (what filtered spends in 3",
        ),
        ({"schedule.name": "none"}, "with the same compute (what archetype spends in 3 epochs), filtered"),
        ({"arms.filtered.epochs": 2.0}, "with different budgets (archetype: 3 epochs; filtered: 2 epochs), filtered"),
        (
            {"budget.clock": "epochs", "budget.of": None, "arms.filtered.budget.clock": "steps"}
            | {"arms.filtered.budget.amount": 40.0},
            "with different budgets (archetype: 3 epochs; filtered: 40 updates), filtered",
        ),
    ],
)
def test_a_verdict_says_what_either_arm_may_spend(comparison, study, config, said):
    loaded = study(comparison(0, 3, {"archetype": 0.5, "filtered": 0.6}, **config))
    assert f"Measured by test accuracy {said}" in verdict(pair(loaded)).splitlines()[0]


def test_comparisons_with_several_kinds_of_budget_are_counted(comparison, study):
    ends = {"archetype": 0.5, "filtered": 0.6}
    kinds = ({}, {"budget.clock": "steps", "budget.amount": 9.0, "budget.of": None}, {"budget.clock": "samples"})
    loaded = study(*(comparison(n, 3, ends, **config) for n, config in enumerate(kinds)))
    said = verdict(pair(loaded)).splitlines()[0]
    assert "each comparison with a budget that its arms share (compute in 1, steps in 1, samples in 1)" in said
    own = study(comparison(0, 3, ends), comparison(1, 3, ends, **{"arms.filtered.epochs": 2.0}))
    assert "at the end of its budgets (compute in 1, different in 1)" in verdict(pair(own)).splitlines()[0]


EPOCHS = {"budget.clock": "epochs", "budget.of": None}


@pytest.mark.parametrize(
    ("costs", "cost", "line"),
    [
        (150.0, ", not at the same cost", "In the median comparison filtered costs 50% more compute than archetype."),
        (60.0, ", not at the same cost", "In the median comparison filtered costs 40% less compute than archetype."),
        (100.0, ", at the same cost", None),
    ],
)
def test_after_as_many_epochs_a_verdict_says_what_they_cost_and_how_to_compare_fairly(
    comparison, study, costs, cost, line
):
    loaded = study(comparison(0, 20, {"archetype": 0.5, "filtered": 0.6}, passes=1.0, costs=costs, **EPOCHS))
    lines = verdict(pair(loaded)).splitlines()
    assert f"after equally many passes over the data (20 epochs){cost}, filtered beats" in lines[0]
    found = [one for one in lines if "compute than" in one]
    key = "budget: {clock: compute, of: archetype}"
    assert found == ([f"{line} For the gap at the same cost, set {key} in the experiment."] if line else [])
    if line:
        object.__setattr__(loaded, "experiment", "about: {}\n")
        command = f"For the gap at the same cost: filter-study run {loaded.path} --fair (it sets {key})."
        assert f"{line} {command}" in verdict(pair(loaded)).splitlines()
        assert not [one for one in verdict(pair(loaded, at=20)).splitlines() if "--fair" in one]


@pytest.mark.parametrize(
    ("schedules", "said"),
    [
        (["cosine"], "its schedule (cosine) is unfinished there, which favours the other arm."),
        (["none"], "its learning rate is constant, so that no schedule is unfinished there."),
        (["none", "linear"], "its schedule (linear) is unfinished there in 1 of 2, which favours the other arm."),
        ([None], "which schedule it had is not recorded."),
    ],
)
def test_a_verdict_says_how_unfinished_the_dearer_arm_was(comparison, study, schedules, said):
    made = [
        comparison(n, 4, {"archetype": 0.5, "filtered": 0.6}, costs=80.0, **EPOCHS | {"schedule.name": schedule})
        for n, schedule in enumerate(schedules)
    ]
    lines = verdict(pair(study(*made), clock="compute")).splitlines()
    line = next(line for line in lines if line.startswith("At equal compute, "))
    where = "At equal compute, archetype is read before its end, at 80% of its epochs (median); "
    assert line == f"{where}{said} Read this beside the gap at equal epochs."


def test_a_verdict_counts_which_arm_was_the_dearer(comparison, study):
    ends = {"archetype": 0.5, "filtered": 0.6}
    made = [comparison(n, 4, ends, costs=costs, **EPOCHS) for n, costs in enumerate((80.0, 60.0, 200.0, 100.0))]
    said = verdict(pair(study(*made), clock="compute"))
    who = "the arm that has spent more (archetype in 2, filtered in 1) is read before its end, at 60% of its epochs"
    assert f"At equal compute, {who} (median)" in said
    assert "At equal compute, neither arm is read before its end." in verdict(pair(study(made[3]), clock="compute"))


# ---------------------------------------------------------------------------------------------- accuracy against budget
def test_accuracy_by_budget_has_medians_over_seeds_with_intervals(several):
    table = accuracy_by_budget(several)
    assert list(table["arm"]) == ["archetype", "filtered", "random"] * 2
    assert list(table["budget"]) == [200] * 3 + [400] * 3
    assert set(table["n"]) == {7}
    # Of 7 values, the interval of the median is from the smallest to the largest.
    assert list(table["median"]) == pytest.approx([0.53, 0.66, 0.4, 0.53, 0.46, 0.4])
    assert list(table["low"]) == pytest.approx([0.5, 0.6, 0.4, 0.5, 0.4, 0.4])
    assert list(table["high"]) == pytest.approx([0.56, 0.72, 0.4, 0.56, 0.52, 0.4])
    assert list(table["gap"]) == pytest.approx([math.nan, 0.13, -0.13, math.nan, -0.07, -0.13], nan_ok=True)
    assert list(table["gap_low"][[1, 4]]) == pytest.approx([0.1, -0.1])
    assert list(table["gap_high"][[1, 4]]) == pytest.approx([0.16, -0.04])


def test_budgets_of_given_amounts_and_of_several_problems_stand_apart(comparison, study):
    made = []
    for model in ("LeNet", "FCNet100"):
        for amount in (100.0, 900.0):
            config = {"budget.amount": amount, "budget.of": None, "model.name": model}
            ends = {"archetype": 0.5, "filtered": 0.5 + amount / 9000}
            made.append(comparison(len(made), 2, ends, **config))
    table = accuracy_by_budget(study(*made))
    assert list(table["problem"].unique()) == ["model.name FCNet100", "model.name LeNet"]
    assert list(table["budget"]) == [100, 100, 900, 900] * 2
    assert table["low"].isna().all()
    assert set(table["spent"]) == {200}
    assert list(table["gap"].dropna()) == pytest.approx([1 / 90, 0.1] * 2)


def test_an_arm_that_diverged_counts_with_chance_accuracy(comparison, study):
    ends = {"archetype": 0.5, "filtered": 0.6}
    made = [comparison(n, epochs, ends, seed=seed) for n, (epochs, seed) in enumerate([(2, 0), (2, 1), (4, 0), (4, 1)])]
    for part in made[:2]:
        part["row"] |= {"status": "diverged", "error": "training loss is not finite: filtered"}
        part["epochs"] = [
            row | ({"train_mean_loss": None} if row["arm"] == "filtered" else {}) for row in part["epochs"]
        ]
    table = accuracy_by_budget(study(*made)).set_index(["nominal", "arm"])
    assert table.loc[("4 epochs of archetype", "filtered"), "gap"] == pytest.approx(0.1)
    assert table.loc[("2 epochs of archetype", "filtered"), "median"] == pytest.approx(0.1)
    assert table.loc[("2 epochs of archetype", "filtered"), "gap"] == -math.inf


@pytest.mark.parametrize(("config", "second"), [(EPOCHS, 4), ({}, 2)])
def test_there_is_no_table_where_the_budget_does_not_vary(comparison, study, config, second):
    ends = {"archetype": 0.5, "filtered": 0.6}
    made = [comparison(n, epochs, ends, **config) for n, epochs in enumerate((2, second))]
    assert accuracy_by_budget(study(*made)).empty


def test_the_table_can_be_printed(several):
    lines = to_markdown(budget_table(accuracy_by_budget(several))).splitlines()
    assert lines[0].startswith("| Budget | Arm | Spent | Median of | Test accuracy |")
    assert lines[3].split(" | ")[:5] == ["| 2 epochs of archetype", "filtered", "200 fwd-eq", "7", "66.00%"]
    assert lines[3].endswith("| 60.00% to 72.00% | +13.00 pp | +10.00 to +16.00 pp |")


def test_the_chart_has_every_arm_along_a_logarithmic_axis(several):
    chart = budget_chart(accuracy_by_budget(several), "", "compute")
    assert [key.name for key in chart.legend] == ["archetype", "filtered", "random"]
    assert chart.spec["encoding"]["x"]["scale"]["type"] == "log"
    assert list(chart.data["median"]) == pytest.approx([53, 66, 40, 53, 46, 40])
    assert "with the largest budget: archetype 53.0%, filtered 46.0%, random 40.0%" in chart.alt


def test_a_chart_without_values_is_none():
    empty = pd.DataFrame({"arm": ["a"], "spent": [1.0], "n": [0], "budget": [1.0]})
    assert budget_chart(empty.assign(median=math.nan, low=math.nan, high=math.nan), "", "compute") is None
