"""A figure for print or a notebook: charts of the report side by side on white, with a heading and one legend.

Charts are drawn by the Vega-Lite that draws them on the page, so that there is one picture of each thing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from textwrap import wrap
from typing import Any

from analysis.charts import CONFIG, DASHES, ONCE, SOFT, TEXT, Chart, Key, Spec, columnar
from analysis.gap_charts import MARKS
from analysis.prints import draw, png, svg

WIDTH = 900
"""Of a figure, in pixels of CSS; axes and their labels come on top."""
LETTER = 6.6
"""About how wide a letter of the legend is, in pixels."""
SAMPLE = 26
"""How wide the line of an entry of the legend is."""
EMPTY = 190
"""How high a chart without data is."""
LINE = 20
"""How high a line of the legend is."""

# One font, of one weight: a PDF with several has them in an order that differs from run to run.
PRINT: Spec = {"background": "white", "padding": 12, "font": "Liberation Sans, sans-serif"}
"""What a figure on paper has otherwise than a chart on the page."""


@dataclass(frozen=True)
class Figure:
    """A picture that was not drawn yet; a notebook draws it where it stands.

    Attributes:
        spec: its Vega-Lite specification, data and all.
    """

    spec: Spec

    def save(self, path: str | Path) -> Path:
        """Draw it to the PNG ``path`` and, under the same name, as PDF with text that can be searched.

        The same data give the same bytes.

        Raises:
            OSError: a file cannot be written.
        """
        return draw(self.spec, Path(path))

    def svg(self) -> str:
        """The picture as SVG."""
        return svg(self.spec)

    def _repr_png_(self) -> bytes:
        return png(self.svg())


def figure(charts: Mapping[str, Chart | None], entries: Sequence[Key], heading: str, columns: int = 3) -> Figure:
    """Charts side by side.

    Args:
        charts: by their headings, in rows of ``columns``; None where there are no data.
        entries: of the legend below all.
        heading: of the whole figure, of any length.
        columns: charts side by side.
    """
    wide = (WIDTH - 60 * (columns - 1)) // columns
    above = {"text": wrap(heading, 120) or [""], "anchor": "start", "offset": 14}
    spec: Spec = {
        "title": above | {"fontSize": 15, "fontWeight": "normal"},
        "vconcat": [{"columns": columns, "concat": [_panel(*chart, wide) for chart in charts.items()]}],
        "config": _printed(CONFIG) | PRINT | {"concat": {"spacing": 26}},
    }
    if entries:
        spec["vconcat"].append(_legend(entries))
    return Figure(spec)


def _panel(heading: str, chart: Chart | None, width: int) -> Spec:
    """One chart without what needs a pointer, or a word where there is nothing to see."""
    title = {"text": heading, "fontSize": 13, "fontWeight": "normal", "anchor": "middle"}
    if chart is None:
        mark = {"type": "text", "text": "not recorded", "color": _printed(SOFT), "fontSize": 13}
        return {"title": title, "width": width, "height": EMPTY, "data": ONCE, "mark": mark}
    rows = columnar(chart.data)
    values = [dict(zip(rows, row, strict=True)) for row in zip(*rows.values(), strict=True)]
    layers = [_printed(layer) for layer in chart.spec["layer"] if "params" not in layer]
    return chart.spec | {"layer": layers, "width": width, "title": title, "data": {"values": values}}


def _legend(entries: Sequence[Key]) -> Spec:
    """The entries in columns that are as wide as the longest needs."""
    wide = SAMPLE + 8 + LETTER * max(len(entry.name) for entry in entries) + 22
    columns = max(min(int(WIDTH // wide), len(entries)), 1)
    lines = -(-len(entries) // columns)
    layers: list[Spec] = []
    for place, entry in enumerate(entries):
        x, y = place % columns * wide, place // columns * LINE + LINE / 2
        text = {"type": "text", "text": entry.name, "align": "left", "color": _printed(TEXT)}
        layers += [
            {"mark": mark, "encoding": {"x": {"value": x + left}, "y": {"value": y}} | more}
            for mark, left, more in (*_symbols(entry, x), (text, SAMPLE + 8, {}))
        ]
    view = {"width": WIDTH, "height": LINE * lines, "view": {"stroke": None}}
    return {"data": ONCE, "layer": layers} | view


def _symbols(entry: Key, x: float) -> list[tuple[Spec, float, Spec]]:
    """The marks of an entry: each with how far right it begins, and its other channels."""
    color = _printed(entry.color)
    if entry.shape in DASHES:
        line = {"type": "rule", "color": color, "strokeWidth": 2, "strokeDash": DASHES[entry.shape]}
        return [(line, 0, {"x2": {"value": x + SAMPLE}})]
    if entry.shape in MARKS:
        return [({"type": "point", "filled": True, "opacity": 1, "color": color} | MARKS[entry.shape], 13, {})]
    return [({"type": "tick", "orient": "vertical", "thickness": 3, "size": 15, "color": color}, 13, {})]


def _printed(value: Any) -> Any:
    """The specification with colours in place of the page's variables."""
    if isinstance(value, Mapping):
        return {key: _printed(of) for key, of in value.items()}
    if isinstance(value, list | tuple):
        return [_printed(of) for of in value]
    if isinstance(value, str) and (name := re.fullmatch(r"var\(--([\w-]+)\)", value)):
        return _colors().get(name[1], value)
    return value


@cache
def _colors() -> dict[str, str]:
    """The colours of the page on white."""
    light = (Path(__file__).parent / "report.css").read_text(encoding="utf-8").partition("}")[0]
    return dict(re.findall(r"--([\w-]+):\s*(#\w+)", light))
