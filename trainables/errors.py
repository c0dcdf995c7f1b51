"""Mistakes and circumstances that a user can correct, as distinct from faults of this program."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar


class UserError(Exception):
    """Ends the program with its message instead of a traceback. The message names the value and the remedy.

    Every error that a user can cause inherits it. ``exit_code`` is that of the process.
    """

    exit_code: ClassVar[int] = 2


def did_you_mean(name: object, known: Iterable[str], otherwise: str) -> str:
    """For messages: the nearest of the known names to an unknown one, or ``otherwise`` where none is near."""
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return f"did you mean {close[0]!r}?" if close else otherwise
