"""Every arm of a study beside every other: ranks with their critical difference, gaps to one arm, and what they cost.

The blocks are comparisons: the arms of one share seed, data order and initial weights. Ranks and signs alone are taken
of them (Demšar 2006, Statistical Comparisons of Classifiers over Multiple Data Sets, JMLR 7). What is found holds for
other seeds of the problems that the study has. It says nothing of other data or networks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import stats

from analysis.budgets import spending
from analysis.database import TableError, counted
from analysis.gaps import amount, p_value
from analysis.load import Study
from analysis.pairs import pair
from analysis.speed import reached, time_to
from analysis.statistics import LEVEL, Values, gaps_of, holm, interval, median, sign_test
from analysis.tables import to_latex, to_markdown, to_text
from trainables.records import BUILT_IN, CLOCKS, SIDES, title

Form = Literal["text", "markdown", "latex"]

FEW = 3
"""Arms that a league has at least."""

HEADLINE, WORST = "test_accuracy", "test_worst_loss"
COSTS = ("compute", "seconds")
"""The clocks that an arm's cost is told on."""


@dataclass(frozen=True)
class League:
    """Arms in the order of their mean rank.

    Attributes:
        rows: a row per arm: ``arm``, ``rank`` (mean over the blocks, 1 is best, ties share it), ``median`` (of the
            metric), ``gap`` to the arm ``against`` with its 95% interval ``gap_low`` to ``gap_high``, ``wins`` (share
            of the blocks, a tie counting half), ``p`` (sign test, corrected over all arms by Holm 1979), ``worst``
            (median gap in worst test loss), and ``compute`` and ``seconds`` (the arm's by those of ``against``).
        blocks: comparisons in which every arm was measured.
        left_out: comparisons in which some arm is missing, or which one arm ended by diverging.
        difference: the critical difference: mean ranks that lie closer are not told apart (Nemenyi 1963).
        p: that all arms do alike (Friedman 1937).
        metric, clock, against: of what it is.
    """

    rows: pd.DataFrame
    blocks: int
    left_out: int
    difference: float
    p: float
    metric: str
    clock: str
    against: str


def league(study: Study, metric: str = HEADLINE, clock: str = "epochs", against: str | None = None) -> League | None:
    """The league of a study's arms at the end of training, or at equal spending on another clock.

    Args:
        study: its tables; finished comparisons count.
        metric: one that has a direction.
        clock: ``epochs``: the last row of every arm, which under a budget is its end. Another word of
            ``records.CLOCKS``: every arm is read where it and ``against`` have spent alike.
        against: the arm to which gaps are told; None: the baseline.

    Returns:
        None where there are fewer than three arms, or no comparison in which all of them were measured.

    Raises:
        TableError: ``metric`` has no gap, or there is no such arm.
        ValueError: ``clock`` is unknown.
    """
    if study.epochs.empty or "baseline" not in study.trials:
        return None
    arms, against = _arms(study, against)
    others = {arm: pair(study, clock=clock, against=against, treatment=arm).frame for arm in arms}
    others = {arm: frame for arm, frame in others.items() if len(frame)}
    if len(others) + 1 < FEW:
        return None
    gaps = pd.DataFrame(
        {arm: pd.Series(gaps_of(frame, metric), index=frame["trial_id"]) for arm, frame in others.items()}
    )
    whole = gaps.dropna()
    if whole.empty:
        return None
    table = whole.assign(**{against: 0.0})
    ranks = table.rank(axis=1, ascending=False, method="average").mean()
    rows = [_row(arm, ranks[arm], others.get(arm), whole, metric, against) for arm in ranks.sort_values().index]
    found = pd.DataFrame(rows)
    found["median"] = found["median"].fillna(_median_of(next(iter(others.values())), "baseline", metric, whole.index))
    return League(
        rows=found.assign(p=holm(found["p"].to_numpy())),
        blocks=len(whole),
        left_out=len(gaps) - len(whole),
        difference=critical_difference(len(ranks), len(whole)),
        p=float(stats.friedmanchisquare(*(table[arm] for arm in table)).pvalue) if len(whole) > 1 else math.nan,
        metric=metric,
        clock=clock,
        against=against,
    )


def _arms(study: Study, against: str | None) -> tuple[list[str], str]:
    """The arms to be told beside one, and that one.

    Raises:
        TableError: there is no such arm.
    """
    arms = [str(arm) for arm in study.epochs["arm"].dropna().unique()]
    if against is None:
        against = str(study.trials["baseline"].dropna().iloc[0]) if study.trials["baseline"].notna().any() else ""
    elif against not in arms:
        raise TableError(f"there is no arm {against!r}; arms: {', '.join(arms) or 'none'}")
    return [arm for arm in arms if arm != against], against


def critical_difference(arms: int, blocks: int) -> float:
    """The difference of two mean ranks above which they are told apart at 5% (Nemenyi 1963; Demšar 2006, eq. 3)."""
    q = float(stats.studentized_range.ppf(1 - LEVEL, arms, np.inf)) / math.sqrt(2)
    return q * math.sqrt(arms * (arms + 1) / (6 * blocks))


def _row(
    arm: str, rank: float, frame: pd.DataFrame | None, whole: pd.DataFrame, metric: str, against: str
) -> dict[str, object]:
    """What the league says of one arm; of ``against`` itself, its rank alone."""
    if frame is None:
        nothing = dict.fromkeys(("gap", "gap_low", "gap_high", "wins", "p", "worst"), math.nan)
        return {"arm": against, "rank": rank, "median": math.nan, **nothing, "compute": 1.0, "seconds": 1.0}
    gaps = whole[arm].to_numpy("float64")
    low, high = interval(gaps)
    frame = frame[frame["trial_id"].isin(whole.index)]
    worst = gaps_of(frame, WORST) if f"gap/{WORST}" in frame else np.array([])
    return {
        "arm": arm,
        "rank": rank,
        "median": _median_of(frame, "treatment", metric, whole.index),
        "gap": median(gaps),
        "gap_low": low,
        "gap_high": high,
        "wins": float((gaps > 0).mean() + (gaps == 0).mean() / 2),
        "p": sign_test(gaps),
        "worst": median(worst[~np.isnan(worst)]),
        **{cost: _ratio(frame, CLOCKS[cost]) for cost in COSTS},
    }


def _median_of(frame: pd.DataFrame, side: str, metric: str, trials: pd.Index) -> float:
    values = frame.loc[frame["trial_id"].isin(trials), f"{side}/{metric}"].astype("float64").dropna()
    return float(values.median()) if len(values) else math.nan


def _ratio(frame: pd.DataFrame, column: str) -> float:
    """The median of the treatment's cost by the baseline's."""
    treatment, baseline = (frame[f"{side}/{column}"].astype("float64") for side in reversed(SIDES))
    ratios = (treatment / baseline.where(baseline > 0)).dropna()
    return float(ratios.median()) if len(ratios) else math.nan


def reached_by(study: Study, arm: str, metric: str) -> tuple[Values, Values]:
    """What an arm ends with in a column of its epochs in every finished comparison, and its gap to the baseline.

    The gap is NaN of the baseline itself, and of a column that is neither better nor worse, such as the acceptance.
    """
    others, baseline = _arms(study, None)
    frame = pair(study, treatment=others[0] if arm == baseline else arm).frame
    rows = study.epochs[(study.epochs["arm"] == arm) & study.epochs["trial_id"].isin(frame["trial_id"])]
    values = rows.sort_values("epoch").groupby("trial_id")[metric].last().to_numpy("float64", na_value=np.nan)
    compared = arm != baseline and f"gap/{metric}" in frame
    gaps = gaps_of(frame, metric) if compared else np.full(len(values), np.nan)
    return values[~np.isnan(values)], gaps


def how_soon(study: Study, target: float, clock: str, against: str | None = None) -> pd.DataFrame:
    """What each arm had spent when its test accuracy first reached ``target``.

    Args:
        study: its tables; every comparison counts that was watched from its start.
        target: a test accuracy as a fraction.
        clock: a word of ``records.CLOCKS``.
        against: the arm that is told first; None: the baseline.

    Returns:
        A row per arm: ``arm``, ``comparisons``, ``reached`` (the share of them that did by their end) and ``median``
        (by which half of the comparisons have reached it, by Kaplan and Meier's estimator; NaN if they do not).
    """
    arms, against = _arms(study, against)
    rows: list[dict[str, object]] = []
    for arm in arms:
        of_arm = replace(study, trials=study.trials.assign(treatment=arm))
        times = time_to(of_arm, target, clock, against)
        sides: Mapping[str, str] = {"baseline": against, "treatment": arm} if not rows else {"treatment": arm}
        curve = reached(times)
        for side, name in sides.items():
            of_side = curve[curve["side"] == side]
            half = of_side.loc[of_side["share"] >= 0.5, "value"]
            share = float(times[side].notna().mean()) if len(times) else math.nan
            moment = float(half.min()) if len(half) else math.nan
            rows.append({"arm": name, "comparisons": len(times), "reached": share, "median": moment})
    return pd.DataFrame(rows, columns=["arm", "comparisons", "reached", "median"])


def league_table(found: League) -> pd.DataFrame:
    """A league in words, best arm first."""
    rows = []
    for row in found.rows.to_dict("records"):
        own = row["arm"] == found.against
        low, high = (amount(found.metric, row[f"gap_{end}"]) for end in ("low", "high"))
        of_others = {
            f"Gap to {found.against}": amount(found.metric, row["gap"]),
            "95% interval": "–" if math.isnan(row["gap_low"]) else f"{low.removesuffix(' pp')} to {high}",
            "Won": "" if own else f"{row['wins']:.0%}",
            "p (Holm)": p_value(row["p"]),
            "Gap in worst test loss": amount(WORST, row["worst"]),
        }
        rows.append(
            {"Arm": row["arm"], "Mean rank": f"{row['rank']:.1f}", f"Median {title(found.metric)}": _level(found, row)}
            | {head: "–" if own else text for head, text in of_others.items()}
            | {"Compute": f"{row['compute']:.2f}", "Time": f"{row['seconds']:.2f}"}
        )
    return pd.DataFrame(rows)


def _level(found: League, row: Mapping[Any, Any]) -> str:
    """What an arm reaches, in words."""
    value = row["median"]
    if math.isnan(value):
        return "–"
    return f"{value:.2%}" if BUILT_IN.unit(found.metric) == "fraction" else f"{value:.3g}"


def told(found: League) -> str:
    """How to read it, and which arms the ranks tell from the best."""
    best = found.rows.iloc[0]
    alike = int((found.rows["rank"] <= best["rank"] + found.difference).sum()) - 1
    left_out = ""
    if found.left_out:
        verb = "is" if found.left_out == 1 else "are"
        left_out = f" {counted(found.left_out, 'comparison')} that ended before all arms had finished {verb} left out."
    return (
        f"{len(found.rows)} arms in {counted(found.blocks, 'comparison')}. Mean ranks that differ by less than "
        f"{found.difference:.1f} are not told apart (Nemenyi's critical difference at 5%). Beside the first, "
        f"{best['arm']}, {counted(alike, 'arm')} cannot be told from it, and the other "
        f"{len(found.rows) - 1 - alike} rank below.{left_out}"
    )


def soon_table(found: pd.DataFrame, target: float, clock: str) -> pd.DataFrame:
    """What arms spent until a test accuracy, in words."""
    return pd.DataFrame(
        {
            "Arm": row["arm"],
            "Comparisons": str(row["comparisons"]),
            f"Reached {target:.1%}": f"{row['reached']:.0%}",
            "Half by": spending(clock, row["median"]),
        }
        for row in found.to_dict("records")
    )


def written(
    study: Study, metric: str, clock: str, against: str | None, targets: Sequence[float], form: Form = "text"
) -> str:
    """The league of a study as a text, a Markdown or a LaTeX table; with targets, how soon each arm reaches them.

    Raises:
        TableError: it has fewer than three arms, or no comparison has all of them; there is no such arm or metric.
    """
    write = {"text": to_text, "markdown": to_markdown, "latex": to_latex}[form]
    found = league(study, metric, clock, against)
    if found is None:
        raise TableError(
            f"{study.name}: a league takes three arms that finished the same comparison; use filter-study gaps"
        )
    parts = ["" if form == "latex" else told(found) + "\n\n", write(league_table(found))]
    for target in targets:
        for cost in COSTS:
            parts += ["\n", write(soon_table(how_soon(study, target, cost, found.against), target, cost))]
    return "".join(parts)
