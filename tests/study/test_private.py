"""Private folders: a live process's stays, wherever that process lives; a dead one's goes."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from study import private

ORPHANS: list[int] = []


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Where the folders of these tests are made."""
    monkeypatch.setattr(private, "temporary", lambda: tmp_path)
    yield tmp_path
    while ORPHANS:
        os.kill(ORPHANS.pop(), signal.SIGKILL)


@contextmanager
def another_process(place: Path, *namespace: str) -> Iterator[Path]:
    """The private folder of a process that lives for the block and is then killed; its child lives on."""
    program = f"""
import pathlib, subprocess
from study import private
private.temporary = lambda: pathlib.Path({str(place)!r})
folder = private.make()
child = subprocess.Popen(["sleep", "60"], close_fds=False)  # as careless as may be
print(folder, child.pid, flush=True)
input()
"""
    command = [*namespace, sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        folder, child = process.stdout.readline().split()
        yield Path(folder)
        process.kill()
    if not namespace:
        ORPHANS.append(int(child))


def test_the_folder_of_a_live_process_stays_and_that_of_a_dead_one_goes(place: Path) -> None:
    ours = private.make()
    with another_process(place) as theirs:
        private.remove(private.make())
        assert theirs.is_dir()
        assert ours.is_dir()
        assert theirs.stat().st_mode & 0o777 == 0o700
    private.remove(private.make())
    assert not theirs.exists()  # though a child of its process lives
    private.remove(ours)
    assert list(place.iterdir()) == []


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("unshare"), reason="only root can make a PID namespace")
def test_the_folder_of_a_process_in_another_container_stays(place: Path) -> None:
    namespace = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
    with another_process(place, *namespace) as theirs:
        private.remove(private.make())
        assert theirs.is_dir()


def test_what_is_not_known_to_be_dead_stays(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    older = place / f"{private.PREFIX}999999999-abc"  # of a version that named them by process ids
    older.mkdir()
    with monkeypatch.context() as elsewhere:
        kernel = place / "boot_id"
        kernel.write_text("another host's")
        elsewhere.setattr(private, "BOOT", kernel)
        with another_process(place):
            pass
        theirs = private.make()
    os.close(private._held.pop(theirs))  # as if that host's process had died, or its locks were not seen here
    private.remove(private.make())
    assert older.is_dir()
    assert theirs.is_dir()


def test_a_folder_that_is_taken_for_a_dead_ones_before_it_is_locked_is_made_again(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, taken = private.fcntl.flock, []

    def late(file: int, operation: int) -> None:
        if not taken and operation == private.fcntl.LOCK_EX:
            (folder,) = place.iterdir()
            folder.rmdir()
            taken.append(folder)
        lock(file, operation)

    monkeypatch.setattr(private.fcntl, "flock", late)
    folder = private.make()
    assert taken
    assert taken[0] != folder
    assert folder.is_dir()
    private.remove(folder)


def test_where_nothing_can_be_locked_folders_stay(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(file: int, operation: int) -> None:
        raise OSError("no locks available")

    monkeypatch.setattr(private.fcntl, "flock", unsupported)
    theirs, ours = private.make(), private.make()
    assert theirs.is_dir()
    private.remove_all()
    assert not theirs.exists()
    assert not ours.exists()
