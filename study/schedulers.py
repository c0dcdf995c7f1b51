"""Tune's early-stopping rules, with a memory: what they have heard outlives the process; and populations.

Tune loses a scheduler's state when a run is restored (the rungs of ASHA are not in what it saves). Here the reports are
in the study's own record, and are told again, in the order in which they came, to a scheduler that is new.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from analysis.stopping_rule import POPULATION, Rule
from search_spaces.domains import Space
from study.experiment import OBJECTIVE, Experiment
from study.history import Report
from trainables.config import BETTER, TrialConfig

TIME = "epoch"
RESAMPLED = 0.25
"""How often a population draws a setting anew, instead of changing it a little."""

Changed = Callable[[str, int, Mapping[str, Any], str], None]
"""Is told that a comparison goes on, after an epoch, under other settings, from the state of another comparison."""


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


class InOrder(FIFOScheduler):
    """Who came first starts first. Tune's own goes through all trials that there ever were, at every report."""

    def __init__(self) -> None:
        super().__init__()
        self._alive: list[Trial] = []

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """A comparison is new, or tried again."""
        if trial not in self._alive:
            self._alive.append(trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """The first that waits, or is paused where none waits."""
        self._alive = [trial for trial in self._alive if not trial.is_finished()]
        for status in (Trial.PENDING, Trial.PAUSED):
            if waiting := [trial for trial in self._alive if trial.status == status]:
                return waiting[0]
        return None


class Remembering(InOrder):
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
                self._rule.on_trial_add(None, judged)
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
        super().on_trial_add(tune_controller, trial)
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


def explore(config: Mapping[str, Any], space: Space, rng: Random) -> dict[str, Any]:
    """A configuration near ``config`` in what ``space`` has; now and then a setting is drawn anew."""
    changed = {
        key: parameter.draw(rng) if rng.random() < RESAMPLED else parameter.near(config[key], rng)
        for key, parameter in space.items()
    }
    return TrialConfig.from_dotted({**config, **changed}).to_dotted()


class Population(FIFOScheduler):
    """Population-based training (Jaderberg et al. 2017), in step.

    After every ``interval`` epochs a comparison waits until all that train have come as far. Then each of the worst
    goes on from the state of one of the best at that epoch, under settings near its, and with its own id, number and
    seed: so its rows go on without a hole. Tune's own PopulationBasedTraining takes those for the population that have
    been started, which here are no more than there is room for, and draws from global generators.
    """

    def __init__(self, experiment: Experiment, changed: Changed) -> None:
        super().__init__()
        self._settings = experiment.scheduler
        self._space = experiment.explored
        self._seed = experiment.search.seed
        self._changed = changed
        self._judged_by, mode = experiment.scheduled  # not _metric, as above
        self._sign = 1 if mode == "max" else -1
        self._reached: dict[str, int] = {}
        self._waiting: dict[str, int] = {}
        self._scores: dict[str, float] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles it into a file of its own, which is never read back."""
        return {}

    def set_search_properties(self, metric: str | None, mode: str | None, **_: Any) -> bool:
        """Tune offers its own settings; the population has been set up already."""
        return True

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """A comparison is new, or tried again."""
        self._reached[trial.trial_id] = 0
        self._waiting.pop(trial.trial_id, None)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Wait after every interval; never stop."""
        epoch = self._reached[trial.trial_id] = result[TIME]
        if epoch % self._settings.interval:
            return TrialScheduler.CONTINUE
        score = self._sign * float(result.get(self._judged_by, math.nan))
        self._scores[trial.trial_id] = -math.inf if math.isnan(score) else score
        self._waiting[trial.trial_id] = epoch
        return TrialScheduler.PAUSE

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """A comparison that waits for nothing but room; Tune asks in every round, and starts what is pending anyway."""
        training = [trial for trial in tune_controller.get_trials() if not trial.is_finished()]
        if tune_controller.search_alg.is_finished():  # otherwise there are some that have not even been started
            self._release(training)
        ready = [t for t in training if t.status in (Trial.PAUSED, Trial.PENDING) and t.trial_id not in self._waiting]
        ready.sort(key=lambda trial: (trial.status == Trial.PENDING, self._reached[trial.trial_id]))
        return ready[0] if ready else None

    def _release(self, training: list[Any]) -> None:
        """Let those go on that have waited for the slowest, the worst of them changed."""
        waiting = [trial for trial in training if trial.trial_id in self._waiting]
        epoch = min((self._waiting[trial.trial_id] for trial in waiting), default=0)
        if not waiting or any(self._reached[trial.trial_id] < epoch for trial in training):
            return
        together = [trial for trial in waiting if self._waiting[trial.trial_id] == epoch]
        if any(trial.status != Trial.PAUSED or trial.is_saving for trial in together):
            return
        for trial in together:
            del self._waiting[trial.trial_id]
        ranked = sorted(together, key=lambda trial: (self._scores[trial.trial_id], trial.trial_id))
        count = min(math.ceil(len(ranked) * self._settings.quantile), len(ranked) // 2)
        for trial in ranked[:count]:
            rng = Random(f"{self._seed}/{trial.trial_id}/{epoch}")
            donor = rng.choice(ranked[-count:])
            if self._scores[donor.trial_id] > self._scores[trial.trial_id]:
                self._exploit(trial, donor, epoch, rng)

    def _exploit(self, trial: Any, donor: Any, epoch: int, rng: Random) -> None:
        settings = explore(donor.config["trial"], self._space, rng) | {"seed": trial.config["trial"]["seed"]}
        self._changed(trial.trial_id, epoch, settings, donor.trial_id)
        trial.set_config({**trial.config, "trial": settings})
        # As Tune's own PopulationBasedTraining does it; there is no public way to start from another's checkpoint.
        trial.run_metadata.checkpoint_manager._latest_checkpoint_result = donor.latest_checkpoint_result


def bias(experiment: Experiment) -> str | None:
    """What choosing by ``scheduler.metric`` does to the gaps; None where nothing is chosen, or by both arms alike."""
    name, (metric, _) = experiment.scheduler.name, experiment.scheduled
    rule = Rule(name, experiment.objective.metrics[0] if metric == OBJECTIVE else metric)
    if name == "none" or rule.metric.startswith(f"{BETTER}/"):
        return None
    if name == POPULATION:
        return (
            f"scheduler.name: {name} moves comparisons towards what is best by {rule.looks_at}: their gaps are those "
            "of a search, and no estimate of what a configuration does; confirm them"
        )
    config = TrialConfig.from_dotted(experiment.corners()[0])
    return (
        f"scheduler.metric: {metric}: {name} stops comparisons by {rule.looks_at}, "
        f"{rule.effect(config.baseline, config.treatment)}: the gaps of those that finish are no estimate for all; "
        "leave it out, and the better of both arms decides"
    )


def _untold(trial_id: str, epoch: int, config: Mapping[str, Any], parent: str) -> None:
    """Default callback: ignore the change."""


def build(experiment: Experiment, changed: Changed = _untold) -> TrialScheduler:
    """The scheduler of an experiment, with nothing heard yet.

    It is a :class:`Remembering` one, a :class:`Population`, which tells ``changed`` what it does, or Tune's that stops
    none.
    """
    settings = experiment.scheduler
    metric, mode = experiment.scheduled
    rule: TrialScheduler
    if settings.name == "none":
        return InOrder()
    if settings.name == "pbt":
        return Population(experiment, changed)
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
