"""What is to be compared next: a list, or Optuna by ask and tell, so that Optuna hears the truth.

Tune's own adapter tells a trial that the scheduler stopped as complete with whatever value it had. Here a stopped trial
is told as pruned with its intermediate values, a diverged or failed one as failed, and NaN reaches no sampler.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import CmaEsSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from search_spaces.convert import distributions, suggest
from search_spaces.domains import Space
from study.experiment import Experiment, Search
from trainables.config import Mode

JOURNAL = "optuna.journal"
WARM = 10
"""Complete configurations that CMA-ES needs to start from them: it looks at the best tenth (Nomura et al. 2021)."""

APART = 2**31
"""Between the seeds of the searches of two arms, so that they do not draw the same numbers, however often resumed."""


@dataclass(frozen=True)
class Outcome:
    """How one comparison went: its status, its objectives by epoch, and when it started and ended (Unix time)."""

    trial_id: str
    status: str
    curve: Mapping[int, Sequence[float]]
    started: float
    ended: float

    @property
    def last(self) -> Sequence[float]:
        """The objectives after the last epoch; none if there was no epoch."""
        return self.curve[max(self.curve)] if self.curve else ()


class Proposer(Protocol):
    """Proposes configurations, one after the other."""

    def ask(self) -> dict[str, Any] | None:
        """The next configuration; None when there are no more."""

    def tell(self, place: int, outcomes: Sequence[Outcome]) -> None:
        """How the comparisons of the configuration at ``place`` went, one for each seed."""

    def recall(self, config: Mapping[str, Any], outcomes: Sequence[Outcome] | None) -> None:
        """The next configuration was asked for in an earlier run; its outcomes, or None if some are still to come."""


class Listed:
    """Configurations that are known beforehand: a grid, points, or draws."""

    def __init__(self, configurations: Sequence[Mapping[str, Any]]) -> None:
        self._configurations = configurations
        self._place = 0

    def ask(self) -> dict[str, Any] | None:
        """The next of the list."""
        if self._place == len(self._configurations):
            return None
        self._place += 1
        return dict(self._configurations[self._place - 1])

    def tell(self, place: int, outcomes: Sequence[Outcome]) -> None:
        """A list learns nothing."""

    def recall(self, config: Mapping[str, Any], outcomes: Sequence[Outcome] | None) -> None:
        """Skip it."""
        self._place += 1


class Asked:
    """Configurations that Optuna proposes.

    The study lives in memory. Every configuration that has ended is also written to a journal, which optuna-dashboard
    opens at any time; the study reads nothing from there, so that it can neither be ahead nor harm. Where it cannot be
    written it is left behind: it begins anew when the study is resumed.
    """

    def __init__(
        self,
        study: optuna.Study,
        space: Space,
        fixed: Mapping[str, Any],
        trials: int,
        points: Sequence[Mapping[str, Any]] = (),
        journal: optuna.Study | None = None,
    ) -> None:
        self.study = study
        self._space = space
        self._fixed = fixed
        self._trials = trials
        self._points = points
        self._journal = journal
        self._open: dict[int, optuna.Trial] = {}
        self._asked = 0
        self._recalled: list[FrozenTrial] = []  # complete ones
        self._warmed = 0  # how many of them CMA-ES has started from

    def ask(self) -> dict[str, Any] | None:
        """The next point to start from, or what the sampler wants to know."""
        if self._asked >= self._trials:
            return None
        self._warm()
        if self._asked < len(self._points):
            point = self._points[self._asked]
            self.study.enqueue_trial({key: point[key] for key in distributions(self._space, self._fixed, point)})
        return self._ask()

    def _ask(self) -> dict[str, Any]:
        trial = self._open[self._asked] = self.study.ask()
        self._asked += 1
        return suggest(trial, self._space, self._fixed)

    def _warm(self) -> None:
        """Start CMA-ES from what was recalled since it last did, for its own state is pickled, and never kept."""
        known = self._recalled
        if isinstance(self.study.sampler, CmaEsSampler) and len(known) >= WARM and len(known) > self._warmed:
            self._warmed = len(known)
            seed = self.study.user_attrs["seed"]
            self.study.sampler = CmaEsSampler(seed=seed, source_trials=known, warn_independent_sampling=False)

    def tell(self, place: int, outcomes: Sequence[Outcome]) -> None:
        """Complete, pruned or failed, with everything that was measured on the way."""
        trial = self._open.pop(place)
        state, values, curve = self._verdict(outcomes)
        for epoch, value in curve.items():
            trial.report(value, epoch)
        frozen = self.study.tell(trial, values if state == TrialState.COMPLETE else None, state)
        self._write(_labelled(frozen, outcomes))

    def recall(self, config: Mapping[str, Any], outcomes: Sequence[Outcome] | None) -> None:
        """Add it to the study, as it went, or as still running."""
        if outcomes is None:
            self.study.enqueue_trial({key: config[key] for key in distributions(self._space, self._fixed, config)})
            self._ask()
            return
        self.learn(config, outcomes)
        self._asked += 1

    def skip(self) -> None:
        """The next configuration is another search's to propose."""
        self._asked += 1

    def learn(self, config: Mapping[str, Any], outcomes: Sequence[Outcome]) -> None:
        """Add a configuration to the study that it is not asked for here, as it went."""
        domains = distributions(self._space, self._fixed, config)
        state, values, curve = self._verdict(outcomes)
        told = {TrialState.COMPLETE: values, TrialState.PRUNED: [*curve.values()][-1:] or None}
        frozen = create_trial(
            state=state,
            values=told.get(state),
            params={key: config[key] for key in domains},
            distributions=domains,
            intermediate_values=curve,
            system_attrs=self._generation(),
        )
        self.study.add_trial(_labelled(frozen, outcomes))
        self._write(_labelled(frozen, outcomes))
        if state == TrialState.COMPLETE:
            self._recalled.append(frozen)

    def _generation(self) -> dict[str, Any]:
        """The generation that a configuration counts for that was not asked for, where the sampler breeds."""
        sampler = self.study.sampler
        if not isinstance(sampler, NSGAIISampler):
            return {}
        complete = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return {sampler._get_generation_key(): len(complete) // (sampler.population_size or 1)}

    def _verdict(self, outcomes: Sequence[Outcome]) -> tuple[TrialState, list[float], dict[int, float]]:
        """As :func:`verdict`, but of several objectives Optuna knows no intermediate values."""
        state, values, curve = verdict(outcomes)
        return state, values, curve if len(self.study.directions) == 1 else {}

    def _write(self, trial: FrozenTrial) -> None:
        trial.system_attrs = {}  # a sampler's own notes, which may be pickled
        if self._journal is not None:
            with contextlib.suppress(Exception):  # a full disk, or a line of the file that somebody has damaged
                self._journal.add_trial(trial)


class InTurn:
    """A search for each arm of its own: they propose in turn, and each hears of every comparison what its arm did.

    So both know as many configurations, trained for as many epochs, and each proposes half of them.

    Arguments:
        searches: of the sides, in the order of :data:`trainables.records.SIDES`. An outcome's numbers are the
            comparison's objective, then each side's own.
    """

    def __init__(self, searches: Sequence[Asked]) -> None:
        self.searches = searches
        self._asked = 0
        self._open: dict[int, Mapping[str, Any]] = {}

    def ask(self) -> dict[str, Any] | None:
        """What the side wants to know whose turn it is."""
        turn = self._asked % len(self.searches)
        config = self.searches[turn].ask()
        if config is not None:
            self._others_skip(turn, config)
        return config

    def tell(self, place: int, outcomes: Sequence[Outcome]) -> None:
        """Each side hears of its own arm."""
        config = self._open.pop(place)
        for side, search in enumerate(self.searches):
            if side == place % len(self.searches):
                search.tell(place, _of_side(outcomes, side))
            else:
                search.learn(config, _of_side(outcomes, side))

    def recall(self, config: Mapping[str, Any], outcomes: Sequence[Outcome] | None) -> None:
        """Each side hears what was recorded of its own arm; what still trains is open for the one that proposed it."""
        turn = self._asked % len(self.searches)
        if outcomes is None:
            self.searches[turn].recall(config, None)
            self._others_skip(turn, config)
            return
        for side, search in enumerate(self.searches):
            search.recall(config, _of_side(outcomes, side))
        self._asked += 1

    def _others_skip(self, turn: int, config: Mapping[str, Any]) -> None:
        """Note that the side whose turn it was has proposed a configuration."""
        for side, search in enumerate(self.searches):
            if side != turn:
                search.skip()
        self._open[self._asked] = config
        self._asked += 1


def _of_side(outcomes: Sequence[Outcome], side: int) -> list[Outcome]:
    """The outcomes of comparisons with the numbers of one side alone.

    A comparison ends where an arm diverges. Of the other arm it is known how far it had come: it was stopped.
    """
    own = [replace(one, curve={epoch: [values[1 + side]] for epoch, values in one.curve.items()}) for one in outcomes]
    return [
        replace(one, status="stopped") if one.status == "diverged" and one.last and math.isfinite(one.last[0]) else one
        for one in own
    ]


def propose(
    experiment: Experiment, asked: int = 0, journals: Sequence[optuna.Study | None] | None = None
) -> Asked | InTurn:
    """Who proposes the configurations of an experiment whose ``search.name`` is optuna.

    ``asked`` is how many have been proposed already; ``journals`` those of its searches, for each one.
    """

    journals = journals or [None] * max(len(experiment.each), 1)

    def search(modes: Sequence[Mode], known: int, journal: optuna.Study | None) -> Asked:
        study = create_study(experiment.search, modes, known)
        trials = experiment.search.trials or 0
        return Asked(study, experiment.space, experiment.fixed, trials, experiment.points, journal)

    if not experiment.each:
        return search(experiment.modes, asked, journals[0])
    own = zip(experiment.each.values(), journals, strict=True)
    return InTurn([search([mode], asked + side * APART, journal) for side, (mode, journal) in enumerate(own)])


def create_study(search: Search, modes: Sequence[Mode], asked: int = 0) -> optuna.Study:
    """An Optuna study in memory with the sampler that ``search`` names.

    Its seed is of ``search.seed`` and of the number of configurations already asked for, so that a search that goes on
    does not draw the same numbers again.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=ExperimentalWarning)
    seed = (search.seed + asked) % 2**32
    study = optuna.create_study(directions=_directions(modes), sampler=_sampler(search, seed))
    study.set_user_attr("seed", seed)
    return study


def _sampler(search: Search, seed: int) -> optuna.samplers.BaseSampler:
    match search.sampler:
        case "tpe":
            return TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)
        case "gp":
            return GPSampler(seed=seed, warn_independent_sampling=False)
        case "cmaes":
            return CmaEsSampler(seed=seed, warn_independent_sampling=False)
        case "nsgaii":
            return NSGAIISampler(seed=seed, population_size=max(2, min(50, (search.trials or 0) // 5)))
        case "random":
            return RandomSampler(seed=seed)


def open_journal(path: Path, name: str, modes: Sequence[Mode], fresh: bool = True) -> optuna.Study:
    """An empty journal in the file ``path``, as a study that optuna-dashboard shows.

    It takes the place of what may be there, or unless ``fresh``, stands beside it.

    Raises:
        OSError: it cannot be written.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    for old in (path, path.with_name(f"{path.name}.lock")) if fresh else ():
        old.unlink(missing_ok=True)
    return optuna.create_study(
        study_name=name, directions=_directions(modes), storage=JournalStorage(JournalFileBackend(str(path)))
    )


def _directions(modes: Sequence[Mode]) -> list[StudyDirection]:
    return [StudyDirection.MAXIMIZE if mode == "max" else StudyDirection.MINIMIZE for mode in modes]


def verdict(outcomes: Sequence[Outcome]) -> tuple[TrialState, list[float], dict[int, float]]:
    """What Optuna is told of a configuration: state, mean objectives over its seeds, and the first one by epoch.

    It is complete where every comparison was trained to its end, failed where one failed, diverged or has an objective
    that is not finite, and pruned otherwise. An epoch counts where all its comparisons reached it with a finite value.
    """
    shared = set.intersection(*(set(outcome.curve) for outcome in outcomes))
    by_epoch = {epoch: _means([outcome.curve[epoch] for outcome in outcomes]) for epoch in sorted(shared)}
    curve = {epoch: means[0] for epoch, means in by_epoch.items() if math.isfinite(means[0])}
    last = _means([outcome.last for outcome in outcomes])
    statuses = {outcome.status for outcome in outcomes}
    if not last or not all(map(math.isfinite, last)) or not statuses <= {"finished", "stopped"}:
        return TrialState.FAIL, last, curve
    return (TrialState.COMPLETE if statuses == {"finished"} else TrialState.PRUNED), last, curve


def _means(rows: Sequence[Sequence[float]]) -> list[float]:
    """The mean of each column; none where a comparison has no numbers, for it failed before its first epoch."""
    return [sum(values) / len(rows) for values in zip(*rows, strict=False)]


def _labelled(trial: FrozenTrial, outcomes: Sequence[Outcome]) -> FrozenTrial:
    trial.user_attrs = {"trial_id": ", ".join(outcome.trial_id for outcome in outcomes)}
    trial.datetime_start = datetime.fromtimestamp(min(outcome.started for outcome in outcomes))
    trial.datetime_complete = datetime.fromtimestamp(max(outcome.ended for outcome in outcomes))
    return trial
