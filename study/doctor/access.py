"""Who can reach Ray, and whether W&B can be reached."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from ipaddress import ip_address
from pathlib import Path

import psutil

from study import cluster
from study.doctor import asking
from study.doctor.findings import Finding, Level, guarded
from study.experiment import Wandb

DASHBOARD_PORT = 8265
STRANGER = "import sys; from ray._raylet import GcsClient; GcsClient(address=sys.argv[1]).internal_kv_keys(b'', None)"


def alone() -> Iterator[Finding]:
    """What is found about a Ray of this machine's own."""
    with cluster.local_ray(1, 0):
        listening = _listening()
        dashboards = [host for host, port in listening if port == DASHBOARD_PORT]
        yield from guarded("sockets", partial(sockets, [host for host, _ in listening]))
        yield from guarded("dashboard", partial(dashboard, dashboards))
        yield from _credentials()


def joined() -> Iterator[Finding]:
    """What is found about the Ray cluster that was joined."""
    import ray

    head = ray.get_runtime_context().gcs_address.rpartition(":")[0].strip("[]")
    dashboards = [host for host in sorted({head, "127.0.0.1"}) if _answers(host, DASHBOARD_PORT)]
    yield from guarded("dashboard", partial(dashboard, dashboards))
    yield from _credentials()


def _credentials() -> Iterator[Finding]:
    import ray

    yield from guarded("token", lambda: token(os.environ))
    yield from guarded("strangers", lambda: strangers(_admitted(ray.get_runtime_context().gcs_address)))


def sockets(addresses: Sequence[str]) -> Finding:
    """Whether Ray's processes, which listen at these addresses, can be reached from this machine alone."""
    exposed = sorted({address for address in addresses if not _is_loopback(address)})
    if exposed:
        text = f"Ray listens on {', '.join(exposed)}: others on the network can reach it"
        return Finding("error", "sockets", text, "the Ray of requirements.lock, or a firewall, until this is mended")
    if not addresses:
        return Finding("error", "sockets", "none of Ray's could be seen", "run the doctor as the user who runs studies")
    return Finding("ok", "sockets", f"all {len(addresses)} of Ray's listen on loopback alone")


def dashboard(hosts: Sequence[str]) -> Finding:
    """Whether Ray's dashboard, which takes jobs and so any code, answers at one of these hosts."""
    if not hosts:
        return Finding("ok", "dashboard", "does not listen")
    level: Level = "warning" if all(_is_loopback(host) for host in hosts) else "error"
    text = f"answers at {', '.join(f'{host}:{DASHBOARD_PORT}' for host in hosts)}, and runs what it is sent"
    return Finding(level, "dashboard", text, "ray start --head --include-dashboard=false, or ray[tune] alone")


def token(environment: Mapping[str, str]) -> Finding:
    """Whether the token that Ray is reached with is its owner's alone."""
    if environment.get("RAY_AUTH_TOKEN"):
        text = "in RAY_AUTH_TOKEN, which every process that is started inherits"
        return Finding("warning", "token", text, "put it into a file of mode 600, named by RAY_AUTH_TOKEN_PATH")
    path = Path(environment.get("RAY_AUTH_TOKEN_PATH") or cluster.TOKEN.expanduser())
    if not path.is_file():
        return Finding("error", "token", f"{path} is not there", "name the cluster's file by RAY_AUTH_TOKEN_PATH")
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        return Finding("warning", "token", f"{path} has mode {mode:o}: others can read it", f"chmod 600 {path}")
    return Finding("ok", "token", f"in a file of mode {mode:o}")


def strangers(admitted: bool) -> Finding:
    """Whether Ray turns away who has no token."""
    if admitted:
        text = "Ray answers without a token: whoever reaches it runs code here"
        return Finding("error", "strangers", text, "RAY_AUTH_MODE=token on every node, before ray start")
    return Finding("ok", "strangers", "Ray refuses whoever has no token")


def weights_and_biases(settings: Wandb) -> Finding:
    """Whether W&B can be logged to as the experiment says."""
    if settings.mode != "online":
        return Finding("ok", "W&B", f"{settings.mode}: needs neither key nor network")
    from study.trackers.weights_and_biases import unreachable

    if reason := unreachable():
        return Finding("warning", "W&B", reason, "mend that, or log offline: --set wandb.mode=offline")
    return Finding("ok", "W&B", "online: it answers, and takes the key")


def _admitted(address: str) -> bool:
    """Whether a process without a token can read what the cluster at ``address`` keeps."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    done = subprocess.run(
        [sys.executable, "-P", "-c", STRANGER, address],
        env=environment | {"RAY_AUTH_MODE": "disabled"},
        capture_output=True,
        text=True,
        timeout=asking.ANSWER_SECONDS,
        check=False,
    )
    if done.returncode and "InvalidAuthToken" not in done.stderr:
        raise RuntimeError(done.stderr or f"exit code {done.returncode}")
    return done.returncode == 0


def _listening() -> list[tuple[str, int]]:
    """Addresses and ports at which the processes that this one has started listen."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            ends = process.net_connections(kind="inet")
            found += [(end.laddr.ip, end.laddr.port) for end in ends if end.status == psutil.CONN_LISTEN]
    return found


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host.removeprefix("::ffff:")).is_loopback
    except ValueError:
        return host == "localhost"


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=2).close()
    except OSError:
        return False
    return True
