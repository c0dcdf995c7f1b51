"""Trackers of one's own and MLflow: what they are told, and that no fault of theirs touches a study."""

import json
import math
import os
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import filter_study
from study import extras, trackers
from study.experiment import Experiment, Mlflow, load
from study.trackers.mlflow import MlflowTracker, address
from study.trackers.own import OwnTracker
from trainables.config import Used

LAB = textwrap.dedent(
    '''
    import json


    class Journal:
        """Writes all that it is told to a file."""

        def __init__(self, folder, study, name="journal.jsonl"):
            self.file = folder / name
            self.say("made", study)

        def say(self, *told):
            with self.file.open("a") as file:
                file.write(json.dumps(told) + "\\n")

        def start(self, trial_id, config):
            self.say("start", trial_id, config["optimizer.lr"])
            config.clear()

        def log(self, trial_id, epoch, metrics):
            self.say("log", trial_id, epoch, metrics["filtered/test_accuracy"])

        def end(self, trial_id, status):
            self.say("end", trial_id, status)

        def close(self):
            self.say("close")


    class Broken(Journal):
        """Gives up in the second epoch, in a way that would end a program."""

        def log(self, trial_id, epoch, metrics):
            if epoch == 1:
                raise SystemExit("the lab's server is down")
            super().log(trial_id, epoch, metrics)


    value = 3
    '''
)

SMALL = {
    "model.name": "FCNet10",
    "dataset.samples_per_class": 20,
    "epochs": 2,
    "space": {"optimizer.lr": {"choice": [0.01, 0.1]}},
    "search": {"name": "grid"},
    "scheduler": {"name": "none"},
    "wandb.mode": "disabled",
}


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "lab"
    folder.mkdir()
    (folder / "lab_of_trackers.py").write_text(LAB)
    monkeypatch.setattr(sys, "path", [*sys.path])
    sys.modules.pop("lab_of_trackers", None)
    return folder


def lines(file: Path) -> list[Any]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.slow
def test_a_tracker_of_one_s_own_hears_of_every_epoch_and_one_that_fails_touches_no_study(
    lab: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = {"mine": {"use": "lab_of_trackers:Journal"}, "late": {"use": "lab_of_trackers:Broken", "name": "late.jsonl"}}
    home = tmp_path / "study"
    settings = SMALL | {"trackers": own, "mlflow.uri": str(tmp_path / "runs")}
    study = filter_study.run(set=settings, dir=home, code=[lab], report=False, progress=False)
    assert study.trials["status"].tolist() == ["finished", "finished"]
    told = lines(home / "journal.jsonl")
    assert told[0][0] == "made"
    assert told[-1] == ["close"]
    for trial, lr in zip(study.trials["trial_id"], study.trials["optimizer.lr"], strict=True):
        assert ["start", trial, lr] in told
        rows = study.epochs[(study.epochs["trial_id"] == trial) & (study.epochs["arm"] == "filtered")]
        assert [one[2:] for one in told if one[:2] == ["log", trial]] == rows[
            ["epoch", "test_accuracy"]
        ].values.tolist()
        assert ["end", trial, "finished"] in told
    assert all(one[2] == 0 for one in lines(home / "late.jsonl") if one[0] == "log")
    said = "trackers.late logging is off for the rest of this study: the lab's server is down"
    assert said in capsys.readouterr().err
    assert said in (home / "messages.log").read_text()
    assert {run.info.status for run in runs(tmp_path / "runs")} == {"FINISHED"}
    again = filter_study.resume(home, set={"trackers": {}}, report=False, progress=False)
    assert again.trials["trial_id"].tolist() == study.trials["trial_id"].tolist()


def checked(**sections: Any) -> Experiment:
    keys = [f"{key}={json.dumps(value)}" for key, value in {**SMALL, **sections}.items()]
    return load("quickstart", keys)


def test_a_tracker_that_cannot_be_is_refused_before_anything_runs(lab: Path) -> None:
    code = {"code": [str(lab)]}
    with pytest.raises(filter_study.UserError, match=r"trackers\.mine: .*there is no module 'nowhere'"):
        trackers.check(checked(trackers={"mine": {"use": "nowhere:Tracker"}}))
    wrong = {"a": {"use": "lab_of_trackers:Journal", "nmae": 1}, "b": {"use": "lab_of_trackers:value"}}
    with pytest.raises(filter_study.UserError) as raised:
        trackers.check(checked(trackers=wrong, **code))
    assert "trackers.a: nmae: unknown option; did you mean 'name'?" in str(raised.value)
    assert "trackers.b: is not callable" in str(raised.value)
    with pytest.raises(filter_study.UserError, match=r"trackers.mine.use: is missing"):
        checked(trackers={"mine": {"option": 1}})
    with pytest.raises(filter_study.UserError, match=r"trackers"):
        checked(trackers={"not a name": {"use": "lab_of_trackers:Journal"}}, **code)


def test_what_a_tracker_does_when_it_is_made_cannot_harm_either(lab: Path, tmp_path: Path) -> None:
    sys.path.append(str(lab))
    tracker = OwnTracker("mine", Used(use="lab_of_trackers:Journal", name="no/such/folder"), tmp_path, "study")
    tracker.start("0000-a", {"optimizer.lr": 1})
    tracker.log("0000-a", 0, {"filtered/test_accuracy": 0.5})
    tracker.close()
    assert tracker.failure is not None
    assert "trackers.mine logging is off" in tracker.failure


def runs(folder: Path) -> list[Any]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=address(str(folder)))
    home = client.get_experiment_by_name("filter-study")
    assert home is not None
    return list(client.search_runs([home.experiment_id]))


@pytest.fixture
def mlflow(tmp_path: Path) -> Callable[[str], MlflowTracker]:
    return lambda study: MlflowTracker(Mlflow(uri=str(tmp_path / "runs")), study)


def test_mlflow_has_a_run_for_every_comparison(mlflow: Callable[[str], MlflowTracker], tmp_path: Path) -> None:
    before = dict(os.environ)
    tracker = mlflow("study-1")
    many = {f"key{number}": number for number in range(150)}
    tracker.start("0000-a", {"optimizer.lr": 0.25, "model.name": "LeNet", "dataset.classes": None, **many})
    for epoch in range(3):
        tracker.log("0000-a", epoch, {"gap/test_accuracy": 0.1 * epoch, "gap/test_mean_loss": math.nan})
    tracker.end("0000-a", "finished")
    tracker.start("0001-b", {})
    tracker.close()
    assert tracker.failure is None
    found = {run.info.run_name: run for run in runs(tmp_path / "runs")}
    assert set(found) == {"0000-a", "0001-b"}
    first = found["0000-a"]
    assert first.data.params["optimizer.lr"] == "0.25"
    assert first.data.params["key149"] == "149"
    assert "dataset.classes" not in first.data.params
    assert first.data.metrics["gap/test_accuracy"] == pytest.approx(0.2)
    assert first.data.tags["filter_study.status"] == "finished"
    assert (first.info.status, found["0001-b"].info.status) == ("FINISHED", "KILLED")
    assert {name: value for name, value in os.environ.items() if before.get(name) != value}.keys() <= {
        "_MLFLOW_TELEMETRY_SESSION_ID"
    }


def test_a_comparison_that_goes_on_stays_one_run_of_mlflow_s(
    mlflow: Callable[[str], MlflowTracker], tmp_path: Path
) -> None:
    from mlflow.tracking import MlflowClient

    for epochs in (range(3), range(6)):  # what was logged before is said again
        tracker = mlflow("study-1")
        tracker.start("0000-a", {"optimizer.lr": 0.25})
        for epoch in epochs:
            tracker.log("0000-a", epoch, {"x": epoch})
        tracker.close()
        assert tracker.failure is None
    other = mlflow("study-2")
    other.start("0000-a", {"optimizer.lr": 0.25})
    other.close()
    assert len(runs(tmp_path / "runs")) == 2
    (run,) = [run for run in runs(tmp_path / "runs") if run.data.tags["filter_study.study"] == "study-1"]
    history = MlflowClient(tracking_uri=address(str(tmp_path / "runs"))).get_metric_history(run.info.run_id, "x")
    assert [(point.step, point.value) for point in history] == [(epoch, epoch) for epoch in range(6)]


def test_a_server_of_mlflow_s_that_is_gone_ends_tracking_alone() -> None:
    tracker = MlflowTracker(Mlflow(uri="http://127.0.0.1:9"), "study")
    tracker.start("0000-a", {})
    tracker.log("0000-a", 0, {"x": 1.0})
    tracker.end("0000-a", "finished")
    tracker.close()
    assert tracker.failure is not None
    assert tracker.failure.startswith("MLflow logging is off for the rest of this study: ")


def test_mlflow_that_is_not_installed_is_said_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = checked(**{"mlflow.uri": "runs"})
    monkeypatch.setattr(trackers.util, "find_spec", lambda name: None)
    with pytest.raises(extras.MissingError, match=r"pip install 'filter-study\[mlflow\]'"):
        trackers.check(experiment)
