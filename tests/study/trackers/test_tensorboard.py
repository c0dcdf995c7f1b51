import math
import os
import struct
from pathlib import Path
from typing import Any

import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

from study.trackers.tensorboard import TensorBoardTracker


def crc32c(data: bytes) -> int:
    """Castagnoli's checksum, bit by bit."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def masked(data: bytes) -> int:
    value = crc32c(data)
    return ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF


def events(file: Path) -> list[Any]:
    """The events of a file: length, checksum of the length, event, checksum of the event."""
    data, found, position = file.read_bytes(), [], 0
    while position < len(data):
        length, check = struct.unpack_from("<QI", data, position)
        assert check == masked(data[position : position + 8])
        payload = data[position + 12 : position + 12 + length]
        assert struct.unpack_from("<I", data, position + 12 + length) == (masked(payload),)
        found.append(Event.FromString(payload))
        position += 16 + length
    return found


def read(folder: Path) -> dict[int, dict[str, float]]:
    """What TensorBoard shows of a comparison: its files by name, and from a restart on nothing that was before."""
    shown: dict[int, dict[str, float]] = {}
    starts = 0
    for file in sorted(folder.iterdir()):
        for event in events(file):
            if event.session_log.status == SessionLog.START:
                starts += 1
                if starts > 1:  # the first is no restart
                    shown = {step: row for step, row in shown.items() if step < event.step}
            row = {value.tag: value.simple_value for value in event.summary.value if not value.HasField("metadata")}
            if row:
                assert event.step not in shown
                shown[event.step] = row
    return shown


def plugin(folder: Path) -> list[Any]:
    """What the table of hyperparameters is told."""
    return [
        HParamsPluginData.FromString(value.metadata.plugin_data.content)
        for file in sorted(folder.iterdir())
        for event in events(file)
        for value in event.summary.value
        if value.HasField("metadata")
    ]


def test_every_epoch_of_every_comparison_is_in_its_own_folder(tmp_path: Path) -> None:
    logger = TensorBoardTracker(tmp_path)
    for trial in ("0000-a", "0001-b"):
        logger.start(trial, {"optimizer.lr": 0.25, "model.name": "LeNet", "dataset.classes": None, "method": [1, 2]})
    for epoch in range(3):
        for sign, trial in ((1, "0000-a"), (-1, "0001-b")):
            logger.log(trial, epoch, {"gap/test_accuracy": sign * epoch, "gap/test_mean_loss": math.nan})
    logger.end("0000-a", "finished")
    logger.close()
    assert logger.failure is None
    for sign, trial in ((1, "0000-a"), (-1, "0001-b")):
        folder = tmp_path / "tensorboard" / trial
        assert read(folder) == {epoch: {"gap/test_accuracy": sign * epoch} for epoch in range(3)}
        experiment, start, *end = plugin(folder)
        assert [metric.name.tag for metric in experiment.experiment.metric_infos] == ["gap/test_accuracy"]
        shown = start.session_start_info.hparams
        assert shown["optimizer.lr"].number_value == 0.25
        assert shown["model.name"].string_value == "LeNet"
        assert shown["method"].string_value == "[1, 2]"
        assert "dataset.classes" not in shown
        assert len(end) == (trial == "0000-a")  # the other was interrupted


def test_an_epoch_can_be_read_as_soon_as_it_is_logged(tmp_path: Path) -> None:
    logger = TensorBoardTracker(tmp_path)
    logger.start("a", {})
    logger.log("a", 0, {"x": 1.0})
    assert read(tmp_path / "tensorboard" / "a") == {0: {"x": 1.0}}


@pytest.mark.parametrize("first", [0, 3, 5])
def test_a_resumed_comparison_goes_on_and_no_epoch_stands_twice(tmp_path: Path, first: int) -> None:
    for session, epochs in enumerate((range(5), range(first, 8))):
        logger = TensorBoardTracker(tmp_path)
        logger.start("a", {})
        for epoch in epochs:
            logger.log("a", epoch, {"x": 100 * session + epoch})
        logger.close()
        assert logger.failure is None
    expected = {epoch: {"x": epoch + (100 if epoch >= first else 0)} for epoch in range(8)}
    assert read(tmp_path / "tensorboard" / "a") == expected


def test_an_epoch_that_is_trained_again_takes_the_place_of_the_first(tmp_path: Path) -> None:
    logger = TensorBoardTracker(tmp_path)
    logger.start("a", {})
    for epoch, value in ((0, 0), (1, 1), (2, 2), (1, 11), (2, 12), (3, 13)):
        logger.log("a", epoch, {"x": value})
    assert read(tmp_path / "tensorboard" / "a") == {0: {"x": 0}, 1: {"x": 11}, 2: {"x": 12}, 3: {"x": 13}}


def test_a_comparison_that_leaves_no_epoch_leaves_no_folder(tmp_path: Path) -> None:
    logger = TensorBoardTracker(tmp_path)
    logger.start("a", {})
    logger.end("a", "failed")
    logger.log("a", 0, {"x": 1.0})
    assert list(tmp_path.iterdir()) == []


def test_trouble_with_the_disk_ends_its_logging_and_not_the_study(tmp_path: Path) -> None:
    logger = TensorBoardTracker(tmp_path)
    logger.start("a", {})
    logger.log("a", 0, {"x": 1.0})
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, logger._files["a"]._stream.fileno())
    os.close(full)
    logger.log("a", 1, {"x": 1.0})
    logger.start("b", {})
    logger.log("b", 0, {"x": 1.0})
    logger.end("a", "finished")
    logger.close()
    assert logger.failure == (
        "TensorBoard logging is off for the rest of this study: [Errno 28] No space left on device"
    )
    assert [folder.name for folder in (tmp_path / "tensorboard").iterdir()] == ["a"]
