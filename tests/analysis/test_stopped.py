import json
import math
from dataclasses import replace

import numpy as np
import pytest

from analysis.answer import answer, written
from analysis.findings import find
from analysis.page import Choice, Grid, Table
from analysis.pairs import Pairs, pair
from analysis.report import QUESTIONS, _of_finished
from analysis.stopped import Bounds, rule_of, stopping
from analysis.stopping_rule import Rule
from analysis.verdict import verdict

ASHA = "stopped by asha after epoch 1"
FILE = "scheduler: {{name: {name}, metric: {metric}}}\nobjective: {{metric: gap/validation_accuracy}}\n"


def sides(baseline, treatment, epochs=2):
    """Both arms' accuracies, which at the last epoch are these."""
    before = [0.1, 0.2][:epochs]
    return {"archetype": [*before, baseline], "filtered": [*before, treatment]}


@pytest.fixture
def stopped_study(study, trial):
    """Gaps of −0.1 in ``finished`` comparisons, and of −0.3 at epoch 1 in ``stopped`` ones, the last of them dead."""

    def make(finished=9, stopped=4, dead=1, name="asha", metric="filtered/validation_accuracy"):
        trials = [trial(n, sides(0.8, 0.7), config={"optimizer.lr": n}) for n in range(finished)]
        for n in range(finished, finished + stopped + dead):
            error = ASHA if n < finished + stopped else "dead: after epoch 1 no arm's training accuracy is over 0.1"
            config = {"optimizer.lr": n, "epochs": 2}
            trials.append(trial(n, sides(0.8, 0.5, 1), status="stopped", error=error, config=config))
        return replace(study(*trials), experiment=FILE.format(name=name, metric=metric))

    return make


# --------------------------------------------------------------------------------------------------------------- whom


@pytest.mark.parametrize(
    ("metric", "looks_at", "effect"),
    [
        ("better/validation_accuracy", "the better arm's validation accuracy", "which treats both arms alike"),
        ("filtered/validation_accuracy", "the validation accuracy of filtered alone", "which flatters filtered"),
        ("archetype/train_accuracy", "the train accuracy of archetype alone", "which flatters archetype"),
        ("random/test_mean_loss", "the test mean loss of random alone", "which may flatter one of the arms"),
        ("gap/test_accuracy", "the gap in test accuracy", "which flatters filtered"),
        ("objective", "the gap in validation accuracy", "which flatters filtered"),
        ("null", "the gap in validation accuracy", "which flatters filtered"),
    ],
)
def test_a_rule_says_what_it_looks_at_and_whom_that_flatters(stopped_study, metric, looks_at, effect):
    rule = rule_of(stopped_study(metric=metric))
    assert rule.looks_at == looks_at
    assert rule.effect("archetype", "filtered").startswith(effect)


@pytest.mark.parametrize("text", ["", "{", "[1]", "scheduler: 3", "scheduler: {name: none, metric: null}"])
def test_without_an_experiment_or_a_scheduler_there_is_no_rule(mixed, text):
    assert rule_of(replace(mixed, experiment=text)) == Rule()


def test_a_rule_that_only_the_record_knows_is_named(stopped_study):
    early = stopping(pair(replace(stopped_study(), experiment="")))
    assert "ASHA stopped 4 by a metric that is not on record" in early.short


# ----------------------------------------------------------------------------------------------------- what is counted


def test_stopped_comparisons_are_read_at_the_last_epoch_that_they_reached(stopped_study):
    pairs = pair(stopped_study())
    early = stopping(pairs)
    assert (len(pairs.frame), early.stopped, early.dead, early.count) == (9, 5, 1, 14)
    assert list(early.reached["gap/test_accuracy"].round(6)) == [-0.1] * 9 + [-0.3] * 5
    assert list(early.reached["baseline/epoch"]) == [2.0] * 9 + [1.0] * 5
    assert set(early.reached["epochs"]) == {2}  # what they were to train, not what they have


def test_where_nothing_was_stopped_nothing_is_said(study, trial):
    early = stopping(pair(study(*(trial(n, sides(0.8, 0.7)) for n in range(3)))))
    assert (early.stopped, early.short, early.full("archetype", "filtered")) == (0, "", "")
    assert early.bounds("test_accuracy") == Bounds((0, 0), (pytest.approx(-0.1), pytest.approx(-0.1)))
    assert stopping(Pairs(early.reached, {})).stopped == 0


def test_a_stopped_comparison_that_another_one_repeated_to_its_end_is_not_missing(study, trial):
    config = {"seed": 0, "epochs": 2}
    trials = [
        trial(0, sides(0.8, 0.5, 1), status="stopped", config=config),
        trial(1, sides(0.8, 0.7), config=config),
        trial(2, sides(0.8, 0.5, 1), status="stopped", config=config | {"seed": 1}),
        trial(3, sides(0.8, 0.5, 1), status="stopped", config=config | {"seed": 1}),
    ]
    early = stopping(pair(study(*trials)))
    assert (early.stopped, list(early.reached["number"])) == (1, [1, 2])


def test_at_an_epoch_those_that_reached_it_are_not_missing(stopped_study):
    assert stopping(pair(stopped_study(), at=1)).stopped == 0
    early = stopping(pair(stopped_study(), at=2))
    assert early.stopped == 5
    assert "9 of 14 comparisons that reached epoch 2" in early.short


def test_of_another_arm_its_own_gaps_are_read(study, trial):
    control = {"random": [0.1, 0.2, 0.6]}
    trials = [
        trial(0, sides(0.8, 0.7) | control),
        trial(1, sides(0.8, 0.5, 1) | {"random": [0.1, 0.4]}, status="stopped"),
    ]
    loaded = study(*trials)
    assert list(stopping(pair(loaded, against="random")).reached["gap/test_accuracy"].round(6)) == [0.1, 0.1]
    assert list(stopping(pair(loaded, treatment="random")).reached["gap/test_accuracy"].round(6)) == [-0.2, -0.4]


@pytest.mark.parametrize("clock", ["steps", "seconds"])
def test_at_another_clock_stopped_comparisons_are_read_there_too(stopped_study, clock):
    early = stopping(pair(stopped_study(), clock=clock))
    assert early.stopped == 5
    assert early.read == {"seconds": 5, "steps": 0}[clock]  # filtered's only epoch takes fewer steps than archetype's
    low, high = early.bounds("test_accuracy").share
    assert high - low == pytest.approx(5 / 14)


# ------------------------------------------------------------------------------------------------------------- bounds


@pytest.mark.parametrize(
    ("finished", "stopped", "share", "median"),
    [
        (9, 5, (0, 5 / 14), (-0.1, -0.1)),
        (3, 3, (0, 0.5), (-math.inf, math.inf)),
        (3, 2, (0, 0.4), (-0.1, -0.1)),
        (1, 2, (0, 2 / 3), (-math.inf, math.inf)),
        (0, 2, (0, 1), (-math.inf, math.inf)),
    ],
)
def test_bounds_let_every_stopped_comparison_end_on_either_side(stopped_study, finished, stopped, share, median):
    bounds = stopping(pair(stopped_study(finished, stopped, 0))).bounds("test_accuracy")
    assert bounds.share == pytest.approx(share)
    assert bounds.median == pytest.approx(median)


def test_bounds_hold_whatever_the_stopped_ones_would_have_come_to(stopped_study):
    early = stopping(pair(stopped_study(6, 3, 0)))
    bounds = early.bounds("test_accuracy")
    rng = np.random.default_rng(0)
    for _ in range(200):
        whole = np.concatenate([early.pairs.frame["gap/test_accuracy"], rng.choice([-1, -0.1, 0, 0.2, 1], 3)])
        assert bounds.share[0] <= np.mean((whole > 0) + (whole == 0) / 2) <= bounds.share[1]
        assert bounds.median[0] <= np.median(whole) <= bounds.median[1]


# ------------------------------------------------------------------------------------------------------- what is said


def test_a_verdict_says_who_chose_and_what_holds_whatever_the_stopped_ones_would_have_come_to(stopped_study):
    lines = verdict(pair(stopped_study())).splitlines()
    assert "in 0 of 9 comparisons (0%); 5 more were stopped early and do not count. The median gap is" in lines[0]
    assert lines[1] == (
        "Of 14 comparisons ASHA stopped 4 by the validation accuracy of filtered alone, which flatters filtered; "
        "dead_run stopped 1 in which neither arm had learned. What holds for those that finished need not hold for all."
    )
    assert lines[2].startswith(
        "With 5 stopped ones at the last epoch that they reached, filtered wins 0% of 14, with a median gap of "
        "−10.00 pp (95% interval from"
    )
    assert lines[3] == (
        "Whatever the stopped ones would have come to, filtered wins between 0% and 36% of all 14, with a median gap "
        "between −10.00 pp and −10.00 pp."
    )
    assert lines[4] == (
        "In the median of the comparisons that finished, archetype is better than filtered; in most of all 14 it is, "
        "whatever the stopped ones would have come to."
    )
    assert lines[8].endswith("Only comparisons that finished were chosen from; with the stopped ones as far as they "
                             "came it is −10.00 pp.")  # fmt: skip


def test_a_verdict_does_not_call_an_arm_better_where_that_turns_on_the_stopped_ones(stopped_study):
    said = verdict(pair(stopped_study(9, 9, 0)))
    assert "in most of all" not in said
    assert (
        "In the median of the comparisons that finished, archetype is better than filtered. For all 18 this is not "
        "known: it depends on what the stopped ones would have come to."
    ) in said
    assert "with a median gap of any size" in said


def test_where_none_finished_a_verdict_still_says_what_was_stopped(stopped_study):
    lines = verdict(pair(stopped_study(0, 3, 0))).splitlines()
    assert lines[0] == "No comparison can be judged by test accuracy, so there is no verdict."
    assert lines[1].startswith("Of 3 comparisons ASHA stopped 3 by")
    assert "filtered wins 0% of 3, with a median gap of −30.00 pp" in lines[2]


def test_a_verdict_on_a_population_says_that_its_gaps_were_searched_for(stopped_study):
    said = verdict(pair(stopped_study(3, 0, 0, name="pbt", metric="objective")))
    assert "Population-based training moved these comparisons towards what is best by the gap in validation" in said


def test_the_gap_tables_say_how_many_were_stopped_and_what_these_change(stopped_study):
    found = answer(stopped_study(), ["test_accuracy"])
    whole = json.loads(written(found, "json"))
    assert whole["stopped"] == {"comparisons": 5, "rule": "asha", "metric": "filtered/validation_accuracy"}
    assert [row["comparisons"] for row in (*whole["gaps"], *whole["with_stopped"])] == [9, 14]
    for form in ("text", "markdown"):
        table, note, more = written(found, form).partition("This is of the 9 of 14 comparisons that finished: ASHA")
        assert "−10.00 pp" in table
        assert note
        assert "With 5 stopped ones at the last epoch that they reached, which are not final:" in more
        assert "−17.14 pp" in more
    assert "% This is of the 9 of 14 comparisons that finished" in written(found, "latex")


def test_the_gap_tables_say_nothing_of_stopping_where_nothing_was_stopped(stopped_study):
    found = answer(stopped_study(3, 0, 0), ["test_accuracy"])
    assert found.with_stopped is None
    assert "stopped" not in written(found, "text")
    assert "with_stopped" not in json.loads(written(found, "json"))


@pytest.fixture(scope="module")
def sections(study, trial):
    """The sections of a report by id: 9 comparisons finished and 9 were stopped."""
    trials = [trial(n, sides(0.8, 0.7 - n / 1000), config={"optimizer.lr": n}) for n in range(9)]
    rest = {"status": "stopped", "error": ASHA}
    trials += [trial(n, sides(0.8, 0.5, 1), config={"optimizer.lr": n, "epochs": 2}, **rest) for n in range(9, 18)]
    found = find(replace(study(*trials), experiment=FILE.format(name="asha", metric="better/test_accuracy")), 0)
    return {section.id: section for section in (_of_finished(found, question(found)) for question in QUESTIONS)}


def test_every_answer_about_finished_comparisons_says_how_many_were_stopped_and_by_what(sections):
    said = "This is of the 9 of 18 comparisons that finished: ASHA stopped 9 by the better arm's test accuracy."
    assert {name for name, section in sections.items() if said in section.answer} == sections.keys() - {
        "speed",
        "behaviour",
    }
    for name in ("where", "sure"):
        assert "With 9 stopped ones at the last epoch that they reached it is a median gap of −20.40 pp" in (
            sections[name].answer
        )


def notes(blocks):
    """The notes of all tables and figures, but those that have a column for what is left out."""
    for block in blocks:
        if isinstance(block, Table) and "Left out" not in block.heads:
            yield block.note
        elif isinstance(block, Grid):
            yield from (chart.note for chart in block.charts)
        elif isinstance(block, Choice):
            for _, inner in block.options:
                yield from notes(inner)


@pytest.mark.parametrize("name", ["where", "sure", "tuning", "overfitting", "tradeoffs"])
def test_every_table_and_figure_of_finished_comparisons_says_that_it_is_of_these(sections, name):
    found = list(notes(sections[name].blocks))
    assert found
    assert all(note.endswith("This is of the 9 of 18 comparisons that finished.") for note in found)


def test_an_arm_is_called_better_among_those_that_finished_where_the_others_could_change_it(sections):
    assert sections["sure"].answer.startswith("In test accuracy: worse among those that finished;")


def test_the_gap_of_all_comparisons_stands_beside_those_at_equal_epochs(sections):
    (table,) = [block for block in sections["where"].blocks if isinstance(block, Table) and "Epoch" in block.heads]
    rows = {row[0].text: [cell.text for cell in row] for row in table.rows}
    assert rows["the last that each reached"][1:3] == ["0", "18"]
