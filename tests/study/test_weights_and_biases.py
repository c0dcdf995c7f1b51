import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import wandb
from wandb.proto import wandb_internal_pb2

from study.experiment import Wandb
from study.weights_and_biases import WandbLogger

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


def history(file: Path) -> dict[int, dict[str, float]]:
    """Metrics by step."""
    steps: dict[int, dict[str, float]] = defaultdict(dict)
    for record in records(file):
        if record.WhichOneof("record_type") == "history":
            row = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
            steps[row["_step"]] |= row
    return steps


def config(file: Path) -> dict[str, Any]:
    for record in records(file):
        if record.WhichOneof("record_type") == "run":
            return {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.run.config.update}
    raise AssertionError("no run record")


@pytest.mark.slow
def test_every_epoch_of_every_comparison_is_in_its_own_offline_run(tmp_path: Path) -> None:
    logger = WandbLogger(Wandb(), tmp_path, "study")
    for trial in ("a", "b"):
        logger.start(trial, {"optimizer.lr": 0.1, "dataset.classes": None})
    for epoch in range(3):
        for sign, trial in ((1, "a"), (-1, "b")):
            logger.log(trial, epoch, {"filtered/test_accuracy": sign * epoch, "gap/test_mean_loss": math.nan})
    logger.end("a", "finished")
    logger.close()
    assert logger.failure is None
    for sign, trial in ((1, "a"), (-1, "b")):
        (file,) = tmp_path.glob(f"wandb/offline-run-*/run-study-{trial}.wandb")
        steps = history(file)
        assert [steps[epoch]["filtered/test_accuracy"] for epoch in range(3)] == [0, sign, 2 * sign]
        assert all("gap/test_mean_loss" not in row for row in steps.values())
        assert config(file)["optimizer.lr"] == 0.1


def test_disabled_logging_leaves_nothing_behind(tmp_path: Path) -> None:
    logger = WandbLogger(Wandb(mode="disabled"), tmp_path, "study")
    logger.start("a", {})
    logger.log("a", 0, {"x": 1.0})
    logger.end("a", "finished")
    assert list(tmp_path.iterdir()) == []


def test_trouble_with_wandb_ends_its_logging_and_not_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: Any) -> None:
        raise wandb.errors.CommError("no network")

    monkeypatch.setattr(wandb, "init", fail)
    logger = WandbLogger(Wandb(mode="online"), tmp_path, "study")
    logger.start("a", {})
    logger.log("a", 0, {"x": 1.0})
    logger.end("a", "finished")
    assert logger.failure == "W&B logging is off for the rest of this study: no network"
