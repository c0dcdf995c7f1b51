import csv
import json

import pandas as pd
import pytest

from analysis.answer import HEADLINE, answer, written
from analysis.database import TableError


def test_the_measured_metrics_are_shown_where_none_is_asked_for(mixed):
    found = answer(mixed)
    assert tuple(found.summary["metric"]) == HEADLINE
    assert found.verdict[0].startswith(
        "Measured by test accuracy after equally many passes over the data (2 epochs), not at the same cost"
    )
    assert answer(mixed, ["test_worst_loss"]).verdict[0].startswith("Measured by test worst loss")


def test_metrics_that_nobody_measured_are_left_out(trial, study):
    changes = {(arm, 1): {"cumulative_compute": None} for arm in ("archetype", "filtered")}
    few = study(trial(0, {"archetype": [0.1, 0.6], "filtered": [0.1, 0.7]}, changes=changes))
    assert tuple(answer(few).summary["metric"]) == HEADLINE[:-1]
    assert answer(few, ["cumulative_compute"]).summary["comparisons"].tolist() == [0]
    assert tuple(answer(study()).summary["metric"]) == HEADLINE  # nothing is measured, and that is said of all


def test_roles_can_be_taken_by_other_arms(trial, study):
    arms = {"archetype": [0.1, 0.6], "filtered": [0.1, 0.7], "random": [0.1, 0.65]}
    three = study(trial(0, arms))
    gap = [
        answer(three, ["test_accuracy"], against=against, treatment=treatment).summary["median"].item()
        for against, treatment in ((None, None), ("random", None), (None, "random"))
    ]
    assert gap == pytest.approx([0.1, 0.05, 0.05])


def test_every_mistake_is_named_at_once(mixed):
    with pytest.raises(TableError) as error:
        answer(mixed, ["steps"], ["lr"], "end", "compute", "nobody", "noone")
    assert [line.split()[1] for line in str(error.value).splitlines()] == [
        "steps", "lr", "end", "compute", "nobody", "noone",
    ]  # fmt: skip


def test_forms_for_programs_hold_every_number_unrounded(mixed):
    found = answer(mixed, ["test_accuracy", "test_mean_loss"], ["optimizer.lr"])
    rows = list(csv.DictReader(written(found, "csv").splitlines()))
    whole = json.loads(written(found, "json"))
    assert whole["verdict"] == list(found.verdict)
    assert whole["dropped"] == found.pairs.dropped
    assert len(rows) == len(whole["gaps"]) == len(found.summary) == 4
    for row, record, (_, true) in zip(rows, whole["gaps"], found.summary.iterrows(), strict=True):
        assert list(row) == list(record) == list(found.summary)
        assert float(row["median"]) == record["median"] == true["median"]
        low = true["median_low"]
        assert record["median_low"] is None if pd.isna(low) else record["median_low"] == low


def test_forms_for_people_begin_with_the_verdict(mixed):
    found = answer(mixed, ["test_accuracy"])
    for form in ("text", "markdown"):
        assert written(found, form).startswith(found.verdict[0] + "\n")
    latex = written(found, "latex")
    assert latex.startswith(f"% {found.verdict[0]}\n")
    assert r"\toprule" in latex
