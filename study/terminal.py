"""Standard output and error as they may be: closed, full, a broken pipe, a terminal that has gone, without Unicode.

Nothing that is printed raises. Whether it could be printed is looked at when a verb ends.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

PLAIN = dict(zip("−–—…×→·±≤≥∞", ("-", "-", "-", "...", "x", "->", "*", "+/-", "<=", ">=", "inf"), strict=True))
"""What stands for characters that an encoding lacks; for others, a question mark. A gap must not lose its sign."""

BROKEN_PIPE = 141
"""The exit code of a process that SIGPIPE ends: whoever reads has what they want, as in ``gaps DIR | head``."""

UNPRINTED = 2
"""The exit code where standard output cannot be written for another reason."""


class Stream:
    """A text stream whose writes do not raise; otherwise as the one that it wraps.

    Attributes:
        failure: why the first write failed that did; from then on, all is written to the null device.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.failure: OSError | None = None
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_plainly.__name__)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write ``text``, or lose it."""
        try:
            self._stream.write(text)
        except OSError as error:
            self._lose(error)
        return len(text)

    def flush(self) -> None:
        """Write what is buffered, or lose it."""
        try:
            self._stream.flush()
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        self.failure = self.failure or error
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self._stream.fileno())  # also for what is still buffered, and for other libraries
        os.close(null)


@contextmanager
def lenient() -> Iterator[None]:
    """Make ``sys.stdout`` and ``sys.stderr`` streams that do not raise, until the block ends."""
    before = sys.stdout, sys.stderr
    _occupy_standard_descriptors()
    sys.stdout, sys.stderr = (cast(TextIO, Stream(stream or _null())) for stream in before)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before


def lost() -> list[str]:
    """What of standard output and error could not be written in this block of :func:`lenient`, and why."""
    streams = {"standard output": sys.stdout, "standard error": sys.stderr}
    return [f"{name} cannot be written: {error.strerror}" for name, one in streams.items() if (error := _flushed(one))]


def forgive() -> None:
    """Let :func:`exit_code` be 0 in spite of what was lost: all of it lies in a study's folder."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, Stream):
            stream.failure = None


def exit_code() -> int:
    """The exit code of a verb that did its work, as far as printing it is concerned."""
    error = _flushed(sys.stdout)
    if error is None:
        return 0
    return BROKEN_PIPE if error.errno == errno.EPIPE else UNPRINTED


def _flushed(stream: TextIO) -> OSError | None:
    """Why some of the stream could not be written; None where all could."""
    stream.flush()
    return stream.failure if isinstance(stream, Stream) else None


def _occupy_standard_descriptors() -> None:
    """Open the null device in place of standard streams that the process was started without (``>&-``).

    Otherwise a study's record could become descriptor 1, and receive what child processes print.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)


def _null() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123  # for as long as the process lives


def _plainly(error: UnicodeError) -> tuple[str, int]:
    """Replace the characters that an encoding lacks; a handler of codec errors."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(PLAIN.get(one, "?") for one in error.object[error.start : error.end]), error.end


codecs.register_error(_plainly.__name__, _plainly)
