"""A study's progress in the terminal: a line for every comparison that ends, and a bar below."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from study.experiment import Experiment

_COLOUR = {"finished": "green", "stopped": "yellow", "diverged": "red", "failed": "red", "interrupted": "yellow"}


class StudyDisplay:
    """Comparisons done of all, epochs trained, the best objective so far; use as a context manager.

    Arguments:
        trials, ended: how many comparisons there are, and have ended in an earlier run.
        found: the objectives of those that finished in an earlier run.
        searched: the configuration keys that tell comparisons apart.
        metric, mode: the objective, and whether its largest or smallest value is best.
    """

    def __init__(
        self,
        console: Console,
        trials: int,
        ended: int,
        found: list[float],
        searched: list[str],
        metric: str,
        mode: str,
    ) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[epochs]} epochs{task.fields[saved]}{task.fields[best]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._progress.add_task("starting", total=trials, completed=ended, epochs=0, saved="", best="")
        self._searched = searched
        self._metric = metric
        self._better = max if mode == "max" else min
        self._best = self._better(found) if found else None
        self._epochs = 0
        self._saved = 0

    def __enter__(self) -> StudyDisplay:
        self._progress.start()
        head = f"{'':11} {'':5} {'':10} {self._metric}: {', '.join(self._searched)}"
        self._progress.console.print(head, style="dim", no_wrap=True, overflow="ellipsis", highlight=False)
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.update(self._task, description="ended")
        self._progress.stop()

    def started(self, running: int) -> None:
        """A comparison starts."""
        self._progress.update(self._task, description=f"{running} running")

    def epoch(self) -> None:
        """A comparison has trained an epoch."""
        self._epochs += 1
        self._progress.update(self._task, epochs=self._epochs)

    def ended(self, number: int, status: str, epoch: int, objective: float | None, config: Mapping[str, Any]) -> None:
        """A comparison ends."""
        if status == "finished" and objective is not None:
            self._best = objective if self._best is None else self._better(self._best, objective)
            self._progress.update(self._task, best=f", best {self._best:+.4f}")
        if status == "stopped":
            self._saved += config["epochs"] - epoch
            self._progress.update(self._task, saved=f" ({self._saved} saved)")
        value = f"{objective:+.4f}" if objective is not None and math.isfinite(objective) else ""
        settings = " ".join(_setting(config[key]) for key in self._searched if key in config)
        line = Text.assemble(
            (f"{status:>11}", _COLOUR[status]), f" #{number:<4} epoch {epoch:<4} {value:<9} {settings}"
        )
        self._progress.console.print(line, no_wrap=True, overflow="ellipsis", highlight=False)
        self._progress.advance(self._task)


def displayed(experiment: Experiment, ended: int, found: list[float], console: Console) -> StudyDisplay:
    """The display of a study; ``ended`` of its comparisons ended in an earlier run, some with objectives ``found``."""
    keys = dict.fromkeys([*experiment.space, *(key for point in experiment.search.points for key in point)])
    searched = [*keys, "seed"] if experiment.seeds > 1 else list(keys)
    metric, mode = experiment.objective.metrics[0], experiment.modes[0]
    return StudyDisplay(console, experiment.trials, ended, found, searched, metric, mode)


class NoDisplay:
    """Shows nothing."""

    def started(self, running: int) -> None:
        """A comparison starts."""

    def epoch(self) -> None:
        """A comparison has trained an epoch."""

    def ended(self, number: int, status: str, epoch: int, objective: float | None, config: Mapping[str, Any]) -> None:
        """A comparison ends."""


def _setting(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
