"""Logging to Weights & Biases from the driver: one run a comparison, metrics named as everywhere.

W&B's own Tune callback starts two processes for every trial; this one starts none. W&B is never the record of truth:
when it fails, the study says so once and goes on without it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import wandb

from study.experiment import Wandb


class WandbLogger:
    """Keeps a W&B run open for every comparison that trains."""

    def __init__(self, settings: Wandb, folder: Path, study: str) -> None:
        self._settings = settings
        self._folder = folder
        self._study = study
        self._runs: dict[str, Any] = {}
        self.failure: str | None = None

    def start(self, trial_id: str, config: Mapping[str, Any]) -> None:
        """Open the run of a comparison."""
        if self._settings.mode == "disabled" or self.failure:
            return
        with self._forgiven():
            self._runs[trial_id] = wandb.init(
                project=self._settings.project,
                group=self._study,
                id=f"{self._study}-{trial_id}",
                name=trial_id,
                config=dict(config),
                mode=self._settings.mode,
                dir=self._folder,
                reinit="create_new",
                settings=wandb.Settings(
                    silent=True, console="off", disable_git=True, disable_code=True, init_timeout=20
                ),
            )

    def log(self, trial_id: str, epoch: int, metrics: Mapping[str, float]) -> None:
        """Log one epoch of a comparison."""
        if trial_id in self._runs:
            with self._forgiven():
                self._runs[trial_id].log({k: v for k, v in metrics.items() if not math.isnan(v)}, step=epoch)

    def end(self, trial_id: str, status: str) -> None:
        """Close the run of a comparison."""
        run = self._runs.pop(trial_id, None)
        if run is not None:
            with self._forgiven():
                run.summary["status"] = status
                run.finish(exit_code=1 if status in ("failed", "interrupted") else 0)

    def close(self) -> None:
        """Close what is still open."""
        for trial_id in list(self._runs):
            self.end(trial_id, "interrupted")

    @contextmanager
    def _forgiven(self) -> Iterator[None]:
        """Trouble with W&B ends its logging, not the study."""
        try:
            yield
        except (wandb.Error, OSError) as error:
            self.failure = f"W&B logging is off for the rest of this study: {error}"
            self._runs.clear()
