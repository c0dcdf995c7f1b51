"""Charts of curves: what tuning yields, time to an accuracy, the filter's behaviour, and the nine panels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from analysis.charts import BASELINE, OTHERS, TREATMENT, Axis, Chart, Key, Spec, field, slug
from analysis.curves import PANELS
from analysis.figures import AXES as ALONG
from analysis.figures import HEADINGS
from analysis.figures import SAME_SCALE as SHARED
from analysis.gaps import title
from analysis.load import Study
from analysis.pairs import arms
from trainables.records import BUILT_IN, CLOCKS, Columns

DASHES = {"line": [1, 0], "dash": [6, 3], "dots": [2, 2]}
"""Shapes of a line's :class:`analysis.charts.Key`."""

SIDE_KEYS = {"baseline": (BASELINE, "dash"), "treatment": (TREATMENT, "line")}
LOOKS = (*SIDE_KEYS.values(), *((color, "dots") for color in OTHERS))
"""Colours and shapes of arms: baseline, treatment, the others."""

MOST_EPOCHS = 100
"""Epochs of a comparison that are drawn at most."""

MOST_MOMENTS = 200
"""Steps that a curve of shares is drawn with at most."""


def evenly(rows: pd.DataFrame, most: int) -> pd.DataFrame:
    """At most ``most`` of the rows, at even distances, the first and the last among them."""
    return rows.iloc[np.linspace(0, len(rows) - 1, min(len(rows), most)).round().astype(int)]


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
) -> Chart | None:
    """A line for each kind; None where there is nothing to draw.

    Args:
        frame: the columns of both axes and ``series``; with ``band`` also ``low`` and ``high``, what it spans.
        id: of the chart.
        title: its heading.
        about: the description.
        x: what the lines go along.
        y: what they show.
        series: the column that tells the kinds apart.
        kinds: names, colours and shapes of these, in their order.
        band: whether a band is drawn behind each line.
        step: whether values hold until the next.
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
    spec = {"height": 190, "encoding": {"x": across}, "layer": layers}
    return Chart(id, title, about, frame, spec, tuple(kinds))


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


def panel_rows(study: Study, trial_id: str) -> pd.DataFrame:
    """The epochs of every arm of a trial, at even distances where there are many: ``arm``, the clocks, and the metrics.

    Raises:
        TableError: the study has no such trial.
    """
    names = arms(study, trial_id)
    rows = study.epochs[study.epochs["trial_id"] == trial_id]
    kept = evenly(rows[["epoch"]].drop_duplicates().sort_values("epoch"), MOST_EPOCHS)["epoch"]
    columns = list(dict.fromkeys(["arm", *CLOCKS.values(), *PANELS, *own_panels(study.columns)]))
    rows = rows.loc[rows["epoch"].isin(kept) & rows["arm"].isin(names), columns]
    return rows.astype(dict.fromkeys(columns[1:], "float64")).reset_index(drop=True)


def own_panels(columns: Columns) -> list[str]:
    """The study's own metrics that a comparison has panels of: those on the training and test set."""
    return [column.name for column in columns.own if not column.name.startswith("validation_")]


def panel_charts(
    rows: pd.DataFrame, names: Sequence[str], clock: str, prefix: str, columns: Columns = BUILT_IN
) -> list[Chart]:
    """The nine panels of one comparison (section 4.3), as far as they were recorded: all arms along ``clock``.

    Panels of the study's own metrics follow.

    Train and test of one metric share their scale. Against seconds, the last panel has the epochs passed.

    Args:
        rows: of :func:`panel_rows`.
        names: its arms, baseline first, treatment second.
        clock: a word of ``records.CLOCKS``.
        prefix: the first part of their ids.
        columns: what the study's metrics are.
    """
    kinds = [Key(name, *look) for name, look in zip(names, LOOKS, strict=False)]
    x = Axis(CLOCKS[clock], ALONG[clock], "~s")
    pairs = [[PANELS[place] for place in shared] for shared in SHARED]
    ends = {metric: _ends(rows[pair]) for pair in pairs for metric in pair}
    charts = []
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
        chart = lines_chart(
            rows,
            slug(prefix, clock, metric),
            heading,
            about,
            x,
            Axis(metric, "", log=log, domain=domain),
            "arm",
            kinds,
        )
        charts += [chart] if chart else []
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
