"""From a space to what searches it: Optuna's define-by-run, or a list of configurations for Tune."""

from __future__ import annotations

from random import Random
from typing import Any

import optuna
from ray import tune

from search_spaces.domains import Space, Values, grid, ordered, sample


def suggest(trial: optuna.Trial, space: Space, fixed: Values) -> dict[str, Any]:
    """The configuration that Optuna wants tried; its parameters carry the space's dotted keys."""
    values = dict(fixed)
    for key in ordered(space, fixed):
        values.pop(key, None)
        parameter = space[key]
        if not parameter.active(values):
            continue
        if parameter.choice is not None:
            values[key] = trial.suggest_categorical(key, parameter.choice)
        elif parameter.integer is not None:
            values[key] = trial.suggest_int(key, *parameter.integer)
        else:
            low, high = parameter.bounds
            values[key] = trial.suggest_float(key, low, high, log=parameter.loguniform is not None)
    return values


def to_tune(space: Space, fixed: Values, trials: int | None = None, seed: int = 0) -> dict[str, Any]:
    """A Tune search space: the whole grid, or ``trials`` seeded random draws.

    Whole configurations are drawn here, conditions and all, and given to Tune as one grid, so that the same seed gives
    the same study whatever Tune draws itself.
    """
    if trials is None:
        return tune.grid_search(grid(space, fixed))
    rng = Random(seed)
    return tune.grid_search([sample(space, fixed, rng) for _ in range(trials)])
