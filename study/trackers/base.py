"""Where a study's comparisons are shown beside its own record: what every such tracker does."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar


class Tracker(Protocol):
    """Shows comparisons elsewhere; never the record of truth, so that nothing it does can end a study."""

    @property
    def failure(self) -> str | None:
        """What went wrong so far, for the study's end; None if nothing did."""

    def start(self, trial_id: str, config: Mapping[str, Any]) -> None:
        """A comparison starts, or goes on in a study that is resumed."""

    def log(self, trial_id: str, epoch: int, metrics: Mapping[str, float]) -> None:
        """A comparison leaves an epoch; one that was logged before does not stand twice."""

    def end(self, trial_id: str, status: str) -> None:
        """A comparison ends."""

    def close(self) -> None:
        """The study ends; what is still open was interrupted."""


class Forgiving:
    """A tracker of which a method that raises ends its own logging, not the study."""

    name: str

    def __init__(self, on: bool = True) -> None:
        self.on = on
        self.failure: str | None = None


_Self = TypeVar("_Self", bound=Forgiving)
_Arguments = ParamSpec("_Arguments")


def forgiven(
    method: Callable[Concatenate[_Self, _Arguments], None],
) -> Callable[Concatenate[_Self, _Arguments], None]:
    """A method of a :class:`Forgiving` tracker that does nothing once one has failed, and fails in no other way."""

    @wraps(method)
    def attempt(self: _Self, /, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> None:
        if self.on:
            try:
                method(self, *args, **kwargs)
            except (
                Exception,
                SystemExit,
            ) as error:  # not one kind: connections, full disks, and what libraries raise by themselves
                self.on = False
                reason = str(error) or type(error).__name__
                self.failure = f"{self.name} logging is off for the rest of this study: {reason}"

    return attempt


def numbers(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics that have a value."""
    return {name: value for name, value in metrics.items() if not math.isnan(value)}
