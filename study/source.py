"""The program's own source: where each package was imported from, a digest of it, and that Ray's workers have the same.

Ray puts the driver's working directory first on its workers' path. Another checkout there would be trained, and the
manifest would name this one.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

from trainables.errors import UserError

PACKAGES = ("study", "trainables", "search_spaces", "analysis")
ANSWER_SECONDS = 300.0  # a worker starts in a second, but not where the machine is busy

Sources = dict[str, tuple[str, str]]
"""For each package, its folder and a SHA-256 digest of the names and contents of its Python files."""


class SourceError(UserError):
    """Ray's workers would run other code than this process."""


def sources() -> Sources:
    """The source of this program's packages, as this process imports them."""
    return _reader()(PACKAGES)


def search_path() -> list[str]:
    """Where this process searches modules, as paths that mean the same in another working directory."""
    return [os.path.abspath(entry) for entry in sys.path]  # noqa: PTH100  Path would not make "" the working directory


def check_workers() -> None:
    """Check that workers on every node of the Ray that was started or joined import what this process did.

    Raises:
        SourceError: names both folders.
    """
    ours = sources()
    for host, theirs in ask_nodes(_reader(), PACKAGES):
        if differing := differences(ours, theirs):
            raise SourceError(
                f"Ray's workers on {host} would run other code than this process on {socket.gethostname()}: "
                f"{'; '.join(differing)}. Install filter-study where they run, and start Ray in a folder that holds no "
                "module or package of these names"
            )


def ask_nodes(function: Callable[..., Any], *arguments: Any) -> Iterator[tuple[str, Any]]:
    """What ``function`` returns in a worker on each living node of the Ray that was started or joined, by host name.

    Raises:
        SourceError: a worker does not start.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0, max_retries=0)(function)
    nodes = {node["NodeID"]: node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]}
    asked = {
        node: task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(*arguments)
        for node in nodes
    }
    for node, host in nodes.items():
        try:
            answer = ray.get(asked[node], timeout=ANSWER_SECONDS)
        except ray.exceptions.RayError as error:
            raise SourceError(f"Ray's workers on {host} do not start: {str(error).strip().splitlines()[-1]}") from None
        yield host, answer


def differences(ours: Sources, theirs: Sources) -> list[str]:
    """The packages whose source differs, with both folders."""
    return [
        f"{name} is {theirs[name][0]}, not {folder}"
        for name, (folder, digest) in ours.items()
        if theirs[name][1] != digest
    ]


def _reader() -> Callable[[tuple[str, ...]], Sources]:
    """A function that Ray sends by value: by name, a worker would import it from the source that is in question."""

    def read(packages: tuple[str, ...]) -> Sources:
        import importlib.util
        from hashlib import sha256
        from pathlib import Path

        found = {}
        for name in packages:
            spec = importlib.util.find_spec(name)
            folders = list(spec.submodule_search_locations or ()) if spec else []
            digest = sha256()
            for file in sorted(Path(folders[0]).rglob("*.py")) if folders else ():
                digest.update(f"{file.relative_to(folders[0])}\0".encode() + file.read_bytes() + b"\0")
            where = folders[0] if folders else str(spec.origin) if spec else "not found"
            found[name] = (where, digest.hexdigest() if folders else "")
        return found

    return read
