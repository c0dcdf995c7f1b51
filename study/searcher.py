"""Optuna as a Tune searcher, by ask and tell, so that Optuna hears the truth.

Tune's own adapter tells a trial that the scheduler stopped as complete with whatever value it had. Here a stopped trial
is told as pruned with its intermediate values, a diverged or failed one as failed, and NaN reaches no sampler.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.trial import TrialState
from ray.tune.search import Searcher

from search_spaces.convert import suggest
from search_spaces.domains import Space
from study.experiment import Search


def create_study(search: Search, mode: str) -> optuna.Study:
    """An Optuna study in memory, with the sampler that ``search`` names, seeded."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler: optuna.samplers.BaseSampler
    if search.sampler == "tpe":
        sampler = optuna.samplers.TPESampler(seed=search.seed, multivariate=True, constant_liar=True)
    else:
        sampler = optuna.samplers.RandomSampler(seed=search.seed)
    return optuna.create_study(direction="maximize" if mode == "max" else "minimize", sampler=sampler)


class OptunaSearcher(Searcher):
    """Asks ``study`` for configurations of ``space`` and tells it how each went.

    Results need ``objective``, ``epoch`` and ``status`` as :class:`trainables.tune.ComparisonTrainable` reports them.
    """

    def __init__(self, study: optuna.Study, space: Space, fixed: Mapping[str, Any], shared: Mapping[str, Any]) -> None:
        mode = "max" if study.direction == optuna.study.StudyDirection.MAXIMIZE else "min"
        super().__init__(metric="objective", mode=mode)
        self.study = study
        self._space = space
        self._fixed = fixed
        self._shared = dict(shared)
        self._asked: dict[str, optuna.Trial] = {}

    def set_search_properties(self, metric: str | None, mode: str | None, config: Any, **_: Any) -> bool:
        """Tune offers its own settings; the study has been set up already."""
        return True

    def suggest(self, trial_id: str) -> dict[str, Any]:
        """The next configuration for :class:`~trainables.tune.ComparisonTrainable`."""
        trial = self._asked[trial_id] = self.study.ask()
        return {"trial": suggest(trial, self._space, self._fixed), **self._shared}

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """An intermediate value."""
        value = result["objective"]
        if math.isfinite(value):
            self._asked[trial_id].report(value, result["epoch"])

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        """The trial's end, by whatever cause."""
        trial = self._asked.pop(trial_id, None)
        if trial is None:
            return
        value = result.get("objective", math.nan) if result else math.nan
        if error or result is None or not math.isfinite(value):
            self.study.tell(trial, state=TrialState.FAIL)
        elif result["status"] == "finished":
            self.study.tell(trial, value)
        else:
            trial.report(value, result["epoch"])  # Tune passes a stopped trial's last result only here
            self.study.tell(trial, state=TrialState.PRUNED)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study's tables are its record."""

    def restore(self, checkpoint_path: str) -> None:
        """Not supported: a study is never restored from Ray's files.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("a study is continued from its own tables, not from Ray's files")
