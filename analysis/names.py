"""Folders and files whose names resemble one that is not there."""

from __future__ import annotations

import difflib
from pathlib import Path


def similar(path: Path) -> str:
    """The end of a message that ``path`` is not there: "; did you mean studies/mine?", or nothing."""
    try:
        names = sorted(other.name for other in path.parent.iterdir() if not other.name.startswith("."))
    except OSError:
        return ""
    close = difflib.get_close_matches(path.name, names, n=1)
    return f"; did you mean {path.with_name(close[0])}?" if close else ""
