"""Statistics of the gaps of paired comparisons, and the sentences that they allow.

Everything here takes a frame of :class:`analysis.pairs.Pairs`. A gap is in the unit of its metric, and positive always
means that the treatment is better.

Comparisons that differ in seeds alone are draws of one configuration, and no independent evidence about others: where a
configuration has several, the mean and its interval are of the configurations, each averaged over its seeds. Of one
configuration alone they are of its seeds. Counts, shares, medians and ranges are of the comparisons as they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analysis.database import counted
from analysis.pairs import LEARNED, Pairs, varied
from trainables.records import BY_NAME, STATUSES

CELL = (
    "dataset.name",
    "dataset.classes",
    "dataset.samples_per_class",
    "dataset.validation_fraction",
    "dataset.label_noise",
    "dataset.split_seed",
    "model.name",
    "augmentation",
    "batch_size",
    "epochs",
    "baseline",
    "treatment",
)
"""What makes two comparisons the same problem with the same budget; hyperparameters are tuned within it."""

SEEDS = ("seed", "dataset.split_seed")
"""Configuration keys that are draws, not hyperparameters."""

FEW = 3
"""With fewer comparisons (configurations, where seeds are averaged) than this there is no interval."""

SMALL = 20
"""Up to so many an interval is Student's t; with more, a bootstrap."""

ENOUGH = 6
"""From this many on, an interval that leaves out 0 is said to tell the better arm."""

RESAMPLES = 4999
"""Bootstrap resamples of an interval."""

SHORT = {"forward-equivalents": "fwd-eq"}
"""Units that are shortened beside a number."""

NOT_SET = "not set"


@dataclass(frozen=True)
class Tuned:
    """Each arm at its own best hyperparameters within one cell, out of the same configurations.

    Attributes:
        cell: the settings that make the cell and vary in the study; empty where there is one cell.
        chosen_by: the metric that chose: ``validation_accuracy``, or ``train_accuracy`` with nothing held out.
        trials: configurations that each arm was chosen from, each averaged over its seeds.
        baseline_trial: ``number`` of the first trial of the configuration that was chosen for the baseline.
        treatment_trial: ``number`` of the first trial of the one that was chosen for the treatment.
        baseline_test: mean test accuracy of the chosen baseline, as a fraction.
        treatment_test: mean test accuracy of the chosen treatment, as a fraction.
    """

    cell: dict[str, Any]
    chosen_by: str
    trials: int
    baseline_trial: int
    treatment_trial: int
    baseline_test: float
    treatment_test: float

    @property
    def gap(self) -> float:
        """How much better the tuned treatment is than the tuned baseline, in test accuracy."""
        return self.treatment_test - self.baseline_test


def summarize(
    frame: pd.DataFrame, metrics: Sequence[str], rng: np.random.Generator, by: Sequence[str] = ()
) -> pd.DataFrame:
    """The gaps of each metric in each group of comparisons.

    Args:
        frame: pairs; gaps that are not finite are not counted.
        metrics: names of metrics that have a direction.
        rng: draws the bootstrap resamples, where there are enough comparisons for a bootstrap.
        by: configuration keys to group by; see :func:`bins` for how many-valued numbers are grouped.

    Returns:
        A row per group and metric: the group's label under each key of ``by``, ``metric``, ``comparisons``, ``wins``
        (share of gaps above 0, a tie counting half), ``ties``, ``unlearned_wins`` (wins over a baseline that did not
        learn), ``median``, ``units`` (what the mean and its interval are of: configurations where some have several
        seeds, else comparisons), ``mean``, ``low`` and ``high`` (95% interval of the mean; NaN for fewer than 3 units),
        ``min`` and ``max``. Without ``by``, a metric that nobody measured has a row of 0 comparisons.
    """
    draws = int(rng.integers(2**63))  # the same resampling throughout, so that equal gaps have equal intervals
    drawn_from = configurations(frame)
    labels = pd.DataFrame({key: bins(frame[key]) for key in by}, index=frame.index)
    groups = [((), frame)] if not by else list(frame.groupby([labels[key] for key in by], observed=True, sort=True))
    rows = [
        dict(zip(by, names, strict=True)) | {"metric": metric} | _statistics(group, drawn_from, metric, draws)
        for names, group in groups
        for metric in metrics
    ]
    columns = [*by, "metric", *_statistics(frame.iloc[:0], drawn_from, "test_accuracy", draws)]
    return pd.DataFrame(rows, columns=columns)


def configurations(frame: pd.DataFrame) -> pd.Series[int]:
    """A number for the configuration of each comparison of ``frame``, the same for those that differ in seeds alone."""
    keys = [key for key in varied(frame) if key not in SEEDS]
    return frame.groupby(keys, dropna=False, sort=False).ngroup() if keys else pd.Series(0, index=frame.index)


def _statistics(group: pd.DataFrame, drawn_from: pd.Series[int], metric: str, draws: int) -> dict[str, float]:
    finite = np.isfinite(group[f"gap/{metric}"].to_numpy())
    gaps = group[f"gap/{metric}"].to_numpy()[finite]
    won = gaps > 0
    ties = int((gaps == 0).sum())
    averages = pd.Series(gaps).groupby(drawn_from[group.index].to_numpy()[finite], sort=False).mean().to_numpy()
    units = averages if len(averages) > 1 else gaps
    low, high = interval(units, np.random.default_rng(draws))
    return {
        "comparisons": len(gaps),
        "wins": (int(won.sum()) + ties / 2) / len(gaps) if len(gaps) else math.nan,
        "ties": ties,
        "unlearned_wins": int((won & ~group["baseline_learned"].to_numpy(dtype=bool)[finite]).sum()),
        "median": float(np.median(gaps)) if len(gaps) else math.nan,
        "units": len(units),
        "mean": float(np.mean(units)) if len(gaps) else math.nan,
        "low": low,
        "high": high,
        "min": float(gaps.min()) if len(gaps) else math.nan,
        "max": float(gaps.max()) if len(gaps) else math.nan,
    }


def interval(gaps: np.ndarray[Any, np.dtype[np.float64]], rng: np.random.Generator) -> tuple[float, float]:
    """A 95% interval of the mean of ``gaps``; NaN for fewer than 3.

    Student's t up to 20 gaps, where a percentile bootstrap is too narrow; the bootstrap from there on, where the shape
    of the distribution can be read off the gaps.
    """
    if len(gaps) < FEW:
        return math.nan, math.nan
    if np.ptp(gaps) == 0:
        return float(gaps[0]), float(gaps[0])
    if len(gaps) <= SMALL:
        half = float(stats.t.ppf(0.975, len(gaps) - 1) * stats.sem(gaps))
        return float(np.mean(gaps)) - half, float(np.mean(gaps)) + half
    result = stats.bootstrap((gaps,), np.mean, n_resamples=RESAMPLES, method="percentile", batch=500, rng=rng)
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def bins(values: pd.Series[Any], most: int = 5, ranges: int = 4) -> pd.Series[Any]:
    """Readable labels for the values of a hyperparameter, as an ordered categorical on the same index.

    Numbers with more than ``most`` distinct values fall into up to ``ranges`` ranges of about equally many values,
    labelled by the smallest and largest value in them ("0.01–0.05"); others are labelled one by one. Missing values
    are "not set".
    """
    given = values.dropna()
    numeric = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    if numeric and given.nunique() > most:
        places = pd.qcut(given.astype("float64"), ranges, labels=False, duplicates="drop")
        spans = given.astype("float64").groupby(places).agg(["min", "max"])
        names = {place: _span(low, high) for place, low, high in spans.itertuples(name=None)}
        labels = pd.Series([names[place] for place in places], index=given.index, dtype="object")
        order = list(dict.fromkeys(names.values()))
    else:
        distinct: list[Any] = sorted(given.unique())
        order = [label(value) for value in distinct]
        labels = given.map(label).astype("object")
    labels = labels.reindex(values.index, fill_value=NOT_SET)
    if values.isna().any():
        order.append(NOT_SET)
    return pd.Series(pd.Categorical(labels, categories=list(dict.fromkeys(order)), ordered=True), index=values.index)


def _span(low: float, high: float) -> str:
    ends = [label(end) if abs(end) >= 1000 else f"{end:.3g}" for end in (low, high)]
    return "–".join(dict.fromkeys(ends))


def label(value: Any) -> str:
    """A hyperparameter's value as a person would write it: 4 significant digits, whole numbers whole."""
    if value is None or pd.isna(value):
        return NOT_SET
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float | np.floating):
        number = float(value) + 0.0  # no minus before a zero
        return f"{number:.0f}" if number.is_integer() and abs(number) < 1e15 else f"{number:.4g}"
    return str(value)


def tuned(frame: pd.DataFrame) -> list[Tuned]:
    """Tuned against tuned: for each cell with at least 2 configurations, its best baseline and its best treatment.

    Each arm is chosen on its validation accuracy (training accuracy where nothing is held out) at the epoch that was
    paired, and reported on test. Comparisons that differ in seeds alone are draws of one configuration, and averaged:
    choosing among them would be choosing luck.
    """
    keys = [key for key in CELL if key in frame]
    cells = frame.groupby(keys, dropna=False, sort=False) if keys else [((), frame)]
    several = [key for key in varied(frame) if key in keys]
    found = []
    for _, cell in cells:
        metric = chooser(cell)
        usable = cell[np.isfinite(cell[f"baseline/{metric}"]) & np.isfinite(cell[f"treatment/{metric}"])]
        searched = [key for key in varied(usable) if key not in (*CELL, *SEEDS)]
        if not searched:
            continue
        measured = [f"{side}/{name}" for side in ("baseline", "treatment") for name in (metric, "test_accuracy")]
        by_setting = usable.groupby(searched, dropna=False, sort=False)
        settings = by_setting[measured].mean().assign(number=by_setting["number"].first()).reset_index()
        baseline = settings.loc[settings[f"baseline/{metric}"].idxmax()]
        treatment = settings.loc[settings[f"treatment/{metric}"].idxmax()]
        found.append(
            Tuned(
                cell={key: usable[key].iloc[0] for key in several},
                chosen_by=metric,
                trials=len(settings),
                baseline_trial=int(baseline["number"]),
                treatment_trial=int(treatment["number"]),
                baseline_test=float(baseline["baseline/test_accuracy"]),
                treatment_test=float(treatment["treatment/test_accuracy"]),
            )
        )
    return found


def chooser(frame: pd.DataFrame) -> str:
    """The metric to choose hyperparameters by: validation accuracy, or training accuracy with nothing held out."""
    held_out = frame[["baseline/validation_accuracy", "treatment/validation_accuracy"]].notna().all(axis=None)
    return "validation_accuracy" if held_out else "train_accuracy"


def hyperparameters(frame: pd.DataFrame) -> list[str]:
    """The settings to group by: seeds are draws, and left out."""
    return [key for key in settings(frame) if key not in SEEDS]


def settings(frame: pd.DataFrame) -> list[str]:
    """The varied configuration keys of a frame of pairs or trials, less those that merely follow another.

    A key follows another when it has one value or none, exactly as the other has this value or that: ``amsgrad`` is
    "no" with Adam and not set with SGD, which ``optimizer.name`` says already.
    """
    keys = varied(frame)

    def follows(key: str, other: str) -> bool:
        if frame[key].nunique() != 1 or frame[other].hasnans or frame[other].nunique() != 2:
            return False
        return frame.groupby([key, other], dropna=False).ngroups == 2

    return [key for key in keys if not any(follows(key, other) for other in keys if other != key)]


def telling(frame: pd.DataFrame, metric: str) -> str | None:
    """The varied configuration key whose groups differ most in the gap of ``metric``; None where no key groups.

    Measured by the epsilon-squared of a Kruskal-Wallis test, which allows for the number of groups; a hint for looking,
    not a test of significance.
    """
    strength = {}
    finite = frame[np.isfinite(frame[f"gap/{metric}"])]
    for key in hyperparameters(finite):
        groups = [group.to_numpy() for _, group in finite[f"gap/{metric}"].groupby(bins(finite[key]), observed=True)]
        n, k = len(finite), len(groups)
        if k < 2 or n <= k or finite[f"gap/{metric}"].nunique() < 2:
            continue
        strength[key] = (stats.kruskal(*groups).statistic - k + 1) / (n - k)
    return max(strength, key=strength.__getitem__) if strength else None


def verdict(pairs: Pairs, rng: np.random.Generator, metric: str = "test_accuracy") -> str:
    """What the comparisons allow to say about one metric; never more than that.

    The first line names the metric, the clock, the comparisons counted, the share won and the gap with its interval.
    Each further line is one caveat: too few, another clock than epochs, wins over baselines that did not learn, tuned
    against tuned, trials left out and why.
    """
    frame = pairs.frame
    row = summarize(frame, [metric], rng).iloc[0]
    n, units = int(row["comparisons"]), int(row["units"])
    if n == 0:
        return "\n".join(
            [f"No comparison can be judged by {title(metric)}, so there is no verdict.", *_left_out(pairs)]
        )
    treatment, baseline = (" or ".join(sorted(frame[side].unique())) for side in ("treatment", "baseline"))
    ties, wins = int(row["ties"]), round(row["wins"] * n - row["ties"] / 2)
    share = f"{row['wins']:.0%}, a tie counting half" if ties else f"{row['wins']:.0%}"
    claim = (
        f"Measured by {title(metric)} {_where(pairs)}, {treatment} beats {baseline} in {wins} of "
        f"{counted(n, 'comparison')}{f' and ties in {ties}' if ties else ''} ({share}). "
        f"The median gap is {amount(metric, row['median'])}"
    )
    counts = counted(n, "comparison") if units == n else counted(units, "configuration")
    if units < FEW:
        lines = [f"{claim}.", f"{counts}: too few to tell which arm is better."]
    else:
        low, high = amount(metric, row["low"]), amount(metric, row["high"])
        over = "" if units == n else f" (over {counts}, each averaged over its seeds)"
        lines = [f"{claim}, the mean {amount(metric, row['mean'])} with a 95% interval from {low} to {high}{over}."]
        better, worse = (treatment, baseline) if row["mean"] > 0 else (baseline, treatment)
        if row["low"] <= 0 <= row["high"]:
            lines.append("The interval includes 0: these comparisons do not tell which arm is better on average.")
        elif units < ENOUGH:
            lines.append(f"The interval leaves out 0, but {counts} are few; confirm it on fresh seeds.")
        else:
            lines.append(f"On average over these comparisons, {better} is better than {worse}.")
    if pairs.clock != "epochs":
        lines.append(
            f"At equal {pairs.clock} an arm that has spent more is read before its end, between two epochs and before "
            "its schedule has run out, which favours the other; read this beside the gap at equal epochs."
        )
    unlearned = int(row["unlearned_wins"])
    if unlearned:
        lines.append(
            f"{unlearned} of the wins {'is' if unlearned == 1 else 'are'} over a baseline that did not learn "
            f"(test accuracy below {LEARNED} times chance)."
        )
    return "\n".join([*lines, _tuned_verdict(tuned(frame), treatment, baseline), *_left_out(pairs)])


def _tuned_verdict(cells: Sequence[Tuned], treatment: str, baseline: str) -> str:
    cells = [cell for cell in cells if math.isfinite(cell.gap)]
    if not cells:
        return "No cell has two configurations, so the arms cannot be compared at their own best hyperparameters."
    held_out = all(cell.chosen_by == "validation_accuracy" for cell in cells)
    chosen = "chosen on validation" if held_out else "chosen on training accuracy, as nothing is held out"
    if len(cells) == 1:
        cell = cells[0]
        return (
            f"Tuned against tuned (each arm at its own best of {cell.trials} configurations, {chosen}): {treatment} "
            f"reaches {cell.treatment_test:.1%} on test and {baseline} {cell.baseline_test:.1%}, a gap of "
            f"{amount('test_accuracy', cell.gap)}."
        )
    ahead = sum(cell.gap > 0 for cell in cells)
    return (
        f"Tuned against tuned (each arm at its own best within a cell, {chosen}): {treatment} is ahead on test in "
        f"{ahead} of {len(cells)} cells, with a median gap of "
        f"{amount('test_accuracy', float(np.median([cell.gap for cell in cells])))}."
    )


def title(metric: str) -> str:
    """A metric's name in words: ``test_q90_loss`` is "test q90 loss"."""
    return metric.replace("_", " ")


def amount(metric: str, gap: float) -> str:
    """A gap with sign and unit; accuracies in percentage points."""
    if not math.isfinite(gap):
        return "–"
    unit = SHORT.get(BY_NAME[metric].unit, BY_NAME[metric].unit)
    if unit == "fraction":
        text, unit = f"{100 * gap:+.2f}", "pp"
    elif abs(gap) >= 10_000:
        text = f"{gap / 1000:+,.1f}k"
    else:
        text = f"{gap:+,.0f}" if abs(gap) >= 1000 else f"{gap:+#.3g}".rstrip(".")
    if not any(digit in text for digit in "123456789"):
        text = text.lstrip("+-")  # what rounds to 0 has no sign
    return f"{text.replace('-', '−', 1)} {unit}"


def _where(pairs: Pairs) -> str:
    if pairs.at == "best":
        return "at each arm's best epoch by validation accuracy"
    if pairs.at != "final":
        return f"at epoch {pairs.at}"
    if pairs.clock != "epochs":
        return f"at equal {pairs.clock} (interpolated between epochs)"
    ends = pairs.frame["baseline/epoch"].unique()
    last = f"the last, {ends[0]:.0f}" if len(ends) == 1 else "the last of each trial"
    return f"at equal epochs ({last})"


def _left_out(pairs: Pairs) -> list[str]:
    if not pairs.dropped:
        return []
    reasons = "; ".join(f"{count} {reason}" for reason, count in pairs.dropped.items())
    lines = [f"{counted(sum(pairs.dropped.values()), 'trial')} could not be counted: {reasons}."]
    if pairs.at == "final" and STATUSES["stopped"] in pairs.dropped:
        lines.append(
            "The scheduler chose which trials finish, so those counted need not stand for all, and flatter the "
            "treatment if it chose by what that reached."
        )
    return lines
