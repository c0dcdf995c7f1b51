"""The parts of a page and their way into one HTML file, with the scripts that draw its charts inside."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from analysis.charts import CONFIG, Chart, Key, columnar

ROWS = 1000
"""Rows that a table shows at most."""

LEFT_OUT = "Left out"
"""The heading of a column that says how many trials a row leaves out."""


@dataclass(frozen=True)
class Cell:
    """A table's cell: its text, and the number that it is sorted by, where the text is not enough."""

    text: str
    value: float | None = None


@dataclass(frozen=True)
class Table:
    """A table as the page shows it.

    Attributes:
        caption: what it shows.
        heads: its headings.
        rows: its cells; the first of each row names it.
        groups: headings above the headings, with the columns each spans; none where there is one level.
        words: whether the cells hold text rather than numbers.
        note: says what is left out.
    """

    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    groups: Sequence[tuple[str, int]] = ()
    words: bool = False
    note: str = ""
    kind: ClassVar[str] = "table"


@dataclass(frozen=True)
class Heading:
    """A heading within a section."""

    text: str
    kind: ClassVar[str] = "heading"


@dataclass(frozen=True)
class Text:
    """A paragraph: a ``note`` is about how to read something."""

    text: str
    note: bool = False
    kind: ClassVar[str] = "text"


@dataclass(frozen=True)
class Missing:
    """What a section cannot show, and how to get it."""

    text: str
    kind: ClassVar[str] = "missing"


@dataclass(frozen=True)
class Grid:
    """Charts side by side, or below each other where there is no room."""

    charts: Sequence[Chart]
    kind: ClassVar[str] = "grid"

    @property
    def legend(self) -> Sequence[Key]:
        """The legend that all of several charts share; empty where they have their own."""
        first = self.charts[0].legend
        return first if len(self.charts) > 1 and all(chart.legend == first for chart in self.charts) else ()

    @property
    def columns(self) -> int:
        """How many charts stand side by side where there is room."""
        return 3 if len(self.charts) % 3 == 0 else min(len(self.charts), 2)


@dataclass(frozen=True)
class Choice:
    """Alternatives, of which one is shown; without scripts, all are."""

    label: str
    options: Sequence[tuple[str, Sequence[Block]]]
    kind: ClassVar[str] = "choice"


Block = Table | Heading | Text | Missing | Grid | Choice


@dataclass(frozen=True)
class Section:
    """A section: its identifier, its heading, the answer in a sentence, and what that rests on."""

    id: str
    heading: str
    answer: str
    blocks: Sequence[Block] = field(default_factory=list)


def grid(*charts: Chart | None) -> list[Block]:
    """The charts that there are, side by side; no block where there is none."""
    there = [chart for chart in charts if chart is not None]
    return [Grid(there)] if there else []


def choice(label: str, options: Iterable[tuple[str, Sequence[Block]]]) -> list[Block]:
    """The alternatives that have something to show; no block where none has."""
    there = [(name, blocks) for name, blocks in options if blocks]
    return [Choice(label, there)] if there else []


def capped(table: Table, most: int = ROWS) -> Table:
    """The table with at most ``most`` rows, chosen at even distances, and a note where some are left out."""
    if len(table.rows) <= most:
        return table
    places = np.linspace(0, len(table.rows) - 1, most).round().astype(int)
    note = f"{most:,} of {len(table.rows):,} rows shown, at even distances; all are in the exported tables."
    return Table(table.caption, table.heads, [table.rows[place] for place in places], table.groups, table.words, note)


def noted(section: Section, said: str, note: str) -> Section:
    """The section with ``said`` after its answer, and with ``note`` under each of its tables and figures.

    A table with a column "Left out" says by itself what it leaves out.
    """
    return replace(section, answer=f"{section.answer} {said}", blocks=[_noted(block, note) for block in section.blocks])


def _noted(block: Block, note: str) -> Block:
    if isinstance(block, Table) and LEFT_OUT not in block.heads:
        return replace(block, note=f"{block.note} {note}".strip())
    if isinstance(block, Grid):
        return Grid([replace(chart, note=f"{chart.note} {note}".strip()) for chart in block.charts])
    if isinstance(block, Choice):
        options = [(name, [_noted(inner, note) for inner in blocks]) for name, blocks in block.options]
        return replace(block, options=options)
    return block


def plain(caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]], words: bool = False) -> Table:
    """A table of texts."""
    return Table(caption, heads, [[Cell(text) for text in row] for row in rows], words=words)


def render(template: str, values: Mapping[str, Any], blocks: Iterable[Block]) -> str:
    """The page: ``template`` with ``values``, and the data of all charts in ``blocks``."""
    environment = Environment(
        loader=PackageLoader("analysis", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    here = Path(__file__).parent
    own = {name: Markup((here / name).read_text(encoding="utf-8")) for name in ("report.css", "report.js")}
    shown = embedded(_charts(blocks))
    return environment.get_template(template).render(
        **values,
        style=own["report.css"],
        script=own["report.js"],
        figures=Markup(shown),
        library=Markup(library()),
    )


@cache
def library() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script that can stand in a page; made once, for it takes seconds."""
    whole: str = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # the stub knows no default
    return whole.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def embedded(charts: Iterable[Chart]) -> str:
    """Specifications and data of the charts as JSON that can stand in a script element; shared data stand once."""
    datasets: dict[int, str] = {}
    data, specs = {}, {}
    for chart in charts:
        if chart.id in specs:
            raise ValueError(f"two charts are called {chart.id!r}; ids are unique on a page")
        name = datasets.setdefault(id(chart.data), f"data-{len(datasets)}")
        if name not in data:
            data[name] = columnar(chart.data)
        specs[chart.id] = {"data": name, "spec": chart.spec}
    text = json.dumps({"config": CONFIG, "data": data, "charts": specs}, ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c")


def _charts(blocks: Iterable[Block]) -> Iterator[Chart]:
    for block in blocks:
        if isinstance(block, Grid):
            yield from block.charts
        elif isinstance(block, Choice):
            for _, inner in block.options:
                yield from _charts(inner)
