"""The parts of the program that are installed only where they are asked for, and what is said where one is missing."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import util

from trainables.errors import UserError

MODULES: Mapping[str, str] = {
    **dict.fromkeys(
        ("torch", "torchvision", "ray", "wandb", "tensorboardX", "filelock", "cmaes", "jaxtyping", "mlxtend", "pynvml"),
        "train",
    ),
    "mlflow": "mlflow",
}
"""The extra that each module comes with."""


class MissingError(UserError, ImportError):
    """A library is not installed that is needed here; names the extra that it comes with."""

    def __init__(self, extra: str, what: str) -> None:
        super().__init__(
            f"{what} needs the extra {extra!r}, which is not installed: pip install 'filter-study[{extra}]'"
        )


def demand(extra: str, what: str) -> None:
    """Make sure that an extra is installed.

    Raises:
        MissingError: it is not.
    """
    if any(util.find_spec(module) is None for module, of in MODULES.items() if of == extra):
        raise MissingError(extra, what)


def lacking(error: ImportError) -> str | None:
    """The extra that brings what could not be imported; None where none does."""
    return MODULES.get((error.name or "").partition(".")[0])
