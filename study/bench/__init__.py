"""What ``filter-study bench`` measures with: blocks timed in turn, figures beside their floor or peer, and the machine.

A figure is a ratio of medians. The two sides of a ratio are timed in turn, A B A B …, in one process or one after the
other, so that whatever else the machine does falls on both.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median, quantiles
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    import torch  # the processes that measure the analysis do without

Form = Literal["text", "markdown", "json"]
SIGNS = {"at most": "≤", "at least": "≥"}


class Block(NamedTuple):
    """Something to time: ``run``, and ``before`` it, untimed, what puts everything in place."""

    run: Callable[[], object]
    before: Callable[[], object] = lambda: None


@dataclass(frozen=True)
class Figure:
    """One measured number, beside what it is to be compared with.

    Attributes:
        suite: the suite that measures it.
        name: what was measured.
        value: the number, in ``unit``.
        unit: ``×`` for a ratio, ``s``, ``GiB``, ``%`` or a rate.
        beside: the floor or peer, in words and absolute numbers.
        bound: which side of ``limit`` is good; None where there is no limit.
        limit: in ``unit``.
        low: lower quartile over the rounds; of a ratio, over those of each round's pair.
        high: upper quartile likewise.
        rounds: how often it was measured.
    """

    suite: str
    name: str
    value: float
    unit: str
    beside: str
    bound: Literal["at most", "at least"] | None
    limit: float | None
    low: float
    high: float
    rounds: int

    @property
    def told(self) -> str:
        """The value and its unit as text."""
        return _number(self.value, self.unit)

    @property
    def met(self) -> bool | None:
        """Whether the limit is kept; None where there is none."""
        if self.limit is None or self.bound is None:
            return None
        return self.value <= self.limit if self.bound == "at most" else self.value >= self.limit


def in_turn(
    blocks: Mapping[str, Block], seconds: Callable[[Callable[[], object]], float], rounds: int, warm_up: int = 1
) -> dict[str, list[float]]:
    """What ``seconds`` says of each block in each round, one block after the other, round after round.

    The first ``warm_up`` rounds are not counted.

    Raises:
        ValueError: ``rounds`` is not positive.
    """
    if rounds < 1:
        raise ValueError(f"rounds is {rounds}; at least one is needed")
    taken: dict[str, list[float]] = {name: [] for name in blocks}
    for turn in range(warm_up + rounds):
        for name, block in blocks.items():
            block.before()
            time = seconds(block.run)
            if turn >= warm_up:
                taken[name].append(time)
    return taken


def stopwatch(device: torch.device) -> Callable[[Callable[[], object]], float]:
    """What takes the seconds of a call: by the clock on the wall, on CUDA by events of the device itself."""
    return _device_seconds if device.type == "cuda" else wall_seconds


def wall_seconds(run: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    begin = perf_counter()
    run()
    return perf_counter() - begin


def _device_seconds(run: Callable[[], object]) -> float:
    import torch

    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    start.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1000


def ratio(
    suite: str,
    name: str,
    ours: Sequence[float],
    theirs: Sequence[float],
    beside: str,
    bound: Literal["at most", "at least"] | None = None,
    limit: float | None = None,
) -> Figure:
    """The median of ``ours`` by that of ``theirs``, which were taken in the same rounds."""
    low, high = quartiles([our / their for our, their in zip(ours, theirs, strict=True)])
    return Figure(suite, name, median(ours) / median(theirs), "×", beside, bound, limit, low, high, len(ours))


def amount(
    suite: str,
    name: str,
    values: Sequence[float],
    unit: str,
    beside: str,
    bound: Literal["at most", "at least"] | None = None,
    limit: float | None = None,
) -> Figure:
    """The median of ``values``."""
    return Figure(suite, name, median(values), unit, beside, bound, limit, *quartiles(values), len(values))


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """The lower and the upper quartile, between the values; of one value, itself twice."""
    if len(values) == 1:
        return values[0], values[0]
    low, _, high = quantiles(values, n=4, method="inclusive")
    return low, high


def milliseconds(seconds: Sequence[float]) -> str:
    """The median as text, in milliseconds or, from one on, in seconds."""
    middle = median(seconds)
    return f"{middle:.3g} s" if middle >= 1 else f"{middle * 1000:.3g} ms"


def machine() -> dict[str, Any]:
    """The machine this is, and what runs on it: hardware, versions and revision as a study's manifest has them."""
    import torch

    from study import manifest
    from study.experiment import load
    from study.limits import available_cpus

    known = manifest.collect(load("quickstart"))
    return {
        **known["hardware"],
        "cores": available_cpus(),
        "threads": torch.get_num_threads(),
        "versions": known["versions"],
        "git": known["git"],
        "created": known["created"],
    }


def written(figures: Sequence[Figure], machine: Mapping[str, Any], form: Form) -> str:
    """The figures and the machine as a table for people, the same in Markdown, or JSON with every number unrounded."""
    if form == "json":
        told = [{**asdict(figure), "met": figure.met} for figure in figures]
        return json.dumps({"machine": machine, "figures": told}, indent=2, ensure_ascii=False) + "\n"
    import pandas as pd

    from analysis import tables

    rows = [
        {
            "suite": figure.suite,
            "figure": figure.name,
            "measured": figure.told,
            "quartiles": f"{_number(figure.low, '')} – {_number(figure.high, '')}",
            "limit": f"{SIGNS[figure.bound]} {figure.limit:g}" if figure.bound else "",
            "": {True: "met", False: "missed", None: ""}[figure.met],
            "beside": figure.beside,
        }
        for figure in figures
    ]
    table = pd.DataFrame(rows, dtype="object")
    write = tables.to_markdown if form == "markdown" else tables.to_text
    return f"{_told(machine)}\n\n{write(table)}"


def _number(value: float, unit: str) -> str:
    text = f"{value:.3g}" if value < 1000 else f"{value:,.0f}"
    return f"{text} {unit}".rstrip()


def _told(machine: Mapping[str, Any]) -> str:
    """The machine in a line."""
    gpus = ", ".join(machine["gpus"]) or "no GPU"
    versions = machine["versions"]
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['threads']} threads, "
        f"{machine['memory_gib']} GiB, {gpus}; Python {versions['python']}, torch {versions['torch']}"
    )
