"""Charts of comparisons, a dot each, and of the plane of two settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.charts import GROUPS, ONCE, OTHERS, SOFT, TEXT, TREATMENT, Axis, Chart, Key, Spec, field, scale, slug
from analysis.gaps import amount, bins, label, settings
from trainables.records import SIDES, title

CLASSES = {f"{20 * place}–{20 * place + 20}%": place + 1 for place in range(5)}
"""Classes of the share won in a win map, and the number of their colours in the page's style."""

MARKS: Mapping[str, Spec] = {
    "dot": {"shape": "circle", "size": 55},
    "cross": {"shape": "cross", "size": 70},
    "diamond": {"shape": "diamond", "size": 110},
}
"""How the shapes of a :class:`analysis.charts.Key` are drawn."""

LEARNED = Key("a comparison", TREATMENT)
UNLEARNED = Key("its baseline did not learn", OTHERS[0], "cross")


def described(frame: pd.DataFrame, keys: Sequence[str]) -> list[str]:
    """The settings of each row in words; those that are not set are left out."""
    columns = [[None if pd.isna(value) else f"{key} {label(value)}" for value in frame[key]] for key in keys]
    return [", ".join(filter(None, row)) for row in zip(*columns, strict=True)] if columns else [""] * len(frame)


def points(frame: pd.DataFrame, metrics: Sequence[str], keys: Sequence[str]) -> pd.DataFrame:
    """What clouds of dots are drawn from: a row per comparison of a frame of pairs.

    Returns:
        ``number``, ``settings`` in words, ``baseline_learned``, both sides and the gap of each metric, ``KEY (group)``
        for each of ``keys``, and ``spread``: a height from -1 to 1 that keeps neighbouring dots apart, always the same.
    """
    columns: dict[str, Any] = {"number": frame["number"], "settings": described(frame, settings(frame))}
    columns["baseline_learned"] = frame["baseline_learned"]
    for metric in metrics:
        columns |= {f"{scope}/{metric}": frame[f"{scope}/{metric}"] for scope in (*SIDES, "gap")}
    columns |= {f"{key} (group)": bins(frame[key]).astype("string") for key in keys}
    columns["spread"] = 2 * ((np.arange(len(frame)) * 0.618034) % 1) - 1
    return pd.DataFrame(columns, index=frame.index)


def gaps_chart(
    frame: pd.DataFrame, dots: pd.DataFrame, metric: str, by: str | None = None, note: str = ""
) -> Chart | None:
    """The gap of each comparison in ``metric``, a dot each, with each group's median; None where none is finite.

    Args:
        frame: pairs, of which medians and numbers are taken.
        dots: :func:`points` of these, or of some of them.
        metric: a metric that has a direction.
        by: the configuration key whose groups are drawn apart.
        note: says what ``dots`` leaves out.
    """
    finite = frame[np.isfinite(frame[f"gap/{metric}"])]
    if finite.empty:
        return None
    if lost := int(np.isinf(frame[f"gap/{metric}"]).sum()):
        note = f"{note} {lost:,} without a gap, which an arm lost, are not drawn; medians are of the others.".strip()
    factor, unit = scale(metric)
    gaps = finite[f"gap/{metric}"]
    groups = gaps.groupby(bins(finite[by]) if by else pd.Series("all", finite.index), observed=True, sort=True)
    medians = groups.median().head(GROUPS)
    names = [str(name) for name in medians.index]
    row: Spec = {"type": "nominal", "scale": {"domain": names}, "axis": {"title": None}}
    x: Spec = {"type": "quantitative", "title": f"gap ({unit})" if unit else "gap"}
    marks = [
        {"group": name, "median": factor * median, "said": amount(metric, median), "comparisons": int(size)}
        for name, median, size in zip(names, medians, groups.size(), strict=False)
    ]
    spread = {"field": "spread", "type": "quantitative", "scale": {"domain": [-1.7, 1.7]}}
    across: Spec = {"y": spread | {"axis": None}}
    if by:
        across = {"y": row | {"field": field(f"{by} (group)")}, "yOffset": spread}
    median: Spec = {"x": x | {"field": "median"}, "tooltip": [{"field": "said", "title": "median gap"}]}
    median["tooltip"] += [{"field": "comparisons"}]
    spec = {
        "height": 46 * len(names) if by else 84,
        "layer": [
            {"data": ONCE, "mark": {"type": "rule", "color": SOFT}, "encoding": {"x": x | {"datum": 0}}},
            {
                "transform": [
                    {"calculate": f"datum['gap/{metric}'] * {factor:g}", "as": "x"},
                    {"filter": "isValid(datum.x)"},
                ],
                "mark": {"type": "point", "filled": True, "size": 48, "opacity": 0.85},
                "encoding": across
                | _learned()
                | {"x": x | {"field": "x"}, "tooltip": _tooltip(metric, Axis("x", x["title"]))},
            },
            {
                "data": {"values": marks},
                "mark": {"type": "tick", "thickness": 3, "size": 40 if by else 76, "color": TEXT},
                "encoding": median | ({"y": row | {"field": "group"}} if by else {}),
            },
        ],
    }
    if by:
        ends = "; ".join(f"{mark['group']}: {mark['said']}" for mark in marks)
        alt = f"Gaps in {title(metric)} by {by}, a dot each of {len(finite):,} comparisons. Medians: {ends}."
    else:
        alt = (
            f"Gaps of {len(finite):,} comparisons in {title(metric)}, a dot each, from {amount(metric, gaps.min())} to "
            f"{amount(metric, gaps.max())}; the median is {amount(metric, gaps.median())}. Right of 0 the treatment is "
            "better."
        )
    if len(groups) > GROUPS:
        note = f"{note} The first {GROUPS} of {len(groups)} groups are shown.".strip()
    heading = f"{title(metric)} by {by}" if by else title(metric)
    legend = (LEARNED, *([] if finite["baseline_learned"].all() else [UNLEARNED]), Key("median", TEXT, "tick"))
    return Chart(slug("gaps", metric, *([by] if by else [])), heading, alt, dots, spec, legend, note)


def scatter_chart(
    dots: pd.DataFrame,
    id: str,
    title: str,
    about: str,
    x: Axis,
    y: Axis,
    kind: str,
    kinds: Sequence[Key],
    lines: Sequence[Spec],
    tooltip: Sequence[str],
    note: str = "",
) -> Chart | None:
    """Dots in a plane; None where none is finite.

    Args:
        dots: the columns that the others name.
        id: of the chart.
        title: its heading.
        about: the description.
        x: across.
        y: upwards.
        kind: the column that tells the kinds of dots apart.
        kinds: names, colours and shapes of these.
        lines: layers that are drawn behind the dots.
        tooltip: further columns that are shown when a dot is pointed at.
        note: says what ``dots`` leaves out.
    """
    if not np.isfinite(dots[[x.field, y.field]].to_numpy(dtype="float64")).all(axis=1).any():
        return None
    shown = [key for key in kinds if (dots[kind] == key.name).any()]
    encoding = {"x": x.channel(), "y": y.channel()}
    tooltips = [*({"field": field(name)} for name in tooltip), x.tooltip(), y.tooltip()]
    layers: list[Spec] = [
        {
            "transform": [{"filter": {"field": kind, "equal": key.name}}],
            "mark": {"type": "point", "filled": True, "opacity": 0.85, "color": key.color} | MARKS[key.shape],
            "encoding": encoding | {"tooltip": tooltips},
        }
        for key in shown
    ]
    spec = {"height": 300, "layer": [*lines, *layers]}
    return Chart(id, title, about, dots, spec, tuple(shown), note)


def zero_lines(x: Axis, y: Axis) -> list[Spec]:
    """A line at 0 across and one upwards, for :func:`scatter_chart`."""
    return [
        {"data": ONCE, "mark": {"type": "rule", "color": SOFT}, "encoding": {"x": x.at(0)}},
        {"data": ONCE, "mark": {"type": "rule", "color": SOFT}, "encoding": {"y": y.at(0)}},
    ]


def win_map_chart(table: pd.DataFrame, keys: tuple[str, str], metric: str) -> Chart | None:
    """The share won and the median gap for each pair of values of two settings; None where there are no comparisons.

    Args:
        table: as of :func:`analysis.gaps.win_map`.
        keys: the settings across and down.
        metric: whose gaps these are.
    """
    if table.empty:
        return None
    orders = [[str(name) for name in pd.Categorical(table[key]).categories][:GROUPS] for key in keys]
    names, unit = list(CLASSES), scale(metric)[1]
    columns: dict[str, Any] = {key: table[key].astype("string") for key in keys}
    columns |= {"comparisons": table["comparisons"], "won": table["wins"]}
    columns |= {"median gap": table["median"]}
    columns["class"] = [names[min(int(share * 5), 4)] for share in table["wins"]]
    columns["said"] = [amount(metric, gap).partition(" ")[0] for gap in table["median"]]
    shown = pd.DataFrame(columns)
    shown = shown[shown[keys[0]].isin(orders[0]) & shown[keys[1]].isin(orders[1])]
    across, down = (
        {"field": field(key), "type": "nominal", "scale": {"domain": order}, "axis": {"title": key, "grid": False}}
        for key, order in zip(keys, orders, strict=True)
    )
    across["axis"] = {"title": keys[0], "labelAngle": -30 if max(map(len, orders[0])) > 8 else 0, "labelLimit": 110}
    tooltip: list[Spec] = [*({"field": field(key), "title": key} for key in keys), {"field": "comparisons"}]
    tooltip += [{"field": "won", "type": "quantitative", "format": ".0%"}]
    tooltip += [{"field": "said", "title": f"median gap ({unit})"}]
    colors = {"domain": names, "range": [f"var(--map-{n})" for n in CLASSES.values()]}
    spec = {
        "height": 40 * len(orders[1]),
        "encoding": {"x": across, "y": down, "tooltip": tooltip},
        "layer": [
            {
                "mark": {"type": "rect", "stroke": "var(--page)", "strokeWidth": 2},
                "encoding": {"color": {"field": "class", "scale": colors, "legend": None}},
            },
            {"mark": {"type": "text", "color": "var(--page)"}, "encoding": {"text": {"field": "said"}}},
        ],
    }
    best = table.to_dict("records")[int(table["wins"].to_numpy().argmax())]
    alt = (
        f"Share won in {title(metric)} for each {keys[0]} and {keys[1]}, with the median gap in {unit} in each field. "
        f"Most is won, {best['wins']:.0%} of {best['comparisons']}, at {keys[0]} {best[keys[0]]} and {keys[1]} "
        f"{best[keys[1]]}."
    )
    legend = tuple(Key(f"{name} won", f"var(--map-{n})", "field") for name, n in CLASSES.items())
    return Chart(slug("map", *keys), f"{keys[0]} and {keys[1]}", alt, shown, spec, legend)


def _learned() -> Spec:
    """Colour and shape by whether the baseline learned."""
    channel = {"field": "baseline_learned", "type": "nominal", "legend": None}
    return {
        "color": channel | {"scale": {"domain": [True, False], "range": [LEARNED.color, UNLEARNED.color]}},
        "shape": channel | {"scale": {"domain": [True, False], "range": ["circle", "cross"]}},
    }


def _tooltip(metric: str, gap: Axis) -> list[Spec]:
    sides = [Axis(f"{side}/{metric}", side).tooltip() for side in SIDES]
    return [{"field": "number", "title": "trial"}, {"field": "settings"}, *sides, gap.tooltip() | {"format": "+.3~g"}]
