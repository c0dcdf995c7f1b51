"""Confirmation: the best configurations of a study again, on seeds that it has not seen, all to their last epoch.

The best of many noisy gaps is too good to be true. What is quoted is therefore measured anew, after the choice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from study.experiment import About, Experiment, Scheduler, Search
from study.history import History, Past
from study.queue import Planned
from trainables.config import DeadRun
from trainables.errors import UserError

FOLDER = "confirmations"


@dataclass(frozen=True)
class Winner:
    """A configuration and how it did in the search: the mean of the first objective over its finished comparisons."""

    configuration: str
    searched: float
    trials: tuple[str, ...]
    config: Mapping[str, Any]


class NothingToConfirm(UserError):
    """No configuration of the study has finished."""


def winners(history: History, experiment: Experiment, top: int) -> list[Winner]:
    """The ``top`` configurations of the study, best first; only those that finished on each of their seeds.

    A search may propose a configuration again, seed and all. One of such comparisons that finished stands for all of
    them: it is what the others would have come to, had they not been stopped.

    Raises:
        NothingToConfirm: there is none.
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
            found.append(Winner(configuration, sum(values) / len(values), ids, members[0].config))
    if not found:
        raise NothingToConfirm("no configuration of this study has finished, so there is nothing to confirm")
    return sorted(found, key=lambda winner: winner.searched, reverse=experiment.objective.modes[0] == "max")[:top]


def confirmation(experiment: Experiment, history: History, best: list[Winner], seeds: int) -> Experiment:
    """The experiment that runs ``best`` on ``seeds`` seeds that the study has not used, and stops nothing early."""
    configs = [{key: value for key, value in winner.config.items() if key != "seed"} for winner in best]
    shared = {key: value for key, value in configs[0].items() if all(c.get(key, c) == value for c in configs)}
    points = tuple({key: value for key, value in config.items() if key not in shared} for config in configs)
    fresh = 1 + max(past.config["seed"] for past in history.comparisons)
    metric = experiment.objective.metrics[0]
    about = About(
        title=f"Confirmation of {experiment.about.title}",
        question=f"Does what the search found hold on fresh seeds? (The {len(best)} best by {metric}.)",
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


def provenance(study: str, experiment: Experiment, best: list[Winner]) -> dict[str, Any]:
    """What the manifest of the confirmation says of the study that it confirms."""
    return {
        "study": study,
        "metric": experiment.objective.metrics[0],
        "configurations": {w.configuration: {"searched": w.searched, "trials": list(w.trials)} for w in best},
    }
