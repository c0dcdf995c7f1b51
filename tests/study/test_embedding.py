"""Studies within a program that has threads, an event loop and a Ray of its own, and that goes on afterwards."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

import trainables
from study.environment import environment
from tests.study import embedding

pytestmark = pytest.mark.xdist_group("runner")

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_program_of_ones_own_runs_studies_and_goes_on(tmp_path: Path) -> None:
    foreign, studies = tmp_path / "foreign", tmp_path / "studies"
    (foreign / "trainables").mkdir(parents=True)
    (foreign / "trainables" / "__init__.py").write_text("VERSION = 'another'")
    studies.mkdir()
    with TemporaryDirectory(prefix="ray-") as ray:  # short: socket paths have a limit
        done = subprocess.run(
            [sys.executable, embedding.__file__, foreign, studies],
            env={**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "RAY_TMPDIR": ray},
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    ours = Path(trainables.__file__).parent
    assert f"trainables is {foreign / 'trainables'}, not {ours}" in seen.pop("foreign")
    assert seen == {
        "own": {"finished": 1},
        "ended": True,
        "changed by one of its own": [],
        "shared": {"finished": 1},
        "changed by a shared one": [],
        "counter": 1,
        "free": "free",
    }


def test_environment_variables_are_as_they_were_after_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEPT", "before")
    monkeypatch.delenv("MADE", raising=False)
    with contextlib.suppress(RuntimeError), environment({"KEPT": "within", "MADE": "within"}):
        assert (os.environ["KEPT"], os.environ["MADE"]) == ("within", "within")
        raise RuntimeError
    assert os.environ["KEPT"] == "before"
    assert "MADE" not in os.environ


def test_importing_the_program_changes_no_environment() -> None:
    program = "import os; before = dict(os.environ); import study.cluster, study.cli; assert os.environ == before"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
