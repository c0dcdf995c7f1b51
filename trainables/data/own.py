"""A data set of one's own: a callable that ``dataset.use`` names.

::

    def load(data_dir: str, size: int = 48) -> Arrays:
        ...
        return Arrays((train_images, train_labels), (test_images, test_labels), names=["copepod", "diatom"])

Its options are the other keys of the section, handed over as keyword arguments: ``dataset.size``. If it has a parameter
``data_dir``, it gets the experiment's. What it may return: :class:`~trainables.data.arrays.Arrays`.
"""

from __future__ import annotations

import inspect
from typing import Any

from trainables import imports
from trainables.config import OwnDataset
from trainables.data.arrays import Whole, checked
from trainables.imports import CodeError


def whole(config: OwnDataset, data_dir: str) -> Whole:
    """What the callable gives, checked.

    Raises:
        CodeError: the callable cannot be found, does not take the options, or raises; says file and line.
        DatasetError: what it returns is no data set; every error on a line that names the callable's file and line.
    """
    function = imports.find(config.use, "datasets")
    what = f"dataset.use {config.use}{_place(function)}"
    if not callable(function):
        raise CodeError(f"{what}: is a {type(function).__name__}, which cannot be called")
    options = {**_provided(function, data_dir), **config.options}
    if problems := imports.misfits(function, config.options, _provided(function, data_dir)):
        raise CodeError("\n".join(f"dataset.{problem} ({what})" for problem in problems))
    with imports.blamed(what):
        given = function(**options)
    return checked(given, what)


def _provided(function: Any, data_dir: str) -> dict[str, str]:
    """``data_dir``, if the callable has a parameter of that name."""
    return {"data_dir": data_dir} if "data_dir" in (imports.signature(function) or {}) else {}


def _place(function: Any) -> str:
    """In brackets, file and line of the callable; nothing where Python does not know them."""
    try:
        plain = inspect.unwrap(function)
        return f" ({inspect.getsourcefile(plain)}, line {inspect.getsourcelines(plain)[1]})"
    except (TypeError, OSError, ValueError):
        return ""
