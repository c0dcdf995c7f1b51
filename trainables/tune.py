"""A comparison as a Ray Tune trainable: a thin adapter, and the only module here that imports ray."""

from __future__ import annotations

import contextlib
import faulthandler
import math
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import torch
from ray import tune

from trainables.checkpoints import HANG, Checkpoints
from trainables.comparison import better, dead, prepare, report
from trainables.config import DeadRun, Objective, Recovery, Runtime, TrialConfig
from trainables.imports import CodeError, provide
from trainables.places import Place
from trainables.records import Row

CHECKPOINT = "comparison.pt"
GIBIBYTE = 2**30


class ComparisonTrainable(tune.Trainable):
    """One ``step`` is one epoch of every arm; the first also leaves the rows of epoch 0, before training.

    Its configuration has the parts ``trial`` (dotted keys of a TrialConfig), ``runtime``, ``objective``, ``dead_run``,
    ``recovery``, ``code`` (folders of the researcher's own code), ``checkpoints``: this comparison's own folder, a
    Place as plain values, or None to keep none; ``each``, where arms are tuned on their own: the ``ARM/METRIC`` of
    each of them; and ``only``, where one arm alone is to be trained, with those that it follows.
    A result has the rows (``rows``; ``steps``, if traced), the search's numbers (``objectives``, and the first of them
    as ``objective``), ``epoch``, ``status`` (running, finished, diverged, stopped or failed), its ``reason`` and the
    metrics of :func:`trainables.comparison.report` and :func:`trainables.comparison.better`. A diverged comparison is
    done, with objectives NaN; and so is one whose data or configuration cannot be, or where code of the
    researcher's own raises: to try that again would not help. After the objectives come the values of ``each``, where
    of a diverged comparison those of the arms alone that diverged are NaN.

    A comparison starts from the newest of its checkpoints that verifies: so it goes on after its worker died, in
    whatever process and on whatever node. They are written at the beginning of a step, when the driver has recorded
    the epoch that they hold, and thus never hold what the record lacks.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Build the comparison anew; nothing of an earlier trial in this actor is kept but the data set."""
        provide(config.get("code", ()))
        self.runtime = Runtime.model_validate(config["runtime"])
        self.dead_run = DeadRun.model_validate(config["dead_run"])
        self.recovery = Recovery.model_validate(config["recovery"])
        self.trial = TrialConfig.from_dotted(config["trial"])
        self.objective = Objective.model_validate(config["objective"], context={"columns": self.trial.columns})
        self.each: Sequence[str] = config.get("each", ())
        self.only: str | None = config.get("only")
        self.folder = Place(**config["checkpoints"]) if config["checkpoints"] else None
        self.checkpoints = Checkpoints(self.folder, self.recovery.checkpoints) if self.folder else None
        self.saved_at = time.monotonic()
        self.hang = _traceback_file(self.folder)
        _limit_memory(self.runtime.memory_gib)
        self.trouble: Exception | None = None
        self.comparison: Any = None  # the one before is gone before this one takes the GPU's memory
        try:
            with self._watched():
                self.comparison = self._continued()
        except Exception as error:  # for the first step to raise: Tune never tries again what fails in reset_config
            self.trouble = error

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial's configuration, so that Tune reuses this actor."""
        self.cleanup()
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Advance every arm by one epoch."""
        if self.trouble:
            return self._refusal(self.trouble)
        try:
            with self._watched():
                trouble = self._save_if_due()
                before = self.comparison.step() if self.comparison.epoch < 0 else []
                rows = [] if self.comparison.done else self.comparison.step()
        except CodeError as error:
            return self._refusal(error)
        roles = self.trial.baseline, self.trial.treatment
        metrics = report(rows or before, *roles, self.trial.columns)
        objectives = self.objective.values(metrics, self.trial.baseline)
        status, reason = self.comparison.status, self.comparison.reason
        if status == "diverged":
            objectives = [float("nan")] * len(objectives)
        elif status == "running" and (reason := self._dead(rows)):
            status = "stopped"
        objectives += [
            math.nan if name.partition("/")[0] in self.comparison.diverged else metrics.get(name, math.nan)
            for name in self.each
        ]
        return {
            "rows": before + rows,
            "steps": self.comparison.trace() if self.runtime.trace else [],
            "epoch": self.comparison.epoch,
            "status": status,
            "reason": reason,
            "trouble": trouble,
            "note": self.comparison.note,
            "objective": objectives[0],
            "objectives": objectives,
            "done": status != "running",
            **metrics,
            **better(metrics, *roles, self.trial.columns),
        }

    def _dead(self, rows: list[Row]) -> str | None:
        return dead(rows, self.comparison.chance, self.dead_run, self.trial.evaluate.every)

    def _refusal(self, error: Exception) -> dict[str, Any]:
        """The one result of a comparison that cannot be; what may go better another time is raised."""
        if not isinstance(error, ValueError):
            raise error
        values = [float("nan")] * (len(self.objective.metrics) + len(self.each))
        epoch = max(self.comparison.epoch - 1, 0) if self.comparison else 0
        nothing: dict[str, Any] = {"rows": [], "steps": [], "epoch": epoch, "trouble": None, "note": None, "done": True}
        return {**nothing, "status": "failed", "reason": str(error), "objective": values[0], "objectives": values}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write everything that the comparison's future depends on, where Tune itself asks for it: it is to wait.

        The epoch has been recorded, so that the comparison's own checkpoint can be written likewise.
        """
        torch.save(self.comparison.state_dict(), Path(checkpoint_dir) / CHECKPOINT)
        self._save()

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        """Continue from what :meth:`save_checkpoint` wrote, for this comparison or another of its population.

        What this one's own checkpoint holds stays, where that is later. No pickled code is read.
        """
        if self.trouble:
            return
        state = torch.load(Path(checkpoint_dir) / CHECKPOINT, map_location="cpu", weights_only=True)
        if self.comparison.epoch <= state["epoch"]:
            self.comparison.adopt(state)
            self._save()

    def _continued(self) -> Any:
        """The comparison at its newest checkpoint that can be used, or at its start."""
        for _, state in self.checkpoints.newest() if self.checkpoints else ():
            comparison = prepare(self.trial, self.runtime, self.only)
            try:
                if state["config"]["seed"] != self.trial.seed:
                    continue
                comparison.adopt(state)  # its numbers may have changed, where it is one of a population
            except (
                ValueError,
                KeyError,
                RuntimeError,
                TypeError,
                AttributeError,
            ):  # of another configuration, or another version of the program
                continue
            return comparison
        return prepare(self.trial, self.runtime, self.only)

    def _save_if_due(self) -> str | None:
        """Keep a checkpoint of the epoch before; what went wrong, for that ends no training."""
        due = time.monotonic() - self.saved_at >= self.recovery.checkpoint_seconds
        return self._save() if due and self.comparison.epoch >= 0 else None

    def _save(self) -> str | None:
        """Keep a checkpoint of where the comparison is; what went wrong."""
        if self.checkpoints is None:
            return None
        self.saved_at = time.monotonic()
        try:
            self.checkpoints.save(self.comparison.epoch, self.comparison.state_dict())
        except OSError as error:
            return f"no checkpoint of epoch {self.comparison.epoch} could be written to {self.folder}: {error}"
        return None

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """End this process, whatever it hangs in, when the time is over; where it hung stands in the file HANG."""
        faulthandler.dump_traceback_later(self.recovery.hang_seconds, exit=True, file=self.hang)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()

    def cleanup(self) -> None:
        """Close what is open."""
        if self.hang is not sys.__stderr__:
            self.hang.close()


def _traceback_file(folder: Place | None) -> TextIO:
    """Where the watchdog writes: beside the checkpoints, where that is a folder that can be written."""
    if folder and folder.local:
        with contextlib.suppress(OSError):
            folder.local.mkdir(parents=True, exist_ok=True)
            return (folder.local / HANG).open("w")
    assert sys.__stderr__ is not None
    return sys.__stderr__


def _limit_memory(gibibytes: float | None) -> None:
    """Let a comparison that allocates too much fail alone, by a MemoryError, before the machine is short of memory."""
    if gibibytes is not None:
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        wanted = int(gibibytes * GIBIBYTE)
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
