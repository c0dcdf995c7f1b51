"""The command line as a user meets it, with its exit codes; where it matters, in a process of its own."""

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import torch

from study import bench
from study import experiment as experiments
from study.bench import loop
from study.cli import main
from study.recorder import FILENAME

SMALL = ["--set", "model.name=FCNet10", "--set", "dataset.samples_per_class=30", "--set", "wandb.mode=disabled"]


def filter_study(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "study", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=280, check=False)


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Done]:
    """Runs a command line in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def invoke(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["filter-study", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        return Done(code if isinstance(code, int) else 0, *capsys.readouterr())

    return invoke


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study directory of one comparison, trained without Ray."""
    folder = tmp_path_factory.mktemp("cli")
    done = filter_study("train", *SMALL, "--set", "epochs=3", "--dir", "one", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "one"


def test_help_has_an_example_for_every_verb(run: Callable[..., Done]) -> None:
    overview = run("--help").stdout
    for verb in ("ls", "show", "validate", "run", "train", "export", "gaps", "report"):
        assert re.search(rf"^\W*{verb}\b", overview, re.MULTILINE), verb
        assert f"filter-study {verb}" in run(verb, "--help").stdout


@pytest.mark.slow
def test_doctor_and_validate_need_no_option(run: Callable[..., Done]) -> None:
    for verb in ("validate", "doctor"):
        done = run(verb, "quickstart")
        assert done.returncode in (0, 1), done.stderr
        assert "Traceback" not in done.stdout + done.stderr


def test_ls_names_the_built_in_experiments_with_what_they_ask(run: Callable[..., Done]) -> None:
    listed = run("ls").stdout
    assert "quickstart" in listed
    assert "A simple fully connected network often suffices for MNIST" in listed


def test_what_show_prints_is_a_valid_experiment(run: Callable[..., Done], tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(run("show", "quickstart").stdout)
    done = run("validate", "mine.yaml", "--set", "search.trials=8")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("mine.yaml is valid: 8 comparisons by optuna, asha stops early, ")


TINY = ["--set", "dataset.samples_per_class=18"]
TOGETHER = ["space.batch_size={choice: [64, 1024]}", "space.dataset.samples_per_class={choice: [18, 200]}"]
TOGETHER = [argument for setting in TOGETHER for argument in ("--set", setting)]
UNFILLABLE = ["batch_size: 1024: arm filtered trains on full batches", "180 training samples", "set batch_size to 180"]


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (["run", "quikstart"], ["did you mean 'quickstart'"]),
        (["run", "quickstart", "--set", "optimizer.lrr=1", "--set", "epochs=x"], ["2 errors", "'lr'", "epochs: 'x'"]),
        (["run", "mnist_fcnet", "--data-dir", "nowhere"], ["mnist was not found; looked for", "download=True"]),
        (["validate", "quickstart", "--set", "nonsense"], ["must be key=value"]),
        (["train", "--set", "dataset.samples_per_class=5000"], ["the smallest class of mnist5k has 320"]),
        (["run", "quickstart", *TINY, "--set", "space.batch_size={choice: [64, 1024]}"], UNFILLABLE),
        (["validate", "quickstart", *TOGETHER], UNFILLABLE),
        (["train", *TINY, "--set", "batch_size=1024"], UNFILLABLE),
        (["train", "--threads", "0"], ["--threads"]),
        (["train", "--threads", "100000"], ["resources.cpu: 100000: this process may use", "set at most"]),
        (["train", "--device", "cpu", "--set", "precision=tf32"], ["precision is tf32", "use fp32 or bf16 on the cpu"]),
        (["run", "quickstart", "--set", "precision=tf32"], ["precision is tf32", "use fp32 or bf16 on the cpu"]),
        (["validate", "quickstart", "--set", "space.precision={choice: [fp32, tf32]}"], ["precision is tf32"]),
        (["run", "mnist_fcnet", "--set", "precision=tf32", "--data-dir", "nowhere"], ["2 errors", "tf32", "not found"]),
        (["slurm", "quickstart", "--to", "."], [".: Is a directory"]),
        (["run", "quickstart", "--set", "epochs=3"], ["grace_period: 4 is more than the 3 epochs"]),
        (["run", "quickstart", "--set", "resources.cpu=4096"], ["resources.cpu: 4096: this machine has"]),
        (["run", "quickstart", "--set", "dataset.validation_fraction=0.0001"], ["holds out no sample of mnist5k"]),
        (["run", "quickstart", "--set", "dataset.validation_fraction=0.9999"], ["without training samples"]),
        (["run", "mnist_fcnet", "--data-dir", "my #1 [/]"], ["my #1 [/]/MNIST/raw"]),
        (["run", "mnist_fcnet", "--data-dir", "~nobodyx/data"], ["~nobodyx", "whole path"]),
        (["run", "quickstart", "--set", "storage=nonesuch://x"], ["storage: nonesuch://x: Protocol not known"]),
        (["validate", "quickstart", "--set", "storage=~nobodyx/s"], ["storage: ~nobodyx/s: ", "whole path"]),
        (["validate", "quickstart", "--set", "storage=/dev/null/s"], ["storage: /dev/null/s: "]),
        (["train", *SMALL, "--set", "epochs=1", "--dir", "/proc/nothing"], ["--dir /proc/nothing"]),
        (["train", *SMALL, "--set", "epochs=1", "--dir", "x" * 300], ["name too long"]),
        (["show", "x" * 300], ["no such file"]),
        (["gaps", "nowhere"], ["nowhere is not there"]),
        (["resume", "studies/typo"], ["studies/typo is not there"]),
        (["status", "nowhere"], ["nowhere is not there"]),
        (["confirm", "x" * 300], ["name too long"]),
        (["wandb", "sync", "nowhere"], ["nowhere is not there"]),
        (["gaps", "~nobodyx/study"], ["~nobodyx", "whole path"]),
        (["train", *SMALL, "--dir", "/dev/null"], ["--dir /dev/null: is a file"]),
        (["gaps", "."], ["holds no study"]),
        (["export", ".", "--format", "xlsx"], ["--format"]),
        (["report", "."], ["holds no study"]),
        (["frobnicate"], ["No such command"]),
    ],
)
def test_a_mistake_is_one_message_with_exit_code_2(
    run: Callable[..., Done], tmp_path: Path, arguments: list[str], messages: list[str]
) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    for message in messages:
        assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_fault_of_the_program_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> list[str]:
        raise ZeroDivisionError

    monkeypatch.setattr(experiments, "built_in", broken)
    monkeypatch.setattr(sys, "argv", ["filter-study", "ls"])
    with pytest.raises(ZeroDivisionError):
        main()


def test_bench_refuses_what_does_not_go_together_before_it_measures(run: Callable[..., Done]) -> None:
    done = run("bench", "--suite", "gpu", "--device", "cpu")
    assert done.returncode == 2
    assert "the device is the cpu; take --suite loop" in done.stderr
    assert run("bench", "--json", "--markdown").returncode == 2


def test_bench_prints_what_it_measured_before_it_broke_off(
    run: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(device: torch.device) -> Iterator[bench.Figure]:
        yield bench.amount("loop", "an epoch", [2.0], "s", "nothing")
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "suite", broken)
    done = run("bench", "--suite", "loop", "--device", "cpu")
    assert done.returncode == 130
    assert "loop: an epoch: 2 s" in done.stderr
    assert re.search(r"an epoch +2 s", done.stdout)


def test_cuda_is_refused_where_there_is_none(run: Callable[..., Done]) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    done = run("train", *SMALL, "--device", "cuda")
    assert done.returncode == 2
    assert "torch finds no CUDA device; use --device cpu" in done.stderr


def test_a_home_is_meant_where_the_shell_leaves_it_alone(
    run: Callable[..., Done], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    (tmp_path / "me").mkdir()
    (tmp_path / "me" / "mine.yaml").write_text(run("show", "quickstart").stdout)
    assert run("validate", "~/mine.yaml").returncode == 0
    assert "me/study is not there" in run("resume", "~/study").stderr
    assert "me/study is not there" in run("gaps", "~/study").stderr
    done = run("train", *SMALL, "--set", "epochs=1", "--no-report", "--dir=~/my study")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "me" / "my study" / FILENAME).is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["me"]


def test_a_folder_that_is_not_there_names_one_that_may_be_meant(run: Callable[..., Done], tmp_path: Path) -> None:
    (tmp_path / "studies" / "quickstart-20260101-120000").mkdir(parents=True)
    for verb in ("resume", "status", "confirm", "gaps", "report"):
        done = run(verb, "studies/quickstrat-20260101-120000")
        assert done.returncode == 2
        assert "did you mean studies/quickstart-20260101-120000?" in done.stderr
    assert len(list((tmp_path / "studies").iterdir())) == 1


@pytest.mark.slow
def test_a_terminal_that_closes_ends_a_study_in_good_order(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "study", "train", *SMALL, "--set", "epochs=5000", "--dir", "my study"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_for_rows(tmp_path / "my study" / FILENAME, process)
        os.kill(process.pid, signal.SIGHUP)
        os.kill(process.pid, signal.SIGHUP)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Go on with: filter-study resume 'my study'" in stderr


@pytest.mark.slow
def test_a_comparison_is_trained_reported_and_exported(trained: Path) -> None:
    assert (trained / "report.html").is_file()
    tables = {name: pd.read_parquet(trained / "tables" / f"{name}.parquet") for name in ("trials", "epochs")}
    assert list(tables["trials"]["status"]) == ["finished"]
    assert sorted(tables["epochs"]["epoch"]) == [
        epoch for epoch in range(4) for _ in ("archetype", "filtered", "random")
    ]
    done = filter_study("export", trained, "--format", "csv", "--to", "out", cwd=trained.parent)
    assert done.returncode == 0
    assert len(pd.read_csv(trained.parent / "out" / "epochs.csv")) == 12
    report = filter_study("report", "out", "--to", "again", cwd=trained.parent)
    assert report.returncode == 0, report.stderr
    assert (trained.parent / "again" / "report.html").is_file()


@pytest.mark.slow
def test_gaps_are_printed_for_the_metrics_keys_and_clock_asked_for(trained: Path) -> None:
    text = filter_study("gaps", trained, "--metric", "test_q99_loss", "--by", "optimizer.lr", cwd=trained).stdout
    assert "test q99 loss" in text
    assert "optimizer.lr" in text
    markdown = filter_study("gaps", trained, "--at", "1", "--markdown", cwd=trained).stdout
    assert "| ---" in markdown
    default, named = (filter_study("gaps", trained, *more, cwd=trained) for more in ([], ["--against", "archetype"]))
    assert default.stdout == named.stdout
    done = filter_study(
        "gaps", trained, "--metric", "steps", "--by", "lr", "--at", "end", "--against", "nobody", cwd=trained
    )
    assert done.returncode == 2
    assert all(part in done.stderr for part in ("--metric steps", "--by lr", "--at end", "--against nobody"))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_study_that_is_interrupted_stays_readable(tmp_path: Path, number: signal.Signals) -> None:
    program = Path(sys.executable).with_name("filter-study")  # not python -m: the folder study would be taken for it
    command = [program, "run", "quickstart", *SMALL, "--set", "epochs=500", "--dir", "study"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_for_rows(tmp_path / "study" / FILENAME, process)
        os.kill(process.pid, number)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted; what was recorded is in study" in stderr
    assert "Traceback" not in stderr
    done = filter_study("export", "study", "--format", "csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    trials = pd.read_csv(tmp_path / "study" / "tables" / "trials.csv")
    assert set(trials["status"]) == {"interrupted"}
    assert len(pd.read_csv(tmp_path / "study" / "tables" / "epochs.csv")) >= 4


def wait_for_rows(file: Path, process: subprocess.Popen[str]) -> None:
    """Until the study has recorded some epochs."""
    for _ in range(1200):
        assert process.poll() is None, process.communicate()
        if file.is_file():
            with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
                try:
                    if connection.execute("SELECT count(*) FROM epochs").fetchone()[0] >= 4:
                        return
                except sqlite3.OperationalError:  # the tables are about to be made
                    pass
        time.sleep(0.1)
    raise AssertionError("nothing recorded within two minutes")


@pytest.mark.slow
def test_the_quickstart_ends_with_a_gap_table_a_report_and_tables(tmp_path: Path) -> None:
    done = filter_study("run", "quickstart", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "test accuracy" in done.stdout
    (study,) = (tmp_path / "studies").glob("quickstart-*")
    trials = pd.read_parquet(study / "tables" / "trials.parquet")
    assert len(trials) >= 16
    assert set(trials["status"]) <= {"finished", "stopped", "diverged"}
    assert {"finished", "stopped"} <= set(trials["status"])
    epochs = pd.read_parquet(study / "tables" / "epochs.parquet")
    assert not epochs.duplicated(["trial_id", "arm", "epoch"]).any()
    lengths = epochs.groupby(["trial_id", "arm"])["epoch"].agg(["min", "max", "size"])
    assert (lengths["min"] == 0).all()
    assert (lengths["size"] == lengths["max"] + 1).all()
    assert (study / "report.html").stat().st_size > 50_000
    assert len(list(study.glob("wandb/offline-run-*/*.wandb"))) == len(trials)


@pytest.mark.slow
@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("setpriv"), reason="only root can be a user nobody knows")
def test_a_user_without_an_entry_in_passwd_and_without_a_home_trains(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    reading = "+dac_read_search"  # where the tests' own Python lies in root's home
    unknown = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups", "--securebits=+no_setuid_fixup"]
    unknown += [f"--{kind}=-all,{reading}" for kind in ("inh-caps", "ambient-caps", "bounding-set")]
    program = Path(sys.executable).with_name("filter-study")
    done = subprocess.run(
        [*unknown, program, "train", *SMALL, "--set", "epochs=1", "--dir", "one", "--no-report"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "finished; recorded in one" in done.stdout
