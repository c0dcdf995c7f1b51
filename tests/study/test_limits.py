"""What cgroups leave a process, read from made trees as the kernel lays them out."""

from collections.abc import Mapping
from math import inf
from pathlib import Path

import psutil
import pytest

from study import limits
from study.limits import Limits, cgroup_limits

GIBIBYTE = 2**30
UNLIMITED = {"memory.max": "max", "cpu.max": "max 100000", "memory.current": str(GIBIBYTE)}

V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
V1 = (
    "31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "32 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"
)
V1_OF_A_CONTAINER = V1.replace(" / /sys", " /docker/1a /sys")
HYBRID = f"{V1}\n{V2.replace('/sys/fs/cgroup', '/sys/fs/cgroup/unified')}"


def tree(root: Path, cgroups: str, mounts: str, files: Mapping[str, str]) -> Path:
    """A file system whose /proc/self and /sys/fs/cgroup hold these."""
    own = {"proc/self/cgroup": cgroups, "proc/self/mountinfo": mounts}
    for name, content in {**own, **{f"sys/fs/cgroup/{name}": content for name, content in files.items()}}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{content}\n")
    return root


@pytest.mark.parametrize(
    ("cgroups", "mounts", "files", "cores", "memory"),
    [
        pytest.param("0::/", V2, {"cpu.max": "50000 100000"}, 0.5, inf, id="half a core"),
        pytest.param("0::/", V2, UNLIMITED, inf, inf, id="no limit"),
        pytest.param(
            "0::/",
            V2,
            {"memory.max": str(4 * GIBIBYTE), "memory.current": str(3 * GIBIBYTE)},
            inf,
            GIBIBYTE,
            id="memory in use",
        ),
        pytest.param(
            "0::/",
            V2,
            {
                "memory.max": str(4 * GIBIBYTE),
                "memory.current": str(3 * GIBIBYTE),
                "memory.stat": f"anon 1\ninactive_file {2 * GIBIBYTE}",
            },
            inf,
            3 * GIBIBYTE,
            id="pages of files are no use of memory",
        ),
        pytest.param(
            "0::/slurm/job_7/step_0",
            V2,
            {
                "slurm/job_7/step_0/cpu.max": "max 100000",
                "slurm/job_7/cpu.max": "200000 100000",
                "slurm/cpu.max": "400000 100000",
                "slurm/job_7/memory.max": str(GIBIBYTE),
            },
            2.0,
            GIBIBYTE,
            id="the parent's limit is smaller",
        ),
        pytest.param(
            "5:memory:/job\n3:cpu,cpuacct:/job",
            V1,
            {
                "cpu,cpuacct/job/cpu.cfs_quota_us": "-1",
                "cpu,cpuacct/job/cpu.cfs_period_us": "100000",
                "cpu,cpuacct/cpu.cfs_quota_us": "150000",
                "cpu,cpuacct/cpu.cfs_period_us": "100000",
                "memory/job/memory.limit_in_bytes": str(2 * GIBIBYTE),
                "memory/job/memory.usage_in_bytes": str(GIBIBYTE),
                "memory/job/memory.stat": f"inactive_file 0\ntotal_inactive_file {GIBIBYTE // 2}",
            },
            1.5,
            1.5 * GIBIBYTE,
            id="version 1",
        ),
        pytest.param(
            "5:memory:/docker/1a\n3:cpu,cpuacct:/docker/1a",
            V1_OF_A_CONTAINER,
            {
                "cpu,cpuacct/cpu.cfs_quota_us": "300000",
                "cpu,cpuacct/cpu.cfs_period_us": "100000",
                "memory/memory.limit_in_bytes": str(GIBIBYTE),
            },
            3.0,
            GIBIBYTE,
            id="version 1 in a container",
        ),
        pytest.param(
            "3:cpu,cpuacct:/elsewhere\n0::/job",
            HYBRID,
            {
                "cpu,cpuacct/cpu.cfs_quota_us": "300000",
                "cpu,cpuacct/cpu.cfs_period_us": "100000",
                "unified/job/memory.max": str(GIBIBYTE),
            },
            3.0,
            GIBIBYTE,
            id="both versions",
        ),
    ],
)
def test_the_tightest_limit_of_a_cgroup_and_its_parents_counts(
    tmp_path: Path, cgroups: str, mounts: str, files: Mapping[str, str], cores: float, memory: float
) -> None:
    assert cgroup_limits(tree(tmp_path, cgroups, mounts, files)) == Limits(cores, memory)


def test_where_there_are_no_cgroups_there_is_no_limit(tmp_path: Path) -> None:
    assert cgroup_limits(tmp_path) == Limits(inf, inf)


@pytest.mark.parametrize(("cores", "usable"), [(0.5, 1), (1.9, 1), (2.0, 2), (100_000.0, None), (inf, None)])
def test_a_process_uses_the_whole_cores_of_its_limit_and_at_least_one(
    monkeypatch: pytest.MonkeyPatch, cores: float, usable: int | None
) -> None:
    monkeypatch.setattr(limits.os, "sched_getaffinity", lambda process: set(range(4)))
    monkeypatch.setattr(limits, "cgroup_limits", lambda: Limits(cores, inf))
    assert limits.available_cpus() == (usable or 4)


def test_memory_is_what_both_the_machine_and_the_cgroup_have_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "cgroup_limits", lambda: Limits(inf, 1000.0))
    assert limits.available_memory() == 1000
    monkeypatch.setattr(limits, "cgroup_limits", lambda: Limits(inf, inf))
    assert 1000 < limits.available_memory() <= psutil.virtual_memory().total
