from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from study import preflight
from study.doctor import storage
from study.doctor.asking import here, outcome
from study.doctor.findings import MEBIBYTE, Finding
from study.experiment import Experiment
from tests.conftest import Bucket
from trainables.checkpoints import Checkpoints
from trainables.comparison import prepare
from trainables.config import TrialConfig
from trainables.places import Place

Build = Callable[..., Experiment]
PROBED = "mark/checkpoints/0000-00000000"


def test_a_study_folder_can_be_recorded_in(tmp_path: Path) -> None:
    assert storage.study_folder(tmp_path / "new" / "study").level == "ok"
    (tmp_path / "file").touch()
    finding = storage.study_folder(tmp_path / "file" / "study")
    assert (finding.level, finding.remedy) == ("error", "choose another --dir")
    assert str(tmp_path / "file") in finding.text
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "study.sqlite").write_text("this is no database, but as long as the header of one" * 9)
    assert "not a database" in storage.study_folder(tmp_path / "damaged").text


@pytest.mark.parametrize(
    ("folder", "level", "kind"),
    [
        ("/local/study", "ok", "ext4"),
        ("/home/me/study", "warning", "nfs4"),
        ("/home/me/scratch/study", "ok", "xfs"),
        ("/homely", "ok", "ext4"),
        ("/lustre", "warning", "lustre"),
        ("/remote/a", "warning", "fuse.sshfs"),
        ("/windows/a", "ok", "fuseblk"),
        ("/late/a", "warning", "cifs"),
    ],
)
def test_a_network_file_system_is_no_place_for_sqlite(folder: str, level: str, kind: str) -> None:
    mounts = [
        ("/", "ext4"),
        ("/home", "nfs4"),
        ("/home/me/scratch", "xfs"),
        ("/lustre", "lustre"),
        ("/remote", "fuse.sshfs"),
        ("/windows", "fuseblk"),
        ("/late", "autofs"),
        ("/late", "cifs"),
    ]
    finding = storage.file_system(Path(folder), mounts)
    assert finding.level == level
    assert f"is on {kind}" in finding.text
    assert ("--set storage=" in finding.remedy) == (level == "warning")


class Usage(NamedTuple):
    free: int


@pytest.mark.parametrize(("free", "level"), [(201, "ok"), (199, "warning"), (100, "warning"), (99, "error")])
def test_a_disk_must_have_room(free: int, level: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda path: asked.append(path) or Usage(free))
    assert storage.space(tmp_path / "not" / "there", 100, "all").level == level
    assert asked == [tmp_path]


@pytest.mark.parametrize("optimizer", [{"name": "SGD", "momentum": 0.9}, {"name": "AdamW", "amsgrad": True}])
def test_the_size_of_a_checkpoint_is_told_beforehand(small: Build, tmp_path: Path, optimizer: dict[str, Any]) -> None:
    models = {"choice": ["FCNet10", "FCNet50"]}
    experiment = small(optimizer={"lr": 0.01, **optimizer}, space={"model.name": models}, epochs=1)
    config = TrialConfig.from_dotted({**experiment.fixed, "model.name": "FCNet50"})
    comparison = prepare(config, preflight.under_ray(experiment))
    while not comparison.done:
        comparison.step()
    Checkpoints(Place.of(tmp_path)).save(1, comparison.state_dict())
    (file,) = tmp_path.iterdir()
    assert storage.checkpoint_bytes(experiment) == pytest.approx(file.stat().st_size, rel=0.1)


def test_storage_is_written_and_read_by_every_machine(tmp_path: Path) -> None:
    root = Place(f"{tmp_path}/storage", PROBED)

    def two(function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
        return {name: outcome(function, *arguments) for name in ("a", "b")}

    assert storage.shared(root, two) == [
        Finding("ok", "storage", f"{tmp_path}/storage can be written and read (on a, b)")
    ]
    assert list((tmp_path / "storage").iterdir()) == []
    assert storage.shared(Place("memory://doctor", PROBED), two)[0].level == "ok"
    assert Place("memory://doctor", PROBED).files() == []


def test_a_bucket_is_written_and_read_and_nothing_is_left_in_it(bucket: Bucket) -> None:
    bucket.put("studies/other/checkpoints/0001-abc/000000001.pt")
    place = Place.of(bucket.uri("/studies"))
    assert storage.shared(Place(place.root, PROBED), here) == [
        Finding("ok", "storage", f"s3://{bucket.name}/studies can be written and read")
    ]
    assert bucket.objects() == ["studies/other/checkpoints/0001-abc/000000001.pt"]


@pytest.mark.parametrize("root", ["{}/file", "nonesuch://bucket"])
def test_storage_that_cannot_be_written_is_an_error(root: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (finding,) = storage.shared(Place(root.format(tmp_path), PROBED), here)
    assert finding.level == "error"
    assert root.format(tmp_path) in finding.text
    assert "--set storage=" in finding.remedy


@pytest.mark.parametrize(("writes_apart", "reads_apart"), [(True, False), (False, True)])
def test_storage_that_a_machine_does_not_share_is_an_error(
    writes_apart: bool, reads_apart: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, apart = Place(f"{tmp_path}/here", PROBED), Place(f"{tmp_path}/there", PROBED)
    write, read = storage._write, storage._read

    def ask(function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
        """Another machine, on which the same path is another folder."""
        with monkeypatch.context() as patch:
            if writes_apart:
                patch.setattr(storage, "_write", lambda file, text: write(apart / Path(file.below).name, text))
            if reads_apart:
                patch.setattr(storage, "_read", lambda file: read(apart / Path(file.below).name))
            return {"other": function(*arguments)}

    (finding,) = storage.shared(root, ask)
    assert finding.level == "error"
    assert "not the same there" in finding.text


@pytest.mark.parametrize("place", [None, "shared/storage"])
def test_where_a_study_is_kept_nothing_is_left_behind(
    place: str | None, small: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(storage, "checkpoint_bytes", lambda experiment: 10 * MEBIBYTE)
    findings = list(storage.keeping(small(storage=place), Path("new/studies"), 2, here))
    assert [finding.level for finding in findings] == ["ok"] * 5, findings
    assert "the record may take 48.0 KiB" in findings[2].text  # three epochs of two arms
    assert (
        "checkpoints may take 60.0 MiB" in findings[4].text
    )  # two at a time, each with two kept and one being written
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "notes.txt").touch()
    list(storage.keeping(small(storage=place), Path("new"), 2, here))
    assert list(tmp_path.rglob("*")) == [tmp_path / "new", tmp_path / "new" / "notes.txt"]
