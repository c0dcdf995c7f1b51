"""The report's fifth question: which settings drive the gap."""

from __future__ import annotations

import math

import pandas as pd

from analysis.charts import Chart, forest_chart
from analysis.findings import HEADLINE, Findings, percent
from analysis.gaps import amount
from analysis.page import Block, Cell, Heading, Missing, Section, Table, Text, grid
from analysis.rules import Rules
from analysis.tables import span
from trainables.records import title

HOW_IMPORTANT = (
    "fANOVA: the share of the gap's variance between configurations that a setting explains by itself, in a random "
    "forest (Hutter et al. 2014). PED-ANOVA: how well it tells the quarter of configurations with the best gaps from "
    "the rest (Watanabe et al. 2023). The tick at each setting is what it reaches by chance: in 19 of 20 studies "
    "whose gap no setting drives, none exceeds its own. Neither says in which direction; the rules do."
)
FEW = "Importances need at least 20 configurations with gaps that differ; run more trials of the search."


def drivers(found: Findings) -> Section:
    """Question 5: which settings drive the gap?"""
    rows = found.importances
    blocks: list[Block] = [Missing(FEW)]
    if not rows.empty:
        fanova = _importance_chart(rows, "fanova", "fanova_chance", "fANOVA")
        ped = _importance_chart(rows, "ped_anova", "ped_chance", "PED-ANOVA")
        blocks = [Text(HOW_IMPORTANT, note=True), *grid(fanova, ped), _importance_table(rows)]
    if not found.rules.rows.empty:
        blocks += _rules(found.rules)
    return Section("drivers", "Which settings drive the gap?", _answer(found), blocks)


def _answer(found: Findings) -> str:
    if found.importances.empty:
        return "Too few configurations to tell."
    above = found.importances[found.importances["fanova_above"]]
    first = " and ".join(f"{row.key} ({row.fanova:.0%} of the variance)" for row in above.head(2).itertuples())
    said = f"Most of all {first}." if first else "No setting tells more about the gap than chance would."
    explained = found.rules.explained
    if math.isfinite(explained) and len(found.rules.rows) > 1:
        said += f" Simple rules explain {max(explained, 0):.0%} of the variance out of sample."
    return said


def _importance_chart(rows: pd.DataFrame, column: str, chance: str, name: str) -> Chart | None:
    columns = {"label": rows["key"], "value": 100 * rows[column], "low": math.nan, "high": math.nan}
    columns |= {"chance": 100 * rows[chance], "said": [percent(share) for share in rows[column]]}
    return forest_chart(
        pd.DataFrame(columns).sort_values("value", ascending=False, kind="stable"),
        f"importance-{column.replace('_', '-')}",
        f"Importance for the gap in {title(HEADLINE)}, by {name}",
        "importance (%)",
        f"Importance of each setting by {name}.",
    )


def _importance_table(rows: pd.DataFrame) -> Table:
    cells = [
        [
            Cell(row["key"]),
            Cell(percent(row["fanova"]), row["fanova"]),
            Cell(percent(row["fanova_chance"]), row["fanova_chance"]),
            Cell("yes" if row["fanova_above"] else "no"),
            Cell(percent(row["ped_anova"]), row["ped_anova"]),
            Cell(percent(row["ped_chance"]), row["ped_chance"]),
            Cell("yes" if row["ped_above"] else "no"),
        ]
        for row in rows.to_dict("records")
    ]
    heads = ["Setting", "fANOVA", "By chance", "Above chance", "PED-ANOVA", "By chance", "Above chance"]
    return Table("Importance of each setting, and whether it exceeds what it reaches by chance", heads, cells)


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
            Cell(amount(HEADLINE, row["median"]), row["median"]),
            Cell(span(HEADLINE, row["median_low"], row["median_high"]), row["median_low"]),
        ]
        for row in found.rows.to_dict("records")
    ]
    if len(cells) < 2:
        return [Heading("As rules"), Text("No rule divides the comparisons into parts whose gaps differ.")]
    heads = ["Where", "Comparisons", "Configurations", "Median gap", "95% interval of the median"]
    text = f"Rules that divide the gaps in {title(HEADLINE)} best"
    note = f"{worth} They were found on the same gaps that they are told with, so their medians are too far apart."
    return [Heading("As rules"), Text(note, note=True), Table(text, heads, cells)]
