"""Confirmations: studies that ran a search's winners again on fresh seeds, and what these left of its gaps.

The best of many noisy gaps is too good to be true; only seeds that had no part in choosing it tell how much. And a win
over a baseline that nobody tuned is no win: what is best for either arm in a winner's problem ran on the same seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.database import TableError
from analysis.gaps import hyperparameters
from analysis.load import Study, load
from analysis.pairs import last_gap, pair
from analysis.statistics import configurations, interval, median
from analysis.tuning import at_best, cells
from trainables.records import SIDES, Columns

FOLDER = "confirmations"

WINNER = "winner"
"""Role of a configuration that was among the best of the search."""

BEST: Mapping[str, str] = {"baseline": "best baseline", "treatment": "best treatment"}
"""Role of the configuration that is best for a side, in the problem of a winner."""


def confirmations(folder: Path) -> list[Study]:
    """The confirmations of the study in ``folder``, oldest first; one that cannot be read is empty, and says why."""
    found = []
    for path in sorted(path for path in Path(folder).glob(f"{FOLDER}/*") if path.is_dir()):
        try:
            found.append(load(path))
        except TableError as error:
            none = pd.DataFrame()
            found.append(Study(path.name, none, none, {}, "", path, damage=(str(error),)))
    return sorted(found, key=lambda study: str(study.manifest.get("created", "")))


def confirmed(study: Study | None, confirmation: Study, metric: str) -> pd.DataFrame:
    """What is left, on fresh seeds, of the gap in ``metric`` that each configuration had in the search.

    A baseline or treatment *at its best* is that of the configuration that the search found best for it, by validation
    accuracy, in the same problem and for the same budget (:data:`analysis.gaps.CELL`). Confirmations of earlier
    versions lack these; then the standing of the baseline is that in the search.

    Args:
        study: the search, if it is at hand; without it, searched gaps are known for the search's own objective alone.
        confirmation: a study whose manifest says what it ``confirms``.
        metric: a metric that has a direction.

    Returns:
        A row per configuration, the search's best first: ``configuration``, the keys that were searched, ``searched``
        (the gap at the last epoch in the search, averaged over its comparisons; NaN where unknown), ``roles`` (a tuple
        of ``WINNER`` and values of ``BEST``), ``runs`` (its comparisons), ``seeds`` (those that have a gap),
        ``decided`` (seeds on which one arm lost by what became of it: their gap is infinite), ``median``,
        ``median_low`` and ``median_high`` (95% interval of the median over the seeds, as
        :func:`analysis.statistics.interval`; NaN for fewer than 6), ``excludes_zero``, ``behind`` (by how much its
        baseline is worse than the baseline at its best, in the median; NaN where unknown), ``tuned_seeds``, ``tuned``,
        ``tuned_low`` and ``tuned_high`` (the median gap of the treatment at its best to the baseline at its best, seed
        by seed, with its interval).
    """
    picked = _configurations(confirmation)
    if confirmation.trials.empty or not picked:
        return pd.DataFrame(columns=["configuration", "searched", "roles", "runs", "seeds", "decided", *_ESTIMATES])
    fresh = _Fresh(confirmation, metric)
    search = None if study is None or confirms_tuned(confirmation) else pair(study).frame
    rows = []
    for name, origin in picked.items():
        settings = confirmation.trials[confirmation.trials["configuration"] == name].head(1).to_dict("records")
        values = settings[0] if settings else {}
        roles, behind = _roles(origin), fresh.behind(name)
        if not roles:
            roles, behind = _standing(search, origin, metric, confirmation.columns)
        rows.append(
            {"configuration": name}
            | {key: values.get(key) for key in hyperparameters((study or confirmation).trials)}
            | {"searched": _searched(study, confirmation, origin, metric), "roles": roles, "runs": fresh.runs(name)}
            | _estimate(fresh.gaps(name))
            | {"behind": behind}
            | {TUNED[key]: value for key, value in _estimate(fresh.tuned(name)).items() if key in TUNED}
        )
    return pd.DataFrame(rows)


TUNED = {"seeds": "tuned_seeds", "median": "tuned", "median_low": "tuned_low", "median_high": "tuned_high"}
"""What of an estimate is also had of the gap with each arm at its best, and its column."""

_ESTIMATES = ("median", "median_low", "median_high", "excludes_zero", "behind", *TUNED.values())


def _estimate(gaps: pd.Series[Any]) -> dict[str, Any]:
    """The median of the gaps on some seeds, with its interval."""
    values = gaps.to_numpy("float64")
    low, high = interval(values)
    found = {"seeds": len(values), "decided": int(np.isinf(values).sum())}
    return found | {
        "median": median(values),
        "median_low": low,
        "median_high": high,
        "excludes_zero": low > 0 or high < 0,
    }


class _Fresh:
    """A metric of both sides on fresh seeds, by configuration; infinitely bad of a side that :mod:`analysis.outcomes`
    says has lost.
    """

    def __init__(self, confirmation: Study, metric: str) -> None:
        self._direction = confirmation.columns.by_name[metric].direction
        pairs = pair(confirmation).frame
        gaps = pairs[f"gap/{metric}"]
        lost = {"baseline": np.isposinf(gaps), "treatment": np.isneginf(gaps)}
        self._values = {
            side: pairs[["seed", "configuration"]]
            .assign(value=pairs[f"{side}/{metric}"].mask(lost[side], -self._direction * np.inf)[gaps.notna()])
            .pivot_table(index="seed", columns="configuration", values="value")
            for side in SIDES
        }
        self._runs = confirmation.trials["configuration"].value_counts()
        self._problem = dict(zip(confirmation.trials["configuration"], cells(confirmation.trials), strict=True))
        self._best = {
            (side, self._problem.get(name)): name
            for side, role in BEST.items()
            for name, origin in _configurations(confirmation).items()
            if role in _roles(origin)
        }

    def runs(self, configuration: str) -> int:
        """The comparisons of a configuration, with a gap or without."""
        return int(self._runs.get(configuration, 0))

    def gaps(self, configuration: str) -> pd.Series[Any]:
        """The gap at a configuration, seed by seed."""
        return self._between(configuration, configuration)

    def tuned(self, configuration: str) -> pd.Series[Any]:
        """The gap of the treatment at its best to the baseline at its best in a configuration's problem."""
        baseline, treatment = (self._at_best(configuration, side) for side in SIDES)
        return self._between(baseline, treatment)

    def behind(self, configuration: str) -> float:
        """By how much a configuration's baseline is worse than the baseline at its best, on the seeds of both."""
        best = self._side("baseline", self._at_best(configuration, "baseline"))
        worse = self._direction * (best - self._side("baseline", configuration)).dropna()
        return median(worse.to_numpy("float64"))

    def _between(self, baseline: str | None, treatment: str | None) -> pd.Series[Any]:
        return self._direction * (self._side("treatment", treatment) - self._side("baseline", baseline)).dropna()

    def _at_best(self, configuration: str, side: str) -> str | None:
        return self._best.get((side, self._problem.get(configuration)))

    def _side(self, side: str, configuration: str | None) -> pd.Series[Any]:
        return self._values[side].get(configuration, pd.Series(dtype="float64"))


def is_confirmation(study: Study) -> bool:
    """Whether the study runs configurations of another one again."""
    return bool(_configurations(study))


def origin_of(confirmation: Study) -> str:
    """The name of the study that is confirmed, as the confirmation has it."""
    return str(_confirms(confirmation).get("study", "another study"))


def searched_in(confirmation: Study) -> Study | None:
    """The study that ``confirmation`` confirms; None where it is not there any more."""
    folder = confirmation.path.resolve().parent
    if folder.name != FOLDER:
        return None
    try:
        return load(folder.parent)
    except TableError:
        return None


def chosen_by(confirmation: Study, otherwise: str) -> str:
    """The metric whose gap the winners were chosen by, or whose value in an arm; ``otherwise`` where none is named."""
    metric = str(_confirms(confirmation).get("metric")).rpartition("/")[2]
    return metric if metric in confirmation.columns.metrics else otherwise


def confirms_tuned(confirmation: Study) -> bool:
    """Whether what is best for either arm ran as well; versions before did not run it."""
    return any(map(_roles, _configurations(confirmation).values()))


def _roles(origin: Mapping[str, Any]) -> tuple[str, ...]:
    """Why a configuration was confirmed; nothing where the manifest does not say."""
    roles = origin.get("roles")
    return tuple(map(str, roles)) if isinstance(roles, list) else ()


def _standing(
    search: pd.DataFrame | None, origin: Mapping[str, Any], metric: str, columns: Columns
) -> tuple[tuple[str, ...], float]:
    """How a winner stands in its search: its roles there, and how far its baseline is behind the one at its best.

    Args:
        search: the search's pairs; None where they are not at hand.
        origin: what the manifest says of the configuration.
        metric: in which the baselines are compared, each averaged over its configuration's seeds.
        columns: what the metrics are.
    """
    own = (
        search[search["trial_id"].isin([str(trial) for trial in origin.get("trials") or ()])]
        if search is not None
        else None
    )
    if search is None or own is None or own.empty:
        return (WINNER,), math.nan
    numbers, best = configurations(search), at_best(search).loc[own.index[0]]
    reached = search[f"baseline/{metric}"].groupby(numbers).mean()
    place = {side: numbers[search["trial_id"] == best[side]] for side in SIDES}
    itself = numbers[own.index[0]]
    roles = (role for side, role in BEST.items() if (place[side] == itself).any())
    behind = [columns.by_name[metric].direction * (reached[at] - reached[itself]) for at in place["baseline"]]
    return (WINNER, *roles), float(behind[0]) if behind else math.nan


def _configurations(study: Study) -> dict[str, Mapping[str, Any]]:
    """What the manifest says of the configurations that the study confirms; nothing where it confirms none."""
    configurations = _confirms(study).get("configurations")
    if not isinstance(configurations, Mapping):
        return {}
    return {name: origin for name, origin in configurations.items() if isinstance(origin, Mapping)}


def _confirms(study: Study) -> Mapping[str, Any]:
    confirms = study.manifest.get("confirms")
    return confirms if isinstance(confirms, Mapping) else {}


def _searched(study: Study | None, confirmation: Study, origin: Mapping[str, Any], metric: str) -> float:
    trials = [str(trial) for trial in origin.get("trials") or ()]
    gaps = [last_gap(study, trial, metric) for trial in trials] if study else []
    known = [gap for gap, _ in filter(None, gaps)]
    if known:
        return float(np.mean(known))
    searched = origin.get("searched")
    by_gap = _confirms(confirmation).get("metric") == f"gap/{metric}"
    return float(searched) if by_gap and isinstance(searched, int | float) else math.nan
