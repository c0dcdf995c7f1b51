"""Vega-Lite specifications to PNG and PDF files: here, or in a process of its own beside other work.

The library that draws lets no other Python code of its process run meanwhile, so that a thread would not help.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import vl_convert

from analysis.writing import replacing

SCALE = 1.6
"""Pixels of the PNG to a pixel of CSS."""


def svg(spec: Mapping[str, Any]) -> str:
    """The picture as SVG."""
    return vl_convert.vegalite_to_svg(dict(spec))


def png(drawn: str) -> bytes:
    """An SVG picture as PNG."""
    return vl_convert.svg_to_png(drawn, scale=SCALE)


def draw(spec: Mapping[str, Any], path: Path) -> Path:
    """Draw to the PNG ``path`` and, under the same name, as PDF with text that can be searched.

    The same specification gives the same bytes.

    Raises:
        OSError: a file cannot be written.
    """
    picture = svg(spec)
    for suffix, drawn in ((".png", png(picture)), (".pdf", vl_convert.svg_to_pdf(picture))):
        with replacing(path.with_suffix(suffix)) as partial:
            partial.write_bytes(drawn)
    return path


@contextmanager
def drawn_beside(specs: Mapping[str, Mapping[str, Any]], folder: Path) -> Iterator[list[Path]]:
    """Draw all of ``specs`` in a process of its own while the block runs; yields their PNG files to be.

    All are there when the block ends. Where it raises, drawing ends, and what was drawn stays.

    Args:
        specs: by file names without a suffix.
        folder: that is there.

    Raises:
        OSError: a file cannot be written, or the process was ended.
    """
    if not specs:
        yield []
        return
    jobs = {str(folder / f"{name}.png"): spec for name, spec in specs.items()}
    root = str(Path(__file__).parents[1])
    paths = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    with tempfile.TemporaryFile("w+", encoding="utf-8") as given, tempfile.TemporaryFile("w+") as said:
        json.dump(jobs, given)
        given.seek(0)
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "analysis.prints"],
            stdin=given,
            stdout=subprocess.DEVNULL,
            stderr=said,
            env={**os.environ, "PYTHONPATH": paths},
        )
        try:
            yield [Path(path) for path in jobs]
            code = process.wait()
        finally:
            process.kill()  # which does nothing to one that has ended
            process.wait()
        if code:
            said.seek(0)
            raise OSError(errno.EIO, f"figures could not be drawn: {said.read().strip() or f'exit code {code}'}")


def _main() -> int:
    try:
        for path, spec in json.load(sys.stdin).items():
            draw(spec, Path(path))
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main())
