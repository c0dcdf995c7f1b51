"""Domains and spaces as plain data: what a YAML file says is what these hold.

A *space* maps dotted keys of a TrialConfig to parameters. A parameter can be conditional: with
``when: {optimizer.name: SGD}`` it exists only where ``optimizer.name`` is SGD, be that key searched or fixed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Container, Iterator, Mapping, Sequence
from itertools import product
from random import Random
from typing import Any, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from trainables import fields, old_keys
from trainables.config import Frozen, numeric
from trainables.errors import UserError

Scalar = bool | int | float | str | None
Values = Mapping[str, Any]


class Parameter(Frozen):
    """One key's domain: exactly one of ``choice``, ``uniform``, ``loguniform`` and ``integer`` (bounds included)."""

    choice: tuple[Scalar, ...] | None = Field(None, min_length=1)
    uniform: tuple[float, float] | None = None
    loguniform: tuple[float, float] | None = None
    integer: tuple[int, int] | tuple[float, float] | None = Field(None, description="bounds as the key holds them")
    when: dict[str, tuple[Scalar, ...]] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _is_a_section(cls, stated: Any) -> Any:
        if not isinstance(stated, Mapping | Parameter):
            raise ValueError(
                "a parameter is a section such as {choice: [8, 16]}, {integer: [8, 64]} or {uniform: [0, 0.9]}"
            )
        return stated

    @field_validator("choice", mode="before")
    @classmethod
    def _values_are_scalars(cls, choice: Any, info: ValidationInfo) -> Any:
        if not isinstance(choice, list | tuple) or not all(isinstance(value, Scalar) for value in choice):
            raise ValueError("choice must be a list of numbers, words, true, false or null")
        return tuple(fields.held(_key(info), value) for value in choice)

    @field_validator("uniform", "loguniform", "integer", mode="before")
    @classmethod
    def _bounds_are_numbers(cls, bounds: Any, info: ValidationInfo) -> Any:
        if not isinstance(bounds, list | tuple) or len(bounds) != 2:
            raise ValueError("must be a list of two numbers, the lower and the higher bound")
        taken = numeric(fields.kinds(_key(info)))
        low, high = (fields.held(_key(info), bound) if taken else bound for bound in bounds)
        if not (_is_finite(low) and _is_finite(high)):
            raise ValueError("must be two finite numbers, the lower and the higher bound")
        if info.field_name == "integer" and not (low == int(low) and high == int(high)):
            raise ValueError("must be two whole numbers, the lower and the higher bound; use uniform for fractions")
        return low, high

    @field_validator("when", mode="before")
    @classmethod
    def _values_are_those_that_a_configuration_holds(cls, when: Any) -> Any:
        """One value is a list of one."""
        if not isinstance(when, Mapping):
            return when
        several = {key: value if isinstance(value, list | tuple) else (value,) for key, value in when.items()}
        named = {old_keys.key(key): values for key, values in several.items()}
        return {key: tuple(fields.read(key, value) for value in values) for key, values in named.items()}

    @model_validator(mode="after")
    def _one_domain(self, info: ValidationInfo) -> Self:
        kinds = [kind for kind in ("choice", "uniform", "loguniform", "integer") if getattr(self, kind) is not None]
        if len(kinds) != 1:
            found = f"it has {', '.join(kinds)}" if kinds else "it has none"
            raise ValueError(f"a parameter needs exactly one of choice, uniform, loguniform and integer; {found}")
        if self.choice is not None:
            twice = [value for place, value in enumerate(self.choice) if value in self.choice[:place]]
            if twice:
                raise ValueError(f"choice names a value twice: {', '.join(map(_word, twice))}")
            return self
        low, high = self.bounds
        if not low < high:
            raise ValueError(f"{kinds[0]} needs a lower and a higher bound; it has {low} and {high}")
        if self.loguniform is not None and low <= 0:
            raise ValueError(f"loguniform needs bounds above 0; it has {low}")
        self._suits(_key(info), kinds[0])
        return self

    def _suits(self, key: str, kind: str) -> None:
        taken = fields.kinds(key)
        if taken and not numeric(taken):
            raise ValueError(f"{kind} draws numbers, which {key} does not take; use choice")
        if taken and kind != "integer" and float not in taken:
            low, high = self.bounds
            raise ValueError(
                f"{kind} draws fractions, and {key} takes whole numbers; use integer: [{math.ceil(low)}, "
                f"{math.floor(high)}], or choice"
            )

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

    def whole(self, number: int) -> float:
        """A number of the domain ``integer`` as the key holds it: an int, or a float where the key takes fractions."""
        return type(self.bounds[0])(number)

    @property
    def whole_bounds(self) -> tuple[int, int]:
        """The bounds of the domain ``integer`` as ints."""
        low, high = self.bounds
        return int(low), int(high)

    def telling(self, rng: Random) -> tuple[Scalar, ...]:
        """Values that show whether the domain suits others: all of a finite one, else both bounds and some between."""
        if self.choice is not None:
            return self.choice
        if self.integer is not None and count(self) <= FEW:
            return tuple(_finite(self))
        between = FEW if self.integer is not None else 1
        return tuple(dict.fromkeys([*self.bounds, *(self.draw(rng) for _ in range(between))]))

    def draw(self, rng: Random) -> Scalar:
        """A value from the domain."""
        if self.choice is not None:
            return rng.choice(self.choice)
        low, high = self.bounds
        if self.integer is not None:
            return self.whole(rng.randint(*self.whole_bounds))
        drawn = math.exp(rng.uniform(math.log(low), math.log(high))) if self.loguniform else rng.uniform(low, high)
        return min(max(drawn, low), high)  # rounding may have left the bounds

    def near(self, value: Any, rng: Random) -> Scalar:
        """A value close to ``value``: a fifth less or more within the bounds, or a neighbour in a choice."""
        if self.choice is not None:
            if len(self.choice) == 1 or value not in self.choice:
                return self.draw(rng)
            place = self.choice.index(value)
            return self.choice[rng.choice([p for p in (place - 1, place + 1) if 0 <= p < len(self.choice)])]
        low, high = self.bounds
        moved = min(max(value * rng.choice((0.8, 1.2)), low), high)
        return self.whole(round(moved)) if self.integer is not None else moved

    def contains(self, value: Scalar) -> bool:
        """Whether the domain has this value."""
        if self.choice is not None:
            return any(value == known and type(value) is type(known) for known in self.choice)
        low, high = self.bounds
        numbers = type(low) if self.integer is not None else int | float
        if not isinstance(value, numbers) or isinstance(value, bool) or not low <= value <= high:
            return False
        return self.integer is None or value == int(value)

    def active(self, values: Values) -> bool:
        """Whether the condition holds under ``values``."""
        return all(key in values and values[key] in allowed for key, allowed in self.when.items())


def _key(info: ValidationInfo) -> str:
    """The key whose domain is read; empty where none is known."""
    return (info.context or {}).get("key", "")


def _is_finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)


def _word(value: Scalar) -> str:
    return json.dumps(value, ensure_ascii=False)


Space = Mapping[str, Parameter]

LARGEST_GRID = 100_000
"""Points beyond which a grid is taken for a mistake."""


FEW = 12
"""Whole numbers up to which a domain is judged by all of them, and beyond which by so many between its bounds."""

MANY = 256
"""Configurations that a space is judged by."""


class SpaceError(UserError, ValueError):
    """A space contradicts itself."""


def domain(key: str, stated: Any) -> Parameter:
    """The domain that a YAML file states for ``key``; its values are what a configuration holds there.

    Raises:
        pydantic.ValidationError: it is none, or not one of this key.
    """
    return Parameter.model_validate(stated, context={"key": key})


def space(**parameters: Any) -> Space:
    """A space from what a YAML file would say; ``__`` in a name stands for the dot."""
    keys = {name: name.replace("__", ".") for name in parameters}
    return {keys[name]: domain(keys[name], stated) for name, stated in parameters.items()}


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
        if len(configurations) * count(parameter) > LARGEST_GRID:
            raise SpaceError(f"the grid has more than {LARGEST_GRID:,} points by {key}; search at random")
        configurations = _unfolded(configurations, key, parameter, _finite(parameter))
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


def _unfolded(
    configurations: Sequence[Values], key: str, parameter: Parameter, values: Sequence[Scalar]
) -> list[dict[str, Any]]:
    """Each configuration with each of the values, where the parameter exists in it."""
    return [
        {k: v for k, v in configuration.items() if k != key} | extension
        for configuration in configurations
        for extension in ([{key: value} for value in values] if parameter.active(configuration) else [{}])
    ]


def count(parameter: Parameter) -> int:
    """How many values a domain of choices or whole numbers has."""
    if parameter.choice is not None:
        return len(parameter.choice)
    low, high = parameter.whole_bounds
    return high - low + 1


def _finite(parameter: Parameter) -> Sequence[Scalar]:
    if parameter.choice is not None:
        return parameter.choice
    low, high = parameter.whole_bounds
    return [parameter.whole(number) for number in range(low, high + 1)]


def candidates(space: Space, fixed: Values, rng: Random) -> list[dict[str, Any]]:
    """Configurations that show whether all are valid: every combination of telling values, or :data:`MANY` at random.

    Raises:
        SpaceError: as :func:`ordered`.
    """
    values = {key: parameter.telling(rng) for key, parameter in space.items()}
    configurations: list[dict[str, Any]] = [dict(fixed)]
    for key in ordered(space, fixed):
        if len(configurations) * len(values[key]) > MANY:
            narrowed = {k: Parameter(choice=values[k], when=parameter.when) for k, parameter in space.items()}
            return [sample(narrowed, fixed, rng) for _ in range(MANY)]
        configurations = _unfolded(configurations, key, space[key], values[key])
    return configurations


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
