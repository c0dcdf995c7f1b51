import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import ray
from ray._raylet import AuthenticationTokenLoader
from ray.cluster_utils import Cluster

from study.cluster import WORKER_SETTINGS, settings

LOOPBACK = "127.0.0.1"
NODES = 3
QUICK = {"health_check_period_ms": 500, "health_check_failure_threshold": 3}  # a dead node is noticed in seconds


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    """Three nodes of one CPU each on loopback, with a token and a folder of their own; none of them is joined."""
    folder = Path(tempfile.mkdtemp(prefix="ray-"))  # short: socket paths have a limit
    node: dict[str, Any] = {"num_cpus": 1, "node_ip_address": LOOPBACK, "object_store_memory": 80 * 2**20}
    head = {**node, "include_dashboard": False, "_system_config": QUICK}
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    with settings(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", str(folder))  # or its address is written where every Ray of the machine looks
        patch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
        AuthenticationTokenLoader.instance().reset_cache()
        with pytest.MonkeyPatch.context() as machine:
            for name in WORKER_SETTINGS:
                machine.delenv(name)  # a node elsewhere would not have them
            cluster = Cluster(head_node_args=head, initialize_head=True)
            for _ in range(NODES - 1):
                cluster.add_node(**node)
        try:
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()
            shutil.rmtree(folder, ignore_errors=True)
    AuthenticationTokenLoader.instance().reset_cache()


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A cluster whose nodes a test may take away: ``cluster.remove_node(node, allow_graceful=False)``."""
    with running_cluster() as cluster:
        yield cluster
