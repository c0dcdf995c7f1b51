"""A search without its training: reports come from a table of comparisons that were trained before.

A comparison is bit-deterministic. So a grid that was trained once is a table from which any search over it is replayed
exactly and in seconds, as by syne-tune's simulated backend (Salinas et al. 2022): the program's own searcher asks, its
own scheduler hears the recorded reports and stops, and every epoch that would have been trained is counted.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ray.tune.schedulers import TrialScheduler

from study import confirm, schedulers
from study.experiment import Experiment
from study.history import History, Past, Report
from study.queue import Planned
from study.searcher import Asked, Listed, Outcome, Proposer, create_study
from trainables.comparison import better
from trainables.config import TrialConfig

WORKERS = 2


@dataclass(frozen=True)
class Curve:
    """A trained comparison: the status it ended in, and each metric after each epoch from the first on."""

    status: str
    metrics: Mapping[str, Sequence[float]]

    @property
    def epochs(self) -> int:
        """Epochs until its end."""
        return max(map(len, self.metrics.values()), default=0)

    def at(self, epoch: int) -> dict[str, float]:
        """What was reported after ``epoch``, counted from 1."""
        return {name: values[epoch - 1] for name, values in self.metrics.items()}


Table = Mapping[tuple[str, int], Curve]
"""Trained comparisons by the id of their configuration and their seed."""


@dataclass(frozen=True)
class Moment:
    """How a search stands when one of its comparisons has ended.

    Attributes:
        spent: epochs trained until then, with those of the comparisons that go on.
        best: ids of the configurations that it would confirm, best first; none before one has finished.
    """

    spent: int
    best: tuple[str, ...]


@dataclass
class _Trial:
    """A comparison that a search has asked for, and how many of its recorded epochs have passed."""

    trial_id: str
    number: int
    config: Mapping[str, Any]
    curve: Curve
    epoch: int = 0


class _Replay:
    """A study in which nothing is trained: reports come from the table, and a unit of time is an epoch."""

    def __init__(self, searching: Experiment, table: Table, seed: int, workers: int) -> None:
        self._searching = searching
        self._table = table
        self._seed = seed
        self._workers = workers
        config = TrialConfig.from_dotted(searching.fixed)
        self._baseline, self._treatment = config.baseline, config.treatment
        self._proposer = _proposer(searching)
        self._scheduler = schedulers.build(searching)
        self._asked = 0
        self._waiting: deque[_Trial] = deque()
        self._told: dict[str, dict[int, Sequence[float]]] = {}
        self.training: list[_Trial] = []
        self.ended: list[Past] = []
        self.lasts: list[Report] = []

    def fill(self) -> None:
        """Ask as the study's queue does, and give idle workers something to train."""
        while self._ahead < max(self._workers - (len(self._told) - len(self.ended)), 1):
            config = self._proposer.ask()
            if config is None:
                break
            whole = TrialConfig.from_dotted({**config, "seed": self._seed}).to_dotted()
            planned = Planned(self._asked, whole)
            self._waiting.append(
                _Trial(planned.trial_id, planned.number, whole, self._table[planned.configuration, self._seed])
            )
            self._asked += 1
        while self._waiting and len(self.training) < self._workers:
            self.training.append(self._waiting.popleft())
            self._scheduler.on_trial_add(None, self.training[-1])

    @property
    def _ahead(self) -> int:
        """Comparisons that were asked for and have reported nothing."""
        return self._asked - len(self._told)

    def advance(self, trial: _Trial, now: int) -> bool:
        """Another epoch of a comparison, reported and judged; whether it has ended."""
        trial.epoch += 1
        metrics = trial.curve.at(trial.epoch)
        over = trial.epoch == trial.curve.epochs
        status = trial.curve.status if over else "running"
        objectives = self._searching.objective.values(metrics, self._baseline)
        if status == "diverged":
            objectives = [math.nan] * len(objectives)
        curve = self._told.setdefault(trial.trial_id, {})
        curve[trial.epoch] = objectives
        result = {**metrics, **better(metrics, self._baseline, self._treatment)}
        result |= {schedulers.TIME: trial.epoch, "objective": objectives[0]}
        if not over and self._scheduler.on_trial_result(None, trial, result) == TrialScheduler.STOP:
            status = "stopped"
        if status == "running":
            return False
        self._scheduler.on_trial_complete(None, trial, result)
        self.training.remove(trial)
        self._proposer.tell(trial.number, [Outcome(trial.trial_id, status, curve, 0.0, float(now))])
        self.ended.append(Past(trial.trial_id, trial.number, status, trial.config, 0.0, float(now), trial.epoch))
        self.lasts.append(Report(trial.trial_id, trial.epoch, tuple(objectives), objectives[0]))
        return True


def replay(
    searching: Experiment, table: Table, seed: int, budget: int, top: int = 1, workers: int = WORKERS
) -> list[Moment]:
    """A search over a trained grid on one of its seeds, until ``budget`` epochs are spent or nothing is left to ask.

    In a unit of time each worker trains an epoch. A configuration that is asked for again is trained again.

    Raises:
        KeyError: the table lacks a configuration that the search asks for.
    """
    running = _Replay(searching, table, seed, workers)
    moments: list[Moment] = []
    spent = 0
    running.fill()
    while running.training:
        for trial in [*running.training]:
            if spent == budget:
                return moments
            spent += 1
            if running.advance(trial, spent):
                moments.append(Moment(spent, _winners(running, searching, top)))
            running.fill()
    return moments


def _winners(running: _Replay, searching: Experiment, top: int) -> tuple[str, ...]:
    """What ``filter-study confirm`` would run, had the search ended here."""
    history = History(tuple(running.ended), tuple(running.lasts))
    try:
        return tuple(winner.configuration for winner in confirm.winners(history, searching, top))
    except confirm.NothingToConfirm:
        return ()


def _proposer(searching: Experiment) -> Proposer:
    if (listed := searching.configurations) is not None:
        return Listed(listed)
    study = create_study(searching.search, searching.modes)
    return Asked(study, searching.space, searching.fixed, searching.search.trials or 0, searching.points)


def label(config: Mapping[str, Any]) -> str:
    """The id of a configuration, the same for every seed; settings that are not named have their defaults."""
    return Planned(0, TrialConfig.from_dotted(config).to_dotted()).configuration
