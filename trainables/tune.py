"""A comparison as a Ray Tune trainable: a thin adapter, and the only module here that imports ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from ray import tune

from trainables.comparison import prepare, report
from trainables.config import Objective, Runtime, TrialConfig

CHECKPOINT = "comparison.pt"


class ComparisonTrainable(tune.Trainable):
    """One ``step`` is one epoch of every arm; the first also leaves the rows of epoch 0, before training.

    Its configuration has three parts: ``trial`` (dotted keys of a TrialConfig), ``runtime`` and ``objective``.
    A result has the rows (``rows``; ``steps``, if traced), the search's scalar (``objective``), ``epoch``, ``status``
    (running, finished or diverged), the diverged arms and the metrics of :func:`trainables.comparison.report`.
    A diverged comparison is done, with objective NaN.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Build the comparison anew; nothing of an earlier trial in this actor is kept but the data set."""
        self.objective = Objective.model_validate(config["objective"])
        self.runtime = Runtime.model_validate(config["runtime"])
        self.comparison = prepare(TrialConfig.from_dotted(config["trial"]), self.runtime)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial's configuration, so that Tune reuses this actor."""
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Advance every arm by one epoch."""
        trial = self.comparison.config
        before = self.comparison.step() if self.comparison.epoch < 0 else []
        rows = [] if self.comparison.done else self.comparison.step()
        metrics = report(rows or before, trial.baseline, trial.treatment)
        diverged = self.comparison.diverged
        return {
            "rows": before + rows,
            "steps": self.comparison.trace() if self.runtime.trace else [],
            "epoch": self.comparison.epoch,
            "diverged": diverged,
            "status": self.comparison.status,
            "objective": float("nan") if diverged else self.objective.value(metrics, trial.baseline),
            "done": self.comparison.done,
            **metrics,
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write everything that the comparison's future depends on."""
        torch.save(self.comparison.state_dict(), Path(checkpoint_dir) / CHECKPOINT)

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        """Continue from a checkpoint; no pickled code is read."""
        path = Path(checkpoint_dir) / CHECKPOINT
        self.comparison.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
