import subprocess
import sys
from pathlib import Path

import fsspec
import pytest

from trainables import fetch
from trainables.comparison import resolve_device
from trainables.config import BuiltIn, Runtime
from trainables.data import DatasetError, load


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for a bucket, and a cache of this test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    raw = tmp_path / "bucket" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / "a").write_text("first")
    return tmp_path / "bucket"


def test_a_folder_is_read_where_it_is(tmp_path: Path) -> None:
    assert fetch.local(str(tmp_path), "MNIST/raw") == tmp_path


def test_what_lies_behind_a_uri_is_fetched_once(shared: Path) -> None:
    root = fetch.local(shared.as_uri(), "MNIST/raw")
    assert (root / "MNIST/raw/a").read_text() == "first"
    (shared / "MNIST/raw/a").write_text("second")
    assert fetch.local(shared.as_uri(), "MNIST/raw") == root
    assert (root / "MNIST/raw/a").read_text() == "first"


@pytest.mark.parametrize("inner", ["", "MNIST", "MNIST/raw"])
def test_a_folder_behind_a_uri_is_the_one_that_is_named(shared: Path, inner: str) -> None:
    for uri in (f"{shared.as_uri()}/{inner}", f"{shared.as_uri()}/{inner}/"):
        root = fetch.folder(uri)
        found = {file.relative_to(root).as_posix() for file in root.rglob("*") if file.is_file()}
        assert found == {"a" if inner == "MNIST/raw" else "raw/a" if inner else "MNIST/raw/a"}


def test_the_root_of_a_store_and_a_query_can_be_named(shared: Path) -> None:
    fsspec.filesystem("memory").pipe("/plankton/train/0/a.png", b"whole")
    assert (fetch.folder("memory://") / "plankton/train/0/a.png").read_bytes() == b"whole"
    assert (fetch.folder("memory://plankton") / "train/0/a.png").read_bytes() == b"whole"


def test_what_is_not_there_leaves_nothing_behind(shared: Path) -> None:
    root = fetch.local(shared.as_uri(), "FashionMNIST/raw")
    assert not (root / "FashionMNIST" / "raw").exists()
    with pytest.raises(DatasetError, match=r"cifar10 was not found; looked for .*cifar-10-batches-py"):
        load(BuiltIn(name="cifar10"), shared.as_uri(), resolve_device(Runtime(device="cpu")))


def test_a_uri_that_nothing_reads_is_one_message() -> None:
    with pytest.raises(DatasetError, match=r"cifar10 cannot be fetched from s4://x: .*Protocol not known"):
        load(BuiltIn(name="cifar10"), "s4://x", resolve_device(Runtime(device="cpu")))


@pytest.mark.slow
def test_processes_that_ask_at_once_fetch_once_and_see_the_whole(shared: Path) -> None:
    raw = shared / "MNIST" / "raw"
    for number in range(300):
        (raw / str(number)).write_bytes(bytes(1000))
    code = f"""
from trainables import fetch
root = fetch.local({shared.as_uri()!r}, "MNIST/raw") / "MNIST/raw"
print(len(list(root.iterdir())), root.stat().st_ino)
"""
    processes = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    said = {process.communicate()[0].strip() for process in processes}
    assert len(said) == 1
    assert said.pop().split()[0] == "301"
