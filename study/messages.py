"""What a study says of its troubles while it runs: on the terminal, and in a file of its folder."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from study import terminal

FILENAME = "messages.log"

Say = Callable[[str], None]
"""Tells of trouble."""


@contextmanager
def kept(folder: Path, show: Callable[[str], object]) -> Iterator[Callable[[str], None]]:
    """A function that shows a message and adds it to ``messages.log``, with its time, as far as either can be written.

    Where the terminal is gone when the block ends, that is a message too, and no failure: a study's results are in
    its folder.
    """

    def say(text: str) -> None:
        with contextlib.suppress(OSError), (folder / FILENAME).open("a", encoding="utf-8", errors="replace") as file:
            file.write(f"{datetime.now():%Y-%m-%d %H:%M:%S} {text}\n")
        show(text)

    try:
        yield say
    finally:
        for failure in terminal.lost():
            say(failure)
        terminal.forgive()
