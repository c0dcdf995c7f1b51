import socket
import subprocess
import sys
from pathlib import Path

import pytest

from study.doctor import access
from study.experiment import Wandb


@pytest.mark.parametrize(
    ("addresses", "level"),
    [
        (["127.0.0.1", "::1", "::ffff:127.0.0.1"], "ok"),
        (["127.0.0.1", "0.0.0.0"], "error"),
        (["::"], "error"),
        (["::ffff:10.0.0.7"], "error"),
        ([], "error"),
    ],
)
def test_a_local_ray_listens_on_loopback_alone(addresses: list[str], level: str) -> None:
    assert access.sockets(addresses).level == level


@pytest.mark.parametrize(
    ("hosts", "level"),
    [([], "ok"), (["127.0.0.1"], "warning"), (["10.0.0.7", "127.0.0.1"], "error"), (["n1"], "error")],
)
def test_a_dashboard_that_answers_is_a_door(hosts: list[str], level: str) -> None:
    assert access.dashboard(hosts).level == level


def test_whether_something_answers_is_seen_at_its_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert access._answers("127.0.0.1", port)
    assert not access._answers("127.0.0.1", port)


@pytest.mark.parametrize(("mode", "level"), [(0o600, "ok"), (0o400, "ok"), (0o640, "warning"), (0o604, "warning")])
def test_a_token_is_its_owners_alone(mode: int, level: str, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.touch()
    path.chmod(mode)
    finding = access.token({"RAY_AUTH_TOKEN_PATH": str(path)})
    assert finding.level == level
    assert finding.remedy == (f"chmod 600 {path}" if level == "warning" else "")


def test_a_token_that_is_missing_or_in_the_environment_is_told(tmp_path: Path) -> None:
    finding = access.token({"RAY_AUTH_TOKEN_PATH": str(tmp_path / "none")})
    assert (finding.level, finding.text) == ("error", f"{tmp_path / 'none'} is not there")
    finding = access.token({"RAY_AUTH_TOKEN": "abc"})
    assert finding.level == "warning"
    assert "abc" not in finding.text


def test_strangers_must_be_refused() -> None:
    assert access.strangers(False).level == "ok"
    assert access.strangers(True).level == "error"


def test_weights_and_biases_is_asked_only_where_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([None, "no API key (run: wandb login)"])
    monkeypatch.setattr("study.trackers.weights_and_biases.unreachable", lambda: next(answers))
    assert access.weights_and_biases(Wandb(mode="offline")).level == "ok"
    assert access.weights_and_biases(Wandb(mode="disabled")).level == "ok"
    assert access.weights_and_biases(Wandb(mode="online")).level == "ok"
    finding = access.weights_and_biases(Wandb(mode="online"))
    assert (finding.level, finding.text) == ("warning", "no API key (run: wandb login)")


OPEN_RAY = """
import os
os.environ.update(RAY_AUTH_MODE="disabled", RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0", RAY_USAGE_STATS_ENABLED="0")
import ray
ray.init(address="local", num_cpus=1, include_dashboard=False, logging_level="ERROR", object_store_memory=80 * 2**20)
print(ray.get_runtime_context().gcs_address, flush=True)
input()
"""


@pytest.mark.slow
def test_a_ray_without_authentication_admits_strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", OPEN_RAY], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert access._admitted(address)
        process.communicate("\n")
    monkeypatch.setattr(access, "STRANGER", "raise SystemExit('something else')")
    with pytest.raises(RuntimeError, match="something else"):
        access._admitted(address)
