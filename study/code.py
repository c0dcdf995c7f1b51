"""A researcher's own code: where it lies, what it is, and that Ray's workers have the same.

``use: my_lab.rho:RhoLoss`` names code; ``code:`` and ``--code`` name folders that it may lie in. A study's manifest has
a hash of all that it uses. Reading a study imports none of it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from importlib import metadata, util
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from study.experiment import Experiment, ExperimentError
from study.source import SourceError, ask_nodes
from trainables import imports
from trainables.errors import UserError
from trainables.imports import CodeError, Group, blamed

FIELD = "own_code"
"""What the manifest says of it stands under this key."""

LARGEST = 2**20
"""Bytes of a file that travels to other machines at most, unless it is Python."""

GROUPS: Mapping[str, Group] = {
    "arms": "methods",
    "dataset": "datasets",
    "model": "models",
    "optimizer": "optimizers",
    "schedule": "optimizers",
    "metrics": "metrics",
}
"""By the first part of a key, what its ``use`` names."""


class ChangedCode(UserError):
    """A study's own code is not what the study began with."""


class Used(NamedTuple):
    """Code that an experiment names.

    Attributes:
        key: where.
        use: the import path or entry point.
        file: where the module lies; None for one without a file.
        origin: the folder of ``code`` that it lies in, or the name and version of an installed package, or its own
            folder.
        digest: SHA-256 of the folder's Python files, of the package's name and version, or of the module's.
    """

    key: str
    use: str
    file: str | None
    origin: str
    digest: str


def named(experiment: Experiment) -> dict[str, str]:
    """Every import path and entry point that the experiment can use, and a key that names it."""
    settings = [*experiment.trial.items(), *(item for point in experiment.search.points for item in point.items())]
    searched = ((key, value) for key, parameter in experiment.space.items() for value in parameter.choice or ())
    found: dict[str, str] = {}
    for key, value in (*settings, *searched):
        if key.split(".")[-1] == "use" and isinstance(value, str):
            found.setdefault(value, key)
    return found


def check(experiment: Experiment) -> None:
    """Import all that the experiment uses.

    Raises:
        ExperimentError: it cannot be found or raises; all errors at once.
    """
    errors = []
    try:
        imports.provide(experiment.code)
    except CodeError as error:
        errors.append(str(error))
    for use, key in named(experiment).items():
        try:
            imports.find(use, _group(key))
            _used(key, use, experiment.code)
        except CodeError as error:
            errors.append(f"{key}: {error}")
    if errors:
        raise ExperimentError(experiment.name, errors)


def used(experiment: Experiment) -> list[Used]:
    """The code that the experiment uses.

    Raises:
        CodeError: some of it cannot be found.
    """
    imports.provide(experiment.code)
    return [_used(key, use, experiment.code) for use, key in named(experiment).items()]


def record(experiment: Experiment) -> dict[str, Any]:
    """What the manifest says of an experiment's own code; empty where it has none.

    Raises:
        CodeError: some of it cannot be found.
    """
    uses = [one._asdict() for one in used(experiment)]
    folders = [{"folder": folder, "sha256": digest(folder), "files": files(folder)} for folder in experiment.code]
    return {"uses": uses, "folders": folders} if uses or folders else {}


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What of own code differs from what the manifest says, a few words for each file or package.

    A folder may have moved: its files are compared by their names in it.
    """
    lines = []
    for then, today in zip(before.get("folders", ()), now.get("folders", ()), strict=False):
        lines += _file_changes(today["folder"], then["files"], today["files"])
    known = {use["use"]: use for use in before.get("uses", ())}
    folders = {folder["folder"] for folder in (*before.get("folders", ()), *now.get("folders", ()))}
    for use in now.get("uses", ()):
        then = known.get(use["use"])
        if then and use["digest"] != then["digest"] and not {use["origin"], then["origin"]} <= folders:
            lines.append(f"{use['use']} was {then['origin']} ({then['file']}), is {use['origin']} ({use['file']})")
    return lines


def _file_changes(folder: str, before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    words = {(True, True): "has changed", (True, False): "is gone", (False, True): "is new"}
    return [
        f"{Path(folder) / name} {words[name in before, name in now]}"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]


def demand_unchanged(
    experiment: Experiment, before: Mapping[str, Any], allowed: bool, study: Path
) -> dict[str, Any] | None:
    """What the manifest is to say of own code where it has changed, which must be ``allowed``; None where it has not.

    Raises:
        ChangedCode: it has changed, and that is not allowed.
        CodeError: some of it cannot be found.
    """
    if not before:
        return None
    now = record(experiment)
    changed = changes(before, now)
    if not changed:
        return None
    if not allowed:
        raise ChangedCode(
            f"{study}: its own code is not what the study began with: {'; '.join(changed)}. Put it back, or go on with "
            "--allow-changed-code, which the manifest will say"
        )
    noted = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "changed": changed}
    return {**now, "changes": [*before.get("changes", ()), noted]}


def _group(key: str) -> Group:
    return GROUPS.get(key.split(".")[0], "methods")


def _used(key: str, use: str, folders: Sequence[str]) -> Used:
    name = _module(use, _group(key))
    with blamed(repr(use)):
        spec = util.find_spec(name)
    file = spec.origin if spec else None
    top = name.partition(".")[0]
    own = [folder for folder in folders if file and Path(file).is_relative_to(folder)]
    hidden = [folder for folder in folders if (Path(folder) / top).is_dir() or (Path(folder) / f"{top}.py").is_file()]
    if hidden and not own:
        raise CodeError(f"{use!r}: {top} is {file}, not what lies in {hidden[0]}: give that module another name")
    if own:
        return Used(key, use, file, own[0], digest(own[0]))
    package = _distribution(top, file)
    if package:
        return Used(key, use, file, package, sha256(package.encode()).hexdigest())
    if file is None or not Path(file).is_file():
        return Used(key, use, file, top, "")
    inside = Path(file).parents[name.count(".")] if Path(file).name == "__init__.py" else Path(file).parent
    where = str(inside) if "." in name or Path(file).name == "__init__.py" else file
    return Used(key, use, file, where, digest(where))


def _module(use: str, group: Group) -> str:
    """The module that ``use`` names."""
    if ":" in use:
        return use.partition(":")[0]
    points = metadata.entry_points(group=f"filter_study.{group}")
    return points[use].module if use in points.names else use


def _distribution(top: str, file: str | None) -> str | None:
    """Name and version of the installed package that a module comes with; None where it is no installed copy."""
    if file is None or not {"site-packages", "dist-packages"} & set(Path(file).parts):
        return None
    names = _distributions().get(top)
    return f"{names[0]} {metadata.version(names[0])}" if names else None


@cache
def _distributions() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()


def digest(folder: str) -> str:
    """SHA-256 of the names and contents of the Python files in ``folder``, or of the one file that it is."""
    whole = sha256()
    for name, content in files(folder).items():
        whole.update(f"{name}\0{content}\0".encode())
    return whole.hexdigest()


def files(folder: str) -> dict[str, str]:
    """SHA-256 of each Python file in ``folder``, by its name in it."""
    root = Path(folder)
    found = [root] if root.is_file() else [path for path in _walked(root) if path.suffix == ".py"]
    return {path.relative_to(root).as_posix(): sha256(path.read_bytes()).hexdigest() for path in sorted(found)}


def _walked(folder: Path) -> Iterator[Path]:
    """The files of a folder of code: not what is hidden, compiled, a virtual environment or a study."""
    for where, inner, names in os.walk(folder):
        here = Path(where)
        inner[:] = sorted(name for name in inner if not name.startswith(".") and name != "__pycache__")
        if here != folder and {"pyvenv.cfg", "study.sqlite"} & {*names}:
            inner.clear()
            continue
        yield from (here / name for name in sorted(names) if not name.startswith("."))


@contextmanager
def staged(folders: Sequence[str]) -> Iterator[Path | None]:
    """A package that holds copies of the folders, numbered, to be shipped to other machines; None without folders.

    Python files travel, and other files of up to :data:`LARGEST` bytes.
    """
    if not folders:
        yield None
        return
    name = sha256("".join(map(digest, folders)).encode()).hexdigest()[:12]
    with TemporaryDirectory(prefix="filter-study-") as temporary:
        package = Path(temporary) / f"filter_study_code_{name}"
        package.mkdir()
        (package / "__init__.py").touch()
        for number, folder in enumerate(folders):
            for file in _walked(Path(folder)):
                if file.is_file() and (file.suffix == ".py" or file.stat().st_size <= LARGEST):
                    copy = package / str(number) / file.relative_to(folder)
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(file, copy)
            (package / str(number)).mkdir(exist_ok=True)
        yield package


def shipped(package: Path | None, folders: Sequence[str]) -> tuple[str, ...]:
    """What :func:`trainables.imports.provide` takes on a worker: the folders, or their places in what was shipped."""
    return tuple(f"{package.name}/{number}" for number in range(len(folders))) if package else tuple(folders)


def check_workers(experiment: Experiment, folders: Sequence[str]) -> None:
    """Check that workers on every node have the code that the experiment uses, as this process has it.

    Args:
        experiment: what is to run.
        folders: its folders of code, as workers find them.

    Raises:
        SourceError: names the machine and what differs.
    """
    if not (ours := {one.use: one for one in used(experiment)}):
        return
    for host, theirs in ask_nodes(answered, folders, {use: one.key for use, one in ours.items()}):
        for use, one in ours.items():
            error, where, found = theirs[use]
            if error:
                raise SourceError(f"Ray's workers on {host}: {one.key}: {error}")
            if found != one.digest:
                raise SourceError(f"Ray's workers on {host} would run other code: {use} is {where}, not {one.origin}")


def answered(folders: Sequence[str], uses: Mapping[str, str]) -> dict[str, tuple[str, str, str]]:
    """Of each ``use``: why it cannot be imported here, else where it comes from and its digest."""
    found = {}
    for use, key in uses.items():
        try:
            here = imports.provide(folders)
            one = _used(key, use, here)
            found[use] = ("", one.origin, one.digest)
        except CodeError as error:
            found[use] = (str(error), "", "")
    return found


def described(found: Iterable[Used]) -> list[str]:
    """A line for each piece of own code: which key names it, and where it lies."""
    return [f"own code: {one.key} {one.use} ({one.file or one.origin})" for one in found]
