"""The wheel, installed into empty environments in each of its forms, and used there from an empty folder."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LANDSCAPE = ROOT / "tests" / "analysis" / "data" / "landscape"
PARTS = ("filter_study", "study", "trainables", "search_spaces", "analysis", "pyproject.toml", "README.md", "LICENSE")
SMALL = ("dataset.samples_per_class=20", "epochs=1", "model.name=FCNet10")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),  # where the files of an environment are copied
    pytest.mark.skipif(not Path(sys.executable).with_name("uv").exists(), reason="needs uv, which make setup installs"),
]


def call(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    outside = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return subprocess.run([*map(str, command)], cwd=cwd, env=outside, capture_output=True, text=True, check=False)


def uv(*arguments: str | Path, cwd: Path) -> None:
    done = call(Path(sys.executable).with_name("uv"), *arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built from a copy, so that nothing is left beside the sources."""
    source, to = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for part in PARTS:
        place = ROOT / part
        if place.is_dir():
            shutil.copytree(place, source / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(place, source / part)
    uv("build", "--quiet", "--wheel", "--no-build-isolation", "--python", sys.executable, "-o", to, source, cwd=source)
    (built,) = to.glob("*.whl")
    return built


@contextmanager
def installed(wheel: Path, extras: str, folder: Path) -> Iterator[Path]:
    """The programs of an environment with the wheel and what it names, and nothing else; it is gone afterwards."""
    home = folder / "environment"
    uv("venv", "--quiet", "--python", sys.executable, home, cwd=folder)
    named = f"filter-study{extras} @ {wheel.as_uri()}"
    pins = ROOT / "requirements.lock"
    uv("pip", "install", "--quiet", "--python", home / "bin" / "python", "-c", pins, named, cwd=folder)
    try:
        yield home / "bin"
    finally:
        shutil.rmtree(home)  # gigabytes, where files are not shared


def test_the_core_reads_and_reports_and_names_the_extra_that_anything_else_needs(wheel: Path, tmp_path: Path) -> None:
    with installed(wheel, "", tmp_path) as programs:
        reads_and_reports(programs, tmp_path)


def reads_and_reports(programs: Path, tmp_path: Path) -> None:
    program = programs / "filter-study"
    none = call(programs / "python", "-c", "import torch", cwd=tmp_path)
    assert "No module named 'torch'" in none.stderr
    for verb in (
        ("gaps", LANDSCAPE, "--by", "model.name"),
        ("league", LANDSCAPE),
        ("export", LANDSCAPE, "--to", tmp_path / "tables"),
        ("report", LANDSCAPE, "--to", tmp_path / "report"),
        ("published", LANDSCAPE),
        ("--help",),
    ):
        done = call(program, *verb, cwd=tmp_path)
        assert done.returncode == 0, (verb, done.stderr)
    assert (tmp_path / "report" / "report.html").is_file()
    assert len(list((tmp_path / "report" / "figures").glob("*.png"))) > 3
    for verb in ("run", "train", "validate", "doctor", "ls"):
        done = call(program, verb, *(["quickstart"] if verb != "ls" else []), cwd=tmp_path)
        assert done.returncode == 2
        needs = (
            f"filter-study {verb} needs the extra 'train', which is not installed: pip install 'filter-study[train]'"
        )
        assert done.stderr.strip() == needs
    script = (
        "import filter_study; study = filter_study.load(r'%s'); study.gaps(); study.plot_gaps()._repr_png_()\n"
        "try: filter_study.run()\n"
        "except filter_study.UserError as error: print(error)\n"
        "try: filter_study.Comparison\n"
        "except ImportError as error: print(error)\n"
    )
    done = call(programs / "python", "-c", script % LANDSCAPE, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [line.partition(",")[0] for line in done.stdout.splitlines()] == [
        "run needs the extra 'train'",
        "Comparison needs the extra 'train'",
    ]


@pytest.mark.parametrize("extras", ["[train]", "[all]"])
def test_what_trains_comes_with_an_extra(wheel: Path, tmp_path: Path, extras: str) -> None:
    with installed(wheel, extras, tmp_path) as programs:
        trains(programs, extras, tmp_path)


def trains(programs: Path, extras: str, tmp_path: Path) -> None:
    mlflow = [f"mlflow.uri={tmp_path / 'runs'}"]
    train = (programs / "filter-study", "train", "quickstart", *SMALL, "--dir", tmp_path / "study")
    if extras == "[train]":
        done = call(*train, *mlflow, cwd=tmp_path)
        assert done.returncode == 2
        assert "pip install 'filter-study[mlflow]'" in done.stderr
        mlflow = []
    done = call(*train, *mlflow, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "study" / "report.html").is_file()
    assert not mlflow or (tmp_path / "runs" / "mlflow.db").is_file()
    assert call(programs / "filter-study", "ls", cwd=tmp_path).returncode == 0
