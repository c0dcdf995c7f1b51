"""What the driver does with what trials report: record, log, show."""

from __future__ import annotations

import math
import re
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

from ray.tune import Callback
from ray.tune.experiment import Trial

from study.queue import Planned
from study.recorder import Recorder, RecordError
from study.trackers.base import Tracker
from trainables.checkpoints import HANG
from trainables.comparison import report
from trainables.places import Place
from trainables.records import BUILT_IN, Columns, Row


class Display(Protocol):
    """Shows a study's progress."""

    def started(self, running: int) -> None:
        """A comparison starts."""

    def epoch(self) -> None:
        """A comparison has trained an epoch."""

    def ended(self, number: int, status: str, epoch: int, objective: float | None, config: Mapping[str, Any]) -> None:
        """A comparison ends; ``objective`` is its value at the end."""


class Watch:
    """Records a study's trials, hands them to trackers and shows them; knows nothing of Ray.

    What happens is recorded at once. Trackers hear of it, in order, when :meth:`tell` is called: by then the worker
    that it is about can have been given its next epoch, and does not wait for them.

    ``proposed_by`` gives for a comparison's number the side whose own search proposed it, where each has one.
    """

    def __init__(
        self,
        recorder: Recorder,
        trackers: Sequence[Tracker],
        display: Display,
        scheduled: str,
        columns: Columns = BUILT_IN,
        proposed_by: Callable[[int], str | None] = lambda number: None,
    ) -> None:
        self._recorder = recorder
        self._trackers = trackers
        self._display = display
        self.scheduled = scheduled
        self._columns = columns
        self._proposed_by = proposed_by
        self._configs: dict[str, Mapping[str, Any]] = {}
        self._numbers: dict[str, int] = {}
        self._untold: deque[Callable[[], None]] = deque()
        self.statuses: Counter[str] = Counter()

    def start(self, planned: Planned) -> None:
        """A comparison starts, or goes on."""
        self._configs[planned.trial_id] = planned.config
        self._numbers[planned.trial_id] = planned.number
        side = self._proposed_by(planned.number)
        self._recorder.start(planned.trial_id, planned.number, planned.configuration, planned.config, side)
        for tracker in self._trackers:
            self._untold.append(partial(tracker.start, planned.trial_id, planned.config))
        self._log(planned.trial_id, self._recorder.rows(planned.trial_id))  # what a tracker has lost in a crash
        self._display.started(len(self._configs))

    def rewind(self, trial_id: str, epoch: int) -> None:
        """A comparison of an earlier run is to go on after ``epoch``."""
        self._recorder.rewind(trial_id, epoch)

    def stopped(self, trial_id: str, reason: str) -> None:
        """A comparison of an earlier run had been stopped when that run broke off."""
        self._recorder.end(trial_id, "stopped", reason)

    def change(self, trial_id: str, epoch: int, config: Mapping[str, Any], parent: str) -> None:
        """A comparison goes on after ``epoch`` under another configuration, from the state of the one ``parent``."""
        self._configs[trial_id] = config
        self._recorder.change(trial_id, epoch, config, parent)

    def add(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """A comparison has trained an epoch (the first time also leaving epoch 0)."""
        rows = result["rows"]
        if not rows:
            return  # it could not even start
        heard = result["objectives"], float(result.get(self.scheduled, math.nan))
        self._recorder.add(trial_id, rows, *heard, result["steps"])
        self._log(trial_id, rows)
        self._display.epoch()

    def _log(self, trial_id: str, rows: Sequence[Row]) -> None:
        config = self._configs[trial_id]
        for epoch, arms in groupby(rows, key=lambda row: row["epoch"]):
            metrics = report(list(arms), config["baseline"], config["treatment"], self._columns)
            for tracker in self._trackers:
                self._untold.append(partial(tracker.log, trial_id, int(epoch or 0), metrics))

    def end(self, trial_id: str, status: str, epoch: int, objective: float | None, error: str | None = None) -> None:
        """A comparison ends."""
        config = self._configs.pop(trial_id)
        self.statuses[status] += 1
        self._recorder.end(trial_id, status, error)
        for tracker in self._trackers:
            self._untold.append(partial(tracker.end, trial_id, status))
        self._display.ended(self._numbers[trial_id], status, epoch, objective, config)

    def tell(self) -> None:
        """Tell the trackers what they have not heard yet."""
        while self._untold:
            self._untold.popleft()()


class Broken(BaseException):
    """The record cannot be written: the run ends. Not an Exception, for Tune would take that for the trial's own."""


class TuneWatch(Callback):
    """Hands what Tune reports to a :class:`Watch`.

    ``clean`` gets the id and status of what has ended, and removes the checkpoints that nothing needs any more.
    """

    def __init__(
        self, watch: Watch, stopper: str, clean: Callable[[str, str], None], say: Callable[[str], None]
    ) -> None:
        self._watch = watch
        self._stopper = stopper
        self._clean = clean
        self._say = say
        self._troubles: set[str] = set()
        self._notes: set[str] = set()
        self._open: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its callbacks into a file of its own, which is never read back."""
        return {}

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """What there was to do for the workers is done, and they train."""
        self._watch.tell()

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Open the trial's record; a trial that starts again goes on with the one it has."""
        if trial.trial_id not in self._open:
            self._open.add(trial.trial_id)
            with breaking():
                self._watch.start(Planned(trial.config["number"], trial.config["trial"], trial.trial_id))

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Record the rows, and take out of the result what Tune would keep copies and statistics of for ever."""
        with breaking():
            self._watch.add(trial.trial_id, result)
        del result["rows"], result["steps"]
        for name in [name for name in result if name == "config" or ("/" in name and name != self._watch.scheduled)]:
            del result[name]
        if (trouble := result.pop("trouble")) and trial.trial_id not in self._troubles:
            self._troubles.add(trial.trial_id)
            self._say(trouble)
        if (note := result.pop("note", None)) and note not in self._notes:
            self._notes.add(note)
            self._say(note)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """The trial finished, diverged, was given up, or was stopped by the scheduler while it ran."""
        last = trial.last_result
        if not last:
            return  # it was still waiting when everything ended
        status, reason = last["status"], last["reason"]
        if status == "running":
            status, reason = "stopped", f"stopped by {self._stopper} after epoch {last['epoch']}"
        with breaking():
            self._watch.end(trial.trial_id, status, last["epoch"], last["objective"], reason)
        self._clean(trial.trial_id, status)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """The trial raised, hung, or lost its worker, more often than it may."""
        if trial.trial_id not in self._open:  # its actor never started
            self.on_trial_start(iteration, trials, trial)
        last = trial.last_result or {}
        with breaking():
            self._watch.end(trial.trial_id, "failed", last.get("epoch", 0), None, _error(trial))
        self._clean(trial.trial_id, "failed")


@contextmanager
def breaking() -> Iterator[None]:
    """Make trouble with the record end Tune's run."""
    try:
        yield
    except RecordError as error:
        raise Broken(str(error)) from error


def _error(trial: Trial) -> str:
    """What a failed trial raised, or where it hung, as it was written down, without colours."""
    texts = []
    hang = (Place(**trial.config["checkpoints"]) / HANG).local
    for file in (hang, Path(trial.error_file or "")):
        if file and file.is_file() and (text := file.read_text("utf-8").strip()):
            texts.append(re.sub(r"\x1b\[[0-9;]*m", "", text))
    return "\n".join(texts) or "its worker left no error"
