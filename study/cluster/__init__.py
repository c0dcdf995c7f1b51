"""Ray on this machine alone: loopback addresses, a token, a private folder that is removed afterwards."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEBIBYTE = 2**20
OBJECT_STORE = 128 * MEBIBYTE


def available_cpus() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def local_ray(cpus: int, gpus: int) -> Iterator[None]:
    """A Ray of this process's own with that many CPUs and GPUs, ended when the block ends."""
    folder = Path(tempfile.mkdtemp(prefix="filter-study-"))  # short: socket paths have a limit
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(token)
    import ray

    try:
        ray.init(
            address="local",
            num_cpus=cpus,
            num_gpus=gpus,
            object_store_memory=OBJECT_STORE,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            _temp_dir=str(folder / "ray"),
        )
        yield
    finally:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C would leave processes and the token
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
        signal.signal(signal.SIGINT, before)
