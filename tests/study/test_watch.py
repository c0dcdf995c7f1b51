from collections.abc import Mapping
from pathlib import Path
from typing import Any

from analysis.load import load
from study.experiment import Wandb
from study.recorder import Recorder
from study.watch import Watch
from study.weights_and_biases import WandbLogger

TRIAL = {"model.name": "FCNet10", "batch_size": 16}


class Log:
    """A display that remembers."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def started(self, running: int) -> None:
        self.events.append(("started", running))

    def epoch(self) -> None:
        self.events.append(("epoch",))

    def ended(self, number: int, status: str, epoch: int, objective: float | None, config: Mapping[str, Any]) -> None:
        self.events.append(("ended", number, status, epoch, objective, config["model.name"]))


def watch(folder: Path, recorder: Recorder, log: Log) -> Watch:
    return Watch(recorder, WandbLogger(Wandb(mode="disabled"), folder, "x"), log)


def test_a_trial_is_recorded_with_its_whole_configuration_and_shown(tmp_path: Path) -> None:
    log = Log()
    with Recorder(tmp_path) as recorder:
        seen = watch(tmp_path, recorder, log)
        seen.start("a", TRIAL)
        seen.add("a", [{"arm": "filtered", "epoch": 1, "test_accuracy": 0.5}], 0.125)
        seen.start("b", TRIAL)
        seen.end("a", "stopped", 1, 0.125)
    assert log.events == [
        ("started", 1),
        ("epoch",),
        ("started", 2),
        ("ended", 0, "stopped", 1, 0.125, "FCNet10"),
    ]
    trials = load(tmp_path).trials.set_index("trial_id")
    assert list(trials["status"]) == ["stopped", "interrupted"]
    assert list(trials["number"]) == [0, 1]
    assert trials.loc["a", "optimizer.weight_decay"] == 5e-4
    assert seen.statuses == {"stopped": 1}


def test_a_trial_whose_configuration_cannot_be_is_recorded_as_it_is(tmp_path: Path) -> None:
    with Recorder(tmp_path) as recorder:
        seen = watch(tmp_path, recorder, Log())
        seen.start("a", {"optimizer.momentum": 0, "optimizer.nesterov": True, "model.name": "FCNet10"})
        seen.end("a", "failed", 0, None, "nesterov needs a momentum above 0")
    trial = load(tmp_path).trials.iloc[0]
    assert trial["status"] == "failed"
    assert trial["optimizer.nesterov"]
    assert "nesterov needs" in trial["error"]
