"""Frames made readable: aligned text, Markdown, and the table form of section 4.3 of the thesis."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pandas as pd

from analysis.gaps import amount, label, title

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
    "median": "Median gap",
    "units": "Configurations",
    "mean": "Mean gap",
    "interval": "95% interval",
    "range": "Range",
}
"""The columns of :func:`gap_table` after the groups and the metric, and their headings."""


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


def gap_table(summary: pd.DataFrame) -> pd.DataFrame:
    """What :func:`analysis.gaps.summarize` returns, as text with units: a column for each heading.

    The column about unlearned baselines is there only where one has a win over them, and the number of configurations
    only where mean and interval are of these instead of comparisons.
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
        "median": lambda row: amount(row["metric"], row["median"]),
        "units": lambda row: str(row["units"]),
        "mean": lambda row: amount(row["metric"], row["mean"]),
        "interval": lambda row: span(row["metric"], row["low"], row["high"]),
        "range": lambda row: span(row["metric"], row["min"], row["max"]),
    }
    if not summary["unlearned_wins"].any():
        del cells["unlearned_wins"]
    if (summary["units"] == summary["comparisons"]).all():
        del cells["units"]
    records = summary.to_dict("records")
    for name, cell in cells.items():
        written[STATISTICS[name]] = [cell(row) for row in records]
    return written


def span(metric: str, low: float, high: float) -> str:
    """Two gaps as "from to", the unit said once; a dash where there is none."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return "–"
    return f"{amount(metric, low).partition(' ')[0]} to {amount(metric, high)}"


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


def _numeric(column: pd.Series[Any]) -> bool:
    return bool(pd.api.types.is_numeric_dtype(column))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")


def _percent(share: float) -> str:
    return f"{share:.0%}" if math.isfinite(share) else "–"
