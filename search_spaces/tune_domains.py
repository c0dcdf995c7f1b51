"""A space as Ray Tune's own domains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray import tune

from search_spaces.domains import Parameter, Space, Values, ordered

ABSENT = "(absent)"
"""What a conditional key holds where its condition does not hold: Tune has no way to leave a key out."""


def domains(space: Space, fixed: Values) -> dict[str, Any]:
    """A ``param_space`` for ``tune.Tuner``: fixed values, and a domain for each key that is searched.

    A conditional key is a function of the configuration drawn so far, which Tune resolves after the keys that it looks
    at; where its condition does not hold, it is :data:`ABSENT`. Such functions draw from numpy's global generator.

    Raises:
        SpaceError: a condition looks at a key that is neither searched nor fixed, or conditions go in a circle.
    """
    made = {key: value for key, value in fixed.items() if key not in space}
    for key in ordered(space, fixed):
        drawn = _domain(space[key])
        made[key] = tune.sample_from(_conditional(space[key], drawn)) if space[key].when else drawn
    return made


def _domain(parameter: Parameter) -> Any:
    if parameter.choice is not None:
        return tune.choice(list(parameter.choice))
    if parameter.integer is not None:
        first, last = parameter.whole_bounds
        fractions = isinstance(parameter.bounds[0], float)  # what the key holds, though its values are whole
        return tune.quniform(first, last, 1) if fractions else tune.randint(first, last + 1)
    low, high = parameter.bounds
    return tune.loguniform(low, high) if parameter.loguniform is not None else tune.uniform(low, high)


def _conditional(parameter: Parameter, drawn: Any) -> Callable[[Any], Any]:
    def value(spec: Any) -> Any:
        looked_at = {key: spec.config[key] for key in parameter.when}
        return drawn.sample() if parameter.active(looked_at) else ABSENT

    return value
