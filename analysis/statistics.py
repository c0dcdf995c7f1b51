"""How sure a gap is: intervals, tests and the probability of improvement, over the units that are independent.

Comparisons that differ in seeds alone are draws of one configuration, and no independent evidence about others: where a
configuration has several, the units are the configurations, each averaged over its seeds. Of one configuration alone
they are its seeds. Everything is paired: the two sides of a comparison share seed, data order and initial weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analysis.database import TableError
from analysis.pairs import STUDY, varied
from trainables.records import METRICS

Values = np.ndarray[Any, np.dtype[np.float64]]

SEEDS = ("seed", "dataset.split_seed")
"""Configuration keys that are draws, not hyperparameters."""

FEW = 3
"""With fewer units than this there is neither interval nor test."""

ENOUGH = 6
"""From this many units on a two-sided signed-rank test can reach 0.05; with 5 its p is 0.0625 at least."""

LEVEL = 0.05
"""A p below this counts as telling two arms apart."""

SMALL = 20
"""Up to so many units an interval is Student's t; with more, a bootstrap."""

LARGE = 200
"""With more units than this the bootstrap's quantiles are computed instead of drawn, unless a few outliers rule."""

SKEWED = 0.5
"""Largest skewness of a bootstrap distribution whose quantiles are computed."""

EXACT = 50
"""Up to so many units the signed-rank test counts all signs; with more, the normal limit holds."""

RESAMPLES = 4999
"""Bootstrap resamples of an interval."""

Z = 1.959963984540054
"""The 0.975 quantile of the normal distribution."""


def configurations(frame: pd.DataFrame) -> pd.Series[int]:
    """A number for the configuration of each comparison of ``frame``, the same for those that differ in seeds alone."""
    keys = [key for key in varied(frame) if key not in (*SEEDS, STUDY)]
    return frame.groupby(keys, dropna=False, sort=False).ngroup() if keys else pd.Series(0, index=frame.index)


def units(values: Values, configuration: Sequence[int] | np.ndarray[Any, Any]) -> Values:
    """The independent units of ``values``: averages by ``configuration``; of one configuration, the values as they are.

    ``configuration`` names that of each value. The averages are in the order in which these appear.
    """
    codes, distinct = pd.factorize(np.asarray(configuration))
    if len(distinct) < 2:
        return values
    return np.bincount(codes, weights=values) / np.bincount(codes)


def interval(values: Values, rng: np.random.Generator) -> tuple[float, float]:
    """A 95% interval of the mean of ``values``; NaN for fewer than 3.

    Student's t up to 20 values, where a percentile bootstrap is too narrow; that bootstrap from there on, where the
    shape of the distribution can be read off the values. Beyond 200 its quantiles come from the Cornish-Fisher
    expansion (Hall 1992, The Bootstrap and Edgeworth Expansion, section 2.5) with the values' own skewness and
    kurtosis: on normal, exponential, log-normal and two-valued samples of 200 to 500 within 0.05 standard errors of
    100,000 resamples, about as near as 4999 resamples come. Where outliers give the bootstrap distribution a skewness
    above 0.5, resamples are drawn however many the values are.
    """
    n = len(values)
    if n < FEW:
        return math.nan, math.nan
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    mean = float(np.mean(values))
    if n <= SMALL:
        half = float(stats.t.ppf(0.975, n - 1) * stats.sem(values))
        return mean - half, mean + half
    deviation = float(np.std(values))
    if deviation == 0:  # too small a difference to be squared
        return mean, mean
    standard = (values - mean) / deviation
    skewness = float(np.mean(standard**3)) / math.sqrt(n)
    if n <= LARGE or abs(skewness) > SKEWED:
        low, high = np.percentile(_resampled_means(values, rng), [2.5, 97.5])
        return float(low), float(high)
    kurtosis = (float(np.mean(standard**4)) - 3) / n
    shift = skewness * (Z**2 - 1) / 6
    half = Z + kurtosis * (Z**3 - 3 * Z) / 24 - skewness**2 * (2 * Z**3 - 5 * Z) / 36
    error = deviation / math.sqrt(n)
    return mean + (shift - half) * error, mean + (shift + half) * error


def _resampled_means(values: Values, rng: np.random.Generator) -> Values:
    n = len(values)
    means = np.empty(RESAMPLES)
    rows = max(1, 1_000_000 // n)
    for start in range(0, RESAMPLES, rows):
        part = means[start : start + rows]
        part[:] = values[rng.integers(n, size=(len(part), n), dtype=np.int32)].mean(axis=1)
    return means


def wilcoxon(values: Values) -> float:
    """Two-sided p of Wilcoxon's signed-rank test that ``values`` are symmetric about 0; NaN for fewer than 3.

    Zeros are ranked and then carry no sign (Pratt 1959): two arms that tie have told something, and dropping their
    comparison, as Wilcoxon did, would raise the confidence in the others. Values that differ by rounding alone are
    equal. Up to 50 values p is exact, ties and zeros included: scipy's own exact test allows for neither. Beyond, it is
    scipy's normal limit. With nothing but zeros p is 1.
    """
    if len(values) < FEW:
        return math.nan
    largest = float(np.abs(values).max())
    if largest == 0:
        return 1.0
    rounded = np.round(values / largest, 12)
    if len(values) > EXACT:
        return float(stats.wilcoxon(rounded, zero_method="pratt", method="asymptotic").pvalue)
    ranks = np.rint(2 * stats.rankdata(np.abs(rounded))).astype("int64")  # doubled, for tied ranks are halves
    nonzero = rounded != 0
    ways = np.ones(1)  # that a choice of signs gives each sum of the positive ranks
    for rank in ranks[nonzero]:
        without = np.concatenate([ways, np.zeros(rank)])
        without[rank:] += ways
        ways = without
    positive = int(ranks[rounded > 0].sum())
    fewer = min(positive, int(ranks[nonzero].sum()) - positive)
    return min(1.0, 2 * float(ways[: fewer + 1].sum() / ways.sum()))


def holm(p: Sequence[float] | Values) -> Values:
    """The p values of one family of tests after Holm's step-down correction (Holm 1979); NaN stays, and is no test."""
    given = np.asarray(p, dtype="float64")
    corrected = np.full(len(given), np.nan)
    tested = np.flatnonzero(~np.isnan(given))
    order = tested[np.argsort(given[tested], kind="stable")]
    steps = given[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1) if len(order) else steps
    return corrected


def improvement(frame: pd.DataFrame, metric: str, rng: np.random.Generator) -> tuple[float, float, float]:
    """The probability that the treatment does better in ``metric``, with its 95% interval.

    The probability of improvement of Agarwal et al. (2021, Deep RL at the Edge of the Statistical Precipice), for
    pairs: the share of a configuration's seeds with a gap above 0, a tie counting half, averaged over configurations.
    The interval resamples configurations (the seeds of a single one). Up to 20 of these, and wherever all say the same,
    resampling is blind to what it has not seen, and the interval is Wilson's (1927), which is too wide rather than too
    narrow for averages. All NaN without a finite gap, the interval for fewer than 3 units.

    Raises:
        TableError: ``metric`` has no gap.
    """
    gaps, configuration = _finite(frame, metric, configurations(frame))
    return _improvement(gaps, configuration, rng)


def _improvement(
    gaps: Values, configuration: np.ndarray[Any, Any], rng: np.random.Generator
) -> tuple[float, float, float]:
    shares = units((gaps > 0) + (gaps == 0) / 2, configuration)
    n = len(shares)
    if n == 0:
        return math.nan, math.nan, math.nan
    share = float(np.mean(shares))
    if n < FEW:
        return share, math.nan, math.nan
    if n > SMALL and np.ptp(shares) > 0:
        return share, *interval(shares, rng)
    centre = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return share, max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))


def estimate(gaps: Values, configuration: np.ndarray[Any, Any], rng: np.random.Generator) -> dict[str, float]:
    """The mean of finite ``gaps`` over their units: ``units``, ``mean``, ``low``, ``high`` (95%) and ``p`` (Wilcoxon).

    Mean NaN without a gap; interval and p NaN for fewer than 3 units.
    """
    of = units(gaps, configuration)
    low, high = interval(of, rng)
    mean = float(np.mean(of)) if len(of) else math.nan
    return {"units": len(of), "mean": mean, "low": low, "high": high, "p": wilcoxon(of)}


def better(low: float, high: float, p: float, share: float) -> int:
    """1 where the treatment is better, -1 where it is worse, 0 where they are not told apart.

    It takes all three to tell: the interval of the mean leaves out 0, ``p`` is below 0.05, and the ``share`` of wins is
    on the same side of a half.
    """
    if p < LEVEL and low > 0 and share > 0.5:
        return 1
    return -1 if p < LEVEL and high < 0 and share < 0.5 else 0


def evidence(frame: pd.DataFrame, metrics: Sequence[str], rng: np.random.Generator) -> pd.DataFrame:
    """How sure the gaps of ``metrics`` are, as one family of tests.

    Args:
        frame: pairs; gaps that are not finite are not counted.
        metrics: names of metrics that have a direction.
        rng: draws the bootstrap resamples; every metric has the same.

    Returns:
        A row per metric: ``metric``, ``comparisons``, ``units`` (configurations, or seeds of a single one), ``seeds``
        (median comparisons of a configuration), ``mean``, ``low`` and ``high`` (95% interval of the mean), ``p``
        (Wilcoxon), ``p_holm`` (corrected over the rows), ``improvement``, ``improvement_low`` and ``improvement_high``
        (see :func:`improvement`), and ``says``: "better", "worse", "not told apart" (see :func:`better`), "too few
        seeds to tell" or "too few configurations to tell" where no p_holm could be below 0.05 even if all units agreed,
        "not measured" without a gap.

    Raises:
        TableError: a metric has no gap.
    """
    drawn_from = configurations(frame)
    draws = int(rng.integers(2**63))
    rows: list[dict[str, Any]] = []
    several = []
    for metric in metrics:
        gaps, configuration = _finite(frame, metric, drawn_from)
        seeds = np.unique(configuration, return_counts=True)[1]
        several.append(len(seeds) > 1)
        share, low, high = _improvement(gaps, configuration, np.random.default_rng(draws))
        rows.append(
            {"metric": metric, "comparisons": len(gaps), "seeds": float(np.median(seeds)) if len(seeds) else math.nan}
            | estimate(gaps, configuration, np.random.default_rng(draws))
            | {"improvement": share, "improvement_low": low, "improvement_high": high}
        )
    tests = sum(not math.isnan(row["p"]) for row in rows)
    for row, p_holm, of_configurations in zip(rows, holm([row["p"] for row in rows]), several, strict=True):
        row["p_holm"] = float(p_holm)
        row["says"] = _says(row, tests, "configurations" if of_configurations else "seeds")
    columns = ["metric", "comparisons", "units", "seeds", "mean", "low", "high", "p", "p_holm"]
    return pd.DataFrame(rows, columns=[*columns, "improvement", "improvement_low", "improvement_high", "says"])


def _says(row: Mapping[str, Any], tests: int, units: str) -> str:
    if row["comparisons"] == 0:
        return "not measured"
    if max(tests, 1) * 2.0 ** (1 - row["units"]) >= LEVEL:
        return f"too few {units} to tell"
    words = {1: "better", -1: "worse", 0: "not told apart"}
    return words[better(row["low"], row["high"], row["p_holm"], row["improvement"])]


def _finite(frame: pd.DataFrame, metric: str, drawn_from: pd.Series[int]) -> tuple[Values, np.ndarray[Any, Any]]:
    """The finite gaps of ``metric`` and the configuration of each."""
    gaps = gaps_of(frame, metric)
    finite = np.isfinite(gaps)
    return gaps[finite], drawn_from.to_numpy()[finite]


def gaps_of(frame: pd.DataFrame, metric: str) -> Values:
    """The gaps of ``metric``, one per comparison.

    Raises:
        TableError: ``metric`` has no gap.
    """
    if f"gap/{metric}" not in frame:
        raise TableError(f"metric {metric!r} has no gap; metrics that have one: {', '.join(METRICS)}")
    return frame[f"gap/{metric}"].to_numpy("float64")
