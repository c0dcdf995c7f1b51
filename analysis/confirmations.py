"""Confirmations: studies that ran a search's winners again on fresh seeds, and what these left of its gaps.

The best of many noisy gaps is too good to be true; only seeds that had no part in choosing it tell how much.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.database import TableError, counted
from analysis.gaps import amount, hyperparameters, label, title
from analysis.load import Study, load
from analysis.pairs import last_gap, pair
from analysis.statistics import interval
from trainables import documents
from trainables.records import METRICS

FOLDER = "confirmations"
SEARCHES = ("optuna", "random")
"""Values of ``search.name`` under which the best comparison is the best of many draws."""


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

    Args:
        study: the search, if it is at hand; without it, searched gaps are known for the search's own objective alone.
        confirmation: a study whose manifest says what it ``confirms``.
        metric: a metric that has a direction.

    Returns:
        A row per configuration, the search's best first: ``configuration``, the keys that were searched, ``searched``
        (the gap at the last epoch in the search, averaged over its comparisons; NaN where unknown), ``seeds`` (the
        comparisons that finished), ``mean``, ``low`` and ``high`` (95% interval over the seeds, as
        :func:`analysis.gaps.interval`; NaN for fewer than 3), ``excludes_zero``.
    """
    picked = _configurations(confirmation)
    if confirmation.trials.empty or not picked:
        return pd.DataFrame(columns=["configuration", "searched", "seeds", "mean", "low", "high", "excludes_zero"])
    pairs = pair(confirmation).frame
    rows = []
    for name, origin in picked.items():
        settings = confirmation.trials[confirmation.trials["configuration"] == name].head(1).to_dict("records")
        values = settings[0] if settings else {}
        gaps = pairs.loc[pairs["configuration"] == name, f"gap/{metric}"].to_numpy()
        gaps = gaps[np.isfinite(gaps)]
        low, high = interval(gaps, np.random.default_rng(0))
        rows.append(
            {"configuration": name}
            | {key: values.get(key) for key in hyperparameters((study or confirmation).trials)}
            | {"searched": _searched(study, confirmation, origin, metric), "seeds": len(gaps)}
            | {"mean": float(gaps.mean()) if len(gaps) else math.nan, "low": low, "high": high}
            | {"excludes_zero": low > 0 or high < 0}
        )
    return pd.DataFrame(rows)


def is_confirmation(study: Study) -> bool:
    """Whether the study runs configurations of another one again."""
    return bool(_configurations(study))


def claims(study: Study, found: Sequence[Study], metric: str) -> list[str]:
    """What fresh seeds say of the search's best gap, and how much of it they left: sentences for a verdict.

    In the metric that the winners were chosen by, and in ``metric``. Of several confirmations the newest that has
    results speaks; none does, and there is nothing to say. A study that is a confirmation speaks for itself.
    """
    if own := _configurations(study):
        search = searched_in(study)
        origin = search.name if search else _confirms(study).get("study", "another study")
        about = f"This study confirms {counted(len(own), 'configuration')} of {origin} on fresh seeds."
        return [*_claims(search, study, metric), about]
    said = (_claims(study, confirmation, metric) for confirmation in reversed(found))
    return next(filter(None, said), [])


def unconfirmed(study: Study) -> list[str]:
    """The sentence for the verdict on a search that no claim of :func:`claims` backs: its best gap is not confirmed."""
    if _search(study) not in SEARCHES or (study.trials["status"] == "finished").sum() < 2:
        return []
    command = shlex.join(["filter-study", "confirm", str(study.path)])
    return [f"The best gap of this search is not confirmed on fresh seeds; to do so: {command}"]


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
    return metric if metric in METRICS else otherwise


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


def _claims(study: Study | None, confirmation: Study, metric: str) -> list[str]:
    chosen = chosen_by(confirmation, metric)
    frame = confirmed(study, confirmation, chosen)
    keys = frame.columns[1 : list(frame.columns).index("searched")]
    places = np.flatnonzero(frame["seeds"] > 0)
    if not len(places):
        return []
    best = frame.to_dict("records")[places[0]]
    which = "configuration" if places[0] else "the search's best configuration"
    settings = ", ".join(f"{key} {label(best[key])}" for key in keys if pd.notna(best[key])) or best["configuration"]
    seeds = counted(best["seeds"], "fresh seed")
    lines = [f"Confirmed on {seeds}: {which} ({settings}) has a mean gap of {_told(chosen, best)}."]
    if metric != chosen:
        also = confirmed(study, confirmation, metric).to_dict("records")[places[0]]
        lines += [f"Beside it stands a mean gap of {_told(metric, also)}."] if also["seeds"] else []
    if len(places) > 1:
        above, below = int((frame["low"] > 0).sum()), int((frame["high"] < 0).sum())
        lines.append(
            f"Of {len(places)} configurations with results, the whole interval lies above 0 for {above} and below 0 "
            f"for {below} ({title(chosen)}, each taken alone)."
        )
    return lines


def _told(metric: str, row: Mapping[Any, Any]) -> str:
    """A row of :func:`confirmed` in words: the gap with its interval, and what it was in the search."""
    searched, mean, low, high = (float(row[name]) for name in ("searched", "mean", "low", "high"))
    text = f"{amount(metric, mean)} in {title(metric)}"
    if math.isfinite(low):
        zero = "leaves out" if row["excludes_zero"] else "includes"
        text += f" (95% interval from {amount(metric, low)} to {amount(metric, high)}, which {zero} 0)"
    else:
        text += " (too few seeds for an interval)"
    if not math.isfinite(searched):
        return text
    text += f"; the search had found {amount(metric, searched)}"
    if searched <= 0:
        return text
    lost = f"{1 - mean / searched:.0%}" if mean > 0 else "all"
    return f"{text}, which held" if mean >= searched else f"{text}, {lost} of which did not hold"


def _search(study: Study) -> str | None:
    """``search.name`` of the study's experiment; None where it is not known."""
    try:
        search = documents.parse(study.experiment)["search"]
        return str(search["name"])
    except (documents.DocumentError, TypeError, KeyError):
        return None
