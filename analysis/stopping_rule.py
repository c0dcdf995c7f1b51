"""Who stops comparisons early, and by what, in words."""

from __future__ import annotations

from dataclasses import dataclass

from trainables.records import title

POPULATION = "pbt"
NAMES = {"asha": "ASHA", "hyperband": "HyperBand", "median": "the median rule"}
"""The rules that stop comparisons, as a sentence names them."""


@dataclass(frozen=True)
class Rule:
    """Who stops comparisons, or moves them, and by what.

    Attributes:
        name: the scheduler's name, such as asha; empty where it is not known.
        metric: ``better/METRIC``, ``gap/METRIC`` or ``ARM/METRIC``; empty where it is not known.
    """

    name: str = ""
    metric: str = ""

    @property
    def looks_at(self) -> str:
        """What the rule looks at, in words."""
        scope, _, column = self.metric.partition("/")
        if not column:
            return "a metric that is not on record"
        if scope == "gap":
            return f"the gap in {title(column)}"
        return f"the better arm's {title(column)}" if scope == "better" else f"the {title(column)} of {scope} alone"

    def effect(self, baseline: str, treatment: str) -> str:
        """What choosing by that does to the gaps of the comparisons that finish, in words."""
        scope = self.metric.partition("/")[0]
        if scope == "better":
            return "which treats both arms alike, but favours settings that suit the stronger one"
        if scope in ("gap", treatment):
            return f"which flatters {treatment}"
        return f"which flatters {baseline}" if scope == baseline else "which may flatter one of the arms"
