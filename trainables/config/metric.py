"""A metric of one's own: which function measures it, and what its numbers mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

from pydantic import Field, field_validator

from trainables.config.base import Used
from trainables.records import SPLITS, Column

Direction = Literal["max", "min", "none"]
DIRECTIONS: Mapping[str, Literal[-1, 0, 1]] = {"max": 1, "min": -1, "none": 0}
DECLARED = "filter_study_metric"
"""The attribute of a function in which :func:`metric` keeps what it declares."""

Function = TypeVar("Function", bound=Callable[..., Any])


class MetricConfig(Used):
    """A metric of one's own: a function of logits and labels (see :mod:`trainables.metrics`), and its options."""

    direction: Direction | dict[str, Direction] | None = Field(
        None,
        description="max: larger is better; min: smaller is better; none: neither, and there is no gap. For a function "
        "that returns several numbers, by their names. Left out: what the function declares by @metric",
    )
    unit: str | dict[str, str] | None = Field(None, description="of the numbers, such as fraction or nats")
    meaning: str | None = Field(None, description="what the metric is, in a few words")

    @field_validator("direction", mode="before")
    @classmethod
    def _is_known(cls, direction: Any) -> Any:
        given = list(direction.values()) if isinstance(direction, Mapping) else [direction]
        if direction is not None and not all(isinstance(one, str) and one in DIRECTIONS for one in given):
            raise ValueError("must be max, min or none, or map each name that the function returns to one of these")
        return direction

    def names(self, name: str) -> dict[str, str]:
        """The metrics that the function called ``name`` measures: the key of each in what it returns, and its name."""
        if isinstance(self.direction, dict):
            return {key: f"{name}_{key}" for key in self.direction}
        return {"": name}

    def columns(self, name: str) -> list[Column]:
        """The columns of the metric called ``name``: for each split, one for every number that it measures."""
        directions = self.direction if isinstance(self.direction, dict) else {"": self.direction or "none"}
        meaning = self.meaning or f"{name}, by {self.use}"
        return [
            Column(
                f"{split}_{measured}",
                "float",
                (self.unit.get(key, "") if isinstance(self.unit, dict) else self.unit) or "",
                f"{meaning}{f': {key}' if key else ''}, clean {split} set",
                DIRECTIONS[directions[key]],
            )
            for split in SPLITS
            for key, measured in self.names(name).items()
        ]


def metric(
    direction: Direction | Mapping[str, Direction], unit: str | Mapping[str, str] = "", meaning: str = ""
) -> Callable[[Function], Function]:
    """Declare what the numbers of a function of logits and labels mean: ``@metric(direction="min", unit="fraction")``.

    Args:
        direction: ``max``: larger is better; ``min``: smaller is better; ``none``: neither. A mapping for a function
            that returns a mapping of several numbers.
        unit: of the numbers; a mapping where they differ.
        meaning: what the metric is, in a few words.
    """
    declared = {"direction": direction, "unit": unit, "meaning": meaning}

    def declare(function: Function) -> Function:
        setattr(function, DECLARED, {key: value for key, value in declared.items() if value})
        return function

    return declare


def declaration(function: Any) -> dict[str, Any]:
    """What :func:`metric` declares of a function; empty where it declares nothing."""
    declared = getattr(function, DECLARED, {})
    return dict(declared) if isinstance(declared, Mapping) else {}
