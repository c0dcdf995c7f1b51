"""The report's fifth question: which settings drive the gap."""

from __future__ import annotations

import math

import pandas as pd

from analysis.charts import Chart, forest_chart
from analysis.findings import HEADLINE, Findings, percent, percents
from analysis.gaps import amount, title
from analysis.page import Block, Cell, Heading, Missing, Section, Table, Text, grid
from analysis.rules import Rules
from analysis.tables import span

HOW_IMPORTANT = (
    "fANOVA: the share of the gap's variance between configurations that a setting explains by itself, in a random "
    "forest (Hutter et al. 2014). PED-ANOVA: how well it tells the quarter of configurations with the best gaps from "
    "the rest (Watanabe et al. 2023). The upright line is what settings of random values reach: left of it, a setting "
    "tells no more than they do. Neither says in which direction; the rules do."
)
FEW = "Importances need at least 20 configurations with gaps that differ; run more trials of the search."


def drivers(found: Findings) -> Section:
    """Question 5: which settings drive the gap?"""
    rows = found.importances
    blocks: list[Block] = [Missing(FEW)]
    if not rows.empty:
        ranges = {"low": 100 * rows["fanova_low"], "high": 100 * rows["fanova_high"]}
        fanova = _importance_chart(rows, "fanova", "fANOVA", float(rows["noise"].iloc[0]), pd.DataFrame(ranges))
        none = pd.DataFrame({"low": math.nan, "high": math.nan}, index=rows.index)
        ped = _importance_chart(rows, "ped_anova", "PED-ANOVA", float(rows["ped_noise"].iloc[0]), none)
        blocks = [Text(HOW_IMPORTANT, note=True), *grid(fanova, ped), _importance_table(rows)]
    if not found.rules.rows.empty:
        blocks += _rules(found.rules)
    return Section("drivers", "Which settings drive the gap?", _answer(found), blocks)


def _answer(found: Findings) -> str:
    if found.importances.empty:
        return "Too few configurations to tell."
    above = found.importances[found.importances["above_noise"]]
    first = " and ".join(f"{row.key} ({row.fanova:.0%} of the variance)" for row in above.head(2).itertuples())
    said = f"Most of all {first}." if first else "No setting tells more about the gap than random values would."
    explained = found.rules.explained
    if math.isfinite(explained) and len(found.rules.rows) > 1:
        said += f" Simple rules explain {max(explained, 0):.0%} of the variance out of sample."
    return said


def _importance_chart(rows: pd.DataFrame, column: str, name: str, noise: float, ranges: pd.DataFrame) -> Chart | None:
    columns = {"label": rows["key"], "value": 100 * rows[column], "said": [percent(share) for share in rows[column]]}
    return forest_chart(
        pd.DataFrame(columns).join(ranges).sort_values("value", ascending=False, kind="stable"),
        f"importance-{column.replace('_', '-')}",
        f"Importance for the gap in {title(HEADLINE)}, by {name}",
        "importance (%)",
        f"Importance of each setting by {name}; settings of random values reach {percent(noise)}.",
        reference=100 * noise if math.isfinite(noise) else 0,
        interval="range over resamples",
    )


def _importance_table(rows: pd.DataFrame) -> Table:
    cells = [
        [
            Cell(row["key"]),
            Cell(percent(row["fanova"]), row["fanova"]),
            Cell(percents(row["fanova_low"], row["fanova_high"]), row["fanova_low"]),
            Cell("yes" if row["above_noise"] else "no"),
            Cell(percent(row["ped_anova"]), row["ped_anova"]),
            Cell("yes" if row["ped_anova"] > row["ped_noise"] else "no"),
        ]
        for row in rows.to_dict("records")
    ]
    heads = ["Setting", "fANOVA", "Range over resamples", "Above random", "PED-ANOVA", "Above random"]
    return Table("Importance of each setting, and whether it exceeds that of random values", heads, cells)


def _rules(found: Rules) -> list[Block]:
    worth = "There are too few configurations to test the rules on ones that they have not seen."
    if math.isfinite(found.explained):
        worth = (
            f"On configurations that they have not seen, the rules explain {max(found.explained, 0):.0%} of the "
            "variance of gaps."
        )
    cells = [
        [
            Cell(row["rule"]),
            Cell(f"{row['comparisons']:,}", row["comparisons"]),
            Cell(f"{row['configurations']:,}", row["configurations"]),
            Cell(amount(HEADLINE, row["mean"]), row["mean"]),
            Cell(span(HEADLINE, row["low"], row["high"]), row["low"]),
        ]
        for row in found.rows.to_dict("records")
    ]
    if len(cells) < 2:
        return [Heading("As rules"), Text("No rule divides the comparisons into parts whose gaps differ.")]
    heads = ["Where", "Comparisons", "Configurations", "Mean gap", "95% interval"]
    text = f"Rules that divide the gaps in {title(HEADLINE)} best"
    note = f"{worth} They were found on the same gaps that they are told with, so their means are too far apart."
    return [Heading("As rules"), Text(note, note=True), Table(text, heads, cells)]
