"""What confirmations allow to say of a search: sentences for a verdict.

A win over a baseline that nobody tuned is undone by the best baseline of its problem. So the gap with each arm at its
own best stands first, and a gap at one configuration carries the standing of its baseline.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from analysis.confirmations import (
    BEST,
    WINNER,
    chosen_by,
    confirmed,
    confirms_tuned,
    is_confirmation,
    origin_of,
    searched_in,
)
from analysis.database import counted
from analysis.gaps import amount, label
from analysis.load import Study
from trainables import documents
from trainables.records import Columns, title

SEARCHES = ("optuna", "random")
"""Values of ``search.name`` under which the best comparison is the best of many draws."""

AT_BEST = ("tuned", "tuned_low", "tuned_high")
"""The columns of the gap with each arm at its best."""

Row = Mapping[Any, Any]


class _Metric(NamedTuple):
    """A metric, and the columns of the study that it is of."""

    name: str
    columns: Columns

    @property
    def title(self) -> str:
        return title(self.name)

    def amount(self, gap: float) -> str:
        return amount(self.name, gap, self.columns)


def claims(study: Study, found: Sequence[Study], metric: str) -> list[str]:
    """What fresh seeds say of the search's best gap, and how much of it they left: sentences for a verdict.

    In the metric that the winners were chosen by, and in ``metric``. Of several confirmations the newest that has
    results speaks; none does, and there is nothing to say. A study that is a confirmation speaks for itself.
    """
    if is_confirmation(study):
        search = searched_in(study)
        origin = search.name if search else origin_of(study)
        frame = confirmed(search, study, metric)
        about = f"This study confirms {counted(len(frame), 'configuration')} of {origin} on fresh seeds."
        return [*_claims(search, study, metric), about]
    said = (_claims(study, confirmation, metric) for confirmation in reversed(found))
    return next(filter(None, said), [])


def unconfirmed(study: Study) -> list[str]:
    """The sentence for the verdict on a search that no claim of :func:`claims` backs: its best gap is not confirmed."""
    if _search(study) not in SEARCHES or (study.trials["status"] == "finished").sum() < 2:
        return []
    return [f"The best gap of this search is not confirmed on fresh seeds; to do so: {_command(study)}"]


def _claims(study: Study | None, confirmation: Study, metric: str) -> list[str]:
    chosen = chosen_by(confirmation, metric)
    frame = confirmed(study, confirmation, chosen)
    keys = list(frame.columns[1 : list(frame.columns).index("searched")])
    searched_by = _Metric(chosen, confirmation.columns)
    rows = frame.to_dict("records")
    having = [row for row in rows if WINNER in row["roles"] and row["seeds"]]
    if not having:
        return []
    first = "the search's best configuration"
    best, arm = having[0], str(confirmation.trials["baseline"].iloc[0])
    settings = ", ".join(f"{key} {label(best[key])}" for key in keys if pd.notna(best[key])) or best["configuration"]
    which = f"{first if best is rows[0] else 'the configuration'} ({settings})"
    if _best_for_both(best):
        where = "" if confirms_tuned(confirmation) else " in the search"
        lines = _alone(which, searched_by, best, f"It is the best configuration of its problem for each arm{where}.")
    elif confirms_tuned(confirmation):
        lines = _tuned(which, searched_by, best, arm)
    else:
        lines = _by_the_search(which, searched_by, best, arm, study)
    lines += _without_results(best)
    if metric != chosen:
        also = confirmed(study, confirmation, metric).to_dict("records")
        lines += _also(_Metric(metric, confirmation.columns), also[rows.index(best)])
    return lines + _of_several(having, searched_by)


def _alone(which: str, metric: _Metric, row: Row, standing: str, held: bool = True) -> list[str]:
    gap = f"{_estimate(metric, row)}{_searched(metric, row, held and row['seeds'] == row['runs'])}"
    return [f"Confirmed on {counted(row['seeds'], 'fresh seed')}: {which} has a median gap of {gap}.", standing]


def _tuned(which: str, metric: _Metric, row: Row, arm: str) -> list[str]:
    """The gap with each arm at its own best first, then what it leaves of the gap at the winner's configuration."""
    gap = f"{_estimate(metric, row)}{_searched(metric, row, held=_stands(row))}"
    there = f"{arm} is {_standing(metric, row, arm)} on the same seeds, and the median gap is {gap}."
    if not row["tuned_seeds"]:
        return [
            "Not confirmed with each arm at its own best configuration of this problem: no fresh seed has results of "
            "both.",
            f"At {which} {there}",
        ]
    first = (
        f"Confirmed on {_seeds(row)}, each arm at its own best configuration of this "
        f"problem: a median gap of {_estimate(metric, row, AT_BEST)}."
    )
    if undone(row):
        return [first, f"The gap at {which} does not stand against that: there {there}"]
    return [first, f"At {which} {there}"]


def _seeds(row: Row) -> str:
    """The fresh seeds on which both arms at their best have a result, of all."""
    if row["tuned_seeds"] == row["runs"]:
        return counted(row["runs"], "fresh seed")
    return f"{row['tuned_seeds']} of {counted(row['runs'], 'fresh seed')} (on the others one of the two has no result)"


def _by_the_search(which: str, metric: _Metric, row: Row, arm: str, study: Study | None) -> list[str]:
    """For a confirmation that did not run what is best for either arm: how the baseline stands in the search."""
    again = f"; to confirm each arm at its best: {_command(study)}" if study else ""
    if not math.isfinite(row["behind"]):
        unknown = f"How {arm} stands there against its best in the search is not known{again or '.'}"
        return _alone(which, metric, row, unknown, held=False)
    standing = f"{_standing(metric, row, arm)} in the search, which is not confirmed"
    if row["median"] > 0 and row["behind"] >= row["median"]:
        gap = f"{_estimate(metric, row)}{_searched(metric, row, held=False)}"
        return [
            f"The gap at {which} is one over an untuned baseline: {arm} is there {standing}{again}",
            f"At this configuration alone the median gap on {counted(row['seeds'], 'fresh seed')} is {gap}.",
        ]
    return _alone(which, metric, row, f"There {arm} is {standing}{again or '.'}")


def undone(row: Row) -> bool:
    """Whether a win at a configuration does not stand with each arm at its own best: that gap is not surely above 0.

    Its interval decides, and without one the gap itself. Takes a row of :func:`analysis.confirmations.confirmed`.
    """
    if not row["median"] > 0 or _best_for_both(row):
        return False
    least = row["tuned_low"] if not math.isnan(row["tuned_low"]) else row["tuned"]
    return not least > 0


def _stands(row: Row) -> bool:
    """Whether a win may be said to have held: nothing undoes it, and no fresh seed is left out."""
    seeds = (row["seeds"],) if _best_for_both(row) else (row["seeds"], row["tuned_seeds"])
    return not undone(row) and set(seeds) == {row["runs"]}


def _best_for_both(row: Row) -> bool:
    return set(BEST.values()) <= set(row["roles"])


def _also(metric: _Metric, row: Row) -> list[str]:
    """The same of another metric than the one that chose."""
    if not row["seeds"]:
        return []
    here = f"{_estimate(metric, row)}{_searched(metric, row, held=_stands(row))}"
    if not row["tuned_seeds"] or _best_for_both(row):
        return [f"Beside it stands a median gap of {here}."]
    at_best = _estimate(metric, row, AT_BEST)
    return [f"With each arm at its own best the median gap is {at_best}; at that configuration alone it is {here}."]


def _without_results(row: Row) -> list[str]:
    """On how many seeds an arm lost without a number, and on how many nobody won."""
    runs, decided, missing = counted(row["runs"], "fresh seed"), row["decided"], row["runs"] - row["seeds"]
    lines = []
    if decided:
        lines.append(f"On {decided} of its {runs} one arm diverged or could not train, which counts as its loss.")
    if missing:
        lines.append(
            f"{missing} of its {runs} {'has' if missing == 1 else 'have'} no gap, because neither arm could be trained "
            "or the comparison did not finish; the median leaves them out."
        )
    return lines


def _of_several(winners: Sequence[Row], metric: _Metric) -> list[str]:
    if len(winners) < 2:
        return []
    above, below = sum(row["median_low"] > 0 for row in winners), sum(row["median_high"] < 0 for row in winners)
    text = (
        f"Of {len(winners)} winners with results, the whole interval lies above 0 for {above} and below 0 for {below} "
        f"({metric.title}, each taken alone)."
    )
    untuned = sum(row["median"] > 0 and row["behind"] >= row["median"] for row in winners)
    if not untuned:
        return [text]
    return [
        f"{text} {untuned} of their wins {'is' if untuned == 1 else 'are'} over an untuned baseline: at its best it "
        "does better in the same problem than the treatment did there."
    ]


def _standing(metric: _Metric, row: Row, arm: str) -> str:
    """How the baseline stands at a configuration, compared with its best."""
    behind = float(row["behind"])
    if BEST["baseline"] in row["roles"]:
        return "at its best"
    if not math.isfinite(behind):
        return "not to be compared with its best"
    size = metric.amount(abs(behind)).lstrip("+")
    return (
        f"{size} behind its best"
        if behind > 0
        else f"{size} ahead of what was chosen as its best"
        if behind
        else "as good as at its best"
    )


def _estimate(metric: _Metric, row: Row, names: Sequence[str] = ("median", "median_low", "median_high")) -> str:
    """A median gap of a row of `confirmed` with its interval."""
    middle, low, high = (float(row[name]) for name in names)
    text = f"{metric.amount(middle)} in {metric.title}"
    if math.isnan(low):
        return f"{text} (too few seeds for an interval)"
    zero = "leaves out" if low > 0 or high < 0 else "includes"
    return f"{text} (95% interval from {metric.amount(low)} to {metric.amount(high)}, which {zero} 0)"


def _searched(metric: _Metric, row: Row, held: bool) -> str:
    """What the gap was in the search, and how much of it is left; that it held only where it stands."""
    searched, middle = float(row["searched"]), float(row["median"])
    if not math.isfinite(searched):
        return ""
    text = f"; the search had found {metric.amount(searched)}"
    if searched <= 0:
        return text
    if middle >= searched:
        return f"{text}, which held" if held and math.isfinite(middle) else text
    lost = f"{1 - middle / searched:.0%}" if middle > 0 else "all"
    return f"{text}, {lost} of which did not hold"


def _command(study: Study) -> str:
    return shlex.join(["filter-study", "confirm", str(study.path)])


def _search(study: Study) -> str | None:
    """``search.name`` of the study's experiment; None where it is not known."""
    try:
        search = documents.parse(study.experiment)["search"]
        return str(search["name"])
    except (documents.DocumentError, TypeError, KeyError):
        return None
