"""The report's last two questions: what the filter does while a model trains, and what is paid for what."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.behaviour import by_step, over_time
from analysis.charts import MOST, OTHERS, TREATMENT, Axis, Chart, Key, thinned
from analysis.curve_charts import behaviour_chart
from analysis.database import counted
from analysis.findings import Findings, times
from analysis.gap_charts import UNLEARNED, scatter_chart, zero_lines
from analysis.gaps import amount, label
from analysis.page import Block, Cell, Heading, Missing, Section, Table, Text, capped, grid
from analysis.tradeoffs import tradeoffs

HOW_BEHAVIOUR = (
    "Figure 6 of the thesis's appendix: the median of comparisons, and a band between the quartiles. Epochs without an "
    "update have no raw batches per filtered batch, although they probe. Later epochs stand for those comparisons that "
    "were not stopped."
)
HOW_TRADED = (
    "A configuration is averaged over its comparisons. One that no other beats in gap of accuracy, gap of worst loss "
    "and compute at once is on the front; as the best of noisy measurements, the front flatters what is on it. "
    "Upwards, and to the right in worst loss, the treatment is better; left of 1 it saves compute."
)
NO_PROBE = (
    "No arm probes its samples in this study, so there is no filter to look at. Compare with an arm that has a filter, "
    "such as arms.filtered: {granularity: batch, filter: hard}."
)
NO_TRACE = (
    "Updates were not traced, so epochs are the finest grain here. To see what every update took, run the experiment "
    "with trace: true."
)
NO_COMPUTE = "Compute was not recorded, so configurations are told apart by accuracy and worst loss alone."
BEHAVIOUR = {
    "acceptance": "acceptance (kept / probed)",
    "raw_batches_per_step": "raw batches per filtered batch",
    "overflow": "overflow (share of kept samples)",
    "epochs_without_update": "share of comparisons without an update",
}
"""What is told of a filter, and in which order."""

PROBING = ((TREATMENT, "line"), *((color, "dots") for color in OTHERS))
"""Colours and shapes of the arms that probe: treatments, the others."""

FRONT = Key("beaten by none", TREATMENT, "diamond")
BEATEN = Key("beaten by another", "var(--baseline)")


def behaviour(found: Findings) -> Section:
    """Question 8: what does the filter do while the model trains?"""
    heading = "How does the filter behave?"
    rows = over_time(found.study)
    if rows.empty:
        return Section("behaviour", heading, "Not recorded: no arm probes.", [Missing(NO_PROBE)])
    treatments = sorted(str(name) for name in found.study.trials["treatment"].dropna().unique())
    names = sorted(rows["arm"].unique(), key=lambda name: (name not in treatments, name))
    kinds = [Key(str(name), *look) for name, look in zip(names, PROBING, strict=False)]
    charts = [behaviour_chart(rows, quantity, heading, kinds) for quantity, heading in BEHAVIOUR.items()]
    blocks: list[Block] = [Text(HOW_BEHAVIOUR, note=True), *grid(*charts)]
    traced = by_step(found.study)
    if not traced.empty:
        named = traced.assign(epoch=100 * traced["progress"])
        updates = [
            behaviour_chart(named, quantity, BEHAVIOUR[quantity], kinds, "progress of training (%)")
            for quantity in named["quantity"].unique()
        ]
        note = "Of every update, whatever epochs it took to fill its batch; comparisons that traced their updates."
        blocks += [Heading("Update by update"), Text(note, note=True), *grid(*updates)]
    else:
        blocks.append(Text(NO_TRACE, note=True))
    return Section("behaviour", heading, _behaves(rows, names), blocks)


def _behaves(rows: pd.DataFrame, names: list[str]) -> str:
    """How the first arm's acceptance and accumulation go from its first epoch to its last."""
    medians = rows[rows["arm"] == names[0]].set_index(["quantity", "epoch"])["median"]
    parts = []
    if "acceptance" in medians:
        kept = medians["acceptance"]
        parts.append(
            f"keeps {kept.iloc[0]:.0%} of what it probes in epoch {kept.index[0]} and {kept.iloc[-1]:.0%} in "
            f"epoch {kept.index[-1]}"
        )
    if "raw_batches_per_step" in medians:
        batches = medians["raw_batches_per_step"].iloc[-1]
        parts.append(f"takes {batches:.1f} raw batches for one filtered batch in the end")
    return f"In the median comparison, {names[0]} {' and '.join(parts)}." if parts else "Little of it was recorded."


def tradeoff(found: Findings) -> Section:
    """Question 9: what is paid for what?"""
    heading = "What are the trade-offs?"
    rows = tradeoffs(found.frame)
    rows = rows[rows["comparisons"] > 0]
    if rows.empty:
        nothing = "No comparison has finished with test accuracy and worst test loss of both arms."
        return Section("tradeoffs", heading, "Not known yet.", [Missing(nothing)])
    best = rows[rows["front"]].sort_values("accuracy", ascending=False, kind="stable")
    gains = (rows["accuracy"] > 0) & (rows["worst_loss"] > 0) & ~(rows["compute"] >= 1)
    gains &= (rows["unlearned"] == 0) & (rows["lost"] == 0)
    costed = bool(rows["compute"].notna().any())
    saves = " and saves compute" if costed else ""
    respects = "all three respects" if costed else "both respects"
    beaten = f"no other beats {len(best):,} of them in {respects}"
    answer = (
        f"In {gains.sum():,} of {counted(len(rows), 'configuration')} {found.names[1]} gains accuracy and worst loss"
        f"{saves} at once, over a baseline that learned; {beaten}."
    )
    blocks: list[Block] = [Text(HOW_TRADED, note=True), *grid(*_planes(found, rows, beaten)), _front_table(best)]
    return Section("tradeoffs", heading, answer, blocks if costed else [*blocks, Missing(NO_COMPUTE)])


def _planes(found: Findings, rows: pd.DataFrame, beaten: str) -> list[Chart | None]:
    """Gaps in accuracy upwards, and across what is paid for them: worst loss, and compute where it was measured."""
    kinds = [BEATEN, UNLEARNED, FRONT]
    places = np.select([rows["front"], rows["unlearned"] > 0], [2, 1], 0)
    rows = rows.assign(accuracy=100 * rows["accuracy"], what=[kinds[place].name for place in places])
    rest, less = thinned(rows[~rows["front"]], found.seed, MOST // 2, "configurations beaten by another")
    first, fewer = thinned(rows[rows["front"]], found.seed, MOST // 2, "configurations beaten by none")
    dots, note = pd.concat([rest, first], ignore_index=True), f"{less} {fewer}".strip()
    about = f"a dot for each of {counted(len(rows), 'configuration')}; {beaten}."
    y = Axis("accuracy", "gap in test accuracy (pp)")
    x = Axis("worst_loss", "gap in worst test loss (nats)")
    shown = ["number", "label", "comparisons"]
    told = f"Gaps in worst test loss across and in test accuracy upwards, {about}"
    level = zero_lines(x, y)
    loss = scatter_chart(
        dots, "tradeoff-loss", "Accuracy and worst loss", told, x, y, "what", kinds, level, shown, note
    )
    ends = (min(float(rows["compute"].min()), 1.0), max(float(rows["compute"].max()), 1.0))
    title = "compute of the treatment over the baseline's"
    x = Axis("compute", title, log=True, domain=ends if ends[0] < ends[1] else None)
    lines = [level[1], level[0] | {"encoding": {"x": x.at(1)}}]
    told = f"Compute of the treatment over the baseline's across, the gap in test accuracy upwards, {about}"
    cost = scatter_chart(
        dots, "tradeoff-compute", "Accuracy and compute", told, x, y, "what", kinds, lines, shown, note
    )
    return [loss, cost]


def _front_table(best: pd.DataFrame) -> Table:
    cells = [
        [
            Cell(str(row["label"])),
            Cell(label(row["number"]), row["number"]),
            Cell(f"{row['comparisons']:,}", row["comparisons"]),
            Cell(amount("test_accuracy", row["accuracy"]), row["accuracy"]),
            Cell(amount("test_worst_loss", row["worst_loss"]), row["worst_loss"]),
            Cell(times(row["compute"]), row["compute"]),
        ]
        for row in best.to_dict("records")
    ]
    heads = ["Configuration", "First trial", "Comparisons", "Test accuracy", "Worst test loss", "Compute"]
    return capped(Table("Configurations that no other beats", heads, cells), 100)
