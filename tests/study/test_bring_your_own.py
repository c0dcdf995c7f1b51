"""A laboratory of one's own as a researcher has it, in a folder outside this one: from ``validate`` to a report without
the folder."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from study import code
from study.recorder import FILENAME
from tests.study.drills import Driver, assert_same, filter_study

EXAMPLES = Path(__file__).parents[2] / "examples"
OPTION = "arms.mine.selector.keep"
SMALL = ("epochs=4", "dataset.train=24", "dataset.test=12", "resources.cpu=1", "recovery.checkpoint_seconds=0")
SETS = [part for one in SMALL for part in ("--set", one)]
COMPARISONS, ARMS, ROWS = 6, 3, 5  # rows of each arm: epoch 0 to 4


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with a copy of the examples in ``lab``."""
    shutil.copytree(EXAMPLES, tmp_path / "lab", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def said(home: Path, *arguments: str) -> str:
    """What a command line prints that must succeed."""
    done = filter_study(*arguments, cwd=home)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def test_validate_says_what_each_part_of_the_laboratory_is(home: Path) -> None:
    text = said(home, "validate", "lab/bring_your_own.yaml")
    assert "336 training, 84 validation, 210 test images of 3 x 48 x 48" in text
    assert "in 7 classes (disc, ring, square, cross, triangle, bars, checks)" in text
    assert "my_lab.nets:vit: 49,447 parameters, output [n, 7]" in text
    for key, module in (
        ("dataset.use my_lab.data:shapes", "data"),
        ("model.use my_lab.nets:vit", "nets"),
        ("arms.mine.selector.use my_lab.method:Surprising", "method"),
        ("metrics.calibration.use my_lab.metrics:ece", "metrics"),
    ):
        assert f"own code: {key} ({home / 'lab' / 'my_lab' / module}.py)" in text


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("arms.mine.selector.kept=0.5", "arms.mine.selector.kept"),
        ("arms.mine.selector.keep=2", "arms.mine.selector.keep"),
        ("dataset.sise=48", "dataset.sise"),
        ("model.drop=0.5", "model.drop"),
        ("metrics.calibration.bin=5", "bin"),
        ("model.width=50", "nets.py, line"),
        ("arms.mine.selector.use=my_lab.method:Nothing", "my_lab.method:Nothing"),
    ],
)
def test_a_mistake_is_one_message_before_anything_runs(home: Path, setting: str, message: str) -> None:
    space = [] if "selector.keep" not in setting else ["--set", "space={seed: {choice: [0, 1]}}"]
    done = filter_study("validate", "lab/bring_your_own.yaml", *space, "--set", setting, cwd=home)
    assert done.returncode == 2, done.stdout
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)  # three studies, one after the other
def test_a_laboratory_of_ones_own_is_killed_goes_on_and_is_read_without_its_folder(home: Path) -> None:
    study = home / "study"
    driver = Driver("run", "lab/bring_your_own.yaml", *SETS, "--dir", "study", study=study)
    driver.until_epochs(5)
    driver.kill()
    with closing(sqlite3.connect(study / FILENAME)) as connection:
        done = connection.execute("SELECT count(*) FROM trials WHERE status = 'finished'").fetchone()[0]
    assert done < COMPARISONS
    said(home, "resume", "study", "--no-report")
    said(home, "run", "lab/bring_your_own.yaml", *SETS, "--dir", "undisturbed", "--no-report")
    assert_same(study, home / "undisturbed")
    with closing(sqlite3.connect(study / FILENAME)) as connection:
        rows = connection.execute("SELECT count(*), count(test_calibration), count(test_accuracy) FROM epochs")
        assert rows.fetchone() == (COMPARISONS * ARMS * ROWS,) * 3
        kept = connection.execute(
            "SELECT arm, sum(samples_trained) FROM epochs WHERE epoch > 0 GROUP BY arm ORDER BY arm"
        )
        trained = dict(kept.fetchall())
    assert trained["random"] == trained["mine"] < trained["archetype"]

    uses = {use["use"] for use in json.loads((study / "manifest.json").read_text())[code.FIELD]["uses"]}
    assert uses == {"my_lab.data:shapes", "my_lab.nets:vit", "my_lab.method:Surprising", "my_lab.metrics:ece"}
    with_folder = answers(home)
    shutil.rmtree(home / "lab")
    shutil.rmtree(home / "undisturbed")
    assert answers(home) == with_folder
    assert "test calibration" in said(home, "gaps", "study", "--metric", "test_calibration")


def answers(home: Path) -> list[str]:
    """What those who read the study see: each must show the method's own option, and the metric."""
    study = home / "study"
    gaps = said(home, "gaps", "study", "--by", OPTION)
    assert OPTION in gaps
    assert all(keep in gaps for keep in ("0.25", "0.5", "0.75"))
    said(home, "report", "study")
    page = (study / "report.html").read_text()
    assert OPTION in page
    assert "test calibration" in page
    assert "triangle" in page  # the classes have names
    said(home, "export", "study", "--format", "csv")
    columns = (study / "tables" / "columns.csv").read_text()
    assert "test_calibration" in columns
    assert f"{COMPARISONS}" in said(home, "status", "study")
    return [gaps, columns]
