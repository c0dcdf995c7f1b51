"""Drills: whatever ends a study, going on with it gives what an undisturbed run would have given."""

import json
import os
import pickle
import shutil
import signal
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import optuna
import pandas as pd
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from analysis.load import load
from study import manifest
from study.recorder import FILENAME
from study.searcher import JOURNAL
from study.source import sources
from study.storage import CHECKPOINTS
from tests.conftest import Bucket
from tests.study.drills import Driver, assert_same, experiment, filter_study, reached_in, tables

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A grid of six comparisons under ASHA that nothing happened to, though its working directory holds other code."""
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "trainables").mkdir()
    for name in ("trainables/__init__.py", "numpy.py", "torch.py", "study.py"):
        (folder / name).write_text("raise ImportError('this lies about in the working directory')")
    done = filter_study("run", experiment(folder), "--dir", "study", "--no-report", cwd=folder)
    assert done.returncode == 0, done.stderr
    statuses = tables(folder / "study")[0]["status"]
    assert set(statuses) == {"finished", "stopped"}
    return folder / "study"


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same study, its driver killed in the midst of its second comparison."""
    folder = tmp_path_factory.mktemp("killed")
    started(folder).until_epochs(13).kill()
    return folder / "study"


@pytest.fixture
def left(tmp_path: Path, killed: Path) -> Path:
    """A copy of what was left of the killed study."""
    return Path(shutil.copytree(killed, tmp_path / "study"))


def started(tmp_path: Path) -> Driver:
    return Driver("run", experiment(tmp_path), "--dir", "study", study=tmp_path / "study")


def resumed(tmp_path: Path) -> Driver:
    return Driver("resume", "study", study=tmp_path / "study")


def test_files_in_the_working_directory_are_not_taken_for_the_programs(undisturbed: Path) -> None:
    assert (undisturbed.parent / "numpy.py").is_file()
    assert set(tables(undisturbed)[0]["status"]) == {"finished", "stopped"}
    recorded = manifest.read(undisturbed)["code"]
    assert recorded == {name: digest for name, (_, digest) in sources().items()}


def test_a_driver_killed_twice_loses_nothing(left: Path, undisturbed: Path) -> None:
    resumed(left.parent).until_epochs(19).kill()
    output, errors = resumed(left.parent).end()
    assert "go on" in output, errors
    assert_same(left, undisturbed)
    assert not (left / CHECKPOINTS).exists()


@pytest.mark.parametrize("part", ["Trainable", "gcs_server"])
def test_a_worker_or_the_head_of_ray_killed_loses_nothing(tmp_path: Path, undisturbed: Path, part: str) -> None:
    driver = started(tmp_path).until_epochs(12)
    driver.kill_child(part)
    driver.end()
    if part == "gcs_server":
        assert driver.process.returncode != 0
        resumed(tmp_path).end()
    assert_same(tmp_path / "study", undisturbed)


def test_a_study_goes_on_where_it_is_moved_to(left: Path, undisturbed: Path) -> None:
    moved = left.parent / "elsewhere" / "renamed"
    moved.parent.mkdir()
    left.rename(moved)
    output, errors = Driver("resume", "renamed", study=moved).end()
    assert "go on" in output, errors
    assert_same(moved, undisturbed)
    assert not left.exists()


def _checkpoints(study: Path) -> list[Path]:
    """The checkpoints of the comparison that was training, newest first."""
    return sorted((study / CHECKPOINTS).rglob("*.pt"), reverse=True)


@pytest.mark.parametrize("damage", ["newest", "all", "ahead"])
def test_a_checkpoint_that_is_damaged_or_ahead_of_the_record_is_passed_over(
    left: Path, undisturbed: Path, damage: str
) -> None:
    newest, *others = _checkpoints(left)
    assert others
    if damage == "ahead":  # as if the machine had lost power before the last rows were on the disk
        with closing(sqlite3.connect(left / FILENAME)) as connection, connection:
            for table in ("epochs", "reports"):
                query = f"DELETE FROM {table} WHERE trial_id = ? AND epoch >= ?"
                connection.execute(query, (newest.parent.name, int(newest.stem)))
    for file in {"newest": [newest], "all": [newest, *others], "ahead": []}[damage]:
        os.truncate(file, file.stat().st_size // 2)
    options = []
    if damage == "all":
        refused = filter_study("resume", "study", cwd=left.parent)
        assert refused.returncode == 2
        assert f"no checkpoint can be read in {left / CHECKPOINTS} of {newest.parent.name}" in refused.stderr
        options = ["--from-start"]
    output, errors = Driver("resume", "study", *options, study=left).end()
    assert "go on" in output, errors
    assert_same(left, undisturbed)


def test_a_study_with_a_relative_storage_goes_on_from_any_folder_and_asks_where_its_checkpoints_are_gone(
    tmp_path: Path, undisturbed: Path
) -> None:
    study = tmp_path / "study"
    file = experiment(tmp_path, storage="store")
    Driver("run", file, "--dir", "study", study=study).until_epochs(13).kill()
    store = tmp_path / "store"
    newest, *_ = sorted(store.rglob("*.pt"), reverse=True)
    before = len(tables(study)[1])
    store.rename(tmp_path / "gone")
    (elsewhere := tmp_path / "elsewhere").mkdir()
    refused = filter_study("resume", study, cwd=elsewhere)
    assert refused.returncode == 2
    assert f"of {newest.parent.name} (rows up to epoch" in refused.stderr
    assert "--from-start" in refused.stderr
    assert len(tables(study)[1]) == before
    (tmp_path / "gone").rename(store)
    (store / "somebodys").write_text("")
    done = filter_study("resume", study, "--no-report", cwd=elsewhere)
    assert done.returncode == 0, done.stderr
    assert_same(study, undisturbed)
    assert [path.name for path in store.iterdir()] == ["somebodys"]
    assert list(elsewhere.iterdir()) == []


def test_a_study_with_its_checkpoints_in_a_bucket_loses_nothing_and_removes_only_its_own(
    tmp_path: Path, undisturbed: Path, bucket: Bucket
) -> None:
    foreign = ["studies/notes.txt", "studies/other/checkpoints/0001-0123abcd/000000001.pt"]
    for path in foreign:
        bucket.put(path)
    study = tmp_path / "study"
    driver = Driver("run", experiment(tmp_path, storage=bucket.uri("/studies")), "--dir", "study", study=study)
    driver.until_epochs(13).kill()
    mine = [path for path in bucket.objects() if path not in foreign]
    assert {path.rpartition(".")[2] for path in mine} == {"pt", "txt"}  # checkpoints and the claim
    _, errors = resumed(tmp_path).end()
    assert "no checkpoint" not in errors
    assert_same(study, undisturbed)
    assert bucket.objects() == foreign


def test_rows_that_are_lost_are_trained_again_and_named(left: Path, undisturbed: Path) -> None:
    with closing(sqlite3.connect(left / FILENAME)) as connection, connection:
        (finished,) = connection.execute("SELECT trial_id FROM trials WHERE number = 0").fetchone()
        connection.execute("DELETE FROM epochs WHERE trial_id = ? AND epoch = 5 AND arm = 'filtered'", (finished,))
    _, errors = resumed(left.parent).end()
    assert f"{finished}: rows are missing after epoch 4" in " ".join(errors.split())
    assert_same(left, undisturbed)


def test_a_damaged_page_costs_its_rows_which_are_trained_again(left: Path, undisturbed: Path) -> None:
    filter_study("export", "study", cwd=left.parent)  # settles the journal of the killed driver
    with closing(sqlite3.connect(left / FILENAME)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    content = bytearray((left / FILENAME).read_bytes())
    pages = [n for n in range(1, len(content) // size) if b"archetype" in content[n * size : (n + 1) * size]]
    rows = [n for n in pages if content[n * size] == 0x0D]  # leaves of a table, not of its index
    content[rows[0] * size : rows[0] * size + 100] = b"\xff" * 100
    (left / FILENAME).write_bytes(content)
    _, errors = resumed(left.parent).end()
    assert "damaged" in errors
    assert list(left.glob(f"{FILENAME}.damaged*"))
    assert_same(left, undisturbed)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_study_says_how_to_go_on_and_does(
    tmp_path: Path, undisturbed: Path, number: signal.Signals
) -> None:
    driver = started(tmp_path).until_epochs(12)
    _, errors = driver.kill(number)
    assert driver.process.returncode == 130
    assert "go on with: filter-study resume study" in " ".join(errors.split()).replace("Go", "go")
    assert "Traceback" not in errors
    assert (tables(tmp_path / "study")[0]["status"] == "interrupted").sum() == 1
    resumed(tmp_path).end()
    assert_same(tmp_path / "study", undisturbed)


def test_a_second_interrupt_leaves_at_once_and_the_record_whole(tmp_path: Path, undisturbed: Path) -> None:
    driver = started(tmp_path).until_epochs(12)
    os.kill(driver.process.pid, signal.SIGINT)
    driver.kill(signal.SIGINT)
    assert driver.process.returncode == 130
    assert reached_in(tmp_path / "study", lambda c: c.execute("PRAGMA integrity_check").fetchone() == ("ok",))
    resumed(tmp_path).end()
    assert_same(tmp_path / "study", undisturbed)


def test_a_full_disk_ends_a_study_that_goes_on_when_there_is_room(tmp_path: Path, undisturbed: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a small disk")
    try:
        study = disk / "study"
        driver = Driver("run", experiment(tmp_path, storage=str(tmp_path / "store")), "--dir", "study", study=study)
        _, errors = driver.end()
        assert driver.process.returncode == 2
        text = " ".join(errors.split())
        assert "cannot be written: database or disk is full" in text
        assert "filter-study resume study" in text
        assert "Traceback" not in errors
        before = len(tables(study)[1])
        assert before > 0
        subprocess.run(["mount", "-o", "remount,size=50m", disk], check=True)
        _, errors = Driver("resume", "study", study=study).end()
        assert_same(study, undisturbed)
        assert not list((tmp_path / "store").rglob("*.pt"))
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_disk_too_full_for_checkpoints_stops_no_training(tmp_path: Path, undisturbed: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("needs the right to mount a small disk")
    try:
        _, errors = Driver(
            "run", experiment(tmp_path, storage=str(disk)), "--dir", "study", study=tmp_path / "study"
        ).end()
        assert "no checkpoint of epoch" in errors
        assert_same(tmp_path / "study", undisturbed)
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_running_study_can_be_looked_at_and_a_second_driver_is_refused(tmp_path: Path) -> None:
    search = {"name": "optuna", "sampler": "random", "trials": 6}
    file = experiment(tmp_path, search=search, seeds=2, space={"optimizer.lr": {"loguniform": [0.001, 0.5]}})
    driver = Driver("run", file, "--dir", "study", "--tensorboard", study=tmp_path / "study").until_epochs(20)
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "study" / JOURNAL)))
    assert optuna.load_study(study_name=None, storage=storage).get_trials()
    looked = filter_study("status", "study", cwd=tmp_path)
    assert "of 12 comparisons done" in looked.stdout, looked.stderr
    assert "1 running" in looked.stdout
    assert filter_study("export", "study", cwd=tmp_path).returncode == 0
    assert list((tmp_path / "study" / "tensorboard").rglob("*tfevents*"))
    for arguments in (["resume", "study"], ["run", "drill.yaml", "--dir", "study"]):
        second = filter_study(*arguments, cwd=tmp_path)
        assert second.returncode == 2
        assert f"is in use by process {driver.process.pid} on" in " ".join(second.stderr.split())
    driver.kill()
    configurations = tables(tmp_path / "study")[0]["trial_id"].str.split("-").str[1]
    assert configurations[0] == configurations[1]


def test_winners_are_confirmed_on_fresh_seeds_and_the_report_quotes_them(undisturbed: Path, tmp_path: Path) -> None:
    study = Path(shutil.copytree(undisturbed, tmp_path / "study"))
    done = filter_study("confirm", "study", "--top", "1", "--seeds", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (confirmation,) = (study / "confirmations").iterdir()
    trials, epochs = tables(confirmation)
    manifest = json.loads((confirmation / "manifest.json").read_text("utf-8"))
    roles = {key: of["roles"] for key, of in manifest["confirms"]["configurations"].items()}
    assert sorted(role for of in roles.values() for role in of) == ["best baseline", "best treatment", "winner"]
    assert set(trials["trial_id"].str.split("-").str[1]) == set(roles)
    assert list(trials["status"]) == ["finished"] * 2 * len(roles)
    with closing(sqlite3.connect(confirmation / FILENAME)) as connection:
        seeds = {seed for (seed,) in connection.execute("""SELECT config ->> '$."seed"' FROM trials""")}
    assert seeds == {2, 3}  # the study has used 0 and 1
    assert epochs["epoch"].max() == 8
    more = f"with {2 * (len(roles) - 1)} further comparisons the best configuration of each arm"
    assert (more if len(roles) > 1 else "is among them") in " ".join(done.stdout.split())
    assert "Confirmed on 2 fresh seeds" in filter_study("gaps", "study", cwd=tmp_path).stdout
    assert "Confirmed on 2 fresh seeds" in (study / "report.html").read_text("utf-8")
    nothing = filter_study("confirm", "nothing", cwd=tmp_path)
    assert nothing.returncode == 2


def test_a_finished_study_is_extended_with_a_warm_searcher(tmp_path: Path) -> None:
    search = {"name": "optuna", "sampler": "tpe", "trials": 4, "seed": 3}
    space = {"optimizer.lr": {"loguniform": [0.001, 0.5]}}
    file = experiment(tmp_path, search=search, space=space, scheduler={"name": "none"}, epochs=2)
    study = tmp_path / "study"
    assert filter_study("run", file, "--dir", "study", "--no-report", cwd=tmp_path).returncode == 0
    first, epochs = tables(study)
    done = filter_study("resume", "study", cwd=tmp_path)
    assert "All 4 comparisons have ended; to go on: --add-trials N" in done.stdout
    done = filter_study("resume", "study", "--add-trials", "3", "--no-report", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    again, more = tables(study)
    pd.testing.assert_frame_equal(again.head(4), first)
    pd.testing.assert_frame_equal(more[more["trial_id"].isin(first["trial_id"])].reset_index(drop=True), epochs)
    assert list(again["number"]) == list(range(7))
    storage = JournalStorage(JournalFileBackend(str(study / JOURNAL)))
    told = optuna.load_study(study_name=None, storage=storage).get_trials()
    assert [trial.user_attrs["trial_id"] for trial in told] == list(again["trial_id"])
    assert [trial.value for trial in told] == list(again["objective"])
    assert len({trial.params["optimizer.lr"] for trial in told}) == 7


def test_two_searches_go_on_after_a_crash(tmp_path: Path) -> None:
    search = {"name": "optuna", "each": "arm", "trials": 4, "seed": 3}
    sections = {"search": search, "space": {"optimizer.lr": {"loguniform": [0.001, 0.5]}}, "epochs": 2}
    scheduler = {"name": "asha", "grace_period": 1, "reduction_factor": 2}
    data = {"samples_per_class": 30, "validation_fraction": 0.2}
    file = experiment(tmp_path, **sections, dataset=data, scheduler=scheduler)
    study = tmp_path / "study"
    Driver("run", file, "--dir", "study", study=study).until_epochs(3).kill()
    before, _ = tables(study)
    assert 1 < len(before) < 4
    output, errors = Driver("resume", "study", study=study).end()
    assert "go on" in output, errors
    trials, epochs = tables(study)
    assert list(trials["number"]) == list(range(4))
    assert list(trials["trial_id"][: len(before)]) == list(before["trial_id"])
    assert list(load(study).trials["proposed_by"]) == ["baseline", "treatment"] * 2
    assert set(trials["status"]) <= {"finished", "stopped"}
    storage = JournalStorage(JournalFileBackend(str(study / JOURNAL)))
    names = sorted(optuna.get_all_study_names(storage))
    assert [name.partition(": ")[2] for name in names] == [
        "archetype/validation_accuracy",
        "filtered/validation_accuracy",
    ]
    last = epochs.sort_values("epoch").groupby(["arm", "trial_id"])["validation_accuracy"].last()
    for name, arm in zip(names, ("archetype", "filtered"), strict=True):
        told = optuna.load_study(study_name=name, storage=storage).get_trials()
        assert {trial.user_attrs["trial_id"]: trial.value for trial in told} == dict(last[arm])
        assert len({trial.params["optimizer.lr"] for trial in told}) == 4
    refused = filter_study("resume", "study", "--add-trials", "3", cwd=tmp_path)
    assert refused.returncode == 2
    assert "search.trials: 7: with search.each arm" in " ".join(refused.stderr.split())


def test_the_winners_of_two_searches_are_confirmed_and_the_verdict_says_who_was_tuned(tmp_path: Path) -> None:
    search = {"name": "optuna", "each": "arm", "trials": 4}
    space = {"optimizer.lr": {"loguniform": [0.001, 0.5]}}
    data = {"samples_per_class": 30, "validation_fraction": 0.2}
    file = experiment(tmp_path, search=search, space=space, epochs=1, dataset=data, scheduler={"name": "none"})
    study = tmp_path / "study"
    done = filter_study("run", file, "--dir", "study", "--no-report", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = filter_study("confirm", "study", "--top", "1", "--seeds", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (confirmation,) = (study / "confirmations").iterdir()
    roles = json.loads((confirmation / "manifest.json").read_text("utf-8"))["confirms"]["configurations"]
    confirmed = sorted(role for one in roles.values() for role in one["roles"])
    assert confirmed == ["best baseline", "best treatment", "winner"]
    assert load(confirmation).trials["proposed_by"].isna().all()
    said = filter_study("gaps", "study", cwd=tmp_path).stdout
    assert "Confirmed on 2 fresh seeds" in said
    assert "Each arm was tuned on its own: of 4 configurations the search for archetype and the search for" in said


class Canary:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.file),)


def test_no_pickle_from_a_study_directory_is_ever_loaded(left: Path, undisturbed: Path) -> None:
    trap = left.parent / "sprung"
    content = pickle.dumps(Canary(trap))
    names = ["tuner.pkl", "trainable.pkl", "searcher-state-1.pkl", "search_gen_state-1.json", "optuna.pkl", JOURNAL]
    checkpoints = _checkpoints(left)[0].parent
    for place in (left, left / "ray", checkpoints):
        place.mkdir(exist_ok=True)
        for name in names:
            (place / name).write_bytes(content)
    (checkpoints / "comparison.pt").write_bytes(content)
    (checkpoints / "000000003.pt").write_bytes(content)
    resumed(left.parent).end()
    assert filter_study("export", "study", cwd=left.parent).returncode == 0
    assert not trap.exists()
    pickle.loads(content)
    assert trap.exists()  # the trap works
    assert_same(left, undisturbed)


def test_a_comparison_out_of_memory_or_hanging_is_one_failed_row(tmp_path: Path) -> None:
    space = {"model.name": {"choice": ["FCNet10", "FCNet150000"]}}
    file = experiment(
        tmp_path,
        space=space,
        scheduler={"name": "none"},
        epochs=2,
        resources={"cpu": 1, "memory_gib": 3},
        recovery={"max_failures": 1, "checkpoint_seconds": 0},
    )
    done = filter_study("run", file, "--dir", "study", "--no-report", cwd=tmp_path)
    trials, _ = tables(tmp_path / "study")
    assert list(trials["status"]) == ["finished", "failed"], done.stderr
    assert "memory" in trials["error"][1]
    assert trials["error"][1].count("Failure #") == 2
    shutil.rmtree(tmp_path / "study")
    slow = {"model.name": {"choice": ["FCNet10", "ResNet18"]}}
    file = experiment(
        tmp_path,
        space=slow,
        scheduler={"name": "none"},
        dataset={"validation_fraction": 0.1},
        batch_size=2,
        epochs=1,
        resources={"cpu": 1},
        recovery={"max_failures": 1, "hang_seconds": 10},
    )
    done = filter_study("run", file, "--dir", "study", "--no-report", cwd=tmp_path)
    trials, _ = tables(tmp_path / "study")
    assert trials["status"][1] == "failed", done.stderr
    assert "Timeout" in trials["error"][1]
    assert "trainables/comparison.py" in trials["error"][1]  # the place where it hung
