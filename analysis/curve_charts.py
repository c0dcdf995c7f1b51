"""Charts of curves: what tuning yields, time to an accuracy, the filter's behaviour, and the nine panels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd

from analysis.charts import BASELINE, DASHES, OTHERS, TREATMENT, Axis, Chart, Key, Spec, field, slug
from analysis.curves import AXES as ALONG
from analysis.curves import HEADINGS, PANELS, evenly, own_panels
from analysis.curves import SAME_SCALE as SHARED
from trainables.records import BUILT_IN, CLOCKS, Columns, title

SIDE_KEYS = {"baseline": (BASELINE, "dash"), "treatment": (TREATMENT, "line")}
LOOKS = tuple(
    dict.fromkeys(
        [
            *SIDE_KEYS.values(),
            *product((*OTHERS, TREATMENT), ("dots",)),
            *product((*OTHERS, TREATMENT), ("dashdot", "dash")),
        ]
    )
)
"""Colours and shapes of arms: baseline, treatment, the others. No two are alike."""

MOST_MOMENTS = 200
"""Steps that a curve of shares is drawn with at most."""


def looks(arms: Sequence[str]) -> list[Key]:
    """Each arm's colour and shape, baseline first, treatment second; of too many arms the first ones."""
    return [Key(arm, *look) for arm, look in zip(arms, LOOKS, strict=False)]


def lines_chart(
    frame: pd.DataFrame,
    id: str,
    title: str,
    about: str,
    x: Axis,
    y: Axis,
    series: str,
    kinds: Sequence[Key],
    band: bool = False,
    step: bool = False,
    dots: bool = False,
) -> Chart | None:
    """A line for each kind, or a dot where it is one point; None where there is nothing to draw.

    Args:
        frame: the columns of both axes and ``series``; with ``band`` also ``low`` and ``high``, what it spans. Rows of
            other kinds are not drawn, and lines go on over a row without ``x``.
        id: of the chart.
        title: its heading.
        about: the description.
        x: what the lines go along.
        y: what they show.
        series: the column that tells the kinds apart.
        kinds: names, colours and shapes of these, in their order.
        band: whether a band is drawn behind each line.
        step: whether values hold until the next.
        dots: whether every point is marked.
    """
    if not np.isfinite(frame[[x.field, y.field]].to_numpy(dtype="float64")).all(axis=1).any():
        return None
    names = [kind.name for kind in kinds]
    shape = {"interpolate": "step-after"} if step else {}
    across, up = x.channel(), y.channel()
    colors = {"domain": names, "range": [kind.color for kind in kinds]}
    dashes = {"domain": names, "range": [DASHES[kind.shape] for kind in kinds]}
    color = {"field": field(series), "type": "nominal", "scale": colors, "legend": None}
    drawn = {"color": color, "strokeDash": color | {"scale": dashes}}
    layers: list[Spec] = []
    if band:
        ends = {"y": up | {"field": "low"}, "y2": {"field": "high"}}
        layers.append({"mark": {"type": "area", "opacity": 0.18} | shape, "encoding": {"color": color} | ends})
    hovered = {"select": {"type": "point", "nearest": True, "on": "pointerover", "clear": "pointerout"}}
    tooltip = [{"field": field(series), "title": " "}, x.tooltip(), y.tooltip() | {"title": y.title or title}]
    shown = {"condition": {"param": "near", "empty": False, "value": 1}, "value": 0}
    layers += [
        {"mark": {"type": "line", "strokeWidth": 2} | shape, "encoding": {"y": up} | drawn},
        {
            "params": [{"name": "near"} | hovered],
            "mark": {"type": "point", "filled": True, "size": 60},
            "encoding": {"y": up, "color": color, "opacity": shown, "tooltip": tooltip},
        },
    ]
    dotted = names if dots else _alone(frame[frame[series].isin(names)], [x.field, y.field], series)
    if dotted:
        those = [{"filter": {"field": field(series), "oneOf": dotted}}]
        dot = {"type": "point", "filled": True, "size": 45, "opacity": 1}
        layers.append({"transform": those, "mark": dot, "encoding": {"y": up, "color": color}})
    known: list[Spec] = [{"filter": {"field": field(series), "oneOf": names}}]
    known.append({"filter": {"field": field(x.field), "valid": True}})
    spec = {"height": 190, "transform": known, "encoding": {"x": across}, "layer": layers}
    return Chart(id, title, about, frame, spec, tuple(kinds))


def _alone(rows: pd.DataFrame, axes: Sequence[str], series: str) -> list[str]:
    """The kinds of which one point alone is known on both axes."""
    points = rows[rows[list(axes)].notna().all(axis=1)].groupby(series).size()
    return [str(name) for name in points.index[points == 1]]


def best_of_n_chart(curves: pd.DataFrame, place: int) -> Chart | None:
    """What each arm is expected to reach on test after tuning with n trials, in one cell.

    Args:
        curves: rows of :func:`analysis.tuning.best_of_n` of one cell.
        place: of the cell on the page.
    """
    if curves.empty:
        return None
    names = dict(zip(curves["side"], curves["arm"], strict=True))
    kinds = [Key(str(names[side]), *SIDE_KEYS[side]) for side in SIDE_KEYS]
    data = curves.assign(expected=100 * curves["expected"])
    cell, last = str(curves["cell"].iloc[0]), curves[curves["n"] == curves["n"].max()]
    ends = ", ".join(f"{row.arm} {row.expected:.1%}" for row in last.itertuples())
    about = (
        f"Expected test accuracy of the best of n configurations, {cell}; with all "
        f"{curves['configurations'].iloc[0]:,}: {ends}."
    )
    most = int(curves["n"].max())
    x = Axis("n", "configurations tried (n)", "~s", log=most > 50, whole=True, domain=(1, most))
    y = Axis("expected", "expected test accuracy (%)")
    return lines_chart(data, f"best-of-n-{place}", cell, about, x, y, "arm", kinds)


def panel_charts(
    rows: pd.DataFrame, kinds: Sequence[Key], clock: str, prefix: str, columns: Columns = BUILT_IN
) -> dict[str, Chart | None]:
    """The nine panels of one comparison (section 4.3), as far as they were recorded: all arms along ``clock``.

    Panels of the study's own metrics follow. Train and test of one metric share their scale. Against seconds, the last
    panel has the epochs passed.

    Args:
        rows: of :func:`analysis.curves.panel_rows`.
        kinds: names, colours and shapes of its arms.
        clock: a word of ``records.CLOCKS``.
        prefix: the first part of their ids.
        columns: what the study's metrics are.

    Returns:
        For the heading of each metric its chart, or None where nothing was recorded.

    Raises:
        ValueError: ``clock`` is no word of ``records.CLOCKS``.
    """
    if clock not in CLOCKS:
        raise ValueError(f"clock {clock!r} is unknown; use one of {', '.join(CLOCKS)}")
    names = [kind.name for kind in kinds]
    x = Axis(CLOCKS[clock], ALONG[clock], "~s", whole=clock == "epochs")
    pairs = [[PANELS[place] for place in shared] for shared in SHARED]
    ends = {metric: _ends(rows[pair]) for pair in pairs for metric in pair}
    charts: dict[str, Chart | None] = {}
    for metric in (*PANELS, *own_panels(columns)):
        metric = "epoch" if metric == x.field else metric
        unit = columns.unit(metric)
        low, high = ends.get(metric, (math.nan, math.nan))
        log = metric.endswith("_loss") and low > 0
        domain = (low, high) if low < high else None
        heading = HEADINGS.get(metric, title(metric))
        last = rows.dropna(subset=[metric]).groupby("arm", sort=False)[metric].last()
        said = ", ".join(f"{name} {last[name]:.4g}" for name in names if name in last)
        heading += f" ({unit})" if unit else ""
        about = f"{heading} along {ALONG[clock]}; at the end: {said}."
        y = Axis(metric, "", log=log, domain=domain)
        charts[heading] = lines_chart(rows, slug(prefix, clock, metric), heading, about, x, y, "arm", kinds)
    return charts


def _ends(values: pd.DataFrame) -> tuple[float, float]:
    numbers = values.to_numpy(dtype="float64")
    finite = numbers[np.isfinite(numbers)]
    return (float(finite.min()), float(finite.max())) if finite.size else (math.nan, math.nan)


def reached_chart(curves: pd.DataFrame, names: Mapping[str, str], target: float, clock: str) -> Chart | None:
    """The share of each side that has reached a test accuracy, along a clock.

    Args:
        curves: of :func:`analysis.speed.reached`.
        names: the arm of each side.
        target: the test accuracy, as a fraction.
        clock: a word of ``records.CLOCKS``.
    """
    if curves.empty:
        return None
    start = pd.DataFrame({"side": list(SIDE_KEYS), "value": 0.0, "share": 0.0})
    parts = [evenly(curves[curves["side"] == side], MOST_MOMENTS) for side in SIDE_KEYS]
    rows = pd.concat([start, *parts], ignore_index=True)
    shares = 100 * rows[["share", "low", "high"]].astype("float64")
    data = pd.DataFrame({"arm": rows["side"].map(names), "value": rows["value"]}).join(shares)
    last = curves.groupby("side", sort=False)["share"].last()
    ends = ", ".join(f"{names[side]} {share:.0%}" for side, share in zip(last.index.astype(str), last, strict=True))
    about = (
        f"Share of comparisons that have reached {target:.1%} test accuracy along {ALONG[clock]}; in the end {ends}."
    )
    x, y = Axis("value", ALONG[clock], "~s"), Axis("share", "share that has reached it (%)", domain=(0, 100))
    kinds = [Key(names[side], *look) for side, look in SIDE_KEYS.items()]
    percent = f"{100 * target:g}"
    name = slug("reached", clock, percent)
    return lines_chart(data, name, f"{percent}% test accuracy", about, x, y, "arm", kinds, band=True, step=True)


def behaviour_chart(
    rows: pd.DataFrame, quantity: str, heading: str, kinds: Sequence[Key], along: str = "epoch"
) -> Chart | None:
    """One quantity of the arms that probe over their epochs: its median, and a band between its quartiles.

    Args:
        rows: of :func:`analysis.behaviour.over_time`.
        quantity: one of its quantities.
        heading: what that is, in words.
        kinds: the arms.
        along: what the column ``epoch`` holds.
    """
    names = [kind.name for kind in kinds]
    data = rows[(rows["quantity"] == quantity) & rows["arm"].isin(names)].reset_index(drop=True)
    if data.empty:
        return None
    last = data.sort_values("epoch").groupby("arm", sort=False)["median"].last()
    first = data.sort_values("epoch").groupby("arm", sort=False)["median"].first()
    ends = ", ".join(f"{arm} from {first[arm]:.3g} to {last[arm]:.3g}" for arm in last.index)
    about = f"{heading} along {along}, the median of comparisons: {ends}."
    x, y = Axis("epoch", along), Axis("median", "")
    band = bool(np.isfinite(data["low"].to_numpy(dtype="float64")).any())
    name = slug("behaviour" if along == "epoch" else "updates", quantity)
    return lines_chart(data, name, heading, about, x, y, "arm", kinds, band=band)


def budget_chart(rows: pd.DataFrame, problem: str, clock: str) -> Chart | None:
    """The test accuracy of every arm along what it has spent, with intervals where there are any.

    Args:
        rows: of :func:`analysis.budgets.accuracy_by_budget`, of one problem and clock.
        problem: that problem, in words.
        clock: the word of the clock.
    """
    arms = list(dict.fromkeys(rows["arm"]))
    kinds = looks(arms)
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
    chart = lines_chart(data, name, problem or "Test accuracy", about, x, y, "arm", kinds, band=band, dots=True)
    if chart is None:
        return None
    note = f"The first {len(kinds)} of {len(arms)} arms are drawn." if len(kinds) < len(arms) else ""
    return replace(chart, spec=chart.spec | {"height": 260}, note=note)
