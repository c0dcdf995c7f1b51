import errno
import fcntl
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from study import folder as folders
from study.experiment import Experiment
from study.folder import LOCK, FolderError, create, existing, in_use, keep, locked, made, new
from study.recorder import Recorder


def test_folders_that_are_made_in_one_second_have_names_of_their_own(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: new(tmp_path / "studies", "mine"), range(16)))
    assert len(set(found)) == 16
    assert sorted(found) == sorted((tmp_path / "studies").iterdir())
    assert all(re.fullmatch(r"mine-\d{8}-\d{6}(-\d+)?", folder.name) for folder in found)


def test_a_name_that_is_too_long_for_a_folder_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="File name too long; name another folder with --dir"):
        new(tmp_path, "x" * 250)


def test_a_second_driver_is_refused_with_the_first_and_what_to_do(tmp_path: Path) -> None:
    folder = made(tmp_path / "my study")
    with locked(folder):
        assert in_use(folder) is True
        with pytest.raises(FolderError) as refused, locked(folder):
            pass
    assert f"is in use by process {os.getpid()} on " in str(refused.value)
    assert "another machine" not in str(refused.value)
    assert str(refused.value).endswith(f"filter-study status '{folder}'")
    assert in_use(folder) is False


def test_a_driver_of_another_machine_is_told_as_such(tmp_path: Path) -> None:
    with (tmp_path / LOCK).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write("process 7 on elsewhere\n")
        file.flush()
        with pytest.raises(FolderError, match="process 7 on elsewhere, another machine"), locked(tmp_path):
            pass


def test_whoever_looks_for_a_moment_keeps_no_driver_out(tmp_path: Path) -> None:
    with (tmp_path / LOCK).open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        threading.Timer(0.1, fcntl.flock, (file, fcntl.LOCK_UN)).start()
        with locked(tmp_path):
            pass


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL])
def test_a_file_system_without_locks_is_not_a_study_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    with locked(tmp_path):
        pass

    def refuse(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(FolderError) as refused, locked(tmp_path):
        pass
    assert f"{tmp_path} cannot be locked: {os.strerror(number)}. Its file system has no locks" in str(refused.value)
    assert "in use" not in str(refused.value)
    assert in_use(tmp_path) is None


def test_a_study_that_cannot_be_written_is_told_as_such_and_can_be_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with locked(tmp_path):
        pass
    opened = Path.open

    def read_only(self: Path, mode: str = "r", *more: Any, **named: Any) -> Any:
        if mode != "r":
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return opened(self, mode, *more, **named)

    monkeypatch.setattr(Path, "open", read_only)
    with pytest.raises(FolderError, match=r"cannot be written: Read-only file system; .* cp -r"), locked(tmp_path):
        pass
    assert in_use(tmp_path) is False


def test_what_is_no_study_says_why(tmp_path: Path, small: Callable[..., Experiment]) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    for path, message in (
        ("file", "file is a file; give the folder of a study"),
        ("empty", "holds no study: there is no experiment.yaml in it"),
        ("emty", r"is not there; did you mean .*empty\?"),
        ("else/where", "is not there; give the folder of a study"),
    ):
        with pytest.raises(FolderError, match=message):
            existing(tmp_path / path)
    with pytest.raises(FolderError, match="is a file; name a folder"):
        made(tmp_path / "file")
    create(tmp_path / "study", small())
    assert existing(tmp_path / "study") == tmp_path / "study"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file", "study"]


def test_an_experiment_that_cannot_be_kept_is_one_message(
    tmp_path: Path, small: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch
) -> None:
    create(tmp_path / "study", small())
    before = (tmp_path / "study" / folders.EXPERIMENT).read_bytes()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(FolderError, match="cannot be written: No space left on device"):
        keep(tmp_path / "study", small(epochs=9))
    assert (tmp_path / "study" / folders.EXPERIMENT).read_bytes() == before


READ = """
import sys
from pathlib import Path
from analysis.status import status
from study import folder as folders
from study.recorder import Recorder
from trainables.errors import UserError

folder = Path(sys.argv[1])
print(status(folder, 0.0).done, folders.in_use(folder))
for block in (folders.locked, Recorder):
    try:
        with block(folder):
            pass
    except UserError as error:
        print(error)
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_a_study_on_a_file_system_without_locks_can_be_read(tmp_path: Path) -> None:
    source, library = Path(__file__).parent / "nolock.c", tmp_path / "nolock.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    folder = tmp_path / "lustre"
    with locked(made(folder)), Recorder(folder):
        pass
    environment = {**os.environ, "LD_PRELOAD": str(library), "NOLOCK": str(folder)}
    command = [sys.executable, "-c", READ, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    first, lock, record = done.stdout.splitlines()
    assert first == "0 None"
    assert f"{folder} cannot be locked: Function not implemented" in lock
    assert "study.sqlite cannot be written: disk I/O error. Its file system lacks the locks" in record
