"""What the arms of a comparison may spend, which clocks tell them apart, and what each arm reaches with each budget.

Two arms are compared fairly where both may spend the same on a clock other than epochs: each then ends its schedule
with its budget, and the last epochs are at equal budgets without interpolation. See :mod:`trainables.config.budget`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd

from analysis.gaps import CELL, SHORT, amount, label
from analysis.load import Study
from analysis.outcomes import Floats, reached
from analysis.pairs import pair, varied
from analysis.statistics import configurations, gaps_of, interval, median, units
from analysis.tables import span
from trainables.records import BUILT_IN, CLOCKS, SIDES

T = TypeVar("T")

ONLY_WITH_BUDGETS = ("passes", "reference_seconds")
"""Clocks that are shown only where arms have another budget than epochs: otherwise passes are epochs."""

BUDGET = ("budget.clock", "budget.amount", "budget.of")
"""The keys of the budget that all arms share."""

READ = re.compile(r"arms\.[^.]+\.(epochs|budget\..+|selector\.(name|like|like_compute|ratio|replacement))")
"""The keys of an arm that its budget is read from."""

PER_SIDE = ("median", "low", "high")


class Budget(NamedTuple):
    """What one arm may spend.

    Attributes:
        clock: a word of :data:`trainables.config.budget.Clock`.
        amount: in the clock's unit; None where it is what the arm ``of`` spends, or where it was not recorded.
        of: the arm whose spending it is.
    """

    clock: str
    amount: float | None = None
    of: str | None = None


def clocks_of(study: Study) -> list[str]:
    """The words of ``records.CLOCKS`` that say something about a study.

    Those of :data:`ONLY_WITH_BUDGETS` are among them where they have values and baseline or treatment has made other
    than one pass over the data in an epoch.
    """
    has_budget = _passes_are_not_epochs(study)
    return [
        clock
        for clock, column in CLOCKS.items()
        if clock not in ONLY_WITH_BUDGETS or (has_budget and bool(study.epochs[column].notna().any()))
    ]


def _passes_are_not_epochs(study: Study) -> bool:
    compared = {str(name) for side in SIDES if side in study.trials for name in study.trials[side].dropna()}
    rows = study.epochs[study.epochs["arm"].isin(compared)]
    passes, epochs = (rows[name].to_numpy("float64", na_value=np.nan) for name in ("passes", "epoch"))
    return bool((np.abs(passes - epochs) > 1e-6).any())


def budget(settings: Mapping[Any, Any], arm: str) -> Budget:
    """What an arm may spend, as :meth:`trainables.config.TrialConfig.allotment` says, from the recorded settings alone.

    No code is imported for it: a method of a researcher's own that follows another arm counts by its own budget.

    Args:
        settings: the dotted keys of a comparison; studies of earlier versions have no budgets, and train for epochs.
        arm: its name.
    """
    paced = _given(settings, f"arms.{arm}.selector.like_compute")
    if paced is not None:
        return Budget("compute", of=str(paced))
    followed = _given(settings, f"arms.{arm}.selector.like")
    if followed is None:
        return _own(settings, arm)
    theirs = _own(settings, str(followed))
    return theirs if theirs.clock == "epochs" else Budget("steps", of=str(followed))


def _own(settings: Mapping[Any, Any], arm: str) -> Budget:
    """What an arm may spend that follows no other."""
    own = _given(settings, f"arms.{arm}.epochs")
    if own is not None:
        return Budget("epochs", float(own))
    prefix = "budget" if _given(settings, f"arms.{arm}.budget.clock") is None else f"arms.{arm}.budget"
    clock, spent, of = (_given(settings, f"{prefix}.{name}") for name in ("clock", "amount", "of"))
    if of == arm or (of is None and spent is None):
        epochs = _given(settings, "epochs")
        return Budget("epochs", None if epochs is None else float(epochs) * _pace(settings, arm))
    return Budget(str(clock or "epochs"), None if spent is None else float(spent), None if of is None else str(of))


def _pace(settings: Mapping[Any, Any], arm: str) -> float:
    """Passes over the data in an epoch of its own: RS2 makes part of one."""
    selector = {name: _given(settings, f"arms.{arm}.selector.{name}") for name in ("name", "ratio", "replacement")}
    if selector["name"] != "rs2" or selector["replacement"] or selector["ratio"] is None:
        return 1.0
    return float(selector["ratio"])


def shared(settings: Mapping[Any, Any]) -> Budget | None:
    """The budget that baseline and treatment of a comparison have in common; None where they have different ones."""
    baseline, treatment = (str(_given(settings, side)) for side in SIDES)
    ours, theirs = budget(settings, baseline), budget(settings, treatment)
    if theirs.of == baseline:
        return theirs
    return ours if ours.of == treatment or ours == theirs else None


def of_comparisons(frame: pd.DataFrame, what: Callable[[Mapping[Any, Any]], T]) -> list[T]:
    """What a function says of the budgets in each comparison's settings, worked out once for those that agree.

    Args:
        frame: pairs or trials.
        what: takes the dotted keys that budgets are read from, and ``baseline`` and ``treatment``.
    """
    keys = [key for key in map(str, frame) if key in (*SIDES, *BUDGET, "epochs") or READ.fullmatch(key)]
    if not keys or frame.empty:
        return [what({}) for _ in range(len(frame))]
    codes = frame.groupby(keys, dropna=False, sort=False).ngroup().to_numpy()
    first = np.unique(codes, return_index=True)[1]
    said = [what(settings) for settings in frame[keys].iloc[first].to_dict("records")]
    return [said[code] for code in codes]


def _given(settings: Mapping[Any, Any], key: str) -> Any:
    """A setting; None where it is missing."""
    value = settings.get(key)
    return None if value is None or pd.isna(value) else value


def accuracy_by_budget(study: Study, metric: str = "test_accuracy") -> pd.DataFrame:
    """What each arm reaches with each budget, where arms share one on another clock than epochs and it varies.

    Args:
        study: its tables; only comparisons with both arms at their last epoch count.
        metric: a metric that has a direction.

    Returns:
        A row per problem, clock, budget and arm, baseline first and treatment second: ``problem`` (the settings that
        tell problems apart, in words), ``clock``, ``nominal`` (the budget in words), ``arm``, ``budget`` (in the
        clock's unit; where it is what an arm spends, the median of that), ``spent`` (by this arm, median), ``n``,
        ``median`` with its 95% interval from ``low`` to ``high``, and ``gap`` to the baseline, a median too, with
        ``gap_low`` and ``gap_high``. These are of ``n`` configurations, each averaged over its seeds; of one
        configuration, of its seeds. Fewer than 6 have no interval. An arm that diverged or ran out of memory counts
        with chance accuracy, and its gap as infinite. Without rows where no problem has two budgets.
    """
    columns = ["problem", "clock", "nominal", "arm", "budget", "spent", *PER_SIDE, "n", "gap", "gap_low", "gap_high"]
    budgets = _with_budget(study)
    if budgets["nominal"].nunique() < 2:
        return pd.DataFrame(columns=columns)
    frame = pair(study).frame
    known = {str(name) for side in SIDES for name in frame[side]}
    others = sorted({str(name) for name in study.epochs["arm"].dropna()} - known)
    frames = [frame, *(pair(study, treatment=arm).frame for arm in others)]
    parts = [_side(frame, "baseline", metric, budgets), *(_side(of, "treatment", metric, budgets) for of in frames)]
    rows = pd.concat(parts, ignore_index=True)
    keys = ["problem", "clock", "nominal", "arm"]
    found = [_reached(dict(zip(keys, names, strict=True)), group) for names, group in rows.groupby(keys, sort=False)]
    table = pd.DataFrame(found, columns=columns)
    order = {arm: place for place, arm in enumerate(dict.fromkeys(rows["arm"]))}
    table = table.assign(order=table["arm"].map(order))
    table = table[table.groupby(["problem", "clock"])["nominal"].transform("nunique") > 1]
    return table.sort_values(["problem", "clock", "budget", "order"], ignore_index=True)[columns]


def _with_budget(study: Study) -> pd.DataFrame:
    """The trials whose arms share a budget on another clock than epochs: their problem, in words, and the budget.

    ``nominal`` is the budget in words, the same for trials that may spend the same; ``budget`` is its amount on the
    clock. What an arm spends is known of trials that have finished alone.
    """
    trials = study.trials
    clock = trials.get("budget.clock", pd.Series("epochs", trials.index)).astype("object").fillna("epochs")
    trials = trials[(clock != "epochs") & clock.isin(list(CLOCKS))]
    keys = [key for key in varied(trials) if key in CELL and key not in (*BUDGET, "epochs", "treatment")]
    last = study.epochs.sort_values("epoch", kind="stable").drop_duplicates(["trial_id", "arm"], keep="last")
    of_arms = last.set_index(["trial_id", "arm"])
    found = []
    for trial in trials.to_dict("records"):
        given, clock, of = _given(trial, "budget.amount"), trial["budget.clock"], _given(trial, "budget.of")
        place = (trial["trial_id"], of)
        if given is not None:
            nominal, spent = spending(clock, float(given)), float(given)
        else:
            epochs = label(trial.get("epochs"))
            nominal = f"{epochs} {'epoch' if epochs == '1' else 'epochs'} of {of}"
            known = trial["status"] == "finished" and place in of_arms.index
            spent = float(of_arms[CLOCKS[clock]][place]) if known else np.nan
        problem = ", ".join(f"{key} {label(trial[key])}" for key in keys)
        found.append((trial["trial_id"], problem, clock, nominal, spent))
    return pd.DataFrame(found, columns=["trial_id", "problem", "clock", "nominal", "budget"])


def _side(frame: pd.DataFrame, side: str, metric: str, budgets: pd.DataFrame) -> pd.DataFrame:
    """One side of every comparison with a budget: what it reached and spent, its gap and its configuration."""
    frame = frame[frame["baseline"] != frame["treatment"]].merge(budgets, on="trial_id")
    spent = [row[f"{side}/{CLOCKS[row['clock']]}"] for row in frame.to_dict("records")]
    gaps: Any = gaps_of(frame, metric) if side == "treatment" else np.nan
    measured = {"value": reached(frame, side, metric), "gap": gaps, "spent": np.array(spent, dtype="float64")}
    rows = frame[[*budgets.columns]].assign(arm=frame[side].astype("string"), **measured)
    return rows.assign(configuration=configurations(frame.drop(columns=list(budgets.columns[1:]))))


def _reached(names: Mapping[Any, Any], group: pd.DataFrame) -> dict[str, Any]:
    """The row of :func:`accuracy_by_budget` of one arm with one budget."""
    values, gaps = (_middle(group[name].to_numpy("float64"), group["configuration"]) for name in ("value", "gap"))
    return {
        **names,
        "budget": float(group["budget"].median()),
        "spent": float(group["spent"].median()),
        **dict(zip((*PER_SIDE, "n"), values, strict=True)),
        **dict(zip(("gap", "gap_low", "gap_high"), gaps, strict=False)),
    }


def _middle(values: Floats, configuration: pd.Series[int]) -> tuple[float, float, float, int]:
    """The median of the units of ``values``, its interval, and how many they are."""
    known = ~np.isnan(values)
    of = units(values[known], configuration.to_numpy()[known])
    return median(of), *interval(of), len(of)


def budget_table(rows: pd.DataFrame, metric: str = "test_accuracy") -> pd.DataFrame:
    """What :func:`accuracy_by_budget` returns, as text with units: accuracies in percent, gaps in percentage points."""
    written = pd.DataFrame(index=rows.index)
    if rows["problem"].nunique() > 1:
        written["Problem"] = rows["problem"]
    written["Budget"] = rows["nominal"]
    written["Arm"] = rows["arm"]
    written["Spent"] = [spending(*pair) for pair in zip(rows["clock"], rows["spent"], strict=True)]
    written["Median of"] = [str(n) for n in rows["n"]]
    written["Test accuracy"] = [_percent(value) for value in rows["median"]]
    written["95% interval"] = _spans(rows, ("low", "high"))
    written["Gap"] = [amount(metric, gap) for gap in rows["gap"]]
    written["95% interval of the gap"] = [
        span(metric, *ends) for ends in zip(rows["gap_low"], rows["gap_high"], strict=True)
    ]
    return written


def _percent(share: float) -> str:
    return "–" if np.isnan(share) else f"{share:.2%}"


def _spans(rows: pd.DataFrame, ends: Sequence[str]) -> list[str]:
    pairs = zip(*(rows[end] for end in ends), strict=True)
    return ["–" if np.isnan(low) or np.isnan(high) else f"{low:.2%} to {high:.2%}" for low, high in pairs]


def spending(clock: str, value: float) -> str:
    """An amount on a clock in words, such as "1.2M fwd-eq"."""
    if np.isnan(value):
        return "–"
    unit = BUILT_IN.unit(CLOCKS[clock])
    unit = SHORT.get(unit, unit)
    for factor, short in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g}{short} {unit}".rstrip()
    return f"{value:.3g} {unit}".rstrip()
