from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.conftest import Bucket
from trainables.checkpoints import HANG, Checkpoints
from trainables.places import Place

QUERIES = [
    "endpoint_override=http://{server}&smart_defaults=standard",
    "endpoint_override=http://{server}&region=us-east-1",
    "region=us-east-1&scheme=http&endpoint_override={server}",
]


def uses(place: Place) -> None:
    """A folder of checkpoints there does what one on a disk does, also when it is made again from plain values."""
    folder = Place(**json.loads(json.dumps(asdict(place / "study" / "0001-abc"))))
    kept = Checkpoints(folder)
    assert list(kept.newest()) == []
    for epoch in (1, 2, 3):
        kept.save(epoch, {"epoch": epoch})
    assert folder.files() == ["000000002.pt", "000000003.pt"]
    assert (place / "study").folders() == ["0001-abc"]
    assert [(epoch, state["epoch"]) for epoch, state in Checkpoints(folder).newest()] == [(3, 3), (2, 2)]
    kept.forget(after=2)
    assert kept.has(until=2)
    assert not kept.has(until=1)
    Checkpoints(place / "study" / "0002-abc").save(7, {"epoch": 7})
    kept.remove()
    assert not kept.has(until=9)
    assert Checkpoints(place / "study" / "0002-abc").has(until=7)


@pytest.mark.parametrize(
    "named", ["memory://places/{}", "memory://user@host:1/{}", "file://{}/kept", "file://{}/with space", "{}/kept/"]
)
def test_a_place_can_be_a_path_or_a_uri(tmp_path: Path, named: str) -> None:
    uses(Place.of(named.format(tmp_path)))


@pytest.mark.parametrize("query", QUERIES)
def test_what_is_under_a_bucket_does_not_depend_on_the_query_of_its_uri(bucket: Bucket, query: str) -> None:
    bucket.put("studies/other/checkpoints/0001-abc/000000001.pt")
    place = Place.of(bucket.uri("/studies", query))
    uses(place)
    assert bucket.objects() == [
        "studies/other/checkpoints/0001-abc/000000001.pt",
        "studies/study/0002-abc/000000007.pt",
    ]
    assert place.local is None
    assert (place / "study").folders() == ["0002-abc"]  # the other one holds nothing any more


@pytest.mark.parametrize("path", ["", "/", "/with%20space/", "/with space"])
def test_a_bucket_can_be_named_with_or_without_a_path_and_a_user(bucket: Bucket, path: str) -> None:
    uri = bucket.uri(path).replace("s3://", "s3://user:secret@")
    uses(Place.of(uri))
    inside = path.strip("/").replace("%20", " ")
    assert bucket.objects() == [f"{inside}/study/0002-abc/000000007.pt".lstrip("/")]
    assert "secret" not in str(Place.of(uri) / "study")
    assert str(Place.of(uri) / "study") == f"s3://user:***@{bucket.name}{path.rstrip('/')}/study"


@pytest.mark.parametrize("store", ["disk", "s3"])
def test_only_exact_names_are_removed_and_foreign_files_keep_their_folder(
    store: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    place = Place.of(tmp_path) if store == "disk" else Place.of(request.getfixturevalue("bucket").uri(""))
    folder = place / "mine"
    kept = Checkpoints(folder)
    kept.save(1, {"epoch": 1})
    foreign = ["000000001.pt.bak", "1.pt", "best.pt", "notes.txt", "x.part"]
    for name in [*foreign, HANG, "000000002.pt.part"]:
        (folder / name).write(b"text")
    (folder / "000000003.pt" / "deep").write(b"a folder by the name of a checkpoint")
    kept.remove()
    assert sorted(folder.files()) == foreign
    assert (folder / "000000003.pt").files() == ["deep"]
    kept.remove()  # again


def test_a_folder_goes_only_when_it_is_empty(tmp_path: Path) -> None:
    folder = Place.of(tmp_path) / "a"
    folder.remove_folder()  # it is not there
    (folder / "file").write(b"")
    folder.remove_folder()
    assert folder.files() == ["file"]
    (folder / "file").remove_file()
    (folder / "file").remove_file()
    folder.remove_folder()
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_made_of_its_parts(tmp_path: Path) -> None:
    file = Place.of(tmp_path) / "a" / "b"
    file.write(b"one ", memoryview(b"two"))
    assert file.read() == b"one two"
    assert file.parent.files() == ["b"]
    assert file.parent.is_folder()
    assert not file.is_folder()


def test_paths_are_absolute_from_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert Place.of("kept").root == str(tmp_path / "kept")
    assert Place.of("~/kept").root == str(tmp_path / "home" / "kept")
    assert Place.of("a#b?c=d").local == tmp_path / "a#b?c=d"
    assert Place.of(f"file://{tmp_path}/a/").local == tmp_path / "a"
    assert (Place.of("/") / "a").local == Path("/a")
    assert Place.of("/").local == Path("/")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b"])
def test_a_name_leads_nowhere_else(name: str) -> None:
    with pytest.raises(ValueError, match="is not the name of a file or folder"):
        Place.of("/tmp") / name


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("nowhere://bucket/study", "Protocol not known: nowhere; use a folder that every"),
        ("s3://bucket/study?nonsense=1", "Unexpected query parameter in S3 URI: 'nonsense'"),
        ("s3://a:secret@bu^cket/study", r"Cannot parse URI: 's3://a:\*\*\*@"),
        ("s3://", "names no bucket"),
        (" ", "is empty"),
        ("~nobodyx/data", "whole path"),
    ],
)
def test_a_place_that_cannot_be_is_refused(named: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Place.of(named).files()
