"""What a check found, and how it is told; machines of which the same is to be said share a line.

A check that fails in an unforeseen way is an error line like any other: none ends the examination.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Any, Literal

from rich.console import Console
from rich.text import Text

Level = Literal["ok", "warning", "error"]
KIBIBYTE, MEBIBYTE, GIBIBYTE = 2**10, 2**20, 2**30


@dataclass(frozen=True)
class Finding:
    """What a check found about its subject, what to do about it, and lines that show it in full."""

    level: Level
    subject: str
    text: str
    remedy: str = ""
    lines: tuple[str, ...] = ()


def tell(findings: Iterable[Finding], console: Console) -> int:
    """Print findings as they come; the exit code: 1 if one is an error."""
    colours = {"ok": "green", "warning": "yellow", "error": "red"}
    levels: Counter[Level] = Counter()
    for finding in findings:
        levels[finding.level] += 1
        line = Text.assemble((f"{finding.level:>7}", colours[finding.level]), f"  {finding.subject:13}  {finding.text}")
        console.print(line, soft_wrap=True, highlight=False)
        for shown in finding.lines:
            console.print(Text(f"{'':24}{shown}"), soft_wrap=True, highlight=False)
        if finding.remedy:
            console.print(Text(f"{'':24}→ {finding.remedy}"), soft_wrap=True, highlight=False)
    console.print(f"errors: {levels['error']}, warnings: {levels['warning']}", soft_wrap=True, highlight=False)
    return 1 if levels["error"] else 0


def guarded(subject: str, check: Callable[[], Finding | Iterable[Finding]]) -> list[Finding]:
    """What ``check`` finds; where it raises, that is what was found."""
    try:
        found = check()
        return [found] if isinstance(found, Finding) else list(found)
    except Exception as error:
        return [Finding("error", subject, f"cannot be examined: {message(error)}")]


def everywhere(subject: str, answers: Mapping[str, Any], judge: Callable[[Any], Finding]) -> list[Finding]:
    """Judge what each machine answered; machines of which the same is to be said share a line."""
    alike: dict[Finding | Level, list[tuple[str, Finding]]] = {}
    for name, answer in answers.items():
        (finding,) = guarded(subject, partial(_judged, judge, answer))
        alike.setdefault("ok" if finding.level == "ok" else finding, []).append((name, finding))
    found = []
    for same in alike.values():
        names = ", ".join(name for name, _ in same[:3])
        others = f" and {len(same) - 3} more" if len(same) > 3 else ""
        first = same[0][1]
        where = f" (on {names}{others})" if len(answers) > 1 else ""
        found.append(Finding(first.level, first.subject, first.text + where, first.remedy, first.lines))
    return found


def _judged(judge: Callable[[Any], Finding], answer: Any) -> Finding:
    if isinstance(answer, Exception):
        raise answer
    return judge(answer)


def message(error: BaseException) -> str:
    """An exception's name and the line of its message that says most: Ray puts a traceback before it."""
    lines = str(error).strip().splitlines() or ["no message"]
    return f"{type(error).__name__}: {lines[-1].strip()}"


def size(count: float) -> str:
    """Bytes as people say them."""
    unit, name = next(
        (unit, name)
        for unit, name in ((GIBIBYTE, "GiB"), (MEBIBYTE, "MiB"), (KIBIBYTE, "KiB"))
        if count >= unit or name == "KiB"
    )
    return f"{count / unit:.1f} {name}"


def amount(limit: float) -> str:
    """A limit as people say it, where there may be none."""
    return "unlimited" if limit == inf else f"{limit:,.0f}"
