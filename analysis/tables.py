"""Frames made readable: aligned text, Markdown, and the table form of section 4.3 of the thesis."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd

from analysis.database import TableError
from analysis.gaps import amount, bins, label, p_value
from analysis.load import Study
from analysis.pairs import pair, without_loss
from analysis.statistics import configurations
from trainables.records import BUILT_IN, SIDES, Columns, title

THESIS_METRICS = {
    "Accuracy": "accuracy",
    "Mean loss": "mean_loss",
    "Q=0.9 loss": "q90_loss",
    "Worst loss": "worst_loss",
}

STATISTICS = {
    "comparisons": "Comparisons",
    "wins": "Won",
    "unlearned_wins": "Won over unlearned",
    "without_gap": "Without a gap",
    "untrained": "Treatment without updates",
    "units": "Configurations",
    "median": "Median gap",
    "interval": "95% interval of the median",
    "mean": "Mean gap",
    "p_holm": "p (Holm)",
    "range": "Range",
}
"""The columns of :func:`gap_table` after the groups and the metric, and their headings."""

LATEX = {
    **{ord(mark): f"\\{mark}" for mark in "&%$#_{}"},
    **{ord(mark): f"{{{mark}}}" for mark in "[]*"},  # after the end of a row these would be its options
    ord("\\"): r"\textbackslash{}",
    ord("~"): r"\textasciitilde{}",
    ord("^"): r"\textasciicircum{}",
    ord("<"): r"\textless{}",
    ord(">"): r"\textgreater{}",
    ord("|"): r"\textbar{}",
    ord("`"): r"\`{}",
    ord('"'): "''",
    **{ord(space): " " for space in "\n\r\t"},
    ord("−"): "$-$",
    ord("±"): r"$\pm$",
    ord("×"): r"$\times$",
    ord("≥"): r"$\geq$",
    ord("≤"): r"$\leq$",
    ord("∞"): r"$\infty$",
    ord("°"): r"\textdegree{}",
    ord("–"): r"\textendash{}",
    ord("…"): r"\ldots{}",
}
"""What stands in LaTeX for the characters that mean something there, or that its fonts lack."""

NUMBER = re.compile(r"[+−-]?[\d.∞].*|–")
"""Text that is a number, perhaps with a unit or as a range."""


def thesis_table(rows: pd.DataFrame) -> pd.DataFrame:
    """The condensed form of Tables 4.4 to 4.9: train, test and test/train of four metrics, a row per arm.

    Args:
        rows: one epoch row per line, such as :func:`analysis.pairs.final_rows` or :func:`analysis.pairs.arm_rows`
            gives: ``arm`` and the metrics of train and test; with ``number``, each line also names its trial.

    Returns:
        Numbers, indexed like ``rows``, under two levels of headings: (``""``, Trial), (``""``, Arm), and
        (Accuracy, Train), (Accuracy, Test), (Accuracy, Ratio), … Accuracies are fractions, losses in nats; a ratio is
        NaN where the training value is 0.
    """
    columns: dict[tuple[str, str], Any] = {}
    if "number" in rows:
        columns["", "Trial"] = rows["number"]
    columns["", "Arm"] = rows["arm"]
    for heading, metric in THESIS_METRICS.items():
        train, test = rows[f"train_{metric}"], rows[f"test_{metric}"]
        columns[heading, "Train"] = train
        columns[heading, "Test"] = test
        columns[heading, "Ratio"] = test / train.where(train != 0)
    return pd.DataFrame(columns, index=rows.index)


def thesis_form(source: Study | pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Tables 4.4 to 4.9 with the settings that vary, such as the model or the batch size: a row per group and arm.

    Each configuration is averaged over its seeds, then a group over its configurations; a ratio is of the averages.

    Args:
        source: a study, for all arms of its comparisons at their last epoch; or a frame of pairs, for the two sides as
            they were paired. Comparisons that an arm broke off, as it diverged or ran out of memory, have no last
            epoch; they are left out, and so are other arms whose training loss is not finite.
        by: configuration keys, which name the groups; many-valued numbers as :func:`analysis.gaps.bins` says.

    Returns:
        The table of :func:`thesis_table`, ahead of it (``""``, KEY) for each key, and (``""``, Comparisons) where a
        row is of several; groups in order, in each the baseline, the treatment, and other arms by name.

    Raises:
        TableError: the comparisons have no such key.
    """
    by = list(dict.fromkeys(by))
    frame = (pair(source).frame if isinstance(source, Study) else source).reset_index(drop=True)
    unknown = [key for key in by if key not in frame]
    if unknown:
        raise TableError(
            f"no comparison has the key {', '.join(unknown)}; use one of the experiment, such as model.name"
        )
    frame = frame[frame[[f"{side}/epoch" for side in SIDES]].notna().all(axis="columns")]  # both reached the end
    measured = [f"{split}_{metric}" for metric in THESIS_METRICS.values() for split in ("train", "test")]
    named = pd.DataFrame({key: bins(frame[key]) for key in by}, index=frame.index)
    named = named.assign(trial_id=frame["trial_id"], unit=configurations(frame))
    if isinstance(source, Study):
        rows = _last_rows(source, frame["trial_id"])[["trial_id", "arm", *measured]].merge(named, on="trial_id")
    else:
        ends = {side: {name: frame[f"{side}/{name}"] for name in measured} for side in SIDES}
        rows = pd.concat([named.assign(arm=frame[side], **ends[side]) for side in SIDES])
    rows = rows[~without_loss(rows)]
    first = [name for side in SIDES for name in sorted(frame[side].unique())]
    order = dict.fromkeys([*first, *sorted(rows["arm"].unique())])
    rows = rows.assign(arm=pd.Categorical(rows["arm"], categories=list(order), ordered=True))
    of_units = rows.groupby([*by, "arm", "unit"], observed=True)[measured].agg("mean")
    averages = of_units.groupby([*by, "arm"], observed=True).agg("mean")
    counts = rows.groupby([*by, "arm"], observed=True).size()
    table = thesis_table(averages.reset_index().astype({"arm": "string"}))
    for place, key in enumerate(by):
        table.insert(place, ("", key), averages.index.get_level_values(key).astype("string"))
    if (counts > 1).any():
        table.insert(len(by) + 1, ("", "Comparisons"), counts.to_numpy())
    return table


def _last_rows(study: Study, trial_ids: pd.Series[Any]) -> pd.DataFrame:
    """The last epoch row of every arm of these trials."""
    trial = pd.Index(trial_ids).get_indexer(pd.Index(study.epochs["trial_id"]))
    rows = study.epochs[trial >= 0]
    arm, arms = pd.factorize(rows["arm"])
    side, epoch = trial[trial >= 0] * len(arms) + arm, rows["epoch"].to_numpy("int64")
    last = np.full(len(trial_ids) * len(arms), -1)
    np.maximum.at(last, side, epoch)
    return rows[epoch == last[side]]


def gap_table(summary: pd.DataFrame, columns: Columns = BUILT_IN) -> pd.DataFrame:
    """What :func:`analysis.gaps.summarize` returns, as text with units: a column for each heading.

    The columns about unlearned baselines, comparisons without a gap and treatments without updates are there only where
    there are some, and the number of configurations
    only where median, interval and mean are of these instead of comparisons. The p value is the sign test's, corrected
    by Holm over the family that :func:`analysis.gaps.summarize` names.
    """
    written = pd.DataFrame(index=summary.index)
    for column in summary.columns[: list(summary.columns).index("comparisons")]:
        written["Metric" if column == "metric" else column] = [
            title(value) if column == "metric" else label(value) for value in summary[column]
        ]
    cells: dict[str, Callable[[dict[Any, Any]], str]] = {
        "comparisons": lambda row: str(row["comparisons"]),
        "wins": lambda row: _percent(row["wins"]) + (f" ({row['ties']} tied)" if row["ties"] else ""),
        "unlearned_wins": lambda row: str(row["unlearned_wins"]),
        "without_gap": lambda row: str(row["without_gap"]),
        "untrained": lambda row: str(row["untrained"]),
        "units": lambda row: str(row["units"]),
        "median": lambda row: amount(row["metric"], row["median"], columns),
        "interval": lambda row: span(row["metric"], row["median_low"], row["median_high"], columns),
        "mean": lambda row: amount(row["metric"], row["mean"], columns),
        "p_holm": lambda row: p_value(row["p_holm"]),
        "range": lambda row: span(row["metric"], row["min"], row["max"], columns),
    }
    for name in ("unlearned_wins", "without_gap", "untrained"):
        if not summary[name].any():
            del cells[name]
    if (summary["units"] == summary["comparisons"]).all():
        del cells["units"]
    records = summary.to_dict("records")
    for name, cell in cells.items():
        written[STATISTICS[name]] = [cell(row) for row in records]
    return written


def span(metric: str, low: float, high: float, columns: Columns = BUILT_IN) -> str:
    """Two gaps as "from to", the unit said once; a dash where there is none."""
    if math.isnan(low) or math.isnan(high):
        return "–"
    if math.isinf(high):
        return f"{amount(metric, low, columns)} to {amount(metric, high, columns)}"
    return f"{amount(metric, low, columns).partition(' ')[0]} to {amount(metric, high, columns)}"


def cell(value: Any) -> str:
    """A table's cell as text: 3 decimals, or 3 digits where those say nothing; a dash where missing."""
    if value is None or pd.isna(value):
        return "–"
    if isinstance(value, float):
        if not math.isfinite(value):
            return "∞" if value > 0 else "−∞"
        return f"{value:.3f}" if value == 0 or 1e-3 <= abs(value) < 1e4 else f"{value:.3g}"
    return label(value)


def written(table: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """A table's headings and cells as text; two levels of headings become one."""
    names: list[Any] = list(table.columns)
    heads = [" ".join(filter(None, name)) if isinstance(name, tuple) else str(name) for name in names]
    return heads, [[cell(value) for value in row] for row in table.itertuples(index=False, name=None)]


def to_text(table: pd.DataFrame) -> str:
    """The table as plain text in aligned columns: words to the left, numbers to the right."""
    heads, rows = written(table)
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    right = [_numeric(table.iloc[:, place]) for place in range(len(heads))]
    lines = [
        "  ".join(
            text.rjust(width) if to_right else text.ljust(width)
            for text, width, to_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in (heads, ["-" * width for width in widths], *rows)
    ]
    return "\n".join(lines) + "\n"


def to_markdown(table: pd.DataFrame) -> str:
    """The table in Markdown, numbers aligned to the right; pipes and line breaks in cells are escaped."""
    heads, rows = written(table)
    marks = ["---:" if _numeric(table.iloc[:, place]) else "---" for place in range(len(heads))]
    lines = [[_escaped(text) for text in line] for line in (heads, *rows)]
    lines.insert(1, marks)
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def to_latex(table: pd.DataFrame, groups: int = 0) -> str:
    """The table as a ``tabular`` of LaTeX for its package booktabs, in plain characters that all fonts have.

    Words stand to the left, numbers to the right. The upper of two levels of headings spans its columns.

    Args:
        table: as for :func:`to_text`.
        groups: so many columns on the left name groups of rows, such as those of :func:`thesis_form`: each name stands
            once, and space parts the groups.
    """
    columns: list[Any] = list(table.columns)
    names = [name if isinstance(name, tuple) else ("", name) for name in columns]
    rows = written(table)[1]
    right = [
        place >= groups and (_numeric(table.iloc[:, place]) or all(NUMBER.fullmatch(row[place]) for row in rows))
        for place in range(len(names))
    ]
    lines = [r"% \usepackage{booktabs}", rf"\begin{{tabular}}{{{''.join('lr'[to_right] for to_right in right)}}}"]
    lines.append(r"\toprule")
    if any(top for top, _ in names):
        spans = [(str(top), len(list(run))) for top, run in groupby(name[0] for name in names)]
        heads = [rf"\multicolumn{{{n}}}{{c}}{{{_latex(top)}}}" if top else " & " * (n - 1) for top, n in spans]
        ends = np.cumsum([n for _, n in spans])
        rules = [rf"\cmidrule(lr){{{end - n + 1}-{end}}}" for (top, n), end in zip(spans, ends, strict=True) if top]
        lines += [" & ".join(heads) + r" \\", "".join(rules)]
    lines += [" & ".join(_latex(str(low)) for _, low in names) + r" \\", r"\midrule"]
    above: list[str] = []
    for row in rows:
        if above and above[:groups] != row[:groups]:
            lines.append(r"\addlinespace")
        said = [place < groups and above[: place + 1] == row[: place + 1] for place in range(len(row))]
        lines.append(" & ".join("" if once else _latex(text) for text, once in zip(row, said, strict=True)) + r" \\")
        above = row
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def to_records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as what JSON can hold, by heading: numbers as such, infinite ones "inf" or "-inf", missing None."""
    heads = written(table.iloc[:0])[0]
    return [dict(zip(heads, map(_plain, row), strict=True)) for row in table.itertuples(index=False, name=None)]


def _plain(value: Any) -> bool | int | float | str | None:
    if pd.isna(value):
        return None
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else str(float(value))
    return str(value)


def _latex(text: str) -> str:
    return re.sub("-(?=-)", "-{}", text.translate(LATEX))  # hyphens side by side would become a dash


def _numeric(column: pd.Series[Any]) -> bool:
    return bool(pd.api.types.is_numeric_dtype(column))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")


def _percent(share: float) -> str:
    return f"{share:.0%}" if math.isfinite(share) else "–"
