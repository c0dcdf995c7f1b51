import json
import math
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import wandb
from wandb.proto import wandb_internal_pb2
from wandb.sdk.lib import wbauth

from study.experiment import Wandb
from study.trackers import weights_and_biases
from study.trackers.weights_and_biases import WandbTracker, settle, sync, unreachable
from tests.study.wandb_server import KEY, Server, serving

HEADER, BLOCK, FRAME = 7, 2**15, 7
FULL, FIRST, _MIDDLE, LAST = range(1, 5)


def records(file: Path) -> list[Any]:
    """The records of an offline run: LevelDB's log format after a header of seven bytes."""
    data = file.read_bytes()
    assert data[:4] == b":W&B"
    found, partial, position = [], b"", HEADER
    while position + FRAME <= len(data):
        left = BLOCK - position % BLOCK
        if left < FRAME:
            position += left
            continue
        length, kind = int.from_bytes(data[position + 4 : position + 6], "little"), data[position + 6]
        if kind not in range(FULL, LAST + 1):
            break
        piece = data[position + FRAME : position + FRAME + length]
        partial = piece if kind in (FULL, FIRST) else partial + piece
        if kind in (FULL, LAST):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(partial)
            found.append(record)
        position += FRAME + length
    return found


def rows(file: Path) -> list[dict[str, float]]:
    """The rows of an offline run, in their order."""
    return [
        {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
        for record in records(file)
        if record.WhichOneof("record_type") == "history"
    ]


def config(file: Path) -> dict[str, Any]:
    for record in records(file):
        if record.WhichOneof("record_type") == "run":
            return {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.run.config.update}
    raise AssertionError("no run record")


def epoch_row(epoch: int) -> dict[str, float]:
    """An epoch as a comparison reports it, with a hundred metrics, which fill W&B's buffer of 32 KiB in a few."""
    return {f"{arm}/metric_{k}": epoch + k / 7 for arm in ("archetype", "filtered") for k in range(50)}


def metrics(row: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in row.items() if "/" in name}


def parts(folder: Path, trial_id: str) -> list[Path]:
    """The files of a comparison's runs, in the order of their start."""
    return sorted(folder.glob(f"wandb/offline-run-*/run-study-{trial_id}.wandb"))


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """A W&B that knows nothing of what was before in this process."""
    yield
    wandb.teardown()
    wbauth.unauthenticate_session(update_settings=False)


@pytest.fixture
def wandb_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes W&B in this process look at a server, with a key or without."""

    def point(url: str, key: str | None = KEY) -> None:
        wandb.teardown()
        wbauth.unauthenticate_session(update_settings=False)
        monkeypatch.setenv("WANDB_BASE_URL", url)
        monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        monkeypatch.delenv("WANDB_MODE", raising=False)
        monkeypatch.delenv("WANDB_API_KEY", raising=False)
        if key:
            monkeypatch.setenv("WANDB_API_KEY", key)

    return point


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture
def closed_port() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def next_second() -> None:
    """Let W&B give the next run a folder of its own: it names them by the second."""
    time.sleep(1 - time.time() % 1)


@pytest.mark.slow
def test_every_epoch_of_every_comparison_is_in_its_own_offline_run(tmp_path: Path) -> None:
    logger = WandbTracker(Wandb(), tmp_path, "study")
    for trial in ("a", "b"):
        logger.start(trial, {"optimizer.lr": 0.1, "dataset.classes": None})
    for epoch in range(3):
        for sign, trial in ((1, "a"), (-1, "b")):
            logger.log(trial, epoch, {"filtered/test_accuracy": sign * epoch, "gap/test_mean_loss": math.nan})
    logger.end("a", "finished")
    logger.close()
    assert logger.failure is None
    for sign, trial in ((1, "a"), (-1, "b")):
        (file,) = parts(tmp_path, trial)
        assert [row["_step"] for row in rows(file)] == [0, 1, 2]
        assert [metrics(row) for row in rows(file)] == [{"filtered/test_accuracy": sign * epoch} for epoch in range(3)]
        assert config(file)["optimizer.lr"] == 0.1


KILLED = """
import os, signal, sys, time
from pathlib import Path
from study.experiment import Wandb
from study.trackers.weights_and_biases import WandbTracker
from tests.study.trackers.test_weights_and_biases import epoch_row

logger = WandbTracker(Wandb(), Path(sys.argv[1]), "study")
logger.start("a", {"optimizer.lr": 0.1})
logger.start("b", {"optimizer.lr": 0.2})
logger.log("b", 0, {"filtered/test_accuracy": 0.5})
for epoch in range(30):
    logger.log("a", epoch, epoch_row(epoch))
    time.sleep(0.02)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """A study whose driver was killed: comparison a has a part of its 30 epochs on disk, b nothing."""
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False, capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    (file,), (empty,) = parts(tmp_path, "a"), parts(tmp_path, "b")
    assert 0 < len(rows(file)) < 30
    assert rows(empty) == []
    return tmp_path


@pytest.mark.slow
def test_a_resumed_comparison_goes_on_in_its_run_and_no_epoch_stands_twice(
    killed: Path, server: Server, wandb_at: Callable[..., None]
) -> None:
    (before,) = parts(killed, "a")
    kept = len(rows(before))
    logger = WandbTracker(Wandb(), killed, "study")
    for trial, end in (("a", 40), ("b", 2)):
        logger.start(trial, {"optimizer.lr": 0.1})
        for epoch in range(end):  # the record has them all
            logger.log(trial, epoch, epoch_row(epoch))
        logger.end(trial, "finished")
    logger.close()
    assert logger.failure is None
    assert [[row["_step"] for row in rows(file)] for file in parts(killed, "a")] == [
        list(range(kept)),
        list(range(kept, 40)),
    ]
    merged = [row for file in parts(killed, "a") for row in rows(file)]
    assert [metrics(row) for row in merged] == [epoch_row(epoch) for epoch in range(40)]
    assert [[row["_step"] for row in rows(file)] for file in parts(killed, "b")] == [[0, 1]]

    wandb_at(server.url)
    said: list[str] = []
    assert sync(killed, said.append) == 0
    assert said[-1] == "Uploaded all 3."
    assert server.steps("study-a") == list(range(40))
    assert [metrics(row) for row in server.rows("study-a")] == [epoch_row(epoch) for epoch in range(40)]
    assert server.steps("study-b") == [0, 1]
    assert server.runs["study-a"]["groupName"] == "study"
    assert json.loads(server.runs["study-a"]["summary"])["status"] == "finished"
    said.clear()
    assert sync(killed, said.append) == 0
    assert said == [f"No offline run in {killed / 'wandb'} waits to be uploaded."]


@pytest.mark.slow
def test_what_a_killed_study_left_can_be_uploaded_and_then_continued(
    killed: Path, server: Server, wandb_at: Callable[..., None]
) -> None:
    wandb_at(server.url)
    assert sync(killed, print) == 0
    kept = len(server.steps("study-a"))
    assert 0 < kept < 30
    assert "study-b" not in server.runs
    logger = WandbTracker(Wandb(), killed, "study")
    logger.start("a", {})
    for epoch in range(20, 40):  # from a checkpoint
        logger.log("a", epoch, epoch_row(epoch))
    logger.close()
    assert sync(killed, print) == 0
    assert server.steps("study-a") == [*range(kept), *range(max(20, kept), 40)]


def test_a_run_that_cannot_be_read_is_put_aside_and_nothing_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "wandb" / "offline-run-20260101_000000-study-a"
    (folder / "files").mkdir(parents=True)
    (folder / "files" / "output.log").write_text("somebody's")
    (folder / "run-study-a.wandb").write_bytes(b"damaged")
    said: list[str] = []
    assert sync(tmp_path, said.append) == 0
    assert said == [f"No offline run in {tmp_path / 'wandb'} waits to be uploaded."]
    left = {path.name: path.read_text() for path in folder.rglob("*") if path.is_file()}
    assert left == {"output.log": "somebody's", "run-study-a.unreadable": "damaged"}


@pytest.mark.slow
def test_without_a_network_sync_says_how_many_runs_wait_and_what_to_run_later(
    tmp_path: Path, closed_port: str, wandb_at: Callable[..., None]
) -> None:
    wandb_at(closed_port)
    folder = tmp_path / "my study"
    logger = WandbTracker(Wandb(), folder, "study")
    folder.mkdir()
    for trial in ("a", "b"):
        logger.start(trial, {})
        logger.log(trial, 0, {"x": 1.0})
        logger.end(trial, "finished")
    logger.close()
    before = sorted(folder.rglob("*"))
    said: list[str] = []
    began = time.monotonic()
    assert sync(folder, said.append) == 1
    assert time.monotonic() - began < 6
    (line,) = said
    assert line.startswith(f"2 offline runs wait in {folder / 'wandb'}")
    assert "Connection refused" in line
    assert line.endswith(f": wandb sync '{folder / 'wandb'}'")
    assert sorted(folder.rglob("*")) == before


@pytest.mark.slow
def test_a_key_that_is_missing_or_wrong_is_found_before_the_study_starts(
    tmp_path: Path, server: Server, wandb_at: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb_at(server.url, key=None)
    missing = unreachable()
    assert missing == f"no API key for {server.url} (run: wandb login; or set WANDB_API_KEY)"
    settings, remark = settle(Wandb(mode="online", project="mine"), tmp_path)
    assert settings == Wandb(mode="offline", project="mine")
    assert remark == (f"W&B is logged offline: {missing}. To upload it later: filter-study wandb sync {tmp_path}")

    (tmp_path / "netrc").write_text(f"machine {server.url.removeprefix('http://')} login user password {KEY}\n")
    assert unreachable() is None
    assert settle(Wandb(mode="online"), tmp_path) == (Wandb(mode="online"), None)

    wandb_at(server.url, key="w" * 40)
    wrong = unreachable()
    assert wrong is not None
    assert "user is not logged in" in wrong
    assert wrong.endswith("(run: wandb login)")

    wandb_at(server.url)
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert unreachable() == "W&B is offline on this machine (run: wandb online; or unset WANDB_MODE)"


@pytest.mark.slow
def test_a_network_that_is_missing_or_silent_is_found_in_three_seconds(
    server: Server, closed_port: str, wandb_at: Callable[..., None]
) -> None:
    server.answers.clear()
    silent = f"{server.url} gave no answer within 3 s (look at the network)"
    for url, reason in ((closed_port, "Connection refused"), (server.url, silent)):
        wandb_at(url)
        began = time.monotonic()
        assert reason in (unreachable() or "")
        assert time.monotonic() - began < 6


def test_a_study_that_is_offline_asks_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights_and_biases, "unreachable", lambda: pytest.fail("asked"))
    for mode in ("offline", "disabled"):
        assert settle(Wandb(mode=mode), tmp_path) == (Wandb(mode=mode), None)


@pytest.mark.slow
def test_an_online_study_that_is_resumed_goes_on_in_its_run(
    tmp_path: Path, server: Server, wandb_at: Callable[..., None]
) -> None:
    wandb_at(server.url)
    for epochs, status in ((range(5), "interrupted"), (range(3, 8), "finished")):
        logger = WandbTracker(Wandb(mode="online"), tmp_path, "study")
        logger.start("a", {"optimizer.lr": 0.1})
        for epoch in epochs:
            logger.log("a", epoch, epoch_row(epoch))
        logger.end("a", status)
        logger.close()
        assert logger.failure is None
        next_second()
    assert server.steps("study-a") == list(range(8))
    assert [metrics(row) for row in server.rows("study-a")] == [epoch_row(epoch) for epoch in range(8)]


@pytest.mark.slow
def test_a_network_that_is_lost_keeps_no_comparison_waiting(
    tmp_path: Path, server: Server, wandb_at: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights_and_biases, "UPLOAD_SECONDS", 1.0)
    monkeypatch.setattr(weights_and_biases, "unreachable", partial(unreachable, 1.0))
    wandb_at(server.url)
    logger = WandbTracker(Wandb(mode="online"), tmp_path, "study")
    for trial in ("a", "b"):
        logger.start(trial, {})
        logger.log(trial, 0, epoch_row(0))
    server.answers.clear()
    began = time.monotonic()
    logger.log("a", 1, epoch_row(1))
    logger.end("a", "finished")
    logger.log("b", 1, epoch_row(1))
    assert time.monotonic() - began < 1
    logger.start("c", {})
    assert time.monotonic() - began < 8
    logger.log("c", 0, epoch_row(0))
    logger.close()
    assert time.monotonic() - began < 15
    assert logger.failure is not None
    assert "offline since comparison c" in logger.failure
    assert f"filter-study wandb sync {tmp_path}" in logger.failure
    (file,) = parts(tmp_path, "c")
    assert [metrics(row) for row in rows(file)] == [epoch_row(0)]


def test_disabled_logging_leaves_nothing_behind(tmp_path: Path) -> None:
    logger = WandbTracker(Wandb(mode="disabled"), tmp_path, "study")
    logger.start("a", {})
    logger.log("a", 0, {"x": 1.0})
    logger.end("a", "finished")
    logger.close()
    assert list(tmp_path.iterdir()) == []


def test_trouble_with_wandb_ends_its_logging_and_not_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: Any) -> None:
        raise wandb.errors.CommError("no network")

    monkeypatch.setattr(wandb, "init", fail)
    logger = WandbTracker(Wandb(), tmp_path, "study")
    logger.start("a", {})
    logger.log("a", 0, {"x": 1.0})
    logger.end("a", "finished")
    assert logger.failure == "W&B logging is off for the rest of this study: no network"


WITHOUT_ITS_PROCESS = """
import sys
from pathlib import Path
import psutil
from study.experiment import Wandb
from study.trackers.weights_and_biases import WandbTracker

logger = WandbTracker(Wandb(), Path(sys.argv[1]), "study")
logger.start("a", {})
logger.log("a", 0, {"x": 1.0})
for child in psutil.Process().children(recursive=True):
    child.kill()
    child.wait()
logger.start("b", {})
logger.log("a", 1, {"x": 2.0})
logger.end("a", "finished")
logger.close()
print(logger.failure)
"""


@pytest.mark.slow
def test_the_death_of_wandbs_process_does_not_end_the_study(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_ITS_PROCESS, str(tmp_path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("W&B logging is off for the rest of this study: "), done.stderr


@pytest.mark.slow
def test_a_name_that_wandb_would_refuse_is_made_fit(tmp_path: Path) -> None:
    logger = WandbTracker(Wandb(), tmp_path, "what? a/b: é")
    logger.start("a", {})
    logger.log("a", 0, {"x": 1.0})
    logger.close()
    assert logger.failure is None
    assert [file.name for file in tmp_path.glob("wandb/offline-run-*/*.wandb")] == ["run-what--a-b----a.wandb"]
