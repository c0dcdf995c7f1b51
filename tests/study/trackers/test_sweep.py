"""A sweep of W&B's own: its agent's code builds our command line, and the run is the sweep's. No server is there."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import wandb
import yaml
from wandb.wandb_agent import Agent

import filter_study
from study import trackers
from study.experiment import Wandb, load
from study.trackers.weights_and_biases import keep_tables
from tests.study.trackers.test_weights_and_biases import config, records, rows

SWEEP = Path(__file__).parents[3] / "examples" / "sweep.yaml"


@pytest.mark.slow
def test_what_a_sweep_s_agent_runs_is_a_comparison_in_the_sweep_s_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = yaml.safe_load(SWEEP.read_text())
    offline = [word.replace("online", "offline") for word in sweep["command"]]
    small = ["dataset.samples_per_class=20", "epochs=1", "model.name=FCNet10"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("WANDB_SWEEP_ID", "a1b2c3d4")
    for name in (wandb.env.RUN_ID, wandb.env.SWEEP_PARAM_PATH):
        monkeypatch.setenv(name, "")  # which the agent sets for good
    agent = Agent(api=None, queue=None, sweep_id="a1b2c3d4")
    agent._sweep_command = [*offline, *small]  # which it would read from the sweep on the server
    proposed = {"optimizer.lr": {"value": 0.03}, "batch_size": {"value": 32}, "schedule.name": {"value": "none"}}
    agent._command_run({"run_id": "x7y8z9", "program": sweep["program"], "args": proposed})
    process = agent._run_processes["x7y8z9"]
    assert process.wait() == 0
    (file,) = tmp_path.glob("studies/train-quickstart-*/wandb/offline-run-*/run-x7y8z9.wandb")
    recorded = config(file)
    assert (recorded["optimizer.lr"], recorded["batch_size"], recorded["epochs"]) == (0.03, 32, 1)
    (run,) = [record.run for record in records(file) if record.WhichOneof("record_type") == "run"][:1]
    assert run.sweep_id == "a1b2c3d4"
    assert sweep["metric"]["name"] in rows(file)[-1]
    (home,) = tmp_path.glob("studies/train-quickstart-*")
    assert filter_study.load(home).trials["optimizer.lr"].tolist() == [0.03]


def test_every_key_of_the_sweep_is_one_of_the_experiment() -> None:
    space = yaml.safe_load(SWEEP.read_text())["parameters"]
    values = {key: of.get("values", [of.get("min")])[0] for key, of in space.items()}
    assert filter_study.compare(values | {"dataset.samples_per_class": 20, "epochs": 1}) is not None


def artifacts(folder: Path) -> list[Any]:
    files = folder.glob("wandb/offline-run-*/*.wandb")
    return [
        record.request.log_artifact.artifact if record.HasField("request") else record.artifact
        for file in files
        for record in records(file)
        if record.HasField("artifact") or (record.HasField("request") and record.request.HasField("log_artifact"))
    ]


@pytest.mark.slow
def test_the_exported_tables_are_an_artifact_if_that_is_asked_for(tmp_path: Path) -> None:
    home = tmp_path / "study"
    small = {"dataset.samples_per_class": 20, "epochs": 1, "model.name": "FCNet10", "wandb.artifact": True}
    done = subprocess.run(
        [
            *(sys.executable, "-P", "-c", "from study.cli import main; main()", "train", "quickstart", "--no-report"),
            *("--dir", str(home), *(f"{key}={value}" for key, value in small.items())),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (artifact,) = artifacts(home)
    assert artifact.type == "tables"
    names = {entry.path for entry in artifact.manifest.contents}
    assert {"trials.parquet", "epochs.parquet", "pairs.parquet"} <= names


def test_tables_that_w_and_b_cannot_keep_are_a_sentence(tmp_path: Path) -> None:
    said = keep_tables(Wandb(), tmp_path, "study", [tmp_path / "none.parquet"])
    assert said is not None
    assert said.startswith("W&B has not got the tables: ")


def test_tables_that_cannot_be_exported_are_a_sentence_too(tmp_path: Path) -> None:
    said: list[str] = []
    trackers.finish(load("quickstart", ["wandb.artifact=true"]), tmp_path / "nowhere", said.append)
    assert len(said) == 1
    assert said[0].startswith("W&B has not got the tables: ")
