"""How sure a gap is: the median with its interval, the sign test and the probability of improvement.

Comparisons that differ in seeds alone are draws of one configuration, and no independent evidence about others: where a
configuration has several, the units are the configurations, each averaged over its seeds. Of one configuration alone
they are its seeds. Everything is paired: the two sides of a comparison share seed, data order and initial weights.

What is claimed is claimed of the median, from ranks and signs alone. An interval of the mean holds only where the rare
large losses are in the sample: where one comparison in ten collapses, 1 - 0.9^10 = 65% of studies of 10 have one, and
no rule can see in the others what the mean would be. The median's interval holds whatever the distribution is, and it
takes a comparison that one arm lost by its outcome (a gap of minus or plus infinity) for what it is, the worst or the
best of all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analysis.database import TableError
from analysis.outcomes import decided
from analysis.pairs import STUDY, varied

Values = np.ndarray[Any, np.dtype[np.float64]]

SEEDS = ("seed", "dataset.split_seed")
"""Configuration keys that are draws, not hyperparameters."""

LEVEL = 0.05
"""A p below this counts as telling two arms apart; an interval leaves out so much."""

ENOUGH = 6
"""From this many units on the median has a 95% interval, and a p can be below 0.05: 2 / 2^5 is not, 2 / 2^6 is."""


def configurations(frame: pd.DataFrame) -> pd.Series[int]:
    """A number for the configuration of each comparison of ``frame``, the same for those that differ in seeds alone."""
    keys = [key for key in varied(frame) if key not in (*SEEDS, STUDY)]
    return frame.groupby(keys, dropna=False, sort=False).ngroup() if keys else pd.Series(0, index=frame.index)


def units(values: Values, configuration: Sequence[int] | np.ndarray[Any, Any]) -> Values:
    """The independent units of ``values``: averages by ``configuration``; of one configuration, the values as they are.

    ``configuration`` names that of each value. The averages are in the order in which these appear, rounded to 12
    decimals, so that those that differ by rounding errors alone are equal. Where some of a configuration's values are
    infinite, so is its average, with the sign that most of these have; it is 0, a tie, where as many are minus as plus
    infinity.
    """
    codes, distinct = pd.factorize(np.asarray(configuration))
    if len(distinct) < 2:
        return values
    finite = np.isfinite(values)
    averages = (np.bincount(codes, weights=np.where(finite, values, 0)) / np.bincount(codes)).round(12)
    endless = np.bincount(codes, weights=np.where(finite, 0, np.sign(values)))
    averages[np.unique(codes[~finite])] = 0
    averages[endless != 0] = np.copysign(math.inf, endless[endless != 0])
    return averages


def median(values: Values) -> float:
    """The median of ``values``, infinite ones included; NaN of none, 0 half way between minus and plus infinity."""
    if not len(values):
        return math.nan
    ordered = np.sort(values)
    below, above = float(ordered[(len(values) - 1) // 2]), float(ordered[len(values) // 2])
    if below == above:
        return below
    if math.isinf(below) and math.isinf(above):
        return 0.0
    return (below + above) / 2


def interval(values: Values) -> tuple[float, float]:
    """A 95% interval of the median of ``values``: two of them, which may be infinite; NaN for fewer than 6.

    Counted from either end, it is the last value that at least 97.5% of samples have on the outer side of the median
    (Thompson 1936; Hahn & Meeker 1991, Statistical Intervals, section 5.2). It covers the median of any distribution
    at least 95 times in 100: 96.9 times with 6 values, 97.9 with 10, 95.9 with 20, 96.7 with 50.
    """
    place = int(stats.binom.ppf(LEVEL / 2, len(values), 0.5)) if len(values) else 0
    if place == 0:
        return math.nan, math.nan
    ordered = np.sort(values)
    return float(ordered[place - 1]), float(ordered[-place])


def sign_test(values: Values) -> float:
    """Two-sided p of the sign test that the median of ``values`` is 0; NaN for fewer than 6, where none is below 0.05.

    A tie counts against whichever side would be claimed, so that p is below 0.05 exactly where :func:`interval` leaves
    out 0.
    """
    n = len(values)
    if n < ENOUGH:
        return math.nan
    fewer = min(int((values <= 0).sum()), int((values >= 0).sum()))
    return min(1.0, 2 * float(stats.binom.cdf(fewer, n, 0.5)))


def unseen(n: int) -> float:
    """The largest share of comparisons that can lie beyond the worst of ``n`` without being a surprise (95% bound).

    The worst of n draws lies above a share s of the distribution in (1 - s)^n of samples (the rule of three: about
    3 / n). NaN for none.
    """
    return 1 - LEVEL ** (1 / n) if n else math.nan


def holm(p: Sequence[float] | Values) -> Values:
    """The p values of one family of tests after Holm's step-down correction (Holm 1979); NaN stays, and is no test."""
    given = np.asarray(p, dtype="float64")
    corrected = np.full(len(given), np.nan)
    tested = np.flatnonzero(~np.isnan(given))
    order = tested[np.argsort(given[tested], kind="stable")]
    steps = given[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1) if len(order) else steps
    return corrected


def improvement(frame: pd.DataFrame, metric: str) -> tuple[float, float, float]:
    """The probability that the treatment does better in ``metric``, with its 95% interval.

    The probability of improvement of Agarwal et al. (2021, Deep RL at the Edge of the Statistical Precipice), for
    pairs: the share of a configuration's seeds with a gap above 0, a tie counting half, averaged over configurations.
    The interval is Clopper and Pearson's (1934) of that share of the configurations (of the seeds of a single one),
    which is too wide rather than too narrow for averages. All NaN without a gap.

    Raises:
        TableError: ``metric`` has no gap.
    """
    return _improvement(*_measured(frame, metric, configurations(frame)))


def _improvement(gaps: Values, configuration: np.ndarray[Any, Any]) -> tuple[float, float, float]:
    shares = units((gaps > 0) + (gaps == 0) / 2, configuration)
    n = len(shares)
    if n == 0:
        return math.nan, math.nan, math.nan
    won = float(np.sum(shares))
    low = float(stats.beta.ppf(LEVEL / 2, won, n - won + 1)) if won > 0 else 0.0
    high = float(stats.beta.ppf(1 - LEVEL / 2, won + 1, n - won)) if won < n else 1.0
    return won / n, low, high


def estimate(gaps: Values, configuration: np.ndarray[Any, Any]) -> dict[str, float]:
    """What measured ``gaps`` are over their units, an infinite gap being an outcome like any other.

    Returns:
        ``units`` (how many), ``median`` with its 95% interval from ``median_low`` to ``median_high``, ``mean`` (of the
        finite gaps alone, for there is no other), and ``p`` (of the sign test). Interval and p are NaN for fewer than 6
        units, the median without a gap, the mean without a finite one.
    """
    of = units(gaps, configuration)
    low, high = interval(of)
    finite = np.isfinite(gaps)
    mean = float(np.mean(units(gaps[finite], configuration[finite]))) if finite.any() else math.nan
    middle = {"units": len(of), "median": median(of), "median_low": low, "median_high": high}
    return middle | {"mean": mean, "p": sign_test(of)}


def better(low: float, high: float, p: float) -> int:
    """1 where the median gap is above 0, -1 where it is below, 0 where neither can be told.

    It takes both to tell: the median's interval leaves out 0, and ``p`` is below 0.05. They agree unless ``p`` has been
    corrected for many tests.
    """
    if not p < LEVEL:
        return 0
    return 1 if low > 0 else -1 if high < 0 else 0


def evidence(frame: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """How sure the gaps of ``metrics`` are, as one family of tests.

    Args:
        frame: pairs; a gap that is NaN was not measured and is not counted.
        metrics: names of metrics that have a direction.

    Returns:
        A row per metric: ``metric``, ``comparisons``, ``seeds`` (median comparisons of a configuration), what
        :func:`estimate` returns, ``improvement``, ``improvement_low`` and ``improvement_high`` (see
        :func:`improvement`), ``p_holm`` (corrected over the rows), and ``says``: "better", "worse", "not told apart"
        (of the median, see :func:`better`), "too few seeds to tell" or "too few configurations to tell" where no p_holm
        could be below 0.05 even if all units agreed, "not measured" without a gap. Neither "better" nor "worse" may
        turn on the comparisons that an arm lost without a gap: where only counting them or only leaving them out says
        so, ``says`` says that too.

    Raises:
        TableError: a metric has no gap.
    """
    table = _evidence(frame, metrics)
    lost = decided(frame)
    if lost.any():
        measured = _evidence(frame[~lost], metrics)["says"]
        table["says"] = [_agreed(*says) for says in zip(table["says"], measured, strict=True)]
    return table


def _evidence(frame: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """The same, counting what is in ``frame``."""
    drawn_from = configurations(frame)
    rows: list[dict[str, Any]] = []
    several = []
    for metric in metrics:
        gaps, configuration = _measured(frame, metric, drawn_from)
        seeds = np.unique(configuration, return_counts=True)[1]
        several.append(len(seeds) > 1)
        share, low, high = _improvement(gaps, configuration)
        rows.append(
            {"metric": metric, "comparisons": len(gaps), "seeds": float(np.median(seeds)) if len(seeds) else math.nan}
            | estimate(gaps, configuration)
            | {"improvement": share, "improvement_low": low, "improvement_high": high}
        )
    tests = sum(not math.isnan(row["p"]) for row in rows)
    for row, p_holm, of_configurations in zip(rows, holm([row["p"] for row in rows]), several, strict=True):
        row["p_holm"] = float(p_holm)
        row["says"] = _says(row, tests, "configurations" if of_configurations else "seeds")
    columns = ["metric", "comparisons", "seeds", *estimate(np.zeros(0), np.zeros(0)), "improvement", "improvement_low"]
    return pd.DataFrame(rows, columns=[*columns, "improvement_high", "p_holm", "says"])


def _says(row: Mapping[str, Any], tests: int, units: str) -> str:
    if row["comparisons"] == 0:
        return "not measured"
    if max(tests, 1) * 2.0 ** (1 - row["units"]) >= LEVEL:
        return f"too few {units} to tell"
    words = {1: "better", -1: "worse", 0: "not told apart"}
    return words[better(row["median_low"], row["median_high"], row["p_holm"])]


def _agreed(counted: str, left_out: str) -> str:
    """What can be said of a metric, by what is said with the comparisons without a gap and without them."""
    told = ("better", "worse")
    if counted == left_out or not {counted, left_out} & {*told}:
        return counted
    if counted in told and left_out in told:
        return f"{counted} if comparisons without a gap are counted, {left_out} if they are left out"
    how = "counted" if counted in told else "left out"
    return f"{counted if counted in told else left_out} only if comparisons without a gap are {how}"


def _measured(frame: pd.DataFrame, metric: str, drawn_from: pd.Series[int]) -> tuple[Values, np.ndarray[Any, Any]]:
    """The gaps of ``metric`` that are not NaN, and the configuration of each."""
    gaps = gaps_of(frame, metric)
    known = ~np.isnan(gaps)
    return gaps[known], drawn_from.to_numpy()[known]


def gaps_of(frame: pd.DataFrame, metric: str) -> Values:
    """The gaps of ``metric``, one per comparison; minus or plus infinity where one arm lost by its outcome.

    Raises:
        TableError: ``metric`` has no gap.
    """
    if f"gap/{metric}" not in frame:
        having = [str(name).removeprefix("gap/") for name in frame if str(name).startswith("gap/")]
        raise TableError(f"metric {metric!r} has no gap; metrics that have one: {', '.join(having)}")
    return frame[f"gap/{metric}"].to_numpy("float64")
