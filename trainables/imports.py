"""Code that a researcher brings: found by import path or entry point, never by evaluating text.

``use: my_lab.rho:RhoLoss`` in an experiment names the attribute ``RhoLoss`` of the module ``my_lab.rho``. ``use: rho``
names the entry point ``rho`` of an installed package, in one of the groups ``filter_study.methods``,
``filter_study.datasets``, ``filter_study.models``, ``filter_study.optimizers``, ``filter_study.metrics`` and
``filter_study.trackers``.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import sysconfig
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata, util
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from trainables.errors import UserError, did_you_mean

Group = Literal["methods", "datasets", "models", "optimizers", "metrics", "trackers"]
OURS = Path(__file__).parent.parent
PACKAGES = ("filter_study", "study", "trainables", "search_spaces", "analysis")
STDLIB = Path(sysconfig.get_path("stdlib"))


class CodeError(UserError, ValueError):
    """Code that an experiment names cannot be found, or raises; the message names file and line where it does."""


def find(use: str, group: Group) -> Any:
    """What ``use`` names: ``module:attribute``, or an entry point of the group.

    Raises:
        CodeError: there is no such module, attribute or entry point, or to import the module raises.
    """
    if ":" not in use:
        return _entry_point(use, group)
    name, _, attribute = use.partition(":")
    module = _module(use, name)
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            hint = did_you_mean(part, dir(found), "")
            where = getattr(module, "__file__", None)
            raise CodeError(f"{use!r}: {name} ({where}) has no {attribute!r}{hint and f'; {hint}'}")
        found = getattr(found, part)
    return found


def provide(folders: Sequence[str]) -> tuple[str, ...]:
    """Let modules be found in these folders, after all others; the folders, absolute.

    A folder that is not absolute lies in a package, ``package/folder``: what was shipped to another machine.

    Raises:
        CodeError: there is no such folder.
    """
    found = tuple(map(_folder, folders))
    sys.path.extend(folder for folder in found if folder not in sys.path)
    importlib.invalidate_caches()
    return found


def _folder(folder: str) -> str:
    path = Path(folder).expanduser()
    if not path.is_absolute():
        package, _, inner = folder.partition("/")
        spec = util.find_spec(package) if package.isidentifier() else None
        places = list(spec.submodule_search_locations or ()) if spec else []
        path = Path(places[0]) / inner if places and inner else path.absolute()
    if not path.is_dir():
        raise CodeError(f"code: {str(path)!r} is no folder; name the folder that the code lies in now with --code DIR")
    return str(path)


def _entry_point(use: str, group: Group) -> Any:
    points = metadata.entry_points(group=f"filter_study.{group}")
    if use not in points.names:
        known = f", or one of the entry points {', '.join(sorted(points.names))}" if points.names else ""
        raise CodeError(f"{use!r}: must be an import path such as my_lab.module:name{known}")
    with blamed(f"entry point {use!r}"):
        return points[use].load()


def _module(use: str, name: str) -> Any:
    try:
        missing = not name or util.find_spec(name) is None
    except (ImportError, ValueError) as error:
        if name.partition(".")[0] in PACKAGES and not _is_ours(error):
            raise  # a library is not installed that this program's own methods need
        missing = True
    except Exception as error:  # a package above it raises when it is imported
        raise CodeError(f"{use!r}: {told(error)}") from error
    if missing:
        raise CodeError(
            f"{use!r}: there is no module {name!r}; install it, or name the folder that it lies in with --code or code:"
        )
    with blamed(f"{use!r}"):
        return importlib.import_module(name)


def _is_ours(error: Exception) -> bool:
    """Whether an import failed for want of a module of this program, rather than of a library."""
    return not isinstance(error, ImportError) or (error.name or "").partition(".")[0] in PACKAGES


@contextmanager
def blamed(what: str) -> Iterator[None]:
    """Turn an exception of a researcher's code into a :class:`CodeError` with its message, file and line.

    ``MemoryError``, ``KeyboardInterrupt`` and pydantic's ``ValidationError`` are raised unchanged.
    """
    try:
        yield
    except (CodeError, MemoryError, ValidationError):
        raise
    except Exception as error:
        raise CodeError(f"{what}: {told(error)}") from error


def told(error: BaseException) -> str:
    """An exception in a line: its type, its message, and the file and line of the researcher's code that raised it."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{type(error).__name__}: {error.msg} ({error.filename}, line {error.lineno})"
    message = str(error).strip().splitlines()
    where = f" ({found})" if (found := culprit(error)) else ""
    return f"{type(error).__name__}{f': {message[0]}' if message else ''}{where}"


def culprit(error: BaseException) -> str | None:
    """The file and line of a researcher's own code that raised an exception, or called what raised it; None: none."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _foreign(frame.filename)]
    return f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else None


def _foreign(filename: str) -> bool:
    """Whether a file is neither this program's, nor Python's own, nor an installed library's."""
    path = Path(filename)
    if filename.startswith("<") or "site-packages" in path.parts or path.is_relative_to(STDLIB):
        return False
    return not (path.is_relative_to(OURS) and path.relative_to(OURS).parts[0] in PACKAGES)


def signature(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter] | None:
    """A callable's parameters by name; None where Python does not know them, as of some builtins."""
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        return None


def misfits(function: Callable[..., Any], options: Mapping[str, Any], provided: Collection[str] = ()) -> list[str]:
    """Why ``function`` cannot be called with these options, one line for each: unknown ones and missing ones.

    ``provided`` are the keyword arguments that the program itself hands over.
    """
    if (parameters := signature(function)) is None:
        return []
    kinds = inspect.Parameter
    named = {name: p for name, p in parameters.items() if p.kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)}
    takes_any = any(p.kind is kinds.VAR_KEYWORD for p in parameters.values())
    problems = []
    for name in options:
        if name not in named and not takes_any:
            known = sorted(named.keys() - {*provided})
            hint = did_you_mean(name, known, f"it takes {', '.join(known) or 'no options'}")
            problems.append(f"{name}: unknown option; {hint}")
    required = {name for name, p in named.items() if p.default is kinds.empty}
    problems += [f"{name}: is missing" for name in named if name in required - {*options, *provided}]
    return problems
