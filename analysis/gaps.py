"""Where the treatment wins: the gaps of comparisons by hyperparameter and by pairs of them, and the keys to ask by.

Everything here takes a frame of :class:`analysis.pairs.Pairs`. A gap is in the unit of its metric, and positive always
means that the treatment is better; a gap of minus or plus infinity is a comparison that one arm lost by its outcome.
Medians, means, intervals and p values are of independent units, see :mod:`analysis.statistics`; counts, shares and
ranges are of the comparisons as they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analysis.database import TableError
from analysis.outcomes import WITHOUT_UPDATES, Bools, Floats
from analysis.pairs import STUDY, varied
from analysis.statistics import SEEDS, configurations, estimate, gaps_of, holm, median, units
from trainables.records import BUILT_IN, Columns

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
    "budget.clock",
    "budget.amount",
    "budget.of",
    "baseline",
    "treatment",
)
"""What makes two comparisons the same problem with the same budget; hyperparameters are tuned within it."""

SHORT = {"forward-equivalents": "fwd-eq"}
"""Units that are shortened beside a number."""

NOT_SET = "not set"


def summarize(frame: pd.DataFrame, metrics: Sequence[str], by: Sequence[str] = ()) -> pd.DataFrame:
    """The gaps of each metric in each group of comparisons.

    Args:
        frame: pairs; a gap that is NaN was not measured and is not counted.
        metrics: names of metrics that have a direction.
        by: configuration keys to group by; see :func:`bins` for how many-valued numbers are grouped.

    Returns:
        A row per group and metric: the group's label under each key of ``by``, ``metric``, ``comparisons``, ``wins``
        (share of gaps above 0, a tie counting half), ``ties``, ``unlearned_wins`` (wins over a baseline that did not
        learn), ``without_gap`` (comparisons that an arm lost by its outcome), ``untrained`` (those of them whose
        treatment made too few updates to learn),
        what :func:`analysis.statistics.estimate` returns of the units (configurations where some have several
        seeds, else comparisons): ``units``, ``median``, ``median_low``, ``median_high``, ``mean`` and ``p``; ``p_holm``
        (corrected by Holm over the groups of one metric; without ``by`` over the metrics), ``min`` and ``max``. Without
        ``by``, a metric that nobody measured has a row of 0 comparisons.

    Raises:
        TableError: a metric has no gap, or a key of ``by`` is no column of ``frame``.
    """
    frame = frame.reset_index(drop=True)
    drawn_from = configurations(frame).to_numpy()
    labels = _labels(frame, by)
    places = labels.groupby(list(by), observed=True, sort=True).indices if by else {(): np.arange(len(frame))}
    named = {name if isinstance(name, tuple) else (name,): place for name, place in places.items()}
    measured = {metric: gaps_of(frame, metric) for metric in metrics}
    learned = frame["baseline_learned"].to_numpy("bool")
    untrained = (frame["outcome"] == f"treatment {WITHOUT_UPDATES}").to_numpy("bool")
    rows = [
        dict(zip(by, names, strict=True))
        | {"metric": metric}
        | _statistics(gaps[place], learned[place], untrained[place], drawn_from[place])
        for names, place in named.items()
        for metric, gaps in measured.items()
    ]
    none = _statistics(np.zeros(0), np.zeros(0, "bool"), np.zeros(0, "bool"), np.zeros(0))
    table = pd.DataFrame(rows, columns=[*by, "metric", *none])
    families = table.groupby("metric")["p"] if by else table.groupby(np.zeros(len(table)))["p"]
    table["p_holm"] = families.transform(lambda p: holm(p.to_numpy("float64"))).astype("float64")
    return table


def _statistics(gaps: Floats, learned: Bools, untrained: Bools, drawn_from: np.ndarray[Any, Any]) -> dict[str, float]:
    """What :func:`summarize` says of some comparisons in one metric; p_holm is not known yet."""
    known = ~np.isnan(gaps)
    gaps = gaps[known]
    n, won, ties = len(gaps), gaps > 0, int((gaps == 0).sum())
    return {
        "comparisons": n,
        "wins": (int(won.sum()) + ties / 2) / n if n else math.nan,
        "ties": ties,
        "unlearned_wins": int((won & ~learned[known]).sum()),
        "without_gap": int(np.isinf(gaps).sum()),
        "untrained": int(untrained[known].sum()),
        **estimate(gaps, drawn_from[known]),
        "p_holm": math.nan,
        "min": float(gaps.min()) if n else math.nan,
        "max": float(gaps.max()) if n else math.nan,
    }


def win_map(frame: pd.DataFrame, metric: str, keys: tuple[str, str]) -> pd.DataFrame:
    """Where in the plane of two hyperparameters the treatment wins.

    Args:
        frame: pairs; a gap that is NaN was not measured and is not counted.
        metric: a metric that has a direction.
        keys: two configuration keys; :func:`bins` says how many-valued numbers are grouped.

    Returns:
        A row per pair of labels that has a comparison: ``keys[0]`` and ``keys[1]`` (ordered categoricals),
        ``comparisons``, ``wins`` (share of gaps above 0, a tie counting half) and ``median`` (of the configurations,
        each averaged over its seeds; of the seeds of a single one).

    Raises:
        TableError: ``metric`` has no gap, or ``keys`` are not two different columns of ``frame``.
    """
    if len(set(keys)) != 2:
        raise TableError(f"a win map needs two different keys, not {', '.join(keys)}; name another")
    gaps = pd.Series(gaps_of(frame, metric), frame.index)
    won = (gaps > 0) + (gaps == 0) / 2
    table = _labels(frame, keys).assign(gap=gaps, won=won, drawn_from=configurations(frame))[gaps.notna()]
    cells = table.groupby(list(keys), observed=True, sort=True)
    counted = cells.agg(comparisons=("gap", "size"), wins=("won", "mean"))
    middles = [median(units(cell["gap"].to_numpy("float64"), cell["drawn_from"].to_numpy())) for _, cell in cells]
    return counted.assign(median=np.array(middles, dtype="float64")).reset_index()


def _labels(frame: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    if missing := [key for key in keys if key not in frame]:
        raise TableError(
            f"no comparison has {', '.join(missing)}; keys that vary: {', '.join(varied(frame)) or 'none'}"
        )
    return pd.DataFrame({key: bins(frame[key]) for key in keys}, index=frame.index)


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
        distinct: list[Any] = sorted(given.unique(), key=_rank)
        order = [label(value) for value in distinct]
        labels = given.map(label).astype("object")
    labels = labels.reindex(values.index, fill_value=NOT_SET)
    if values.isna().any():
        order.append(NOT_SET)
    return pd.Series(pd.Categorical(labels, categories=list(dict.fromkeys(order)), ordered=True), index=values.index)


def _rank(value: Any) -> tuple[bool, float, str]:
    """What values are sorted by: numbers come first, also where words stand among them and all are text."""
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    return not math.isfinite(number), number if math.isfinite(number) else 0.0, str(value)


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
    "no" with Adam and not set with SGD, which ``optimizer.name`` says already. The name of the study is no setting.
    """
    keys = [key for key in varied(frame) if key != STUDY]
    given = {key: frame[key].notna().to_numpy() for key in keys if frame[key].nunique() == 1}
    pairs = {key: pd.factorize(frame[key])[0] == 0 for key in keys if frame[key].nunique() == 2}
    pairs = {key: first for key, first in pairs.items() if frame[key].notna().all()}

    def follows(key: str) -> bool:
        return key in given and any(
            (given[key] == first).all() or (given[key] != first).all() for first in pairs.values()
        )

    return [key for key in keys if not follows(key)]


def telling(frame: pd.DataFrame, metric: str) -> str | None:
    """The varied configuration key whose groups differ most in the gap of ``metric``; None where no key groups.

    Measured by the epsilon-squared of a Kruskal-Wallis test, which allows for the number of groups; a hint for looking,
    not a test of significance.
    """
    strength = {}
    known = frame[frame[f"gap/{metric}"].notna()]
    for key in hyperparameters(known):
        groups = [group.to_numpy() for _, group in known[f"gap/{metric}"].groupby(bins(known[key]), observed=True)]
        n, k = len(known), len(groups)
        if k < 2 or n <= k or known[f"gap/{metric}"].nunique() < 2:
            continue
        strength[key] = (stats.kruskal(*groups).statistic - k + 1) / (n - k)
    return max(strength, key=strength.__getitem__) if strength else None


def amount(metric: str, gap: float, columns: Columns = BUILT_IN) -> str:
    """A gap with sign and unit, fractions in percentage points; a dash where there is none.

    ``columns`` are those of the study: they have the unit of a metric of its own.
    """
    if math.isnan(gap):
        return "–"
    if math.isinf(gap):
        return "+∞" if gap > 0 else "−∞"
    unit = SHORT.get(columns.unit(metric), columns.unit(metric))
    if unit == "fraction":
        text, unit = f"{100 * gap:+.2f}", "pp"
    elif abs(gap) >= 10_000:
        text = f"{gap / 1000:+,.1f}k"
    else:
        text = f"{gap:+,.0f}" if abs(gap) >= 1000 else f"{gap:+#.3g}".rstrip(".")
    if not any(digit in text for digit in "123456789"):
        text = text.lstrip("+-")  # what rounds to 0 has no sign
    return f"{text.replace('-', '−', 1)} {unit}".rstrip()


def p_value(p: float) -> str:
    """A p value with 3 decimals; a dash where there is none."""
    if not math.isfinite(p):
        return "–"
    return f"{p:.3f}" if p >= 0.001 else "<0.001"
