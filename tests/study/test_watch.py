from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from analysis.load import load
from study.history import read
from study.queue import Planned
from study.recorder import Recorder
from study.watch import TuneWatch, Watch
from trainables.config import TrialConfig

CONFIG = TrialConfig.from_dotted({"model.name": "FCNet10", "batch_size": 16}).to_dotted()


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


class Told:
    """A logger that remembers."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def start(self, trial_id: str, config: Mapping[str, Any]) -> None:
        self.told.append(("start", trial_id))

    def log(self, trial_id: str, epoch: int, metrics: Mapping[str, float]) -> None:
        self.told.append((trial_id, epoch, dict(metrics)))

    def end(self, trial_id: str, status: str) -> None:
        self.told.append(("end", trial_id, status))


def test_a_trial_is_recorded_with_its_whole_configuration_logged_and_shown(tmp_path: Path) -> None:
    log, logger = Log(), Told()
    first, second = Planned(0, CONFIG), Planned(1, {**CONFIG, "seed": 1})
    rows = [{"arm": arm, "epoch": epoch, "test_accuracy": 0.5} for epoch in (0, 1) for arm in ("archetype", "filtered")]
    with Recorder(tmp_path) as recorder:
        watch = Watch(recorder, [logger], log, "filtered/test_accuracy")
        watch.start(first)
        assert not logger.told  # the comparison's worker does not wait for them
        watch.tell()
        assert logger.told == [("start", first.trial_id)]
        result = {"rows": rows, "steps": [], "objectives": [0.125], "filtered/test_accuracy": 0.5}
        watch.add(first.trial_id, result)
        watch.start(second)
        watch.end(first.trial_id, "stopped", 1, 0.125, "stopped by asha after epoch 1")
        watch.tell()
    assert log.events == [
        ("started", 1),
        ("epoch",),
        ("started", 2),
        ("ended", 0, "stopped", 1, 0.125, "FCNet10"),
    ]
    assert [event[:2] for event in logger.told] == [
        ("start", first.trial_id),
        (first.trial_id, 0),
        (first.trial_id, 1),
        ("start", second.trial_id),
        ("end", first.trial_id),
    ]
    assert logger.told[2][2]["filtered/test_accuracy"] == 0.5
    trials = load(tmp_path).trials.set_index("trial_id")
    assert list(trials["status"]) == ["stopped", "interrupted"]
    assert list(trials["number"]) == [0, 1]
    assert trials["configuration"].nunique() == 1
    assert trials.loc[first.trial_id, "optimizer.weight_decay"] == 5e-4
    assert trials.loc[first.trial_id, "error"] == "stopped by asha after epoch 1"
    assert watch.statuses == {"stopped": 1}
    (heard,) = [(r.epoch, r.objectives, r.scheduled) for r in read(tmp_path).reports]
    assert heard == (1, (0.125,), 0.5)


def test_a_trial_whose_configuration_cannot_be_is_recorded_as_it_is(tmp_path: Path) -> None:
    planned = Planned(0, {"optimizer.momentum": 0, "optimizer.nesterov": True, "model.name": "FCNet10", "seed": 0})
    with Recorder(tmp_path) as recorder:
        watch = Watch(recorder, [], Log(), "objective")
        watch.start(planned)
        watch.end(planned.trial_id, "failed", 0, None, "nesterov needs a momentum above 0")
    trial = load(tmp_path).trials.iloc[0]
    assert trial["status"] == "failed"
    assert trial["optimizer.nesterov"]
    assert "nesterov needs" in trial["error"]


def test_whoever_removes_checkpoints_hears_how_a_comparison_ended(tmp_path: Path) -> None:
    cleaned: list[tuple[str, str]] = []
    last = {"status": "running", "reason": None, "epoch": 3, "objective": 0.1}
    config = {"checkpoints": {"root": str(tmp_path)}, "trial": dict(CONFIG)}
    trials = [
        SimpleNamespace(trial_id=str(n), last_result=last, config={**config, "number": n}, error_file=None)
        for n in range(2)
    ]
    with Recorder(tmp_path) as recorder:
        watch = TuneWatch(Watch(recorder, [], Log(), "objective"), "asha", lambda *how: cleaned.append(how), print)
        for trial, end in zip(trials, (watch.on_trial_complete, watch.on_trial_error), strict=True):
            watch.on_trial_start(1, [], trial)
            end(1, [], trial)
    assert cleaned == [("0", "stopped"), ("1", "failed")]


def test_tune_keeps_no_metrics_but_what_is_scheduled_by(tmp_path: Path) -> None:
    planned = Planned(0, CONFIG)
    rows = [{"arm": arm, "epoch": 1, "test_accuracy": 0.5} for arm in ("archetype", "filtered")]
    metrics = {"filtered/test_accuracy": 0.5, "archetype/test_accuracy": 0.5, "gap/test_accuracy": 0.0}
    told = {"epoch": 1, "status": "running", "reason": None, "objective": 0.0, "objectives": [0.0], "done": False}
    result = {"rows": rows, "steps": [], "trouble": None, "config": {"trial": dict(CONFIG)}, **told, **metrics}
    with Recorder(tmp_path) as recorder:
        watch = Watch(recorder, [], Log(), "filtered/test_accuracy")
        watch.start(planned)
        TuneWatch(watch, "asha", print, print).on_trial_result(
            1, [], SimpleNamespace(trial_id=planned.trial_id), result
        )
    assert result == {**told, "filtered/test_accuracy": 0.5}
