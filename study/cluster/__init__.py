"""Ray for a study: one of this machine's own, ended with the study, or a running cluster that is joined.

What a study needs is shipped to the nodes of a joined cluster: they need the dependencies, no checkout. Their own
environment decides how they listen; a driver binds to the address of the node it runs on.
"""

from __future__ import annotations

import os
import re
import secrets
import signal
import socket
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from study import private
from study.limits import available_cpus
from trainables.errors import UserError

MEBIBYTE = 2**20
OBJECT_STORE = 128 * MEBIBYTE
PACKAGES = ("study", "trainables", "search_spaces", "analysis")
WORKER_SETTINGS = ("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO",)  # of those in study/__init__.py; the others are the driver's
TOKEN = Path("~/.ray/auth_token")
CONNECT_SECONDS = 10


class ClusterError(UserError):
    """A running Ray cluster cannot be joined."""


class Capacity(NamedTuple):
    """What a node has to give."""

    cpus: int
    gpus: int


@contextmanager
def local_ray(cpus: int, gpus: int) -> Iterator[None]:
    """A Ray of this process's own with that many CPUs and GPUs, ended when the block ends."""
    folder = private.make()
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    before = os.environ.get("RAY_AUTH_TOKEN_PATH")
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(token)
    import ray

    try:
        _forget_token()
        ray.init(
            address="local",
            num_cpus=cpus,
            num_gpus=gpus,
            object_store_memory=OBJECT_STORE,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            _temp_dir=str(folder / "ray"),
        )
        yield
    finally:
        with _undisturbed():
            ray.shutdown()
            private.remove(folder)
            del os.environ["RAY_AUTH_TOKEN_PATH"]
            if before is not None:
                os.environ["RAY_AUTH_TOKEN_PATH"] = before


@contextmanager
def joined_ray(address: str) -> Iterator[None]:
    """The running cluster at ``address``, ``auto`` or ``host:port``, left when the block ends.

    This machine must be one of its nodes.

    Raises:
        ClusterError: no cluster is there, the token is missing or refused, or this machine is none of its nodes.
    """
    _check_token()
    import ray

    _forget_token()
    found = _reach(address)
    with tempfile.TemporaryDirectory() as empty:
        shipped = {
            "py_modules": [str(resources.files(name)) for name in PACKAGES],
            "working_dir": empty,  # or the driver's folder is searched first, where a node may hold another checkout
            "env_vars": {name: os.environ[name] for name in WORKER_SETTINGS},
        }
        try:
            ray.init(address=found, runtime_env=shipped, log_to_driver=False, logging_level="ERROR")
        except (OSError, RuntimeError, ray.exceptions.RayError) as error:
            raise ClusterError(f"--address {address}: {_reason(error)}") from error
    try:
        yield
    finally:
        with _undisturbed():
            ray.shutdown()


def nodes() -> list[Capacity]:
    """What each living node of the Ray that was started or joined has; of this machine, where there is none yet."""
    import ray

    if not ray.is_initialized():
        import torch

        return [Capacity(available_cpus(), torch.cuda.device_count())]
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [Capacity(int(has.get("CPU", 0)), int(has.get("GPU", 0))) for has in alive]


def slots(having: Iterable[Capacity], cpu: int, gpu: float) -> int:
    """How many comparisons run at a time on these nodes, if each occupies ``cpu`` cores and ``gpu`` of one GPU."""
    return sum(min(node.cpus // cpu, node.gpus * int(1 / gpu)) if gpu else node.cpus // cpu for node in having)


def await_nodes(address: str, count: int, seconds: float) -> int:
    """How many nodes the cluster at ``address`` has, once it has ``count`` or ``seconds`` have passed.

    Raises:
        ClusterError: it could not be joined in that time.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            with joined_ray(address):
                while (found := len(nodes())) < count and time.monotonic() < deadline:
                    time.sleep(1)
                return found
        except ClusterError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


def _check_token() -> None:
    """Whether the token is at hand, where Ray looks for it; Ray itself would print a stack or wait."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(named) if named else TOKEN.expanduser()
    try:
        if path.read_text().strip():
            return
        problem = "is empty"
    except OSError as error:
        problem = str(error.strerror)
    raise ClusterError(
        f"the cluster's token: {path}: {problem}; name the file that the cluster was started with "
        "by RAY_AUTH_TOKEN_PATH=FILE"
    )


def _forget_token() -> None:
    """Let Ray read the token anew: it keeps the first one that a process uses."""
    from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]  # its stub is incomplete

    AuthenticationTokenLoader.instance().reset_cache()


def _reach(address: str) -> str:
    """The host and port of the cluster at ``address``, after it has answered and taken the token.

    Ray itself waits for minutes where nobody answers, and for twenty seconds where the token is refused.
    """
    from ray._private import services
    from ray._raylet import GcsClient  # type: ignore[attr-defined]
    from ray.exceptions import AuthenticationError, RpcError

    if address != "auto" and not re.fullmatch(r"[^/]+:\d{1,5}", address):
        raise ClusterError(f"--address {address}: must be auto or HOST:PORT")
    try:
        found = str(services.canonicalize_bootstrap_address(address))
    except (ConnectionError, ValueError):
        raise ClusterError(
            "--address auto: no Ray runs on this machine; give HOST:PORT, or start a cluster with: ray start --head"
        ) from None
    host, port = found.rsplit(":", 1)
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ClusterError(
            f"--address {address}: nobody answers at {found}: {error}; start a cluster with: ray start --head, "
            "or leave --address out for a Ray of this machine alone"
        ) from None
    try:
        GcsClient(address=found)
    except AuthenticationError:
        raise ClusterError(
            f"--address {address}: the cluster at {found} refuses the token; name the file that it was started with "
            "by RAY_AUTH_TOKEN_PATH=FILE"
        ) from None
    except RpcError as error:
        raise ClusterError(f"--address {address}: what answers at {found} is no Ray: {_reason(error)}") from None
    if not services.find_node_ids():
        raise ClusterError(f"--address {address}: this machine is no node of that cluster; start the study on one")
    return found


def _reason(error: BaseException) -> str:
    """The first line of an error's message, and of what it came from."""
    chain = [error, error.__cause__] if error.__cause__ else [error]
    return ": ".join(str(one).strip().splitlines()[0] for one in chain if str(one).strip())


@contextmanager
def _undisturbed() -> Iterator[None]:
    """No Ctrl-C in this block, where it would leave processes and the token; unless somebody heeds it."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
