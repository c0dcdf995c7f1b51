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
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from study import private
from study.environment import environment
from study.limits import available_cpus, available_memory
from study.source import PACKAGES, search_path
from trainables.errors import UserError

MEBIBYTE = 2**20
OBJECT_STORE = 128 * MEBIBYTE
WORKER_SETTINGS = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
SETTINGS = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "15",  # how long the driver outlives the head of Ray
    "RAY_memory_monitor_refresh_ms": "0",  # it ends the whole run, where the kernel ends one worker: one failed trial
    **WORKER_SETTINGS,
}
"""For the processes of Ray that this one starts, and for this one as long as it uses them."""
TOKEN = Path("~/.ray/auth_token")
CONNECT_SECONDS = 10


class ClusterError(UserError):
    """A running Ray cluster cannot be joined."""


class Capacity(NamedTuple):
    """What a node has to give."""

    cpus: int
    gpus: int


@contextmanager
def settings() -> Iterator[None]:
    """Ray's settings for a study; Ray, which has read them when it was imported, reads them anew.

    The first of them binds every process of Ray to loopback (undocumented; a test looks at the sockets); without it Ray
    listens on all interfaces.
    """
    from ray._private import ray_constants

    listening = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        with environment(SETTINGS):
            _read_settings()
            yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = listening
        _read_settings()


@contextmanager
def local_ray(cpus: int, gpus: int) -> Iterator[None]:
    """A Ray of this process's own with that many CPUs and GPUs, ended when the block ends."""
    folder = private.make()
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    import ray

    try:
        with environment({"RAY_AUTH_TOKEN_PATH": str(token)}), settings():
            try:
                ray.init(
                    address="local",
                    job_config=_own_path(),
                    num_cpus=cpus,
                    num_gpus=gpus,
                    object_store_memory=OBJECT_STORE,
                    _memory=max(available_memory(), OBJECT_STORE),
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level="ERROR",
                    _temp_dir=str(folder / "ray"),
                )
                yield
            finally:
                with _undisturbed():
                    ray.shutdown()
    finally:
        with _undisturbed():
            private.remove(folder)


def _own_path() -> Any:
    """A Ray job whose workers search modules where this process does, and not in its working directory first."""
    from ray.job_config import JobConfig

    class OwnPath(JobConfig):
        def _runtime_env_has_working_dir(self) -> bool:
            return True  # so that Ray adds neither the working directory nor the script's

    return OwnPath(_py_driver_sys_path=search_path()[::-1])  # a worker puts each before those before it


@contextmanager
def joined_ray(address: str, package: Path | None = None) -> Iterator[None]:
    """The running cluster at ``address``, ``auto`` or ``host:port``, left when the block ends.

    This machine must be one of its nodes. ``package`` is shipped to all of them: a researcher's own code, as
    :func:`study.code.staged` packs it.

    Raises:
        ClusterError: no cluster is there, the token is missing or refused, or this machine is none of its nodes.
    """
    _check_token()
    import ray

    with settings():
        found = _reach(address)
        with tempfile.TemporaryDirectory() as empty:
            shipped = {
                "py_modules": [
                    *(str(resources.files(name)) for name in PACKAGES),
                    *([str(package)] if package else []),
                ],
                "working_dir": empty,  # or the driver's is searched first, where a node may hold another checkout
                "env_vars": WORKER_SETTINGS,
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


@contextmanager
def shared_ray(address: str | None, bundle: Mapping[str, float]) -> Iterator[None]:
    """The Ray that this process has started or joined already, which stays as it is.

    Args:
        address: must be None: it is joined already.
        bundle: what a comparison occupies. What a run that breaks off leaves occupied is freed when the block ends.

    Raises:
        ClusterError: it is used through Ray Client, or there is an address.
    """
    import ray
    from ray._raylet import PlacementGroupID
    from ray.util.placement_group import PlacementGroup, remove_placement_group

    if address:
        raise ClusterError(
            f"address {address!r}: this process uses a Ray already; leave it out, or ray.shutdown() first"
        )
    if not ray._private.worker.global_worker.connected:
        raise ClusterError("Ray Client (ray://) cannot run a study; start this process on a node of the cluster")
    before = set(_groups(bundle))
    try:
        yield
    finally:
        for group in set(_groups(bundle)) - before:
            remove_placement_group(PlacementGroup(PlacementGroupID.from_hex(group)))


def _groups(bundle: Mapping[str, float]) -> list[str]:
    """Ids of the placement groups of this job, whose id ends theirs, that hold one such bundle each."""
    import ray
    from ray.util.placement_group import placement_group_table

    job = ray.get_runtime_context().get_job_id()
    return [
        name
        for name, group in placement_group_table().items()
        if name.endswith(job) and group["state"] != "REMOVED" and list(group["bundles"].values()) == [bundle]
    ]


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


def _read_settings() -> None:
    """Let Ray read settings and token anew: it keeps those of its import, and the first token that a process uses."""
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]  # its stub is incomplete

    Config.initialize("")
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


def in_main_thread() -> bool:
    """Whether this thread is the one that may take signals."""
    return threading.current_thread() is threading.main_thread()


@contextmanager
def _undisturbed() -> Iterator[None]:
    """No Ctrl-C in this block, where it would leave processes and the token; unless somebody heeds it."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler or not in_main_thread():
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
