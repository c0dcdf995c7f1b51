"""What the driver does with what trials report: record, log, show."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

from ray.tune import Callback
from ray.tune.experiment import Trial

from study.recorder import Recorder
from study.weights_and_biases import WandbLogger
from trainables.comparison import report
from trainables.config import TrialConfig
from trainables.records import Row


class Display(Protocol):
    """Shows a study's progress."""

    def started(self, running: int) -> None:
        """A comparison starts."""

    def epoch(self) -> None:
        """A comparison has trained an epoch."""

    def ended(self, number: int, status: str, epoch: int, objective: float | None, config: Mapping[str, Any]) -> None:
        """A comparison ends; ``objective`` is its value at the end."""


class Watch:
    """Records a study's trials, logs them to W&B and shows them; knows nothing of Ray."""

    def __init__(self, recorder: Recorder, wandb: WandbLogger, display: Display) -> None:
        self._recorder = recorder
        self._wandb = wandb
        self._display = display
        self._configs: dict[str, dict[str, Any]] = {}
        self._numbers: dict[str, int] = {}
        self.statuses: Counter[str] = Counter()

    def start(self, trial_id: str, values: Mapping[str, Any]) -> None:
        """A trial starts under these dotted keys."""
        config = self._configs[trial_id] = _complete(values)
        number = self._numbers.setdefault(trial_id, len(self._numbers))
        self._recorder.start(trial_id, number, config)
        self._wandb.start(trial_id, config)
        self._display.started(len(self._configs))

    def add(self, trial_id: str, rows: Sequence[Row], objective: float | None, steps: Sequence[Row] = ()) -> None:
        """A trial leaves the rows of one epoch, or of epochs 0 and 1, and of its updates if they are traced."""
        self._recorder.add(trial_id, rows, objective, steps)
        config = self._configs[trial_id]
        for epoch, arms in groupby(rows, key=lambda row: row["epoch"]):
            self._wandb.log(trial_id, int(epoch or 0), report(list(arms), config["baseline"], config["treatment"]))
        self._display.epoch()

    def end(self, trial_id: str, status: str, epoch: int, objective: float | None, error: str | None = None) -> None:
        """A trial ends."""
        config = self._configs.pop(trial_id)
        self.statuses[status] += 1
        self._recorder.end(trial_id, status, error)
        self._wandb.end(trial_id, status)
        self._display.ended(self._numbers[trial_id], status, epoch, objective, config)


def _complete(values: Mapping[str, Any]) -> dict[str, Any]:
    """The whole configuration of these dotted keys; as they are if a trial with them is bound to fail."""
    try:
        return TrialConfig.from_dotted(values).to_dotted()
    except ValueError:
        return dict(values)


def not_finite(arms: Sequence[str]) -> str | None:
    """The error of a trial in which these arms diverged; None where none did."""
    return f"training loss is not finite: {', '.join(arms)}" if arms else None


def _error(trial: Trial) -> str:
    """What a failed trial raised, as Ray wrote it down, without colours."""
    file = Path(trial.error_file or "")
    text = file.read_text("utf-8") if file.is_file() else "its worker left no error"
    return re.sub(r"\x1b\[[0-9;]*m", "", text).strip()


class TuneWatch(Callback):
    """Hands what Tune reports to a :class:`Watch`."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._open: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its callbacks into a file of its own, which is never read back."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Open the trial's record; a trial that starts again goes on with the one it has."""
        if trial.trial_id not in self._open:
            self._open.add(trial.trial_id)
            self._watch.start(trial.trial_id, trial.config["trial"])

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Take the rows out of the result, so that Tune need not keep them."""
        self._watch.add(trial.trial_id, result.pop("rows"), result["objective"], result.pop("steps"))

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """The trial finished, diverged, or was stopped by the scheduler while it ran."""
        last = trial.last_result
        status = "stopped" if last["status"] == "running" else last["status"]
        self._watch.end(trial.trial_id, status, last["epoch"], last["objective"], not_finite(last["diverged"]))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """The trial raised, or its worker died."""
        if trial.trial_id not in self._open:  # its actor never started
            self.on_trial_start(iteration, trials, trial)
        last = trial.last_result or {}
        self._watch.end(trial.trial_id, "failed", last.get("epoch", 0), None, _error(trial))
