"""A study under a budget: killed and resumed it is the same bit for bit, and its rows fall at equal shares."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from study import manifest
from study.recorder import FILENAME
from tests.study.drills import Driver, assert_same, experiment, filter_study
from trainables.config import ARMS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

BUDGET: dict[str, Any] = {
    "budget": {"clock": "compute", "of": "archetype"},
    "schedule": {"name": "linear"},
    "arms": {"filtered": {}, "random": {}, "equal_compute": {}, "rs2": {"selector": {"name": "rs2", "ratio": 0.5}}},
    "space": {"optimizer.lr": {"choice": [0.01, 0.05]}},
}


def test_a_budget_study_that_is_killed_goes_on_bit_for_bit(tmp_path: Path) -> None:
    file = experiment(tmp_path, **BUDGET)
    assert filter_study("run", file, "--dir", "whole", "--no-report", cwd=tmp_path).returncode == 0
    study = tmp_path / "study"
    Driver("run", file, "--dir", "study", study=study).until_epochs(4).kill()
    Driver("resume", "study", study=study).until_epochs(9).kill()
    _, errors = (driver := Driver("resume", "study", study=study)).end()
    assert driver.process.returncode == 0, errors
    assert_same(study, tmp_path / "whole")
    with closing(sqlite3.connect(study / FILENAME)) as connection:
        rows = pd.read_sql("SELECT * FROM epochs", connection)
    finished = rows.groupby("trial_id")["epoch"].transform("max") == 8
    spent = rows[finished].pivot(index=["trial_id", "epoch"], columns="arm", values="cumulative_compute")
    for arm, leader in (("filtered", "archetype"), ("rs2", "archetype"), ("equal_compute", "filtered")):
        over = spent[arm] - spent[leader]
        assert (over >= 0).all(), arm
        assert (over < 3 * 16).all() or arm == "filtered", arm  # which may probe all of the data for an update
    steps = rows.pivot(index=["trial_id", "epoch"], columns="arm", values="cumulative_steps")
    assert (steps["random"] == steps["filtered"]).all()
    done = filter_study("status", "study", cwd=tmp_path)
    assert done.returncode == 0
    assert "epochs trained" in done.stdout


def test_all_known_arms_go_on_bit_for_bit(tmp_path: Path) -> None:
    sections: dict[str, Any] = {
        "dataset": {"samples_per_class": 30, "validation_fraction": 0.2, "label_noise": 0.1},
        "arms": {name: {} for name in ARMS},
        "epochs": 5,
        "space": {"optimizer.lr": {"choice": [0.05]}},
        "scheduler": {},
    }
    file = experiment(tmp_path, **sections)
    assert filter_study("run", file, "--dir", "whole", "--no-report", cwd=tmp_path, timeout=600).returncode == 0
    study = tmp_path / "study"
    Driver("run", file, "--dir", "study", study=study).until_epochs(3).kill()
    _, errors = (driver := Driver("resume", "study", study=study)).end(600)
    assert driver.process.returncode == 0, errors
    assert_same(study, tmp_path / "whole")
    with closing(sqlite3.connect(study / FILENAME)) as connection:
        arms = pd.read_sql("SELECT DISTINCT arm FROM epochs", connection)["arm"]
    assert sorted(arms) == sorted(ARMS)


def test_reference_seconds_are_measured_once_and_kept_over_a_kill(tmp_path: Path) -> None:
    seconds = {"clock": "reference_seconds", "of": "archetype"}
    file = experiment(tmp_path, budget=seconds, space={"optimizer.lr": {"choice": [0.01, 0.05]}}, scheduler={})
    study = tmp_path / "study"
    Driver("run", file, "--dir", "study", study=study).until_epochs(4).kill()
    measured = manifest.read(study)["reference"]
    _, errors = (driver := Driver("resume", "study", study=study)).end()
    assert driver.process.returncode == 0, errors
    assert manifest.read(study)["reference"] == measured
    ((forward, update),) = measured.values()
    with closing(sqlite3.connect(study / FILENAME)) as connection:
        rows = pd.read_sql("SELECT * FROM epochs", connection)
    trained = rows[rows["epoch"] > 0]
    counted = forward * (trained["samples_probed"] + trained["samples_trained"])
    counted += (update - forward) * trained["samples_backward"]
    assert trained["reference_seconds"].to_numpy() == pytest.approx(counted.to_numpy())
    spent = rows.pivot(index=["trial_id", "epoch"], columns="arm", values="cumulative_reference_seconds")
    over = spent["filtered"] - spent["archetype"]
    assert (over >= -1e-12).all()
    updates = rows.pivot(index=["trial_id", "epoch"], columns="arm", values="cumulative_steps")
    assert (updates["filtered"] != updates["archetype"]).any()
