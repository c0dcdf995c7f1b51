"""From a space to Optuna's define-by-run, and back from a configuration to what Optuna would have asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from search_spaces.domains import Parameter, Space, Values, ordered


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
            values[key] = parameter.whole(trial.suggest_int(key, *parameter.whole_bounds))
        else:
            low, high = parameter.bounds
            values[key] = trial.suggest_float(key, low, high, log=parameter.loguniform is not None)
    return values


@dataclass(frozen=True)
class DefineByRun:
    """A space as a function of a trial: it suggests every key, and returns the whole configuration.

    A class, so that Ray can send it to another process.
    """

    space: Space
    fixed: Values

    def __call__(self, trial: optuna.Trial) -> dict[str, Any]:
        """The configuration that Optuna wants tried."""
        return suggest(trial, self.space, self.fixed)


def distributions(space: Space, fixed: Values, values: Values) -> dict[str, BaseDistribution]:
    """Optuna's distributions of the parameters that exist in the configuration ``values``, as :func:`suggest` asks."""
    known = {key: value for key, value in fixed.items() if key not in space}
    found: dict[str, BaseDistribution] = {}
    for key in ordered(space, fixed):
        if space[key].active(known) and key in values:
            known[key] = values[key]
            found[key] = _distribution(space[key])
    return found


def _distribution(parameter: Parameter) -> BaseDistribution:
    if parameter.choice is not None:
        return CategoricalDistribution(parameter.choice)
    if parameter.integer is not None:
        return IntDistribution(*parameter.whole_bounds)
    low, high = parameter.bounds
    return FloatDistribution(low, high, log=parameter.loguniform is not None)
