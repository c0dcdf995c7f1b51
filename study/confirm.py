"""Confirmation: the best configurations of a study again, on seeds that it has not seen, all to their last epoch.

The best of many noisy gaps is too good to be true. What is quoted is therefore measured anew, after the choice. A win
over a baseline that nobody tuned is worth little. So the configurations that are best for the baseline and for the
treatment in a winner's problem run on the same seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from analysis.confirmations import BEST, FOLDER, WINNER
from analysis.database import counted
from analysis.tuning import at_best
from study.experiment import About, Experiment, Scheduler, Search
from study.history import History, Past
from study.queue import Planned
from trainables.config import DeadRun
from trainables.errors import UserError

__all__ = ["FOLDER", "Candidate", "NothingToConfirm", "chosen", "confirmation", "described", "provenance", "winners"]


@dataclass(frozen=True)
class Candidate:
    """A configuration that finished on each of its seeds.

    Attributes:
        configuration: its id.
        searched: the mean of the first objective over its comparisons.
        trials: these comparisons.
        config: its dotted keys.
        roles: why it is confirmed: ``WINNER``, values of ``BEST``, or several of them.
    """

    configuration: str
    searched: float
    trials: tuple[str, ...]
    config: Mapping[str, Any]
    roles: tuple[str, ...] = ()


class NothingToConfirm(UserError):
    """No configuration of the study has finished."""


def winners(history: History, experiment: Experiment, top: int) -> list[Candidate]:
    """The ``top`` configurations of the study by its first objective, best first.

    Raises:
        NothingToConfirm: none has finished on each of its seeds.
    """
    found = _finished(history)
    if not found:
        raise NothingToConfirm("no configuration of this study has finished, so there is nothing to confirm")
    return sorted(found, key=lambda one: one.searched, reverse=experiment.modes[0] == "max")[:top]


def chosen(history: History, experiment: Experiment, pairs: pd.DataFrame, top: int) -> list[Candidate]:
    """What a confirmation runs: the winners, then what is best for either arm in the problem of one of them.

    Args:
        history: the study's.
        experiment: the study's.
        pairs: the study's comparisons, a frame of :class:`analysis.pairs.Pairs`.
        top: how many winners.

    Raises:
        NothingToConfirm: no configuration has finished on each of its seeds.
    """
    best = winners(history, experiment, top)
    of_trial = {trial: one for one in _finished(history) for trial in one.trials}
    pairs = pairs[pairs["trial_id"].isin(list(of_trial))].reset_index(drop=True)
    picked = at_best(pairs).set_index(pairs["trial_id"])
    roles = {winner.configuration: [WINNER] for winner in best}
    for side, role in BEST.items():
        problems = [trial for winner in best for trial in winner.trials[:1] if trial in picked.index]
        for trial in picked.loc[problems, side].dropna().unique():
            roles.setdefault(of_trial[trial].configuration, []).append(role)
    by_id = {one.configuration: one for one in of_trial.values()}
    return [replace(by_id[name], roles=tuple(of)) for name, of in roles.items()]


def _finished(history: History) -> list[Candidate]:
    """The configurations that finished on each of their seeds, with an objective that is a number.

    A search may propose a configuration again, seed and all. One of such comparisons that finished stands for all of
    them: it is what the others would have come to, had they not been stopped.
    """
    last = {report.trial_id: report.objectives[0] for report in history.reports}
    groups: dict[str, dict[Any, Past]] = {}
    for past in history.comparisons:
        by_seed = groups.setdefault(Planned(past.number, past.config).configuration, {})
        if by_seed.setdefault(past.config.get("seed"), past).status != "finished":
            by_seed[past.config.get("seed")] = past
    found = []
    for configuration, by_seed in groups.items():
        members = list(by_seed.values())
        values = [last.get(past.trial_id, math.nan) for past in members]
        if all(past.status == "finished" for past in members) and all(map(math.isfinite, values)):
            ids = tuple(past.trial_id for past in members)
            found.append(Candidate(configuration, sum(values) / len(values), ids, members[0].config))
    return found


def confirmation(experiment: Experiment, history: History, runs: Sequence[Candidate], seeds: int) -> Experiment:
    """The experiment that runs ``runs`` on ``seeds`` seeds that the study has not used, and stops nothing early."""
    configs = [{key: value for key, value in run.config.items() if key != "seed"} for run in runs]
    shared = {key: value for key, value in configs[0].items() if all(c.get(key, c) == value for c in configs)}
    points = tuple({key: value for key, value in config.items() if key not in shared} for config in configs)
    fresh = 1 + max(past.config["seed"] for past in history.comparisons)
    metric = experiment.objective.metrics[0]
    best = sum(WINNER in run.roles for run in runs)
    about = About(
        title=f"Confirmation of {experiment.about.title}",
        question=(
            f"Does what the search found hold on fresh seeds? (The {best} best by {metric}, and each arm at its own "
            "best in their problems.)"
        ),
        section=experiment.about.section,
    )
    changes = {
        "name": f"{experiment.name}-confirmation",
        "about": about,
        "trial": {**shared, "seed": fresh},
        "space": {},
        "search": Search(name="points", points=points),
        "seeds": seeds,
        "scheduler": Scheduler(),
        "dead_run": DeadRun(),
        "smoke": {},
    }
    return experiment.model_copy(update=changes)


def described(runs: Sequence[Candidate], seeds: int) -> str:
    """What a confirmation runs and why, in a sentence."""
    best = sum(WINNER in run.roles for run in runs)
    more = len(runs) - best
    which = "best configuration" if best == 1 else f"{best:,} best configurations"
    text = f"It runs the search's {which} on {counted(seeds, 'fresh seed')}"
    if not more:
        return f"{text}; the best configuration of each arm in their problems is among them."
    return (
        f"{text}, and with {counted(more * seeds, 'further comparison')} the best configuration of each arm in their "
        "problems: a win counts against the best baseline."
    )


def provenance(study: str, experiment: Experiment, runs: Sequence[Candidate]) -> dict[str, Any]:
    """What the manifest of the confirmation says of the study that it confirms."""
    return {
        "study": study,
        "metric": experiment.objective.metrics[0],
        "configurations": {
            run.configuration: {"searched": run.searched, "trials": list(run.trials), "roles": list(run.roles)}
            for run in runs
        },
    }
