from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainables import places
from trainables.checkpoints import DIGEST, Checkpoints
from trainables.places import Place


def state(epoch: int) -> dict[str, Any]:
    return {"epoch": epoch, "weights": torch.full((3, 4), float(epoch)), "nested": {"of": [None, "text", 0.5, True]}}


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    rest = {key: value for key, value in one.items() if key != "weights"}
    return torch.equal(one["weights"], other["weights"]) and rest == {k: v for k, v in other.items() if k != "weights"}


def epochs(kept: Checkpoints) -> list[int]:
    return [epoch for epoch, _ in kept.newest()]


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def planted(folder: Path, epoch: int, content: bytes) -> None:
    """A file with a checksum that is right."""
    (folder / f"{epoch:09d}.pt").write_bytes(hashlib.sha256(content).digest() + content)


def torch_file(value: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


# -------------------------------------------------------------------------------------------------- keeping, forgetting


def test_the_newest_are_kept_and_come_newest_first(tmp_path: Path) -> None:
    kept = Checkpoints(Place.of(tmp_path / "a" / "b"), keep=2)
    assert list(kept.newest()) == []
    for epoch in (0, 3, 9, 10):
        kept.save(epoch, state(epoch))
    assert files(tmp_path / "a" / "b") == ["000000009.pt", "000000010.pt"]
    found = dict(Checkpoints(Place.of(tmp_path / "a" / "b")).newest())
    assert list(found) == [10, 9]
    assert all(same(found[epoch], state(epoch)) for epoch in found)


def test_an_epoch_that_is_saved_again_replaces_the_first(tmp_path: Path) -> None:
    kept = Checkpoints(Place.of(tmp_path))
    kept.save(1, state(1))
    kept.save(1, state(7))
    ((epoch, found),) = kept.newest()
    assert epoch == 1
    assert same(found, state(7))


def test_what_is_saved_takes_the_place_of_later_ones_that_could_not_be_used(tmp_path: Path) -> None:
    kept = Checkpoints(Place.of(tmp_path), keep=1)
    planted(tmp_path, 9, b"of another program")
    kept.save(3, state(3))
    assert epochs(kept) == [3]
    assert files(tmp_path) == ["000000003.pt"]


def test_later_epochs_are_forgotten_when_the_record_does_not_have_them(tmp_path: Path) -> None:
    kept = Checkpoints(Place.of(tmp_path), keep=5)
    for epoch in range(5):
        kept.save(epoch, state(epoch))
    kept.forget(after=2)
    assert epochs(kept) == [2, 1, 0]
    kept.forget(after=-1)
    assert epochs(kept) == []


def test_a_comparison_that_has_ended_leaves_nothing(tmp_path: Path) -> None:
    kept = Checkpoints(Place.of(tmp_path / "a"))
    kept.remove()  # there is nothing yet
    kept.save(1, state(1))
    (tmp_path / "a" / "hang.txt").write_text("where it hung")
    kept.remove()
    assert list(tmp_path.iterdir()) == []
    assert epochs(kept) == []


def test_other_files_are_no_checkpoints(tmp_path: Path) -> None:
    kept = Checkpoints(Place.of(tmp_path))
    kept.save(1, state(1))
    (tmp_path / "hang.txt").write_text("")
    (tmp_path / "000000007.pt.part").write_bytes(b"cut short")
    (tmp_path / "best.pt").write_bytes(b"somebody's")
    (tmp_path / "000000008.pt").mkdir()
    assert epochs(kept) == [1]


# --------------------------------------------------------------------------------------------------------------- damage


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A folder with the checkpoints of epochs 1 and 2, and what the newer one holds."""
    folder = tmp_path_factory.mktemp("two")
    kept = Checkpoints(Place.of(folder))
    for epoch in (1, 2):
        kept.save(epoch, state(epoch))
    return folder, (folder / "000000002.pt").read_bytes()


def falls_back(two: tuple[Path, bytes], damage: Callable[[bytes], bytes]) -> bool:
    folder, content = two
    (folder / "000000002.pt").write_bytes(damage(content))
    ((epoch, found),) = Checkpoints(Place.of(folder)).newest()
    return epoch == 1 and same(found, state(1))


@given(share=st.floats(0, 1, exclude_max=True))
def test_one_that_was_cut_short_anywhere_falls_back_to_the_one_before(two: tuple[Path, bytes], share: float) -> None:
    assert falls_back(two, lambda content: content[: int(share * len(content))])


@pytest.mark.parametrize("length", [0, 1, DIGEST - 1, DIGEST, DIGEST + 1, -1])
def test_one_that_was_cut_short_about_its_checksum_falls_back(two: tuple[Path, bytes], length: int) -> None:
    assert falls_back(two, lambda content: content[:length])


@given(share=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_one_in_which_a_bit_has_flipped_falls_back_to_the_one_before(
    two: tuple[Path, bytes], share: float, bit: int
) -> None:
    def flip(content: bytes) -> bytes:
        place = int(share * len(content))
        return content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]

    assert falls_back(two, flip)


def test_one_to_which_something_was_added_falls_back(two: tuple[Path, bytes]) -> None:
    assert falls_back(two, lambda content: content + b"\0")


class Malicious:
    """Pickled, it is a call that leaves a file behind."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.file}",)


def test_code_is_not_run_though_its_checksum_is_right(tmp_path: Path) -> None:
    kept = Checkpoints(Place.of(tmp_path / "kept"))
    kept.save(1, state(1))
    trace = tmp_path / "it_ran"
    planted(tmp_path / "kept", 2, torch_file({"epoch": 2, "weights": Malicious(trace)}))
    assert epochs(kept) == [1]
    assert not trace.exists()
    torch.load(io.BytesIO(torch_file({"weights": Malicious(trace)})), weights_only=False)
    assert trace.exists()  # it would have


@pytest.mark.parametrize(
    "content",
    [b"", b"text", b"PK\x03\x04", b"\x80\x02." * 9, torch_file([1, 2]), torch_file(torch.ones(3)), torch_file(None)],
)
def test_what_holds_no_state_falls_back_though_its_checksum_is_right(tmp_path: Path, content: bytes) -> None:
    kept = Checkpoints(Place.of(tmp_path))
    kept.save(1, state(1))
    planted(tmp_path, 2, content)
    assert epochs(kept) == [1]


def test_a_crash_while_one_is_written_leaves_those_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Checkpoints(Place.of(tmp_path), keep=1)
    kept.save(1, state(1))

    def full(path: str) -> None:
        assert path.endswith(".part")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(places, "_to_disk", full)
    with pytest.raises(OSError, match="No space left"):
        kept.save(2, state(2))
    assert epochs(kept) == [1]
    assert files(tmp_path) == ["000000001.pt"]  # what was cut short takes no room
    monkeypatch.undo()
    kept.save(2, state(2))
    assert epochs(kept) == [2]


def test_a_folder_that_cannot_be_written_is_an_error_of_the_system(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        Checkpoints(Place.of(tmp_path / "file" / "kept")).save(1, state(1))
