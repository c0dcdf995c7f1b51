"""Output that cannot be written, in processes of their own where descriptors matter."""

import io
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from study import messages, terminal
from study.recorder import FILENAME
from study.runner import Interrupts

SMALL = ["--set", "model.name=FCNet10", "--set", "dataset.samples_per_class=30", "--set", "wandb.mode=disabled"]


def shell(command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which ``fs`` is the program; the exit code is the program's own."""
    line = f'fs() {{ "{sys.executable}" -m study "$@"; }}; {command}; exit ${{PIPESTATUS[0]}}'
    return subprocess.run(["bash", "-c", line], cwd=cwd, capture_output=True, text=True, timeout=280, check=False)


@pytest.mark.parametrize("verb", ["show quickstart", "ls"])
def test_a_verb_whose_output_nobody_can_read_says_why(tmp_path: Path, verb: str) -> None:
    full = shell(f"fs {verb} > /dev/full", tmp_path)
    assert (full.returncode, full.stderr) == (2, "standard output cannot be written: No space left on device\n")
    piped = shell(f"fs {verb} | head -c 0", tmp_path)
    assert (piped.returncode, piped.stderr) == (141, "")
    closed = shell(f"fs {verb} >&- 2>&- <&-", tmp_path)
    assert closed.returncode == 0


def test_characters_that_the_terminal_lacks_are_replaced_and_a_gap_keeps_its_sign(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for encoding, shown in (("ascii", "-2.20 pp - ? ..."), ("cp1252", "-2.20 pp – ? …")):
        binary = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(binary, encoding))
        with terminal.lenient():
            print("−2.20 pp – 中 …")
        assert binary.getvalue().decode(encoding) == f"{shown}\n"


def test_a_name_that_is_no_unicode_can_be_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    binary = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(binary, "utf-8"))
    with terminal.lenient():
        print(os.fsdecode(b"caf\xe9"))
    assert binary.getvalue() == b"caf?\n"


def test_a_message_is_kept_where_the_terminal_has_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as broken:
        monkeypatch.setattr(sys, "stdout", broken)
        with terminal.lenient():
            with messages.kept(tmp_path, print) as say:
                say("no checkpoint could be written")
            assert terminal.exit_code() == 0
    lines = [line[20:] for line in (tmp_path / messages.FILENAME).read_text().splitlines()]
    assert lines == ["no checkpoint could be written", "standard output cannot be written: Broken pipe"]


def test_a_message_is_shown_where_it_cannot_be_kept(tmp_path: Path) -> None:
    shown: list[str] = []
    with messages.kept(tmp_path / "gone", shown.append) as say:
        say("the disk is full")
    assert shown == ["the disk is full"]


def test_nohup_stays_nohup(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts(print).heeded():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.slow
@pytest.mark.parametrize("streams", [">/dev/full 2>/dev/full", ">&- 2>&- <&-"])
def test_a_comparison_is_trained_whoever_listens(tmp_path: Path, streams: str) -> None:
    arguments = f"{' '.join(SMALL)} --set epochs=1 --dir one --no-report"
    done = shell(f"PYTHONIOENCODING=ascii fs train {arguments} {streams}", tmp_path)
    assert done.returncode == 0
    with closing(sqlite3.connect(tmp_path / "one" / FILENAME)) as connection:
        assert connection.execute("SELECT status FROM trials").fetchall() == [("finished",)]
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.slow
def test_a_study_goes_on_where_nobody_listens(tmp_path: Path) -> None:
    sets = " ".join([*SMALL, *["--set", "epochs=2", "--set", "search.trials=1", "--set", "scheduler.name=none"]])
    done = shell(f"fs run quickstart {sets} --dir one 2>&1 | head -c 0", tmp_path)
    assert done.returncode == 0
    assert (tmp_path / "one" / FILENAME).is_file()
    assert (tmp_path / "one" / "report.html").is_file()
    assert "Broken pipe" in (tmp_path / "one" / messages.FILENAME).read_text()
