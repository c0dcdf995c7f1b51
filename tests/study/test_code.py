"""Code of a researcher's own: found, written down, compared, and taken along; and needed by nothing that only reads."""

import json
import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from study import code
from study.code import ChangedCode
from study.experiment import Experiment, ExperimentError, load
from study.folder import create
from study.source import SourceError
from tests.study.drills import Driver, filter_study
from tests.study.lab import laboratory
from trainables.imports import CodeError, provide

FILE: dict[str, Any] = {
    "about": {"title": "Mine", "question": "Is it calibrated?"},
    "dataset": {"samples_per_class": 30, "validation_fraction": 0.2},
    "model": {"name": "FCNet10"},
    "batch_size": 16,
    "epochs": 3,
    "code": "lab",
    "space": {"optimizer.lr": {"choice": [0.05, 0.1]}},
    "search": {"name": "grid"},
    "objective": {"metric": "gap/validation_calibration"},
    "scheduler": {"name": "none"},
    "recovery": {"checkpoint_seconds": 0},
    "wandb": {"mode": "disabled"},
}


def written(folder: Path, package: str, **sections: Any) -> Path:
    """An experiment with a metric of its own, in the package ``package`` of the folder ``lab`` beside it."""
    laboratory(folder / "lab", package)
    metrics = {"calibration": {"use": f"{package}.metrics:ece", "bins": 10}}
    file = folder / "mine.yaml"
    file.write_text(yaml.safe_dump({**FILE, "metrics": metrics, **sections}))
    return file


def test_folders_are_seen_from_the_experiments_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path / "here", "lab_seen")
    monkeypatch.chdir(tmp_path)
    experiment = load(str(file), code=["here"])
    assert experiment.code == (str(tmp_path / "here" / "lab"), str(tmp_path / "here"))
    assert load("here/mine.yaml").code == experiment.code[:1]


def test_what_a_function_declares_stands_in_the_experiment(tmp_path: Path) -> None:
    experiment = load(str(written(tmp_path, "lab_declared")))
    assert experiment.trial["metrics.calibration.direction"] == "min"
    assert experiment.trial["metrics.calibration.unit"] == "fraction"
    assert experiment.columns.by_name["test_calibration"].direction == -1
    assert experiment.modes == ("max",)
    turned = load(str(tmp_path / "mine.yaml"), ["metrics.calibration.direction=max"])  # the file's word counts
    assert turned.columns.by_name["test_calibration"].direction == 1


def test_a_scheduler_looks_at_what_the_objective_measures(tmp_path: Path) -> None:
    experiment = load(str(written(tmp_path, "lab_scheduled")), ["scheduler.name=asha"])
    assert experiment.scheduled == ("better/validation_calibration", "min")


def test_mistakes_are_told_at_once(tmp_path: Path) -> None:
    bad = "lab_wrong.metrics"
    metrics = {
        "calibration": {"use": f"{bad}:ecce"},
        "plain": {"use": f"{bad}:undeclared"},
        "other": {"use": "lab_wrong.nowhere:f", "direction": "up"},
    }
    with pytest.raises(ExperimentError) as caught:
        load(str(written(tmp_path, "lab_wrong", metrics=metrics)))
    lines = caught.value.errors
    assert len(lines) == 4
    assert lines[0].startswith("metrics.calibration.use: 'lab_wrong.metrics:ecce': ")
    assert "there is no module 'lab_wrong.nowhere'" in lines[1]
    assert lines[2].startswith("metrics.plain.direction: is missing: say which values are better")
    assert lines[3].startswith("metrics.other.direction: ")


def test_code_that_raises_is_named_with_file_and_line(tmp_path: Path) -> None:
    file = written(tmp_path, "lab_raising")
    broken = tmp_path / "lab" / "lab_raising" / "metrics.py"
    broken.write_text("import math\n\nmath.sqrt(-1)\n")
    with pytest.raises(ExperimentError, match=rf"metrics\.calibration\.use: .*ValueError: .* \({broken}, line 3\)"):
        load(str(file))
    broken.write_text("def (\n")
    with pytest.raises(ExperimentError, match=rf"SyntaxError: .* \({broken}, line 1\)"):
        load(str(file))


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    file = written(tmp_path, "lab_absent", code="labor")
    with pytest.raises(ExperimentError, match=r"code: '.*/labor' is no folder; name the folder .* with --code DIR"):
        load(str(file))


def test_a_metrics_code_is_the_same_in_all_comparisons(tmp_path: Path) -> None:
    space = {"metrics.calibration.bins": {"choice": [5, 10]}, "metrics.calibration.direction": {"choice": ["min"]}}
    with pytest.raises(ExperimentError) as caught:
        load(str(written(tmp_path, "lab_searched", space=space)))
    assert caught.value.errors == [
        "space.metrics.calibration.direction: is the same in all comparisons of a study; set it once, or declare two "
        "metrics"
    ]


def test_a_module_that_another_of_its_name_hides_is_refused(tmp_path: Path) -> None:
    (tmp_path / "colorsys.py").write_text("def f(logits, labels):\n    return 1.0\n")  # there is one in Python itself
    metrics = {"hue": {"use": "colorsys:hls_to_rgb", "direction": "none"}}
    file = written(tmp_path, "lab_hidden", metrics=metrics, code=".", objective={"metric": "gap/test_accuracy"})
    with pytest.raises(ExperimentError, match="give that module another name"):
        code.check(load(str(file)))


def experiment_of(folder: Path, package: str) -> Experiment:
    return load(str(written(folder, package)))


def test_the_manifest_says_which_code_a_study_uses(tmp_path: Path) -> None:
    create(tmp_path / "study", experiment_of(tmp_path, "lab_manifest"))
    said = json.loads((tmp_path / "study" / "manifest.json").read_text())[code.FIELD]
    (use,) = said["uses"]
    assert use["key"] == "metrics.calibration.use"
    assert use["file"] == str(tmp_path / "lab" / "lab_manifest" / "metrics.py")
    assert [set(folder["files"]) for folder in said["folders"]] == [
        {"lab_manifest/__init__.py", "lab_manifest/methods.py", "lab_manifest/metrics.py"}
    ]


def test_installed_code_is_known_by_its_version(tmp_path: Path) -> None:
    metrics = {"plain": {"use": "torchmetrics_is_not_here:f", "direction": "min"}}
    with pytest.raises(ExperimentError):
        load(str(written(tmp_path, "lab_installed", metrics=metrics)))
    used = code._used("metrics.x.use", "numpy:mean", ())
    assert used.origin.startswith("numpy ")
    now = {"uses": [used._asdict()]}
    before = {"uses": [{**used._asdict(), "origin": "numpy 1.0", "digest": "other"}]}
    (line,) = code.changes(before, now)
    assert "was numpy 1.0" in line


def test_changed_code_is_refused_by_the_name_of_its_file_unless_that_is_allowed(tmp_path: Path) -> None:
    experiment = experiment_of(tmp_path, "lab_changed")
    before = code.record(experiment)
    assert code.demand_unchanged(experiment, before, False, tmp_path) is None
    assert code.demand_unchanged(experiment, {}, False, tmp_path) is None  # of a study that wrote nothing down
    (tmp_path / "lab" / "lab_changed" / "metrics.py").write_text("x = 1\n")
    (tmp_path / "lab" / "new.py").write_text("y = 1\n")
    with pytest.raises(ChangedCode, match=r"metrics\.py has changed; .*new\.py is new\. .*--allow-changed-code"):
        code.demand_unchanged(experiment, before, False, tmp_path)
    noted = code.demand_unchanged(experiment, before, True, tmp_path)
    assert noted is not None
    assert [len(change["changed"]) for change in noted["changes"]] == [2]
    assert code.demand_unchanged(experiment, noted, False, tmp_path) is None


def test_a_folder_may_move(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = experiment_of(tmp_path, "lab_moved")
    before = code.record(experiment)
    shutil.copytree(tmp_path / "lab", tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "lab")
    for name in [name for name in sys.modules if name.startswith("lab_moved")]:  # as in a process of its own
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(tmp_path / "lab")])
    with pytest.raises(CodeError, match="no folder"):
        code.demand_unchanged(experiment, before, False, tmp_path)
    moved = experiment.model_copy(update={"code": (str(tmp_path / "elsewhere"),)})
    assert code.demand_unchanged(moved, before, False, tmp_path) is None


def test_what_is_shipped_is_found_where_it_arrives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = laboratory(tmp_path / "lab", "lab_shipped")
    (lab / "classes.txt").write_text("a b c")
    (lab / "large.bin").write_bytes(bytes(code.LARGEST + 1))
    for hidden in (".git", "__pycache__", "study"):
        (lab / hidden).mkdir()
        (lab / hidden / "x.py").touch()
    (lab / "study" / "study.sqlite").touch()
    with code.staged([str(lab)]) as package:
        assert package is not None
        monkeypatch.syspath_prepend(str(package.parent))
        (place,) = code.shipped(package, [str(lab)])
        (found,) = provide([place])
        monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != found])
        names = {path.relative_to(found).as_posix() for path in Path(found).rglob("*") if path.is_file()}
        assert names == {"classes.txt", "lab_shipped/__init__.py", "lab_shipped/methods.py", "lab_shipped/metrics.py"}
        assert code.digest(found) == code.digest(str(lab))
    with code.staged(()) as nothing:
        assert nothing is None


def test_workers_with_other_code_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = experiment_of(tmp_path, "lab_workers")
    use = "lab_workers.metrics:ece"
    for answer, message in ((("", "/there", "other"), "would run other code"), (("no module", "", ""), "no module")):
        monkeypatch.setattr(code, "ask_nodes", lambda *_, answer=answer: iter([("host", {use: answer})]))
        with pytest.raises(SourceError, match=message):
            code.check_workers(experiment, experiment.code)
    monkeypatch.setattr(code, "ask_nodes", lambda function, *arguments: iter([("host", function(*arguments))]))
    code.check_workers(experiment, experiment.code)


def test_validate_says_which_code_it_found(tmp_path: Path) -> None:
    file = written(tmp_path, "lab_validated")
    done = filter_study("validate", file, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    place = tmp_path / "lab" / "lab_validated" / "metrics.py"
    assert f"own code: metrics.calibration.use lab_validated.metrics:ece ({place})" in done.stdout
    raising = ["metrics.calibration.use=lab_validated.metrics:raising", "metrics.calibration.direction=min"]
    sets = [part for one in raising for part in ("--set", one)]
    done = filter_study("validate", file, *sets, cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_study_with_its_own_metric_runs_goes_on_and_is_read_without_the_code(tmp_path: Path) -> None:
    file = written(tmp_path, "lab_drill", epochs=12, space={"optimizer.lr": {"choice": [0.02, 0.05, 0.1]}})
    study = tmp_path / "study"
    driver = Driver("run", file, "--dir", "study", study=study)
    driver.until_epochs(6)
    driver.kill()

    def look(*arguments: str) -> str:
        done = filter_study(*arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout

    away = shutil.move(tmp_path / "lab", tmp_path / "away")
    done = filter_study("resume", "study", cwd=tmp_path)
    assert done.returncode == 2
    assert "is no folder; name the folder that the code lies in now with --code DIR" in done.stderr
    look("status", "study")
    metrics = Path(away) / "lab_drill" / "metrics.py"
    metrics.write_text(metrics.read_text() + "\n# another line\n")
    done = filter_study("resume", "study", "--code", "away", cwd=tmp_path)
    assert done.returncode == 2
    assert "away/lab_drill/metrics.py has changed" in done.stderr
    look("resume", "study", "--code", "away", "--allow-changed-code", "--no-report")
    said = json.loads((study / "manifest.json").read_text())[code.FIELD]
    assert [change["changed"] for change in said["changes"]] == [[f"{metrics} has changed"]]
    with closing(sqlite3.connect(study / "study.sqlite")) as connection:
        rows = connection.execute("SELECT count(*), count(test_calibration) FROM epochs").fetchone()
        assert rows == (3 * 2 * 13, 3 * 2 * 13)
        statuses = connection.execute("SELECT DISTINCT status FROM trials").fetchall()
    assert statuses == [("finished",)]
    shutil.rmtree(away)
    assert "test calibration" in look("gaps", "study", "--metric", "test_calibration", "--by", "optimizer.lr")
    look("export", "study", "--format", "csv")
    assert "test_calibration" in (study / "tables" / "columns.csv").read_text()
    look("report", "study")
    assert "test calibration" in (study / "report.html").read_text()
    look("ls")


@pytest.mark.slow
def test_code_that_raises_while_training_fails_its_comparison_and_says_where(tmp_path: Path) -> None:
    metrics = {"odd": {"use": "lab_late.metrics:late", "direction": "max"}}
    file = written(
        tmp_path, "lab_late", metrics=metrics, epochs=8, objective={"metric": "gap/test_accuracy"}, batch_size=8
    )
    done = filter_study("run", file, "--dir", "study", "--no-report", cwd=tmp_path)
    assert done.returncode == 1
    with closing(sqlite3.connect(tmp_path / "study" / "study.sqlite")) as connection:
        found = connection.execute("SELECT status, error FROM trials").fetchall()
    place = tmp_path / "lab" / "lab_late" / "metrics.py"
    for status, error in found:
        assert status == "failed"
        assert "ValueError: too sure" in error
        assert f"{place}, line" in error
        assert "\n" not in error
