"""Where a study's figures come from: versions, git revision, hardware, seeds, command."""

from __future__ import annotations

import json
import os
import platform
import secrets
import shlex
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psutil

from study import code
from study.experiment import Experiment
from study.source import sources

FILENAME = "manifest.json"
REFERENCE = "reference"
"""Seconds per sample of a forward pass and of an update, by :func:`trainables.clocks.key`; there where measured."""
PACKAGES = ("filter-study", "torch", "torchvision", "ray", "optuna", "wandb", "pandas", "numpy")


def collect(
    experiment: Experiment,
    confirms: dict[str, Any] | None = None,
    known: Mapping[str, tuple[float, float]] = MappingProxyType({}),
) -> dict[str, Any]:
    """The manifest of a study that starts now in this process, and of which other it confirms the winners.

    ``known`` are references that were measured for that other study.

    Raises:
        CodeError: code that the experiment uses cannot be found.
    """
    import torch  # which whoever only reads manifests need not have

    from study import preflight

    training = "searched" if "seed" in experiment.space else experiment.trial.get("seed", 0)
    return {
        "name": experiment.name,
        "id": f"{experiment.name}-{secrets.token_hex(4)}",
        **({"confirms": confirms} if confirms else {}),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["filter-study", *sys.argv[1:]]),
        "seeds": {"search": experiment.search.seed, "training": training},
        "data": preflight.described(experiment),
        "git": _git(),
        **({code.FIELD: own} if (own := code.record(experiment)) else {}),
        **({REFERENCE: dict(known)} if known else {}),
        "code": {name: digest for name, (_, digest) in sources().items()},
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
        "hardware": {
            "platform": platform.platform(),
            "processor": _processor(),
            "cores": os.cpu_count(),
            "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
            "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        },
    }


def write(manifest: dict[str, Any], folder: Path) -> None:
    """Write the manifest beside the study's records."""
    (folder / FILENAME).write_text(json.dumps(manifest, indent=2) + "\n", "utf-8")


def read(folder: Path) -> dict[str, Any]:
    """The manifest of the study in ``folder``; empty if there is none that can be read."""
    try:
        manifest = json.loads((folder / FILENAME).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return manifest if isinstance(manifest, dict) else {}


def identity(folder: Path) -> str:
    """The study's id, the same wherever its folder is moved or copied."""
    return str(read(folder).get("id") or folder.resolve().name)


def references(folder: Path) -> dict[str, tuple[float, float]]:
    """The references that were measured for the study in ``folder``."""
    found = read(folder).get(REFERENCE)
    return {key: (pair[0], pair[1]) for key, pair in found.items()} if isinstance(found, dict) else {}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _git() -> dict[str, Any]:
    """Revision of this source tree, and whether it has been changed; empty outside a checkout."""
    root = Path(__file__).parent.parent
    try:
        _run("git", "-C", str(root), "ls-files", "--error-unmatch", __file__)  # or it lies in another program's tree
        revision = _run("git", "-C", str(root), "rev-parse", "HEAD")
        changed = _run("git", "-C", str(root), "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"revision": revision, "modified": bool(changed)}


def _run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
