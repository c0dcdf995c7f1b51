"""The comparisons of a study as Tune gets them: first those that an earlier run left, then those that are proposed.

Tune would give trials ids of its own. Here a comparison has one id, made of its number and its configuration, in
whatever run it trains.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from ray.tune.experiment import Experiment as TuneExperiment
from ray.tune.experiment import Trial
from ray.tune.search import SearchAlgorithm

from study.history import History, Past
from study.searcher import Outcome, Proposer
from trainables.config import TrialConfig


@dataclass(frozen=True)
class Planned:
    """A comparison that is to train: its place in the study, and the dotted keys of its whole configuration.

    ``known_as`` is the id that it has got already, perhaps under settings that have changed since.
    """

    number: int
    config: Mapping[str, Any]
    known_as: str | None = None

    @property
    def configuration(self) -> str:
        """The id that it shares with the comparisons that differ from it in their seed alone."""
        values = {key: value for key, value in self.config.items() if key != "seed"}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]

    @property
    def trial_id(self) -> str:
        """Its id, the same in whatever run it trains."""
        return self.known_as or f"{self.number:04d}-{self.configuration}"


class Queue(SearchAlgorithm):
    """Hands comparisons to Tune and tells the proposer how each configuration went, when all its seeds have ended.

    Arguments:
        seeds: comparisons of each configuration; its number is its configuration's place times this, plus the seed's.
        history: what earlier runs have recorded; ended comparisons are told, others come first.
        trainable_config: the configuration that the trainable gets for a comparison.
        reject: is told of a configuration that cannot be, and why; it counts as failed.
        slots: comparisons that fit side by side. So many are handed out at first, that their workers start together;
            from then on one is kept ahead, so that the proposer knows as much as it can.
    """

    def __init__(
        self,
        proposer: Proposer,
        seeds: int,
        history: History,
        trainable_config: Callable[[Planned], dict[str, Any]],
        reject: Callable[[Planned, str], None],
        slots: int,
    ) -> None:
        self._proposer = proposer
        self._seeds = seeds
        self._trainable_config = trainable_config
        self._reject = reject
        self._slots = slots
        self._ahead: set[str] = set()
        self._training: set[str] = set()
        self._place = 0
        self._waiting: deque[Planned] = deque()
        self._numbers: dict[str, int] = {}
        self._started: dict[str, float] = {}
        self._curves: dict[str, dict[int, Sequence[float]]] = {}
        self._outcomes: dict[int, dict[int, Outcome]] = {}
        self._finished = False
        self._recall(history)

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles it into a file of its own, which is never read back."""
        return {}

    def set_search_properties(self, metric: str | None, mode: str | None, config: Any, **_: Any) -> bool:
        """Tune offers its own settings; the queue has been set up already."""
        return True

    def add_configurations(self, experiments: list[TuneExperiment]) -> None:
        """Take the specification that all trials share."""
        (self._experiment,) = experiments

    def next_trial(self) -> Trial | None:
        """The next comparison; None when there are no more, or none is wanted yet."""
        if len(self._ahead) >= max(self._slots - len(self._training), 1):
            return None
        while not self._waiting:
            config = self._proposer.ask()
            if config is None:
                self._finished = True
                return None
            self._plan(config)
        planned = self._waiting.popleft()
        self._ahead.add(planned.trial_id)
        self._numbers[planned.trial_id] = planned.number
        self._curves.setdefault(planned.trial_id, {})
        self._started.setdefault(planned.trial_id, time.time())
        spec = self._experiment.spec
        return Trial(
            spec["run"],
            config=self._trainable_config(planned),
            trial_id=planned.trial_id,
            storage=spec["storage"],
            placement_group_factory=spec["resources_per_trial"],
            checkpoint_config=spec["checkpoint_config"],
            trial_dirname_creator=spec["trial_dirname_creator"],
            max_failures=spec["max_failures"],
            log_to_file=spec["log_to_file"],
        )

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """An epoch of a comparison that goes on."""
        self._ahead.discard(trial_id)
        self._training.add(trial_id)
        self._curves[trial_id][result["epoch"]] = result["objectives"]

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        """A comparison's end, by whatever cause."""
        if result is None and not error:
            return  # it was never started
        status = "failed" if error or result is None else result["status"]
        if result is not None:
            self._curves[trial_id][result["epoch"]] = result["objectives"]
        self._end(self._numbers[trial_id], trial_id, "stopped" if status == "running" else status, time.time())

    def _end(self, number: int, trial_id: str, status: str, ended: float) -> None:
        self._ahead.discard(trial_id)
        self._training.discard(trial_id)
        place, seed = divmod(number, self._seeds)
        outcome = Outcome(trial_id, status, self._curves.pop(trial_id, {}), self._started.get(trial_id, ended), ended)
        outcomes = self._outcomes.setdefault(place, {})
        outcomes[seed] = outcome
        if len(outcomes) == self._seeds:
            del self._outcomes[place]
            self._proposer.tell(place, [outcomes[seed] for seed in sorted(outcomes)])

    def _plan(self, config: Mapping[str, Any]) -> None:
        """Queue a configuration on all its seeds, if it can be."""
        place, self._place = self._place, self._place + 1
        base = config.get("seed", 0)
        for number in range(place * self._seeds, (place + 1) * self._seeds):
            values = {**config, "seed": base + number % self._seeds}
            try:
                self._waiting.append(Planned(number, TrialConfig.from_dotted(values).to_dotted()))
            except ValidationError as error:
                self._refuse(Planned(number, values), error)

    def _plan_again(self, planned: Planned) -> None:
        """Queue a comparison of an earlier run under the id that it had, if it can be."""
        try:
            TrialConfig.from_dotted(planned.config)
            self._waiting.append(planned)
        except ValidationError as error:
            self._refuse(planned, error)

    def _refuse(self, planned: Planned, error: ValidationError) -> None:
        self._reject(planned, "; ".join(item["msg"] for item in error.errors()))
        self._end(planned.number, planned.trial_id, "failed", time.time())

    def _recall(self, history: History) -> None:
        """Go through what earlier runs asked for, in order; what has not ended is queued again."""
        reports: dict[str, dict[int, Sequence[float]]] = {}
        for report in history.reports:
            reports.setdefault(report.trial_id, {})[report.epoch] = report.objectives
        places: dict[int, list[Past]] = {}
        for past in history.comparisons:
            places.setdefault(past.number // self._seeds, []).append(past)
        for place in range(max(places, default=-1) + 1):
            if place not in places:  # its comparisons were queued, and not yet started
                config = self._proposer.ask()
                if config is not None:
                    self._plan(config)
                continue
            self._place = place + 1
            self._recall_place(place, places[place], reports)

    def _recall_place(
        self, place: int, known: Sequence[Past], reports: Mapping[str, dict[int, Sequence[float]]]
    ) -> None:
        left, ended = [], {}
        for past in known:
            curve = reports.get(past.trial_id, {})
            if past.unfinished:
                left.append(Planned(past.number, past.config, past.trial_id))
                self._curves[past.trial_id] = {e: values for e, values in curve.items() if e <= past.epoch}
                self._started[past.trial_id] = past.started
            else:
                outcome = Outcome(past.trial_id, past.status, curve, past.started, past.ended or past.started)
                ended[past.number % self._seeds] = outcome
        first = known[0]
        for seed in sorted(set(range(self._seeds)) - {past.number % self._seeds for past in known}):
            values = {**first.config, "seed": first.config["seed"] + seed - first.number % self._seeds}
            left.append(Planned(place * self._seeds + seed, values))
        self._proposer.recall(first.config, None if left else [ended[seed] for seed in sorted(ended)])
        if left:
            self._outcomes[place] = ended
        for planned in left:
            self._plan_again(planned)
