"""Interactive charts as Vega-Lite specifications: plain data, drawn by the page that shows them.

The forms that every section uses; :mod:`analysis.gap_charts` and :mod:`analysis.curve_charts` have those of one kind of
data. Colours are the page's CSS variables, so that one drawing serves light, dark and paper. What was recorded (names,
settings) is only ever data, never part of an expression.
"""

from __future__ import annotations

import math
import re
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from trainables.records import BUILT_IN

Spec = dict[str, Any]

MOST = 1000
"""Points that a chart shows at most."""

GROUPS = 24
"""Rows or groups that a chart shows at most."""

BASELINE, TREATMENT = "var(--baseline)", "var(--treatment)"
OTHERS = ("var(--other-1)", "var(--other-2)", "var(--other-3)")
TEXT, SOFT = "var(--text)", "var(--soft)"
ROOM = {"padding": 22, "nice": False}
"""Pixels beside the values of an axis, for what is written on them."""
ONCE: Spec = {"values": [{}]}
"""Data of a mark that is drawn once, and not for each row."""
DIGITS = 7
"""Significant digits of the numbers that charts are drawn from."""


CONFIG: Spec = {
    "background": "transparent",
    "aria": False,
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": SOFT,
        "titleColor": SOFT,
        "gridColor": "var(--line)",
        "domainColor": "var(--line)",
        "tickColor": "var(--line)",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 8,
        "labelLimit": 150,
        "labelOverlap": "greedy",
    },
    "axisQuantitative": {"tickCount": 5},
    "axisY": {"domain": False, "ticks": False, "labelPadding": 6},
    "text": {"color": TEXT, "fontSize": 12},
}
"""What all charts have in common."""


DASHES = {"line": [1, 0], "dash": [6, 3], "dots": [2, 2], "dashdot": [8, 3, 2, 3]}
"""How lines are broken."""


@dataclass(frozen=True)
class Key:
    """An entry of a legend: ``shape`` is dot, cross, diamond, tick, field (a square), interval or of ``DASHES``."""

    name: str
    color: str
    shape: str = "dot"


@dataclass(frozen=True)
class Chart:
    """A figure to be drawn in the browser.

    Attributes:
        id: names it on the page and, with ``.csv``, its data.
        title: a short heading.
        alt: in words, what is shown, with the main number.
        data: the rows that it is drawn from; charts that share the very object share the data on the page.
        spec: the Vega-Lite specification without ``data``.
        legend: what colours and shapes mean.
        note: what is not shown; empty where all is.
    """

    id: str
    title: str
    alt: str
    data: pd.DataFrame
    spec: Spec
    legend: tuple[Key, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Axis:
    """An axis for numbers.

    Attributes:
        field: the column.
        title: what it is, with its unit; empty where the chart's title says so.
        format: in d3's language; empty for Vega's own.
        log: whether it is logarithmic.
        whole: whether only whole numbers make sense.
        domain: its ends, if given.
    """

    field: str
    title: str
    format: str = ""
    log: bool = False
    whole: bool = False
    domain: tuple[float, float] | None = None

    def channel(self) -> Spec:
        """As Vega-Lite takes it."""
        scale: Spec = {"type": "log"} if self.log else {"zero": False}
        if self.domain:
            scale |= {"domain": list(self.domain), "nice": not self.log and not self.whole}
        axis: Spec = {"format": self.format} if self.format else {"format": ",.4~r"} if self.log else {}
        axis |= {"tickMinStep": 1} if self.whole else {}
        if self.domain and len(ticks := self.ticks()) > 1 + self.log:
            axis["values"] = ticks
        return {
            "field": field(self.field),
            "type": "quantitative",
            "title": self.title or None,
            "scale": scale,
            "axis": axis,
        }

    def ticks(self) -> list[float]:
        """Where its lines are, if not where Vega would put them: few on a logarithmic one, and whole numbers."""
        low, high = self.domain or (1.0, 0.0)
        if self.whole and high - low <= 10:
            return [float(value) for value in range(math.ceil(low), math.floor(high) + 1)]
        if not self.log or low <= 0:
            return []
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        steps = (1,) if len(decades) > 4 else (1, 2, 5)
        every = [step * 10.0**decade for decade in decades for step in steps]
        return [float(f"{tick:.6g}") for tick in every if low <= tick <= high]

    def at(self, value: float) -> Spec:
        """A place on it that is no row's, as Vega-Lite takes it."""
        return {name: of for name, of in self.channel().items() if name != "field"} | {"datum": value}

    def tooltip(self) -> Spec:
        """The value, as a line of a tooltip."""
        return {"field": field(self.field), "type": "quantitative", "title": self.title, "format": ".4~g"}


def slug(*parts: str) -> str:
    """The ``parts`` as an identifier that no others have: of ASCII letters, digits, dots, underscores and hyphens."""
    plain = "-".join(re.sub(r"[^\w.]+", "-", part, flags=re.ASCII).strip("-") for part in parts)
    if all(re.fullmatch(r"[\w.]+", part, re.ASCII) for part in parts):
        return plain
    return f"{plain}-{zlib.crc32(ascii(parts).encode()):08x}"


def field(name: str) -> str:
    """A column's ``name`` as Vega-Lite reads it: dots and brackets in it are no paths."""
    return re.sub(r"([.\[\]'\"\\])", r"\\\1", name)


def columnar(frame: pd.DataFrame) -> dict[str, list[Any]]:
    """The columns of ``frame`` as lists that JSON knows: numbers with 7 digits, nothing where there is no number."""
    return {str(name): _listed(values) for name, values in frame.items()}


def _listed(values: pd.Series[Any]) -> list[Any]:
    if pd.api.types.is_bool_dtype(values) or pd.api.types.is_integer_dtype(values):
        return [None if pd.isna(value) else value for value in values.tolist()]
    if pd.api.types.is_numeric_dtype(values):
        numbers = values.to_numpy(dtype="float64", na_value=np.nan)
        return [float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None for value in numbers]
    return [None if pd.isna(value) else str(value) for value in values]


def scale(metric: str) -> tuple[float, str]:
    """The factor and the unit in which gaps of ``metric`` are drawn: accuracies in percentage points."""
    unit = BUILT_IN.unit(metric)
    return (100.0, "pp") if unit == "fraction" else (1.0, unit)


def thinned(frame: pd.DataFrame, seed: int, most: int = MOST, what: str = "comparisons") -> tuple[pd.DataFrame, str]:
    """At most ``most`` rows of ``frame``, drawn at random and in their order, and a note where some are left out."""
    if len(frame) <= most:
        return frame, ""
    drawn = np.sort(np.random.default_rng(seed).choice(len(frame), most, replace=False))
    return frame.iloc[drawn], f"{most:,} of {len(frame):,} {what} shown, drawn at random."


def forest_chart(
    frame: pd.DataFrame,
    id: str,
    title: str,
    axis: str,
    about: str,
    reference: float = 0.0,
    log: bool = False,
) -> Chart | None:
    """Values with their intervals below each other, infinite ones up to the edge; None where there is none.

    Args:
        frame: ``label``, ``value``, ``low``, ``high`` (NaN: no interval), ``said``, the value in words, and perhaps
            ``chance``, what the value reaches by chance.
        id: of the chart.
        title: its heading.
        axis: what the values are, with their unit.
        about: the first words of the description.
        reference: where there is no difference.
        log: whether the axis is logarithmic.
    """
    known = frame[frame["value"].notna()]
    shown = known.head(GROUPS)
    if shown.empty:
        return None
    numbers = shown[["value", "low", "high"]].astype("float64")
    ends = np.append(numbers.to_numpy()[np.isfinite(numbers)], reference)
    shown = shown.assign(**numbers.clip(ends.min(), ends.max()))
    whole = (float(ends.min()), float(ends.max())) if log else None
    x = Axis("value", axis, log=log, domain=whole).channel()
    x["scale"] |= ROOM | ({} if log else {"zero": reference == 0})
    at = {name: of for name, of in x.items() if name != "field"} | {"datum": reference}
    y: Spec = {"field": "label", "type": "nominal", "scale": {"domain": list(shown["label"])}, "axis": {"title": None}}
    tooltip = [{"field": "label", "title": " "}, {"field": "said", "title": axis}]
    intervals: list[Spec] = []
    if with_interval := bool(np.isfinite(shown["low"].to_numpy(dtype="float64")).any()):
        between = {"y": y, "x": x | {"field": "low"}, "x2": {"field": "high"}, "tooltip": tooltip}
        valid = [{"filter": "isValid(datum.low) && isValid(datum.high)"}]
        mark = {"type": "rule", "strokeWidth": 2.5, "color": TREATMENT}
        intervals.append({"transform": valid, "mark": mark, "encoding": between})
    if "chance" in shown:
        tick = {"type": "tick", "thickness": 2.5, "size": 24, "color": SOFT}
        intervals.append({"mark": tick, "encoding": {"y": y, "x": x | {"field": "chance"}, "tooltip": tooltip}})
    spec = {
        "height": 38 * len(shown),
        "layer": [
            {"data": ONCE, "mark": {"type": "rule", "color": SOFT}, "encoding": {"x": at}},
            *intervals,
            {
                "mark": {"type": "point", "filled": True, "size": 90, "opacity": 1, "color": TREATMENT},
                "encoding": {"y": y, "x": x, "tooltip": tooltip},
            },
            {
                "mark": {"type": "text", "dy": -13},
                "encoding": {"y": y, "x": x, "text": {"field": "said"}},
            },
        ],
    }
    said = "; ".join(f"{row.label}: {row.said}" for row in shown.itertuples())
    note = f"The first {GROUPS} of {len(known)} are shown." if len(known) > GROUPS else ""
    legend = [Key("with 95% interval", TREATMENT, "interval")] if with_interval else []
    legend += [Key("what it reaches by chance", SOFT, "tick")] if "chance" in shown else []
    return Chart(id, title, f"{about} {said}.", shown, spec, tuple(legend), note)


def bars_chart(frame: pd.DataFrame, id: str, title: str, axis: str, about: str) -> Chart | None:
    """Counts as bars with their numbers; None where there are none.

    Args:
        frame: ``label`` and ``value``, a whole number.
        id: of the chart.
        title: its heading.
        axis: what is counted.
        about: the description.
    """
    shown = frame.head(GROUPS)
    if not shown["value"].sum():
        return None
    y = {"field": "label", "type": "nominal", "scale": {"domain": list(shown["label"])}, "axis": {"title": None}}
    value = Axis("value", axis, whole=True, domain=(0, 1.15 * float(shown["value"].max())))
    spec = {
        "height": 28 * len(shown),
        "encoding": {"y": y, "x": value.channel()},
        "layer": [
            {
                "mark": {"type": "bar", "color": TREATMENT},
                "encoding": {"tooltip": [{"field": "label", "title": " "}, value.tooltip() | {"format": ",d"}]},
            },
            {
                "mark": {"type": "text", "align": "left", "dx": 5},
                "encoding": {"text": {"field": "value", "format": ",d", "type": "quantitative"}},
            },
        ],
    }
    note = f"The first {GROUPS} of {len(frame)} are shown." if len(frame) > GROUPS else ""
    return Chart(id, title, about, shown, spec, (), note)
