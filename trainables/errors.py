"""Mistakes and circumstances that a user can correct, as distinct from faults of this program."""

from __future__ import annotations

from typing import ClassVar


class UserError(Exception):
    """Ends the program with its message instead of a traceback. The message names the value and the remedy.

    Every error that a user can cause inherits it. ``exit_code`` is that of the process.
    """

    exit_code: ClassVar[int] = 2
