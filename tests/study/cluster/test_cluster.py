"""Joining a running cluster: what is shipped, who is refused, where it listens; and the templates of clusters."""

import importlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from importlib import resources
from ipaddress import ip_address
from pathlib import Path

import psutil
import pytest
import ray
import yaml
from ray.cluster_utils import Cluster

import study
from study import cluster as clusters
from study import limits
from study.cluster import Capacity, ClusterError, joined_ray
from tests.study.cluster.conftest import LOOPBACK, NODES, running_cluster

pytestmark = pytest.mark.xdist_group("cluster")  # one after the other: they share what takes long to start


@pytest.fixture(scope="module")
def running() -> Iterator[Cluster]:
    """A cluster that the tests of this file leave as it is."""
    with running_cluster() as cluster:
        yield cluster


@pytest.mark.slow
def test_every_node_of_a_joined_cluster_runs_the_packages_that_were_shipped(running: Cluster) -> None:
    def sources(packages: tuple[str, ...]) -> tuple[str, dict[str, str], str | None]:
        setting = os.environ.get("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO")
        files = {name: str(importlib.import_module(name).__file__) for name in packages}
        time.sleep(1)  # so that no worker takes two
        return ray.get_runtime_context().get_node_id(), files, setting

    with joined_ray(running.address):
        assert clusters.nodes() == [Capacity(1, 0)] * NODES
        task = ray.remote(num_cpus=1, scheduling_strategy="SPREAD")(sources)
        answers = ray.get([task.remote(clusters.PACKAGES) for _ in range(NODES)], timeout=60)
    assert not ray.is_initialized()
    assert {node for node, *_ in answers} == {node.node_id for node in running.list_all_nodes()}
    checkout = Path(study.__file__).parents[1]
    for _, files, setting in answers:
        for name, file in files.items():
            assert "py_modules_files" in file
            assert Path(file).read_text() == (checkout / name / "__init__.py").read_text()
        assert setting == "0"
    trainable = Path(answers[0][1]["trainables"]).parent / "tune.py"
    assert trainable.read_text() == (checkout / "trainables" / "tune.py").read_text()


@pytest.mark.slow
def test_a_cluster_can_be_joined_again_and_found_by_auto(running: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", running.address)
    for _ in range(2):
        with joined_ray("auto"):
            assert ray.get_runtime_context().gcs_address == running.address


def _listening(process: psutil.Process) -> set[str]:
    """The addresses that a process listens on; none where it has just ended."""
    try:
        connections = process.net_connections(kind="inet")
    except psutil.NoSuchProcess:
        return set()
    return {connection.laddr.ip for connection in connections if connection.status == psutil.CONN_LISTEN}


@pytest.mark.slow
def test_a_joined_cluster_listens_on_loopback_alone(running: Cluster) -> None:
    with joined_ray(running.address):
        ray.get(ray.remote(num_cpus=1)(lambda: os.getpid()).remote(), timeout=60)
        processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
        listening = set().union(*map(_listening, processes))
    assert listening
    assert all(ip_address(address.removeprefix("::ffff:")).is_loopback for address in listening), listening


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("0" * 64, "refuses the token; name the file .* RAY_AUTH_TOKEN_PATH"),
        ("", "is empty; name the file"),
        (None, "No such file or directory; name the file"),
    ],
)
def test_without_the_right_token_nobody_joins(
    running: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None, message: str
) -> None:
    token = tmp_path / "token"
    if content is not None:
        token.write_text(content)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    began = time.monotonic()
    with pytest.raises(ClusterError, match=message), joined_ray(running.address):
        pass
    assert time.monotonic() - began < 5  # Ray's own attempt takes 20 s
    assert not ray.is_initialized()


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)


@pytest.mark.usefixtures("token")
@pytest.mark.parametrize("address", ["cluster", "ray://127.0.0.1:10001", "127.0.0.1", "http://127.0.0.1:6379"])
def test_an_address_is_auto_or_a_host_with_a_port(address: str) -> None:
    with pytest.raises(ClusterError, match=f"--address {address}: must be auto or HOST:PORT"), joined_ray(address):
        pass


@pytest.mark.usefixtures("token")
def test_an_address_where_nobody_answers_is_said_at_once() -> None:
    with closing(socket.create_server((LOOPBACK, 0))) as server:
        address = f"{LOOPBACK}:{server.getsockname()[1]}"
    with pytest.raises(ClusterError, match=f"nobody answers at {address}: .*ray start --head"), joined_ray(address):
        pass


@pytest.mark.usefixtures("token")
def test_auto_without_any_ray_is_said_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setattr("ray._private.services.find_gcs_addresses", set)  # whatever else runs on this machine
    with pytest.raises(ClusterError, match="--address auto: no Ray runs on this machine"), joined_ray("auto"):
        pass


def test_capacity_is_that_of_this_machine_where_no_ray_is_joined() -> None:
    (machine,) = clusters.nodes()
    assert machine.cpus == limits.available_cpus()


@pytest.mark.parametrize(
    ("cpu", "gpu", "expected"),
    [
        (1, 0, 8 + 64),
        (4, 0, 2 + 16),
        (2, 0.25, 4),  # the CPUs allow 4 on the first node; the second has no GPU
        (1, 0.3, 6),  # three on each GPU: none is split over two
        (4, 1, 2),
        (65, 0, 0),
        (9, 1, 0),  # a GPU on one node, the CPUs on another
    ],
)
def test_slots_count_comparisons_that_fit_on_a_node(cpu: int, gpu: float, expected: int) -> None:
    assert clusters.slots([Capacity(8, 2), Capacity(64, 0)], cpu, gpu) == expected


@pytest.mark.slow
def test_nodes_are_awaited_for_a_time_that_was_said(cluster: Cluster) -> None:
    assert clusters.await_nodes(cluster.address, NODES, 30) == NODES
    began = time.monotonic()
    assert clusters.await_nodes(cluster.address, NODES + 1, 3) == NODES
    assert 3 <= time.monotonic() - began < 10


@pytest.mark.slow
def test_a_node_that_dies_is_no_longer_counted(cluster: Cluster) -> None:
    with joined_ray(cluster.address):
        cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
        deadline = time.monotonic() + 15
        while len(clusters.nodes()) == NODES and time.monotonic() < deadline:
            time.sleep(0.2)
        assert clusters.nodes() == [Capacity(1, 0)] * (NODES - 1)


@pytest.mark.slow
def test_one_process_can_have_a_ray_of_its_own_twice_wherever_temporary_files_go(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "of a cluster")
    for folder in (tempfile.gettempdir(), str(tmp_path)):  # the second is too long for the path of a socket
        monkeypatch.setattr(tempfile, "tempdir", folder)
        with clusters.local_ray(1, 0):
            assert clusters.nodes() == [Capacity(1, 0)]
            token = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
            assert token.stat().st_mode & 0o777 == 0o600
            assert token.parent.stat().st_mode & 0o777 == 0o700
        assert not token.parent.exists()
        assert os.environ["RAY_AUTH_TOKEN_PATH"] == "of a cluster"


TEMPLATES = resources.files("study") / "cluster"


def test_the_template_for_ray_up_fits_rays_schema_and_leaves_nothing_open() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(yaml.safe_load((TEMPLATES / "ray-up.yaml").read_text("utf-8")))  # with AWS's defaults
    validate_config(config)
    starts = [config[f"{role}_start_ray_commands"][-1] for role in ("head", "worker")]
    for start in starts:
        assert start.count("ray start") == 1
        assert {"RAY_AUTH_MODE=token", "RAY_memory_monitor_refresh_ms=0"} <= set(start.split())
    assert "--include-dashboard=false" in starts[0]
    assert "dashboard-host" not in str(config)  # the defaults open it to all
    assert any(path.endswith(".ray/auth_token") for path in config["file_mounts"])
    needed = sum(kind.get("min_workers", 0) for kind in config["available_node_types"].values()) + 1
    assert f"python -m study.cluster localhost:6379 {needed} " in (TEMPLATES / "ray-up.yaml").read_text("utf-8")


def test_the_template_for_kubernetes_has_what_kuberay_requires_and_leaves_nothing_open() -> None:
    text = (TEMPLATES / "kuberay.yaml").read_text("utf-8")
    document = yaml.safe_load(text)
    assert (document["apiVersion"], document["kind"]) == ("ray.io/v1", "RayCluster")
    spec = document["spec"]
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["headGroupSpec"]["rayStartParams"]["include-dashboard"] == "false"
    assert all(isinstance(value, str) for value in spec["headGroupSpec"]["rayStartParams"].values())
    (workers,) = spec["workerGroupSpecs"]
    assert {"groupName", "rayStartParams", "template"} <= set(workers)
    assert f"python -m study.cluster localhost:6379 {workers['replicas'] + 1} " in text
    for group in (spec["headGroupSpec"], workers):
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        assert {"name", "image", "resources"} <= set(container)
        assert container["resources"]["requests"] == container["resources"]["limits"]
        for probe in ("readinessProbe", "livenessProbe"):  # KubeRay's own would ask the dashboard
            assert "ray health-check" in container[probe]["exec"]["command"][-1]
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
        assert {"name": "RAY_memory_monitor_refresh_ms", "value": "0"} in container["env"]


@pytest.mark.slow
def test_rays_health_check_which_the_template_uses_as_a_probe_needs_no_dashboard(running: Cluster) -> None:
    probe = [Path(sys.executable).parent / "ray", "health-check", "--address", running.address]
    assert subprocess.run(probe, check=False, timeout=60).returncode == 0
    stranger = {**os.environ, "RAY_AUTH_TOKEN": "0" * 64}
    assert subprocess.run(probe, check=False, timeout=60, capture_output=True, env=stranger).returncode != 0
