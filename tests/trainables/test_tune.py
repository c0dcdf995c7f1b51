import math
from pathlib import Path
from typing import Any

import pytest

from trainables.comparison import Comparison, prepare
from trainables.config import Objective, Runtime, TrialConfig
from trainables.records import REPRODUCIBLE, Row
from trainables.tune import ComparisonTrainable

TRIAL = {
    "dataset.samples_per_class": 30,
    "model.name": "FCNet10",
    "batch_size": 16,
    "optimizer.lr": 0.05,
    "epochs": 4,
}
RUNTIME = Runtime(device="cpu", threads=1)


def settings(**objective: Any) -> dict[str, Any]:
    """A trainable's configuration."""
    return {"trial": TRIAL, "runtime": RUNTIME.model_dump(), "objective": Objective(**objective).model_dump()}


def run(trainable: ComparisonTrainable) -> list[dict[str, Any]]:
    results = [trainable.train()]
    while not results[-1]["done"]:
        results.append(trainable.train())
    return results


def reproducible(rows: list[Row]) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in REPRODUCIBLE) for row in rows]


def alone(comparison: Comparison) -> list[Row]:
    rows = []
    while not comparison.done:
        rows += comparison.step()
    return rows


def test_a_result_has_the_rows_the_objective_and_the_metrics_of_one_epoch() -> None:
    first, *_, last = results = run(ComparisonTrainable(settings(metric="gap/test_accuracy")))
    assert [result["epoch"] for result in results] == [1, 2, 3, 4]
    assert [(row["arm"], row["epoch"]) for row in first["rows"]] == [
        ("archetype", 0), ("filtered", 0), ("archetype", 1), ("filtered", 1),
    ]  # fmt: skip
    assert [(row["arm"], row["epoch"]) for row in last["rows"]] == [("archetype", 4), ("filtered", 4)]
    assert last["objective"] == last["gap/test_accuracy"]
    assert last["gap/test_accuracy"] == last["filtered/test_accuracy"] - last["archetype/test_accuracy"]
    assert last["objective"] == last["rows"][1]["test_accuracy"] - last["rows"][0]["test_accuracy"]
    assert [result["status"] for result in results] == ["running"] * 3 + ["finished"]


def test_the_rows_are_bit_identical_to_those_of_a_plain_process() -> None:
    rows = [row for result in run(ComparisonTrainable(settings())) for row in result["rows"]]
    assert reproducible(rows) == reproducible(alone(prepare(TrialConfig.from_dotted(TRIAL), RUNTIME)))


@pytest.mark.slow
def test_an_actor_that_is_reused_leaks_nothing_into_the_next_trial() -> None:
    trainable = ComparisonTrainable(settings())
    other = settings(metric="filtered/test_mean_loss")
    other["trial"] = {**TRIAL, "model.name": "LeNet", "optimizer.name": "Adam", "optimizer.lr": 0.01, "seed": 5}
    run(trainable)
    for values in (other, settings()):
        fresh = [row for result in run(ComparisonTrainable(values)) for row in result["rows"]]
        assert trainable.reset(values)
        reused = run(trainable)
        assert reproducible([row for result in reused for row in result["rows"]]) == reproducible(fresh)
        assert [result["epoch"] for result in reused] == [1, 2, 3, 4]


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", [{}, {"optimizer.name": "Adam"}, {"schedule.name": "cosine"}])
def test_a_trial_that_is_restored_goes_on_as_if_nothing_had_happened(tmp_path: Path, optimizer: dict[str, Any]) -> None:
    values = settings()
    values["trial"] = {**TRIAL, **optimizer, "optimizer.lr": 0.02}
    undisturbed = run(ComparisonTrainable(values))
    first = ComparisonTrainable(values)
    first.train()
    first.train()
    first.save(str(tmp_path))
    second = ComparisonTrainable(values)
    second.restore(str(tmp_path))
    restored = run(second)
    assert [result["epoch"] for result in restored] == [3, 4]
    for ours, theirs in zip(restored, undisturbed[2:], strict=True):
        assert reproducible(ours["rows"]) == reproducible(theirs["rows"])


def test_a_diverged_comparison_is_done_and_its_objective_is_not_a_number() -> None:
    values = settings()
    values["trial"] = {**TRIAL, "optimizer.lr": 1e12}
    last = run(ComparisonTrainable(values))[-1]
    assert last["status"] == "diverged"
    assert "archetype" in last["diverged"]
    assert math.isnan(last["objective"])
    assert last["epoch"] < TRIAL["epochs"]
