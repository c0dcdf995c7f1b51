"""Batch files: what they ask for, and what becomes of them on a Slurm of the tests' own, with two nodes."""

import contextlib
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from analysis.load import Study, load
from study.experiment import Resources
from study.recorder import FILENAME
from study.slurm import Job, SlurmError, batch_file

pytestmark = pytest.mark.xdist_group("slurm")  # one after the other: they share what takes long to start

PROGRAMS = Path(sys.executable).parent
DAEMONS = ("munged", "slurmctld", "slurmd")
NODES = ("n0", "n1")
KEYS = ("search.trials=2", "wandb.mode=disabled", "model.name=FCNet10")
SMALL = ("--smoke", "--no-report", *(part for key in KEYS for part in ("--set", key)))
EPOCHS = 80
LONG = (*SMALL, "--set", f"epochs={EPOCHS}", "--set", "scheduler.name=none")


def job(*command: str, **options: Any) -> Job:
    """A small job that runs the quickstart."""
    name = options.pop("name", "quickstart")
    given = {"folder": Path("studies/mine"), "resources": Resources(), "programs": PROGRAMS, **options}
    return Job(name, command or ("run", "quickstart", "--dir", "studies/mine"), **given)


def directives(text: str) -> dict[str, str]:
    lines = [line.removeprefix("#SBATCH --") for line in text.splitlines() if line.startswith("#SBATCH --")]
    return dict(line.split("=", 1) if "=" in line else (line, "") for line in lines)


def test_the_thesis_job_is_sixteen_cores_and_a_gpu_for_four_comparisons() -> None:
    text = batch_file(job(resources=Resources(cpu=4, gpu=0.25), partition="gpu", account="lab-1"))
    asked = directives(text)
    assert asked.pop("output") == "%x-%j.log"
    assert asked == {
        "job-name": "quickstart",
        "nodes": "1",
        "ntasks-per-node": "1",
        "cpus-per-task": "16",
        "mem": "32G",
        "gpus-per-node": "1",
        "time": "24:00:00",
        "signal": "B:TERM@300",
        "no-requeue": "",
        "partition": "gpu",
        "account": "lab-1",
    }
    assert "4 comparisons at a time" in text
    assert "filter-study resume studies/mine" in text


def test_one_node_needs_no_ray_cluster_and_no_gpu_that_stays_idle() -> None:
    text = batch_file(job())
    assert text.endswith("\nexec filter-study run quickstart --dir studies/mine\n")
    assert "ray start" not in text
    assert not {"gpus-per-node", "partition", "account", "no-kill"} & set(directives(text))


def test_several_nodes_are_a_cluster_that_the_study_joins() -> None:
    text = batch_file(job(nodes=3, resources=Resources(gpu=0.5)))
    assert "6 comparisons at a time" in text
    assert text.endswith('\nexec filter-study run quickstart --dir studies/mine --address "$ip:$port"\n')
    assert text.count("ray start") == 1
    assert "no-kill" in directives(text)
    assert 'python -m study.cluster "$ip:$port" 3 300' in text


@pytest.mark.parametrize("nodes", [1, 2])
def test_what_a_user_names_is_quoted(nodes: int, tmp_path: Path) -> None:
    hostile = "a'; touch owned; $(touch owned) `touch owned` \"b"
    command = ("run", f"{hostile}\n#SBATCH --nodes=9\n")
    text = batch_file(
        job(*command, name=f"{hostile}\n", folder=Path(hostile), programs=tmp_path / "my tools'", nodes=nodes)
    )
    assert directives(text.partition("\nset ")[0])["nodes"] == str(nodes)  # Slurm reads on to the first command
    (tmp_path / "my tools'").mkdir()
    programs = {"filter-study": 'printf "%s" "$2" >given', "python": "", "srun": "", "scontrol": ""}
    for name, does in programs.items():
        program = tmp_path / "my tools'" / name
        program.write_text(f"#!/bin/bash\n{does}\n")
        program.chmod(0o755)
    known = {**os.environ, "SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "x"}
    done = subprocess.run(["bash"], input=text, cwd=tmp_path, env=known, text=True, check=False, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "given").read_text() == command[1]
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("time", "lead"),
    [("90", 300), ("2-0", 300), ("1-00:10", 300), ("0:20:00", 300), ("10", 150), ("8:00", 120), ("00:02:00", 30)],
)
def test_the_study_is_stopped_before_its_time_is_up(time: str, lead: int) -> None:
    assert directives(batch_file(job(time=time)))["signal"] == f"B:TERM@{lead}"


def test_every_wrong_option_is_named_at_once() -> None:
    wrong = job(nodes=0, cpus=-1, gpus=-2, memory="lots", time="1d", partition="a b", account="x;y")
    with pytest.raises(SlurmError) as caught:
        batch_file(wrong)
    options = ("--nodes 0", "--cpus -1", "--gpus -2", "--memory lots", "--time 1d", "--partition 'a b'", "--account")
    assert all(any(error.startswith(option) for error in caught.value.errors) for option in options)
    assert len(caught.value.errors) == len(options)
    assert str(caught.value).startswith("slurm: 7 errors\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resources": Resources(cpu=32)}, "occupies 32 CPU cores and 0 of a GPU, but a node has 16 and 0"),
        ({"resources": Resources(gpu=0.5), "gpus": 0}, "0.5 of a GPU, but a node has 16 and 0: raise"),
        ({"gpus": 1}, "--gpus 1: .* leave --gpus out"),
        ({"folder": Path("a\n#SBATCH --nodes=9")}, "--dir .* must be on one line"),
        ({"time": "0"}, "--time 0: must be"),
        ({"time": ""}, "--time : must be"),
        ({"time": "1:2:3:4"}, "--time 1:2:3:4: must be"),
    ],
)
def test_a_job_that_could_not_run_a_comparison_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SlurmError, match=message):
        batch_file(job(**options))


CONFIGURATION = """\
ClusterName=drill
SlurmctldHost={host}({address})
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
GresTypes=gpu
ReturnToService=2
KillWait=30
NodeName=n0 NodeHostname={host} NodeAddr={address} Port={ports[1]} CPUs=2 RealMemory=16000 Gres=gpu:1
NodeName=n1 NodeHostname={host} NodeAddr={address} Port={ports[2]} CPUs=2 RealMemory=16000 Gres=gpu:1
PartitionName=main Nodes=n0,n1 Default=YES State=UP MaxTime=INFINITE
"""


@dataclass(frozen=True)
class Slurm:
    """A Slurm with two nodes on this machine."""

    environment: Mapping[str, str]

    def __call__(self, *command: str, cwd: Path | None = None, check: bool = True) -> str:
        done = subprocess.run(
            command, cwd=cwd, env=self.environment, text=True, capture_output=True, check=False, timeout=60
        )
        assert done.returncode == 0 or not check, done.stderr
        return done.stdout + done.stderr

    def submit(self, asked: Job, cwd: Path) -> str:
        (cwd / "study.sbatch").write_text(batch_file(asked))
        return self("sbatch", "--parsable", "study.sbatch", cwd=cwd).strip()

    def state(self, number: str) -> dict[str, str]:
        fields = self("scontrol", "--oneliner", "show", "job", number).split()
        return dict(field.split("=", 1) for field in fields if "=" in field)

    def wait(self, number: str, seconds: float = 240) -> dict[str, str]:
        """The job's state, after it has ended."""
        deadline = time.monotonic() + seconds
        while (state := self.state(number))["JobState"] in ("PENDING", "RUNNING", "COMPLETING"):
            assert time.monotonic() < deadline, state
            time.sleep(0.5)
        return state


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """Munge, a controller and two nodes; they and all their files are gone afterwards."""
    if missing := [name for name in (*DAEMONS, "sbatch") if shutil.which(name, path=os.environ["PATH"]) is None]:
        pytest.skip(
            f"Slurm is not installed ({', '.join(missing)}): apt-get install slurmctld slurmd slurm-client munge"
        )
    if os.getuid():
        pytest.skip("slurmd must be root to start jobs")
    folder = tmp_path_factory.mktemp("slurm")
    for name in ("munge", "state", *NODES):
        (folder / name).mkdir(mode=0o700)
    key = folder / "munge" / "key"
    key.touch(mode=0o400)
    key.write_bytes(os.urandom(128))
    configuration = folder / "slurm.conf"
    configuration.write_text(
        CONFIGURATION.format(host=socket.gethostname(), address="127.0.0.1", folder=folder, ports=free_ports(3))
    )
    (folder / "gres.conf").write_text("Name=gpu File=/dev/zero\n")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "RAY", "TUNE"))}
    temporary = tempfile.mkdtemp(prefix="job")
    environment = {**inherited, "SLURM_CONF": str(configuration), "TMPDIR": temporary}
    files = {"key-file": "key", "pid-file": "pid", "log-file": "log", "seed-file": "seed", "socket": "socket"}
    munge = [f"--{option}={folder / 'munge' / name}" for option, name in files.items()]
    daemons = {
        "munged": ["munged", "--foreground", "--force", *munge],
        "slurmctld": ["slurmctld", "-D", "-i"],
        **{node: ["slurmd", "-D", "-N", node] for node in NODES},
    }
    slurm = Slurm(environment)
    with ExitStack() as stack:
        for name, command in daemons.items():
            log = stack.enter_context((folder / f"{name}.out").open("w"))
            daemon = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            stack.callback(end, daemon)
            while not (folder / "munge" / "socket").exists():
                assert daemon.poll() is None, (folder / f"{name}.out").read_text()
                time.sleep(0.05)
        stack.callback(shutil.rmtree, temporary)
        stack.callback(slurm, "scancel", "--user=root", check=False)
        deadline = time.monotonic() + 30
        while slurm("sinfo", "--noheader", "--format=%D %t", check=False).strip() != f"{len(NODES)} idle":
            assert time.monotonic() < deadline, [path.read_text()[-2000:] for path in folder.glob("*.out")]
            time.sleep(0.5)
        yield slurm


def end(daemon: subprocess.Popen[bytes]) -> None:
    daemon.send_signal(signal.SIGTERM)
    try:
        daemon.wait(20)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        servers = [stack.enter_context(closing(socket.create_server(("127.0.0.1", 0)))) for _ in range(count)]
        return [int(server.getsockname()[1]) for server in servers]


@pytest.mark.slow
@pytest.mark.parametrize("nodes", [1, 2])
def test_slurm_accepts_what_a_batch_file_asks_for(slurm: Slurm, nodes: int, tmp_path: Path) -> None:
    asked = job(nodes=nodes, cpus=2, memory="4G", resources=Resources(gpu=0.25), partition="main", account="lab")
    (tmp_path / "study.sbatch").write_text(batch_file(asked))
    said = slurm("sbatch", "--test-only", "study.sbatch", cwd=tmp_path)
    assert "to start at" in said
    assert f"using {2 * nodes} processors" in said


@pytest.mark.slow
@pytest.mark.parametrize("nodes", [1, 2])
def test_a_study_runs_under_slurm_and_leaves_nothing_but_itself(slurm: Slurm, nodes: int, tmp_path: Path) -> None:
    asked = job("run", "quickstart", *SMALL, "--dir", "mine", nodes=nodes, cpus=1, memory="4G", time="10")
    number = slurm.submit(asked, tmp_path)
    state = slurm.wait(number)
    log = (tmp_path / f"quickstart-{number}.log").read_text()
    assert (state["JobState"], state["NumNodes"]) == ("COMPLETED", str(nodes)), log
    study = load(tmp_path / "mine")
    assert len(study.trials) == 2
    assert set(study.trials["status"]) <= {"finished", "stopped"}
    names = {path.name for path in tmp_path.iterdir()} - {"study.sbatch", f"quickstart-{number}.log", "mine"}
    assert not list(Path(slurm.environment["TMPDIR"]).glob("filter-study-*"))
    if nodes == 1:
        assert not names
    else:
        assert names == {f"quickstart-{number}-ray.log"}  # and no token
        folders = set(re.findall(r"/tmp/ray-\w+", (tmp_path / names.pop()).read_text()))
        assert len(folders) == nodes
        assert not any(Path(folder).exists() for folder in folders)


@pytest.mark.slow
def test_a_study_that_is_told_to_stop_before_its_time_is_up_goes_on_in_another_job(
    slurm: Slurm, tmp_path: Path
) -> None:
    asked = job("run", "quickstart", *LONG, "--dir", "mine", nodes=2, cpus=1, memory="4G", time="10")
    first = slurm.submit(asked, tmp_path)
    wait_for_rows(tmp_path / "mine" / FILENAME, lambda: slurm.state(first)["JobState"] in ("PENDING", "RUNNING"))
    slurm("scancel", "--signal=TERM", "--batch", first)  # as Slurm does itself, by the directive signal
    state = slurm.wait(first)
    log = (tmp_path / f"quickstart-{first}.log").read_text()
    assert (state["JobState"], state["ExitCode"]) == ("FAILED", "130:0"), log
    assert "Go on with: filter-study resume mine" in log
    stopped = load(tmp_path / "mine").trials
    assert "interrupted" in set(stopped["status"])
    second = slurm.submit(replace(asked, command=("resume", "mine", "--no-report")), tmp_path)
    state = slurm.wait(second)
    assert state["JobState"] == "COMPLETED", (tmp_path / f"quickstart-{second}.log").read_text()
    study = load(tmp_path / "mine")
    assert set(study.trials["status"]) == {"finished"}
    assert set(stopped["trial_id"]) <= set(study.trials["trial_id"])
    assert_whole(study)
    assert not list(tmp_path.glob(".ray-*"))


@pytest.mark.slow
def test_a_node_that_fails_does_not_end_the_study(slurm: Slurm, tmp_path: Path) -> None:
    asked = job("run", "quickstart", *LONG, "--dir", "mine", nodes=2, cpus=1, memory="4G", time="10")
    number = slurm.submit(asked, tmp_path)
    file = tmp_path / "mine" / FILENAME
    wait_for_rows(file, lambda: slurm.state(number)["JobState"] in ("PENDING", "RUNNING"), trials=2)  # one on each node
    lost = {"SLURM_CONF": slurm.environment["SLURM_CONF"], "SLURM_JOB_ID": number, "SLURM_PROCID": "1"}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if lost.items() <= process.environ().items():
                process.kill()
    slurm("scontrol", "update", "nodename=n1", "state=down", "reason=drill")
    state = slurm.wait(number)
    assert state["JobState"] == "COMPLETED", (tmp_path / f"quickstart-{number}.log").read_text()
    study = load(tmp_path / "mine")
    assert list(study.trials["status"]) == ["finished"] * 2
    assert_whole(study)


def assert_whole(study: Study) -> None:
    """Every comparison has every epoch, once."""
    lengths = study.epochs.groupby(["trial_id", "arm"])["epoch"].agg(["max", "size"])
    assert (lengths["max"] == EPOCHS).all()
    assert (lengths["size"] == EPOCHS + 1).all()


def wait_for_rows(file: Path, running: Callable[[], bool], trials: int = 1) -> None:
    """Until so many comparisons have recorded an epoch beyond the first."""
    query = "SELECT count(DISTINCT trial_id) FROM epochs WHERE epoch > 1"
    for _ in range(600):
        assert running()
        if file.is_file():
            with (
                contextlib.suppress(sqlite3.OperationalError),  # the tables are about to be made
                closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection,
            ):
                if connection.execute(query).fetchone()[0] >= trials:
                    return
        time.sleep(0.2)
    raise AssertionError("nothing recorded within two minutes")
