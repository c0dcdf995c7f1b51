"""Files that are written whole or not at all, even where two programs write the same one at once."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A path beside ``file`` to write to; what stands there takes the place of ``file`` when the block ends.

    Readers never see a half-written file, and where the block raises, nothing is left. The path is this block's alone.

    Raises:
        OSError: the folder cannot be written.
    """
    partial = file.with_name(f".{secrets.token_hex(8)}.partial")
    try:
        yield partial
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def write_text(file: Path, text: str) -> Path:
    """Write ``text`` to ``file``, which it returns."""
    with replacing(file) as partial:
        partial.write_text(text, encoding="utf-8", newline="")
    return file
