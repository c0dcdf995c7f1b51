"""A study as a Slurm batch file: one node runs it as any machine does, several form a Ray cluster for it.

``ray symmetric-run`` would start such a cluster too, but it refuses a node on which anybody's Ray runs already, ends by
``ray stop``, which takes every Ray of the user's on that node, and passes no signal on to the study.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from study.cluster import OBJECT_STORE, Capacity, slots
from study.experiment import Resources
from trainables.errors import UserError

STOP_SECONDS = 300
JOIN_SECONDS = 300
_MEMORY = re.compile(r"[1-9]\d*[KMGT]?")
_TIME = re.compile(r"(?:(?P<days>\d+)-(?P<since>\d+(?::\d+){0,2})|(?P<until>\d+(?::\d+){0,2}))")
_NAMES = re.compile(r"[\w.,-]+")
_NOT_IN_NAMES = re.compile(r"[^\w.-]+")


class SlurmError(UserError, ValueError):
    """What is wrong with the options of a batch file, every error on a line of its own."""

    def __init__(self, errors: Sequence[str]) -> None:
        self.errors = list(errors)
        super().__init__(
            "\n".join([f"slurm: {len(errors)} error{'s' * (len(errors) > 1)}", *map("  {}".format, errors)])
        )


@dataclass(frozen=True)
class Job:
    """A study for Slurm.

    ``command`` are the arguments of filter-study that run or resume it in ``folder``, ``resources`` what one comparison
    occupies, ``programs`` the folder of the environment's programs. The other fields ask for nodes and what each has to
    give; ``gpus`` None is one if comparisons use a share of a GPU, else none.
    """

    name: str
    command: tuple[str, ...]
    folder: Path
    resources: Resources
    programs: Path
    nodes: int = 1
    cpus: int = 16
    memory: str = "32G"
    gpus: int | None = None
    time: str = "24:00:00"
    partition: str | None = None
    account: str | None = None

    @property
    def node(self) -> Capacity:
        """What each node has to give."""
        return Capacity(self.cpus, int(self.resources.gpu > 0) if self.gpus is None else self.gpus)

    @property
    def at_once(self) -> int:
        """How many comparisons run at a time."""
        return slots([self.node] * self.nodes, self.resources.cpu, self.resources.gpu)


def batch_file(job: Job) -> str:
    """The text of a file for sbatch.

    Raises:
        SlurmError: with every error at once.
    """
    if errors := _errors(job):
        raise SlurmError(errors)
    seconds = _seconds(job.time)
    assert seconds is not None
    lead = min(STOP_SECONDS, seconds // 4)
    name = _NOT_IN_NAMES.sub("-", job.name)
    directives = [
        f"--job-name={name}",
        f"--nodes={job.nodes}",
        "--ntasks-per-node=1",
        f"--cpus-per-task={job.cpus}",
        f"--mem={job.memory}",
        *([f"--gpus-per-node={job.node.gpus}"] if job.node.gpus else []),
        f"--time={job.time}",
        f"--signal=B:TERM@{lead}",
        "--no-requeue",
        *(["--no-kill"] if job.nodes > 1 else []),
        "--output=%x-%j.log",
        *([f"--partition={job.partition}"] if job.partition else []),
        *([f"--account={job.account}"] if job.account else []),
    ]
    where = "1 node" if job.nodes == 1 else f"{job.nodes} nodes"
    head = f"""\
#!/bin/bash
# {name} on {where}, {job.at_once} comparisons at a time. Submit it with sbatch, from the folder where paths begin.
#
# {lead} seconds before the time limit the study is told to stop, and ends in good order. The same by hand:
#   scancel --signal=TERM --batch JOB
# Go on with it on one machine, or write such a file again with --resume {shlex.quote(str(job.folder))}:
#   filter-study resume {shlex.quote(str(job.folder))}
"""
    setup = f"""
set -euo pipefail
export PATH={shlex.quote(str(job.programs))}:"$PATH"
"""
    command = shlex.join(["filter-study", *job.command])
    body = f"\nexec {command}\n" if job.nodes == 1 else _cluster(job) + f'exec {command} --address "$ip:$port"\n'
    return head + "".join(f"#SBATCH {directive}\n" for directive in directives) + setup + body


def _cluster(job: Job) -> str:
    """The part that starts Ray on every node and waits for it; Slurm stops Ray when the study, and so the job, ends."""
    return f"""
# Whoever has the token can run code on these nodes: it lies where all of them read it, and nobody but you.
private=$(mktemp -d "$PWD/.ray-$SLURM_JOB_ID-XXXXXX")
trap 'rm -rf "$private"' EXIT
(umask 077 && head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \\n' >"$private/token")
export private RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$private/token" RAY_USAGE_STATS_ENABLED=0
export RAY_memory_monitor_refresh_ms=0       # or it ends the study where the kernel would end one comparison
export RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=0

# The head's address in the network, and a port that another job on this node does not have; Ray picks the other ports.
ip=$(getent ahostsv4 "$(hostname)" | awk '$1 !~ /^127[.]/ {{print $1; exit}}' || true)
export ip="${{ip:-$(hostname -I | awk '{{print $1}}')}}" port=$((20000 + SLURM_JOB_ID % 10000))

log="$SLURM_JOB_NAME-$SLURM_JOB_ID-ray.log"
srun --export=ALL --mpi=none --no-kill --kill-on-bad-exit=0 --wait=0 --cpus-per-task={job.cpus} --label bash -c '
  folder=$(mktemp -d /tmp/ray-XXXXXX)  # short: socket paths have a limit
  ended() {{ rm -rf "$folder"; if [ "$SLURM_PROCID" = 0 ]; then rm -rf "$private"; fi; }}
  trap ended EXIT
  trap : TERM  # which Ray gets as well; this goes on when it has ended
  if [ "$SLURM_PROCID" = 0 ]; then
    role=(--head --node-ip-address="$ip" --port="$port" --include-dashboard=false)
  else
    role=(--address="$ip:$port")
  fi
  ray start "${{role[@]}}" --block --temp-dir="$folder" --num-cpus={job.cpus} --num-gpus={job.node.gpus} \\
    --object-store-memory={OBJECT_STORE} --min-worker-port=0 --max-worker-port=0 --dashboard-agent-listen-port=0
' >"$log" 2>&1 &

python -m study.cluster "$ip:$port" {job.nodes} {JOIN_SECONDS} || {{ echo "Ray did not start: see $log" >&2; exit 1; }}
"""


def _errors(job: Job) -> list[str]:
    """What is wrong with the options."""
    counts = {"nodes": job.nodes, "cpus": job.cpus}
    errors = [f"--{name} {value}: must be 1 or more" for name, value in counts.items() if value < 1]
    if job.gpus is not None and job.gpus < 0:
        errors.append(f"--gpus {job.gpus}: must be 0 or more")
    if not _MEMORY.fullmatch(job.memory):
        errors.append(f"--memory {job.memory}: must be a number with K, M, G or T, such as 32G")
    if not _seconds(job.time):
        errors.append(f"--time {job.time}: must be minutes, hours:minutes:seconds or days-hours, such as 24:00:00")
    for name, value in (("partition", job.partition), ("account", job.account)):
        if value is not None and not _NAMES.fullmatch(value):
            errors.append(f"--{name} {value!r}: must be letters, digits and . , - _")
    if not str(job.folder).isprintable():
        errors.append(f"--dir {str(job.folder)!r}: must be on one line")
    occupied = f"a comparison occupies {job.resources.cpu} CPU cores and {job.resources.gpu:g} of a GPU"
    if not errors and not job.at_once:
        errors.append(f"{occupied}, but a node has {job.cpus} and {job.node.gpus}: raise --cpus or --gpus")
    if (job.gpus or 0) > 0 and not job.resources.gpu:
        errors.append(f"--gpus {job.gpus}: {occupied}: leave --gpus out, or --set resources.gpu=0.25")
    return errors


def _seconds(time: str) -> int | None:
    """A time limit in seconds; None if Slurm would not read it."""
    match = _TIME.fullmatch(time)
    if match is None:
        return None
    if match["days"] is not None:
        units, parts = (3600, 60, 1), match["since"].split(":")
    else:
        parts = match["until"].split(":")
        units = (3600, 60, 1) if len(parts) == 3 else (60, 1, 0)
    return 86400 * int(match["days"] or 0) + sum(int(part) * unit for part, unit in zip(parts, units, strict=False))
