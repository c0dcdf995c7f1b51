import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from study import folder as folders
from study import manifest, preflight, storage
from study.experiment import Experiment
from study.history import History, Past
from study.storage import CLAIMS, MARKER, StorageError
from tests.conftest import Bucket
from trainables.checkpoints import Checkpoints
from trainables.places import Place

Build = Callable[..., Experiment]
TRIAL, OTHER = "0001-0123abcd", "0002-0123abcd"


def study(folder: Path, experiment: Experiment) -> Path:
    folders.create(folder, experiment)
    return folder


def trained(root: Place, *trials: str) -> None:
    for trial in trials:
        Checkpoints(root / trial).save(3, {"epoch": 3})


# ------------------------------------------------------------------------------------------------------------ its place


def test_checkpoints_lie_in_the_studys_folder_or_under_its_id_in_the_storage(small: Build, tmp_path: Path) -> None:
    own = storage.checkpoint_root(small(), tmp_path / "mine", "id")
    assert own.local == tmp_path / "mine" / "checkpoints"
    shared = storage.checkpoint_root(small(storage=f"{tmp_path}/store/"), tmp_path / "mine", "id")
    assert shared.local == tmp_path / "store" / "id" / "checkpoints"
    bucket = storage.checkpoint_root(
        small(storage="s3://lab/studies?scheme=http&endpoint_override=h:1"), tmp_path, "id"
    )
    assert str(bucket) == "s3://lab/studies/id/checkpoints"


@pytest.mark.parametrize("letter", ["x", "é"])
def test_ids_too_long_for_a_folder_get_folders_of_their_own(small: Build, tmp_path: Path, letter: str) -> None:
    experiment = small(storage=str(tmp_path))
    ids = [letter * 255, f"{letter * 250}-1", f"{letter * 250}-2", f"{letter * 251}-2"]
    roots = [storage.checkpoint_root(experiment, tmp_path, study) for study in ids]
    for root in roots:
        trained(root, TRIAL)
    assert len({root.parent.local for root in roots}) == 4
    assert storage.checkpoint_root(experiment, tmp_path, "x" * 255).parent.below == "x" * 255
    storage.probe(experiment.model_copy(update={"name": letter * 250}))


# -------------------------------------------------------------------------------------------------------------- a probe


def test_storage_is_tried_beforehand_and_nothing_is_left(small: Build, tmp_path: Path, bucket: Bucket) -> None:
    (tmp_path / "there").mkdir()
    for path in ("there", "not/there"):
        preflight.check(small(storage=str(tmp_path / path)))
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]
    bucket.put("studies/other/checkpoints/0001-abc/000000001.pt")
    preflight.check(small(storage=bucket.uri("/studies")))
    assert bucket.objects() == ["studies/other/checkpoints/0001-abc/000000001.pt"]


def test_a_probe_is_written_where_comparisons_keep_their_checkpoints(
    small: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    write = Place.write
    monkeypatch.setattr(Place, "write", lambda self, *parts: (written.append(self), write(self, *parts)))
    experiment = small(storage=str(tmp_path))
    preflight.check(experiment)
    (probe,) = written
    root = storage.checkpoint_root(experiment, tmp_path, "id")
    assert [len(Path(probe.below).parts), Path(probe.below).parts[1]] == [4, Path(root.below).name]


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("nonesuch://bucket", "storage: nonesuch://bucket: Protocol not known: nonesuch"),
        ("s3://u:secret@lab?nonsense=1", r"storage: s3://u:\*\*\*@lab: Unexpected query parameter"),
        ("~nobodyx/studies", "storage: ~nobodyx/studies: .*give the folder's whole path"),
        ("", "storage: .*is empty"),
        ("/dev/null/studies", "storage: /dev/null/studies: .*Not a directory"),
    ],
)
def test_storage_that_cannot_be_used_is_one_message(small: Build, named: str, message: str) -> None:
    with pytest.raises(StorageError, match=message) as raised:
        preflight.check(small(storage=named))
    assert "secret" not in str(raised.value)


def test_a_bucket_that_is_not_there_is_one_message(small: Build, bucket: Bucket) -> None:
    with pytest.raises(StorageError, match=r"storage: s3://none/studies: .*bucket does not exist"):
        preflight.check(small(storage=bucket.uri("/studies").replace(bucket.name, "none")))


# ------------------------------------------------------------------------------------------------------- whose they are


@pytest.mark.parametrize("store", ["disk", "s3"])
def test_only_what_a_study_wrote_is_removed(
    store: str, small: Build, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    uri = str(tmp_path / "store") if store == "disk" else request.getfixturevalue("bucket").uri("/studies")
    mine, other = (study(tmp_path / name, small(storage=uri)) for name in ("mine", "other"))
    root, others = (storage.claim(small(storage=uri), folder) for folder in (mine, other))
    trained(root, TRIAL, OTHER)
    trained(others, TRIAL)
    (root / "notes" / "000000003.pt").write(b"a folder that is no comparison's")
    (root / "0003-0123abcd" / "plot.png").write(b"a file that is no checkpoint")
    storage.remove_strays(root, [OTHER])
    assert root.folders() == [OTHER, "0003-0123abcd", "notes"]
    assert [(root / name).files() for name in (TRIAL, OTHER)] == [[], ["000000003.pt"]]
    assert (root / "notes").files() == ["000000003.pt"]
    assert (root / "0003-0123abcd").files() == ["plot.png"]
    Checkpoints(root / OTHER).remove()
    storage.release(root, mine)
    assert root.parent.files() == [MARKER]  # for files are left
    assert (others / TRIAL).files() == ["000000003.pt"]
    Checkpoints(others / TRIAL).remove()
    storage.release(others, other)
    assert others.parent.files() == []
    if store == "disk":
        assert [path.name for path in (tmp_path / "store").iterdir()] == [manifest.identity(mine)]


def test_a_study_that_goes_on_or_is_moved_keeps_its_checkpoints_and_a_copy_of_it_has_none(
    small: Build, tmp_path: Path
) -> None:
    experiment = small(storage=str(tmp_path / "store"))
    mine = study(tmp_path / "mine", experiment)
    root = storage.claim(experiment, mine)
    trained(root, TRIAL)
    copy = Path(shutil.copytree(mine, tmp_path / "copy"))
    moved = mine.rename(tmp_path / "moved")
    for _ in range(2):
        storage.check(experiment, moved)
        assert storage.claim(experiment, moved) == root
    for use in (storage.check, storage.claim):
        with pytest.raises(StorageError, match=rf"not those of {copy}: .*{moved} on .*--set storage=.* --from-start"):
            use(experiment, copy)
    storage.release(root, copy)
    assert root.parent.files() == [MARKER]
    elsewhere = small(storage=str(tmp_path / "elsewhere"))
    trained(storage.claim(elsewhere, copy), TRIAL)
    storage.check(experiment, moved)
    assert (root / TRIAL).files() == ["000000003.pt"]


def test_the_first_copy_that_goes_on_has_the_checkpoints(small: Build, tmp_path: Path) -> None:
    experiment = small(storage=str(tmp_path / "store"))
    mine = study(tmp_path / "mine", experiment)
    storage.claim(experiment, mine)
    copy = Path(shutil.copytree(mine, tmp_path / "copy"))
    storage.claim(experiment, copy)
    with pytest.raises(StorageError, match=f"{copy} on"):
        storage.check(experiment, mine)


def test_a_study_in_its_own_folder_or_of_before_there_were_claims_needs_none(small: Build, tmp_path: Path) -> None:
    mine = study(tmp_path / "mine", small())
    storage.claim(small(), mine)
    assert not (mine / CLAIMS).exists()
    experiment = small(storage=str(tmp_path / "store"))
    trained(storage.checkpoint_root(experiment, mine, manifest.identity(mine)), TRIAL)
    trained(storage.claim(experiment, mine), OTHER)


# ----------------------------------------------------------------------------------------------------- what is promised


@pytest.mark.parametrize("status", ["finished", "stopped", "diverged", "failed"])
def test_only_a_comparison_that_failed_keeps_its_checkpoints_to_be_tried_again(tmp_path: Path, status: str) -> None:
    root = Place.of(tmp_path)
    trained(root, TRIAL)
    (root / TRIAL / "hang.txt").write(b"where it hung")
    storage.clean(root, TRIAL, status)
    assert (root / TRIAL).files() == ["000000003.pt"] * (status == "failed")
    assert root.folders() == [TRIAL] * (status == "failed")


def past(trial: str, status: str = "interrupted", epoch: int = 9, seconds: float = 60) -> Past:
    return Past(trial, 0, status, {}, time.time(), None, epoch, seconds)


def test_a_comparison_that_must_have_a_checkpoint_and_has_none_is_asked_about(small: Build, tmp_path: Path) -> None:
    experiment = small()
    root = storage.checkpoint_root(experiment, tmp_path, "id")
    trained(root, TRIAL)
    (root / OTHER / "000000003.pt").write(b"cut short")

    def lost(*comparisons: Past) -> str:
        try:
            storage.demand(experiment, tmp_path, History(comparisons), due=10)
        except StorageError as error:
            return str(error)
        return ""

    assert lost(past(TRIAL), past(OTHER, "finished"), past(OTHER, seconds=9), past(OTHER, epoch=1, seconds=99)) == ""
    assert f"of {OTHER} (rows up to epoch 9): resume would train from epoch 0 again" in lost(past(OTHER), past(TRIAL))
    assert "--from-start" in lost(past(OTHER))
    assert f"{TRIAL} (rows up to epoch 2)" in lost(past(TRIAL, epoch=2))  # the record is behind its checkpoint
    many = [past(f"{number:04d}-00000000") for number in range(7)]
    assert "0004-00000000 (rows up to epoch 9) and 2 more" in lost(*many)
