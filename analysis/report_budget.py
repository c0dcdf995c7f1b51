"""The report's section on budgets: what each arm reaches with how much, where the budget varies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from analysis.budgets import budget_table
from analysis.charts import Axis, Chart, Key, slug
from analysis.curve_charts import LOOKS, lines_chart
from analysis.figures import AXES as ALONG
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


def budget_chart(rows: pd.DataFrame, problem: str, clock: str) -> Chart | None:
    """The test accuracy of every arm along what it has spent, with intervals where there are any.

    Args:
        rows: of :func:`analysis.budgets.accuracy_by_budget`, of one problem and clock.
        problem: that problem, in words.
        clock: the word of the clock.
    """
    arms = list(dict.fromkeys(rows["arm"]))
    kinds = [Key(arm, *look) for arm, look in zip(arms, LOOKS, strict=False)]
    shown = rows[rows["arm"].isin([kind.name for kind in kinds])]
    percents = 100 * shown[["median", "low", "high"]].astype("float64")
    data = shown[["arm", "spent", "n"]].join(percents).reset_index(drop=True)
    ends = (float(data["spent"].min()), float(data["spent"].max()))
    x = Axis("spent", ALONG[clock], "~s", log=True, domain=ends if ends[0] < ends[1] else None)
    y = Axis("median", "test accuracy (%)")
    most = shown[shown["budget"] == shown["budget"].max()]
    said = ", ".join(f"{row.arm} {row.median:.1%}" for row in most.itertuples())
    about = f"Test accuracy along {ALONG[clock]}, medians over seeds; with the largest budget: {said}."
    name = slug("budget", clock, problem) if problem else slug("budget", clock)
    band = bool(np.isfinite(percents["low"].to_numpy()).any())
    chart = lines_chart(data, name, problem or "Test accuracy", about, x, y, "arm", kinds, band=band)
    if chart is None:
        return None
    colors = {"domain": [kind.name for kind in kinds], "range": [kind.color for kind in kinds]}
    color = {"field": "arm", "type": "nominal", "legend": None, "scale": colors}
    points = {
        "mark": {"type": "point", "filled": True, "size": 45, "opacity": 1},
        "encoding": {"y": y.channel(), "color": color},
    }
    note = f"The first {len(kinds)} of {len(arms)} arms are drawn." if len(kinds) < len(arms) else ""
    spec = chart.spec | {"height": 260, "layer": [*chart.spec["layer"], points]}
    return replace(chart, spec=spec, note=note)


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
