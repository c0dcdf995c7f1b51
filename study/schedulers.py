"""Tune's early-stopping rules, with a memory: what they have heard outlives the process.

Tune loses a scheduler's state when a run is restored (the rungs of ASHA are not in what it saves). Here the reports are
in the study's own record, and are told again, in the order in which they came, to a scheduler that is new.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from study.experiment import Experiment
from study.history import Report

TIME = "epoch"


class HyperBand(AsyncHyperBandScheduler):
    """Asynchronous HyperBand whose brackets are drawn by the comparison's id, not by numpy's global generator.

    The lower a bracket starts, the more comparisons it gets (Li et al. 2018): each rung that it has more triples them.
    """

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Give the comparison a bracket, always the same."""
        weights = [self._reduction_factor ** len(bracket._rungs) for bracket in self._brackets]
        self._trial_info[trial.trial_id] = Random(trial.trial_id).choices(self._brackets, weights)[0]


@dataclass(frozen=True)
class Judged:
    """A comparison, as a rule knows it: the same in whatever run it trains."""

    trial_id: str


class Remembering(FIFOScheduler):
    """Hands reports on to ``rule``, each once: a comparison that repeats epochs after a crash is not judged again.

    A value that is not a number is not handed on: nothing can be said for or against it.
    """

    def __init__(self, rule: TrialScheduler, metric: str) -> None:
        super().__init__()
        self._rule = rule
        self._judged_by = metric  # not _metric, for Tune would end the run where a comparison that failed lacks it
        self._heard: set[tuple[str, int]] = set()
        self._stopped: dict[str, int] = {}

    def replay(self, reports: Iterable[Report], ended: Mapping[str, int]) -> set[str]:
        """Tell the rule what it heard in earlier runs; the comparisons that it stopped at their last report.

        Arguments:
            ended: the last epoch of each comparison that has ended by itself.
        """
        last: dict[str, int] = {}
        for report in reports:
            judged = Judged(report.trial_id)
            if report.trial_id not in last:
                self.on_trial_add(None, judged)
            last[report.trial_id] = report.epoch
            result = {TIME: report.epoch, self._judged_by: report.scheduled}
            ends = ended.get(report.trial_id) == report.epoch
            if ends or self.on_trial_result(None, judged, result) == TrialScheduler.STOP:
                self.on_trial_complete(None, judged, result)
        return {trial_id for trial_id, epoch in self._stopped.items() if epoch == last.get(trial_id)}

    def set_search_properties(self, metric: str | None, mode: str | None, **_: Any) -> bool:
        """Tune offers its own settings; the rule has been set up already."""
        return True

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """A comparison is new, or tried again."""
        self._rule.on_trial_add(tune_controller, Judged(trial.trial_id))

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """The rule's decision, on what it has not heard before."""
        if not self._news(trial.trial_id, result):
            return TrialScheduler.CONTINUE
        decision: str = self._rule.on_trial_result(tune_controller, Judged(trial.trial_id), result)
        if decision == TrialScheduler.STOP:
            self._stopped[trial.trial_id] = result[TIME]
        return decision

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """The comparison has ended, by itself or by the rule, which in that case has heard this result."""
        if self._news(trial.trial_id, result):
            self._rule.on_trial_complete(tune_controller, Judged(trial.trial_id), result)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """The comparison is given up before it starts."""
        self._rule.on_trial_remove(tune_controller, Judged(trial.trial_id))

    def _news(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Whether this is a number that the rule has not heard, of a comparison that it has not stopped.

        One that it has stopped can go on in a replay, where reports that it judged by have been undone by a crash.
        """
        if (trial_id, result[TIME]) in self._heard or trial_id in self._stopped:
            return False
        self._heard.add((trial_id, result[TIME]))
        return not math.isnan(result.get(self._judged_by, math.nan))


def build(experiment: Experiment) -> TrialScheduler:
    """The scheduler of an experiment, with nothing heard yet: a :class:`Remembering` one, or Tune's that stops none."""
    settings = experiment.scheduler
    metric, mode = experiment.scheduled
    rule: TrialScheduler
    if settings.name == "none":
        return FIFOScheduler()
    if settings.name == "median":
        rule = MedianStoppingRule(
            time_attr=TIME,
            metric=metric,
            mode=mode,
            grace_period=settings.grace_period,
            min_samples_required=settings.min_samples,
            min_time_slice=math.inf,  # never pause a comparison for another
        )
    else:
        kind, brackets = (AsyncHyperBandScheduler, 1) if settings.name == "asha" else (HyperBand, settings.brackets)
        rule = kind(
            time_attr=TIME,
            metric=metric,
            mode=mode,
            max_t=experiment.longest,
            grace_period=settings.grace_period,
            reduction_factor=settings.reduction_factor,
            brackets=brackets,
        )
    return Remembering(rule, metric)
