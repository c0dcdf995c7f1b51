"""Domains and spaces as plain data: what a YAML file says is what these hold.

A *space* maps dotted keys of a TrialConfig to parameters. A parameter can be conditional: with
``when: {optimizer.name: SGD}`` it exists only where ``optimizer.name`` is SGD, be that key searched or fixed.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterator, Mapping, Sequence
from itertools import product
from random import Random
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from trainables.config import Frozen
from trainables.errors import UserError

Scalar = bool | int | float | str | None
Values = Mapping[str, Any]


class Parameter(Frozen):
    """One key's domain: exactly one of ``choice``, ``uniform``, ``loguniform`` and ``integer`` (bounds included)."""

    choice: tuple[Scalar, ...] | None = Field(None, min_length=1)
    uniform: tuple[float, float] | None = None
    loguniform: tuple[float, float] | None = None
    integer: tuple[int, int] | None = None
    when: dict[str, tuple[Scalar, ...]] = Field(default_factory=dict)

    @field_validator("choice", mode="before")
    @classmethod
    def _values_are_scalars(cls, choice: Any) -> Any:
        if not isinstance(choice, list | tuple) or not all(isinstance(value, Scalar) for value in choice):
            raise ValueError("choice must be a list of numbers, words, true, false or null")
        return choice

    @field_validator("when", mode="before")
    @classmethod
    def _one_value_is_a_list_of_one(cls, when: Any) -> Any:
        if not isinstance(when, Mapping):
            return when
        return {key: value if isinstance(value, list | tuple) else (value,) for key, value in when.items()}

    @model_validator(mode="after")
    def _one_domain(self) -> Self:
        kinds = [kind for kind in ("choice", "uniform", "loguniform", "integer") if getattr(self, kind) is not None]
        if len(kinds) != 1:
            found = f"it has {', '.join(kinds)}" if kinds else "it has none"
            raise ValueError(f"a parameter needs exactly one of choice, uniform, loguniform and integer; {found}")
        if self.choice is not None:
            if len(set(map(repr, self.choice))) < len(self.choice):
                raise ValueError(f"choice names a value twice: {list(self.choice)}")
            return self
        low, high = self.bounds
        if not low < high:
            raise ValueError(f"{kinds[0]} needs a lower and a higher bound; it has {low} and {high}")
        if self.loguniform is not None and low <= 0:
            raise ValueError(f"loguniform needs bounds above 0; it has {low}")
        return self

    @property
    def bounds(self) -> tuple[float, float]:
        """Lower and upper bound of a numeric domain."""
        bounds = self.uniform or self.loguniform or self.integer
        assert bounds is not None
        return bounds

    @property
    def extremes(self) -> tuple[Scalar, ...]:
        """The values that show whether the whole domain is valid: every choice, or both bounds."""
        return self.choice if self.choice is not None else self.bounds

    def draw(self, rng: Random) -> Scalar:
        """A value from the domain."""
        if self.choice is not None:
            return rng.choice(self.choice)
        low, high = self.bounds
        if self.integer is not None:
            return rng.randint(*self.integer)
        if self.loguniform is not None:
            return min(max(math.exp(rng.uniform(math.log(low), math.log(high))), low), high)
        return rng.uniform(low, high)

    def near(self, value: Any, rng: Random) -> Scalar:
        """A value close to ``value``: a fifth less or more within the bounds, or a neighbour in a choice."""
        if self.choice is not None:
            if len(self.choice) == 1 or value not in self.choice:
                return self.draw(rng)
            place = self.choice.index(value)
            return self.choice[rng.choice([p for p in (place - 1, place + 1) if 0 <= p < len(self.choice)])]
        low, high = self.bounds
        moved = min(max(value * rng.choice((0.8, 1.2)), low), high)
        return round(moved) if self.integer is not None else moved

    def contains(self, value: Scalar) -> bool:
        """Whether the domain has this value."""
        if self.choice is not None:
            return any(value == known and type(value) is type(known) for known in self.choice)
        low, high = self.bounds
        numbers = int if self.integer is not None else int | float
        return isinstance(value, numbers) and not isinstance(value, bool) and low <= value <= high

    def active(self, values: Values) -> bool:
        """Whether the condition holds under ``values``."""
        return all(key in values and values[key] in allowed for key, allowed in self.when.items())


Space = Mapping[str, Parameter]

LARGEST_GRID = 100_000
"""Points beyond which a grid is taken for a mistake."""


class SpaceError(UserError, ValueError):
    """A space contradicts itself."""


def space(**parameters: Any) -> Space:
    """A space from what a YAML file would say; ``__`` in a name stands for the dot."""
    return {key.replace("__", "."): Parameter.model_validate(value) for key, value in parameters.items()}


def merge(*spaces: Space) -> Space:
    """One space of several.

    Raises:
        SpaceError: a key stands in more than one of them.
    """
    merged: dict[str, Parameter] = {}
    for part in spaces:
        twice = sorted(merged.keys() & part.keys())
        if twice:
            raise SpaceError(f"searched twice: {', '.join(twice)}; leave out the space or the key")
        merged |= part
    return merged


def ordered(space: Space, fixed: Values) -> list[str]:
    """The space's keys, each after the keys that its condition looks at.

    Raises:
        SpaceError: a condition looks at a key that is neither searched nor fixed, or conditions go in a circle.
    """
    unknown = [
        f"{key} is conditional on {other}, which is neither searched nor set"
        for key, parameter in space.items()
        for other in parameter.when
        if other not in space and other not in fixed
    ]
    if unknown:
        raise SpaceError("; ".join(unknown))
    order: list[str] = []
    while len(order) < len(space):
        ready = [
            key
            for key, parameter in space.items()
            if key not in order and all(other in order or other not in space for other in parameter.when)
        ]
        if not ready:
            raise SpaceError(f"conditions go in a circle: {', '.join(key for key in space if key not in order)}")
        order += ready
    return order


def sample(space: Space, fixed: Values, rng: Random) -> dict[str, Any]:
    """One draw: ``fixed`` and a value for every parameter whose condition holds."""
    values = dict(fixed)
    for key in ordered(space, fixed):
        values.pop(key, None)
        if space[key].active(values):
            values[key] = space[key].draw(rng)
    return values


def complete(space: Space, settings: Values, point: Values) -> dict[str, Any]:
    """``point`` with ``settings`` for what it leaves open, but for keys whose condition does not hold there.

    Raises:
        SpaceError: as :func:`ordered`.
    """
    values = {**settings, **point}
    for key in ordered(space, {k: v for k, v in values.items() if k not in space}):
        if key not in point and not space[key].active(values):
            values.pop(key, None)
    return values


def grid(space: Space, fixed: Values) -> list[dict[str, Any]]:
    """Every configuration of a space of choices, conditional ones unfolded only where they exist.

    Raises:
        SpaceError: a parameter has no finite list of values.
    """
    endless = [key for key, p in space.items() if p.choice is None and p.integer is None]
    if endless:
        raise SpaceError(f"a grid needs lists of values: give {', '.join(endless)} as choice, or search at random")
    configurations = [dict(fixed)]
    for key in ordered(space, fixed):
        parameter = space[key]
        if len(configurations) * len(_finite(parameter)) > LARGEST_GRID:
            raise SpaceError(f"the grid has more than {LARGEST_GRID:,} points by {key}; search at random")
        configurations = [
            {k: v for k, v in values.items() if k != key} | extension
            for values in configurations
            for extension in ([{key: v} for v in _finite(parameter)] if parameter.active(values) else [{}])
        ]
    return configurations


def combined(space: Space, fixed: Values, keys: Container[str], rng: Random) -> list[dict[str, Any]]:
    """Every combination of the extreme values of ``keys``, under every condition they exist in; the others are drawn.

    What goes wrong between keys shows there: a largest batch with a smallest data set.

    Raises:
        SpaceError: as :func:`grid`.
    """
    looked_at = {other for key, parameter in space.items() if key in keys for other in parameter.when}
    reduced = {}
    for key, parameter in space.items():
        values = parameter.extremes if key in keys or key in looked_at else (parameter.draw(rng),)
        if key not in looked_at and all(isinstance(value, int | float) for value in values):
            values = tuple(dict.fromkeys((min(values), max(values))))  # type: ignore[type-var]
        reduced[key] = Parameter(choice=values, when=parameter.when)
    return grid(reduced, fixed)


def _finite(parameter: Parameter) -> Sequence[Scalar]:
    if parameter.integer is not None:
        low, high = parameter.integer
        return range(low, high + 1)
    assert parameter.choice is not None
    return parameter.choice


def corners(space: Space, fixed: Values, rng: Random) -> Iterator[dict[str, Any]]:
    """Draws that together take every extreme value of every parameter under every condition it exists in.

    Raises:
        SpaceError: as :func:`ordered`.
    """
    ordered(space, fixed)
    for key, parameter in space.items():
        for value, *context in product(parameter.extremes, *parameter.when.values()):
            pinned = dict(zip(parameter.when, context, strict=True)) | {key: value}
            values = sample({k: p for k, p in space.items() if k not in pinned}, {**fixed, **pinned}, rng)
            reachable = all(values[k] == fixed[k] for k in pinned if k not in space)
            if reachable and all(space[k].active(values) for k in pinned if k in space):
                yield values
