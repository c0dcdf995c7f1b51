from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from study import experiment as experiments
from study.bench import driver
from study.bench.driver import Reading
from trainables.comparison import report
from trainables.config import DeadRun, Objective, Recovery, Runtime, TrialConfig
from trainables.records import COLUMNS, METRICS

MEBIBYTE = 2**20


def readings(costs: list[float], memory: list[int] | None = None, every: int = 100) -> list[Reading]:
    """A run whose reports cost so many milliseconds, ``every`` of them between two readings."""
    held = memory or [0] * (len(costs) + 1)
    cpu = [sum(costs[:place]) * every / 1000 for place in range(len(costs) + 1)]
    return [Reading(every * n, 2.0 * cpu[n], 5.0 + cpu[n], held[n], n % 3, 10 * n) for n in range(len(costs) + 1)]


def test_the_quarters_at_both_ends_are_compared() -> None:
    assert driver.ends(readings([1, 1, 9, 9, 9, 9, 2, 4])) == pytest.approx((1, 3))
    assert driver.ends(readings([2.0] * 7)) == pytest.approx((2, 2))
    with pytest.raises(ValueError, match="4 readings cannot be quartered"):
        driver.ends(readings([1, 1, 1]))


def test_growth_is_that_of_a_thousand_reports_once_all_is_loaded() -> None:
    loading = [0, 500, *(600 + 3 * n for n in range(7))]
    assert driver.growth(readings([1] * 8, loading)) == pytest.approx(30)
    assert driver.growth(readings([1] * 8, [7] * 9)) == 0


def test_a_driver_that_slows_down_or_keeps_everything_misses() -> None:
    leak = [100 * n * MEBIBYTE for n in range(9)]
    cost, each, growth, peak, files, rate = driver.figures([readings([1, 1, 1, 1, 1, 1, 2, 2], leak)], "9 × 9")
    assert (cost.value, cost.met) == (pytest.approx(2), False)
    assert (each.value, each.met) == (pytest.approx(1.25), None)
    assert (growth.value, growth.met) == (pytest.approx(1000), False)
    assert (peak.value, peak.met) == (800, True)
    assert (files.value, files.met) == (2, True)
    assert rate.value == pytest.approx(400)
    assert {figure.suite for figure in (cost, each, growth, peak, files, rate)} == {"study"}
    flat, *_ = driver.figures([readings([1] * 8), readings([3] * 8)], "9 × 9")
    assert (flat.value, flat.met, flat.rounds) == (pytest.approx(1), True, 2)


def test_a_free_comparison_leaves_what_a_trained_one_leaves() -> None:
    config = TrialConfig()
    comparison = driver.Free(config)
    rows = comparison.step()
    assert {row["arm"] for row in rows} == set(config.arms)
    assert all(set(row) | {"trial_id"} == {column.name for column in COLUMNS} for row in rows)
    kinds = {"int": int, "float": float | None, "str": str}
    assert all(isinstance(row[c.name], kinds[c.type]) for row in rows for c in COLUMNS if c.name in row)
    metrics = report(rows, config.baseline, config.treatment)
    assert {name.split("/")[1] for name in metrics if name.startswith("gap/")} == set(METRICS)
    while not comparison.done:
        assert comparison.status == "running"
        comparison.step()
    assert (comparison.epoch, comparison.status) == (config.epochs, "finished")


def test_the_study_is_one_of_asha_and_optuna(tmp_path: Path) -> None:
    file = tmp_path / "driver.yaml"
    file.write_text(yaml.safe_dump(driver.experiment(2000, 10, "offline", "tpe")))
    experiment = experiments.load(str(file))
    assert (experiment.trials, experiment.longest) == (2000, 10)
    assert (experiment.search.sampler, experiment.scheduler.name, experiment.wandb.mode) == ("tpe", "asha", "offline")
    assert experiment.recovery.checkpoints == driver.KEPT


def test_a_free_comparison_is_all_that_the_engines_trainable_asks_for() -> None:
    trainable = driver.FreeTrainable(
        {
            "trial": {"epochs": 2},
            "runtime": Runtime(device="cpu").model_dump(),
            "objective": Objective().model_dump(),
            "dead_run": DeadRun().model_dump(),
            "recovery": Recovery().model_dump(),
            "checkpoints": None,
        }
    )
    results = [trainable.train() for _ in range(2)]
    trainable.stop()
    assert [(result["epoch"], result["status"]) for result in results] == [(1, "running"), (2, "finished")]


@pytest.mark.slow
def test_a_driver_is_measured_in_a_process_of_its_own() -> None:
    found = driver.measured(6, 3, "disabled", "random")
    assert [reading.reports for reading in found] == list(range(1, 19))
    assert all(0 < before.cpu <= after.cpu for before, after in pairwise(found))
    assert min(reading.memory for reading in found) > 50 * MEBIBYTE
    assert 0 < max(reading.checkpoints for reading in found) <= driver.WORKERS * (driver.KEPT + 1)


def test_both_ways_to_propose_and_log_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(driver, "measured", lambda *of: asked.append(of) or readings([1] * 8))
    found = list(driver.suite(trials=9, reports=3, offline=5, rounds=2))
    assert (
        asked == [(9, 3, "disabled", "tpe")] * 2 + [(9, 3, "disabled", "random")] * 2 + [(5, 3, "offline", "tpe")] * 2
    )
    assert len({figure.name for figure in found}) == len(found) == 18
    assert {figure.rounds for figure in found} == {2}
