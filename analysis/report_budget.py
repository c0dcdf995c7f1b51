"""The report's section on budgets: what each arm reaches with how much, where the budget varies."""

from __future__ import annotations

import pandas as pd

from analysis.budgets import budget_table
from analysis.curve_charts import budget_chart
from analysis.findings import Findings
from analysis.page import Cell, Section, Table, Text, capped, choice, grid

HOW_BUDGETS = (
    "Every arm may spend the same on the budget's clock, and its schedule ends with the budget; each point is a run of "
    "its own, from the first epoch to the last. Test accuracy and the gap to the baseline are medians over seeds (over "
    "configurations, each averaged over its seeds, where there are several), with 95% intervals of the median; fewer "
    "than 6 have none."
)


def budgets(found: Findings) -> Section:
    """Test accuracy against the budget; without blocks where no problem was trained with two budgets."""
    rows, heading = found.budgets, "Accuracy against budget"
    if rows.empty:
        return Section("budget", heading, "")
    options = []
    for names, group in rows.groupby(["problem", "clock"], sort=False):
        problem, clock = map(str, names)
        options.append((problem or clock, grid(budget_chart(group, problem, clock))))
    drawn = options[0][1] if len(options) == 1 else choice("Problem", options)
    return Section("budget", heading, "", [Text(HOW_BUDGETS, note=True), *drawn, _table(rows)])


def _table(rows: pd.DataFrame) -> Table:
    """The same numbers, and each arm's gap to the baseline."""
    text = budget_table(rows)
    numbers = {
        "Budget": "budget",
        "Spent": "spent",
        "Median of": "n",
        "Test accuracy": "median",
        "95% interval": "low",
        "Gap": "gap",
        "95% interval of the gap": "gap_low",
    }
    columns = []
    for head in text.columns:
        values = rows[numbers[head]].astype("float64") if head in numbers else [None] * len(rows)
        columns.append([Cell(str(cell), value) for cell, value in zip(text[head], values, strict=True)])
    caption = "Test accuracy of every arm with each budget, and its gap to the baseline"
    return capped(Table(caption, list(text.columns), [list(row) for row in zip(*columns, strict=True)]), 100)
