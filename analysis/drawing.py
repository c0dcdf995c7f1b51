"""What all figures share: colours and dashes, what a panel wears, the legend, and how they are saved.

Colours are told apart by people with colour-blindness, and arms are told apart by their dashes too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Literal

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogFormatter

from analysis.writing import replacing

Dash = Literal["-", "--", "-.", ":"]
Style = tuple[str, Dash]
"""A colour and a dash."""

NEUTRAL = "#6b6b6b"
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's colours, told apart by people with colour-blindness."""
DASHES: tuple[Dash, ...] = ("-", "--", "-.", ":")
MARKERS: Mapping[Dash, str] = dict(zip(DASHES, "os^D", strict=True))
"""Of points that no line joins."""
LEGEND_WIDTH = 110
"""Characters side by side in a legend; entries that do not fit take further lines."""

DPI = 130


class PlainLogFormatter(LogFormatter):
    """Labels the same ticks of a logarithmic axis as its parent, as plain numbers."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        """The label of the tick at ``x``; empty where there is none."""
        return f"{x:g}" if super().__call__(x, pos) else ""


def short(value: float) -> str:
    """A number in a few characters, so that those of an axis stand apart: 250k, 1.5M."""
    unit, letter = next(((unit, letter) for unit, letter in ((1e9, "G"), (1e6, "M")) if value >= unit), (1e3, "k"))
    return f"{value / unit:g}{letter}" if value >= 1e4 else f"{value:g}"


def dress(axis: Axes, heading: str, below: str, drawn: bool) -> None:
    """What every panel has: a heading, a grid, and a word where there is nothing to see."""
    axis.set_title(heading, fontsize=11)
    axis.set_xlabel(below)
    axis.grid(alpha=0.3, linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    if not drawn:
        axis.grid(False)
        axis.tick_params(bottom=False, left=False, labelbottom=False, labelleft=False)
        axis.text(0.5, 0.5, "not recorded", transform=axis.transAxes, ha="center", va="center", color=NEUTRAL)


def style(place: int) -> Style:
    """Of an arm by its place: the first neutral, the others in colour; no two of the first twelve are alike."""
    color = NEUTRAL if place == 0 else PALETTE[(place - 1) % len(PALETTE)]
    return color, DASHES[place % len(DASHES)]


def entry(name: str, style: Style) -> Line2D:
    """An entry of a legend."""
    color, dash = style
    return Line2D([], [], linestyle=dash, color=color, linewidth=1.8, label=name)


def legend(figure: Figure, entries: Sequence[Line2D]) -> None:
    """Put the legend below all panels, where it covers nothing."""
    names = [str(entry.get_label()) for entry in entries]
    most = max(LEGEND_WIDTH // (max(map(len, names), default=0) + 6), 1)
    lines = max(-(-len(names) // most), 1)
    figure.legend(
        entries, names, loc="outside lower center", ncols=max(-(-len(names) // lines), 1), frameon=False, fontsize=11
    )


def head(figure: Figure, heading: str) -> None:
    """Write the heading of the whole figure, on as many lines as it takes."""
    figure.suptitle(fill(heading, 105).replace("$", r"\$"), fontsize=12)  # a dollar would start a formula


def save(figure: Figure, path: Path) -> Path:
    """Save as PNG and, under the same name, as PDF with text that can be searched; the same figure, the same bytes."""
    path = Path(path)
    with rc_context({"pdf.fonttype": 42}):
        for format, metadata in (("pdf", {"CreationDate": None}), ("png", None)):
            with replacing(path.with_suffix(f".{format}")) as partial:
                figure.savefig(partial, dpi=DPI, format=format, metadata=metadata)
            figure.set_layout_engine("none")  # it stays as it was made, and takes long to make
    return path
