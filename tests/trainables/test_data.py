from __future__ import annotations

import gzip
import hashlib
import os
import pickle
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables import data
from trainables.config import BuiltIn
from trainables.data import (
    DEBIAN_FASHION_MNIST,
    Dataset,
    DatasetError,
    Split,
    built_in,
    first_per_class,
    load,
    mislabel,
    stratify,
)
from trainables.data import dataset as dataset_module

CPU = torch.device("cpu")
LABELS = st.lists(st.integers(0, 5), min_size=1, max_size=120).map(torch.tensor)
SEEDS = st.integers(0, 2**40)


def identities(split: Split) -> list[bytes]:
    return [image.numpy().tobytes() for image in split.images]


# ---------------------------------------------------------------------------------------------------------- mnist5k


@pytest.fixture(scope="module")
def mnist5k() -> tuple[Split, Split]:
    return data.read("mnist5k", "nowhere")


def test_mnist5k_is_balanced_bordered_and_split_apart(mnist5k: tuple[Split, Split]) -> None:
    train, test = mnist5k
    for split, each in ((train, 400), (test, 100)):
        assert split.images.shape == (each * 10, 1, 32, 32)
        assert split.images.dtype == torch.uint8
        assert torch.bincount(split.labels).tolist() == [each] * 10
        border = torch.ones(32, 32, dtype=torch.bool)
        border[2:-2, 2:-2] = False
        assert split.images[..., border].sum() == 0
        assert split.images.flatten(1).amax(1).min() > 100  # a stroke in every picture
    pictures = identities(train) + identities(test)
    assert len(set(pictures)) == 5000


def test_mnist5k_never_changes(mnist5k: tuple[Split, Split]) -> None:
    def fingerprint(split: Split) -> str:
        return hashlib.sha256(split.images.numpy().tobytes() + split.labels.numpy().tobytes()).hexdigest()[:16]

    assert [fingerprint(split) for split in data.read("mnist5k", "")] == [fingerprint(s) for s in mnist5k]
    assert [fingerprint(split) for split in mnist5k] == ["b5cffb0b6effdadd", "6eaffecf44a7efcf"]


# -------------------------------------------------------------------------------------------------------- idx files


def idx(array: np.ndarray) -> bytes:
    """The idx format: two zero bytes, type code 8 (unsigned byte), dimensions, sizes in big endian, data."""
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def digits(size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return (
        generator.integers(0, 256, (size, 28, 28), dtype=np.uint8),
        (generator.permutation(size) % 10).astype(np.uint8),
    )


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    (train, train_labels), (test, test_labels) = digits(60, 1), digits(20, 2)
    return {
        "train-images-idx3-ubyte": train,
        "train-labels-idx1-ubyte": train_labels,
        "t10k-images-idx3-ubyte": test,
        "t10k-labels-idx1-ubyte": test_labels,
    }


@pytest.fixture
def write(tmp_path: Path, arrays: dict[str, np.ndarray]):
    """Write the four files in torchvision's layout under the temporary folder; returns their folder."""

    def write(name: str = "MNIST", compressed: bool = False) -> Path:
        folder = tmp_path / name / "raw"
        folder.mkdir(parents=True)
        for filename, array in arrays.items():
            content = idx(array)
            if compressed:
                (folder / f"{filename}.gz").write_bytes(gzip.compress(content))
            else:
                (folder / filename).write_bytes(content)
        return folder

    return write


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")])
def test_idx_files_load_to_their_pixels_and_labels(
    tmp_path: Path, write, arrays: dict[str, np.ndarray], name: str, folder: str, compressed: bool
) -> None:
    write(folder, compressed)
    for split, part in zip(data.read(name, str(tmp_path)), ("train", "t10k"), strict=True):
        images = arrays[f"{part}-images-idx3-ubyte"]
        assert split.images.shape == (len(images), 1, 32, 32)
        assert np.array_equal(split.images[:, 0, 2:-2, 2:-2].numpy(), images)
        assert split.images.sum() == images.sum(dtype=np.int64)
        assert split.labels.tolist() == arrays[f"{part}-labels-idx1-ubyte"].tolist()


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST"])
def test_idx_files_load_as_torchvision_loads_them(tmp_path: Path, write, name: str) -> None:
    write(name)
    ours = data.read({"MNIST": "mnist", "FashionMNIST": "fashion_mnist"}[name], str(tmp_path))
    for split, train in zip(ours, (True, False), strict=True):
        theirs = getattr(torchvision.datasets, name)(str(tmp_path), train=train)
        assert torch.equal(split.images[:, 0, 2:-2, 2:-2], theirs.data)
        assert torch.equal(split.labels, theirs.targets)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10", "cifar100"])
def test_a_missing_data_set_says_where_it_was_sought_and_how_to_get_it(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(built_in, "DEBIAN_FASHION_MNIST", tmp_path / "debian")
    with pytest.raises(DatasetError) as caught:
        load(BuiltIn(name=name), str(tmp_path), CPU)
    message = str(caught.value)
    place = {
        "mnist": "MNIST/raw/train-images-idx3-ubyte",
        "fashion_mnist": "FashionMNIST/raw/train-images-idx3-ubyte.gz",
        "cifar10": "cifar-10-batches-py",
        "cifar100": "cifar-100-python",
    }[name]
    assert f"{name} was not found" in message
    assert str(tmp_path / place) in message
    assert f"torchvision.datasets.{data.TORCHVISION_NAME[name]}(" in message
    assert "download=True" in message
    assert "--data-dir" in message
    assert "mnist5k" in message
    if name == "fashion_mnist":
        assert str(tmp_path / "debian") in message
        assert "dataset-fashion-mnist" in message


@pytest.mark.parametrize("filename", ["train-labels-idx1-ubyte", "t10k-images-idx3-ubyte"])
def test_a_single_missing_file_is_named(tmp_path: Path, write, filename: str) -> None:
    path = write() / filename
    path.unlink()
    with pytest.raises(DatasetError, match=filename):
        data.read("mnist", str(tmp_path))


def damage(path: Path, change) -> None:
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    ("filename", "change", "reason"),
    [
        ("train-images-idx3-ubyte", lambda b: b[:-1], r"truncated, 47,055 bytes .* \(60, 28, 28\) asks for 47,056"),
        ("train-images-idx3-ubyte", lambda b: b + b"x", "too long"),
        ("train-images-idx3-ubyte", lambda b: b[:7], "not an idx file"),
        ("train-images-idx3-ubyte", lambda _: b"", "not an idx file"),
        ("t10k-images-idx3-ubyte", lambda b: b"\x01" + b[1:], "not an idx file .* starts with 01000803"),
        ("t10k-images-idx3-ubyte", lambda b: b[:2] + b"\x0d" + b[3:], "not an idx file .* starts with 00000d03"),
        ("t10k-labels-idx1-ubyte", lambda b: b[:3] + b"\x03" + b[4:], "not an idx file"),
        ("train-labels-idx1-ubyte", lambda b: b[:-1] + b"\x0a", "labels must be 0 to 9"),
        (
            "train-labels-idx1-ubyte",
            lambda b: b[:4] + struct.pack(">I", 59) + b[8:-1],
            "59 labels for 60 images in train-images-idx3-ubyte",
        ),
        (
            "train-images-idx3-ubyte",
            lambda b: b[:8] + struct.pack(">2I", 14, 56) + b[16:],
            "images are 14 x 56, not 28 x 28",
        ),
    ],
)
def test_a_damaged_idx_file_is_named_with_what_is_wrong(
    tmp_path: Path, write, filename: str, change, reason: str
) -> None:
    path = write() / filename
    damage(path, change)
    with pytest.raises(DatasetError, match=reason) as caught:
        data.read("mnist", str(tmp_path))
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda b: b[:-20], id="truncated"),
        pytest.param(lambda b: b[: len(b) // 2], id="halved"),
        pytest.param(lambda b: b"PK" + b[2:], id="magic"),
        pytest.param(lambda b: b[:-8] + bytes(4) + b[-4:], id="checksum"),
        pytest.param(lambda b: b[:1000] + bytes(64) + b[1064:], id="content"),
        pytest.param(lambda _: b"", id="empty"),
    ],
)
def test_a_damaged_gz_file_is_named(tmp_path: Path, write, change) -> None:
    path = write(compressed=True) / "train-images-idx3-ubyte.gz"
    damage(path, change)
    with pytest.raises(DatasetError) as caught:
        data.read("mnist", str(tmp_path))
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.skipif(not DEBIAN_FASHION_MNIST.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_debians_fashion_mnist_is_whole(tmp_path: Path) -> None:
    train, test = data.read("fashion_mnist", str(tmp_path))
    assert train.images.shape == (60_000, 1, 32, 32)
    assert test.images.shape == (10_000, 1, 32, 32)
    assert torch.bincount(train.labels).tolist() == [6000] * 10
    assert torch.bincount(test.labels).tolist() == [1000] * 10
    assert train.images.double().mean() / 255 * (32 / 28) ** 2 == pytest.approx(0.2860, abs=1e-4)  # the published mean


# ------------------------------------------------------------------------------------------------------------ CIFAR


def colours(size: int, seed: int) -> np.ndarray:
    """Pictures as rows of CIFAR files: 1,024 red, then 1,024 green, then 1,024 blue bytes, each row by row."""
    return np.random.default_rng(seed).integers(0, 256, (size, 3072), dtype=np.uint8)


@pytest.fixture
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Write files in CIFAR's format and have torchvision expect their sums; the folder and the rows by file."""

    def write(name: str, make: Callable[[int, int], np.ndarray] = colours) -> tuple[Path, dict[str, dict[str, Any]]]:
        dataset = {"cifar10": torchvision.datasets.CIFAR10, "cifar100": torchvision.datasets.CIFAR100}[name]
        folder = tmp_path / dataset.base_folder
        folder.mkdir()
        contents: dict[str, dict[str, Any]] = {}
        for place, (filename, _) in enumerate([*dataset.train_list, *dataset.test_list]):
            rows = make(20, place)
            labels = [(place + i) % data.CLASSES[name] for i in range(20)]
            key = {"cifar10": "labels", "cifar100": "fine_labels"}[name]
            contents[filename] = {"data": rows, key: labels, "filenames": [f"{i}.png" for i in range(20)]}
            if name == "cifar100":
                contents[filename]["coarse_labels"] = [0] * 20
        names = [f"class {i}" for i in range(data.CLASSES[name])]
        sums = {}
        for filename, content in {**contents, dataset.meta["filename"]: {dataset.meta["key"]: names}}.items():
            written = pickle.dumps(content, protocol=2)
            (folder / filename).write_bytes(written)
            sums[filename] = hashlib.md5(written).hexdigest()
        for files in ("train_list", "test_list"):
            monkeypatch.setattr(dataset, files, [[file, sums[file]] for file, _ in getattr(dataset, files)])
        monkeypatch.setattr(dataset, "meta", dataset.meta | {"md5": sums[dataset.meta["filename"]]})
        return folder, contents

    return write


@pytest.mark.parametrize(
    ("name", "key", "train_files", "test_file"),
    [
        ("cifar10", "labels", [f"data_batch_{i}" for i in range(1, 6)], "test_batch"),
        ("cifar100", "fine_labels", ["train"], "test"),
    ],
)
def test_cifar_files_load_to_their_pixels_channels_and_labels(
    tmp_path: Path, cifar, name: str, key: str, train_files: list[str], test_file: str
) -> None:
    _, contents = cifar(name)
    for split, files in zip(data.read(name, str(tmp_path)), (train_files, [test_file]), strict=True):
        rows = np.concatenate([contents[file]["data"] for file in files])
        assert split.images.shape == (len(rows), 3, 32, 32)
        assert split.images.is_contiguous()
        for channel in range(3):  # red, green, blue
            plane = rows[:, channel * 1024 : (channel + 1) * 1024].reshape(-1, 32, 32)
            assert np.array_equal(split.images[:, channel].numpy(), plane)
        assert split.labels.dtype == torch.int64
        assert split.labels.tolist() == [label for file in files for label in contents[file][key]]


class Payload:
    """A pickle of this makes a folder when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.mkdir, (self.path,)


@pytest.mark.parametrize(
    ("name", "filename"),
    [
        ("cifar10", "data_batch_3"),
        ("cifar10", "test_batch"),
        ("cifar10", "batches.meta"),
        ("cifar100", "train"),
        ("cifar100", "meta"),
    ],
)
def test_an_altered_cifar_file_is_named_and_no_pickle_is_opened(
    tmp_path: Path, cifar, name: str, filename: str
) -> None:
    folder, _ = cifar(name)
    proof = tmp_path / "opened"
    altered = pickle.dumps(Payload(proof))
    pickle.loads(altered)
    assert proof.is_dir()  # opening it would show
    proof.rmdir()
    (folder / filename).write_bytes(altered)
    with pytest.raises(DatasetError, match="its MD5 is not") as caught:
        data.read(name, str(tmp_path))
    assert str(caught.value).startswith(f"{folder / filename}: ")
    assert not proof.exists()


@pytest.fixture
def unprivileged() -> Iterator[None]:
    """A user whom permissions bind, where the tests run as root."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    yield
    os.seteuid(0)


@pytest.mark.usefixtures("unprivileged")
@pytest.mark.parametrize(("locked", "name"), [("file", "mnist"), ("folder", "mnist"), ("folder", "cifar10")])
def test_what_cannot_be_read_for_want_of_permission_is_named(locked: str, name: str) -> None:
    with TemporaryDirectory() as place:  # not tmp_path, which only its owner can enter
        folder = Path(place) / data.FOLDER[name]
        folder.mkdir(parents=True)
        file = folder / "train-images-idx3-ubyte"
        file.touch()
        (file if locked == "file" else Path(place)).chmod(0)
        try:
            with pytest.raises(DatasetError, match=f"{name} cannot be read: {place}.*: Permission denied; let"):
                data.read(name, place)
        finally:
            Path(place).chmod(0o700)


def test_a_truncated_and_a_missing_cifar_file_are_named(tmp_path: Path, cifar) -> None:
    folder, _ = cifar("cifar10")
    path = folder / "data_batch_2"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DatasetError, match="data_batch_2: truncated or altered"):
        data.read("cifar10", str(tmp_path))
    path.unlink()
    with pytest.raises(DatasetError, match="data_batch_2 is missing from cifar10; unpack the archive cifar-10-python"):
        data.read("cifar10", str(tmp_path))


# ---------------------------------------------------------------------------------------------------------- options


def config(**options: Any) -> BuiltIn:
    return BuiltIn(name="mnist5k", **options)


@pytest.fixture(scope="module")
def small() -> Dataset:
    return load(config(classes=3, samples_per_class=30, validation_fraction=0.25), "", CPU)


def test_the_whole_is_used_by_default_but_for_a_tenth_held_out() -> None:
    dataset = load(config(), "", CPU)
    assert dataset.classes == 10
    assert torch.bincount(dataset.train.labels).tolist() == [360] * 10
    assert dataset.validation is not None
    assert torch.bincount(dataset.validation.labels).tolist() == [40] * 10
    assert torch.bincount(dataset.test.labels).tolist() == [100] * 10
    assert [name for name, _ in dataset.splits()] == ["train", "validation", "test"]


def test_training_and_validation_make_up_the_training_set(mnist5k: tuple[Split, Split]) -> None:
    dataset = load(config(), "", CPU)
    assert dataset.validation is not None
    train, validation = set(identities(dataset.train)), set(identities(dataset.validation))
    assert not train & validation
    assert train | validation == set(identities(mnist5k[0]))
    assert set(identities(dataset.test)) == set(identities(mnist5k[1]))


def test_pictures_keep_their_labels_through_splits_and_subsets(mnist5k: tuple[Split, Split], small: Dataset) -> None:
    truth = dict(zip(identities(mnist5k[0]), mnist5k[0].labels.tolist(), strict=True))
    assert small.validation is not None
    for split in (small.train, small.validation):
        assert [truth[picture] for picture in identities(split)] == split.labels.tolist()


def test_nothing_is_held_out_at_a_fraction_of_zero() -> None:
    dataset = load(config(validation_fraction=0.0), "", CPU)
    assert dataset.validation is None
    assert len(dataset.train.labels) == 4000
    assert [name for name, _ in dataset.splits()] == ["train", "test"]


def test_classes_and_samples_are_counted_as_asked(small: Dataset) -> None:
    assert small.classes == 3
    assert torch.bincount(small.train.labels).tolist() == [30] * 3
    assert torch.bincount(small.validation.labels).tolist() == [100] * 3
    assert torch.bincount(small.test.labels).tolist() == [100] * 3


def test_subsets_are_nested_and_leave_validation_and_test_as_they_are(small: Dataset) -> None:
    larger = load(config(classes=3, samples_per_class=31, validation_fraction=0.25), "", CPU)
    assert set(identities(small.train)) < set(identities(larger.train))
    assert torch.equal(small.validation.images, larger.validation.images)
    assert torch.equal(small.test.images, larger.test.images)


def test_the_split_seed_changes_what_is_held_out_and_nothing_else() -> None:
    one, other = (load(config(split_seed=seed), "", CPU) for seed in (0, 1))
    assert set(identities(one.validation)) != set(identities(other.validation))
    assert torch.equal(one.test.images, other.test.images)
    assert torch.equal(load(config(), "elsewhere", CPU).train.images, one.train.images)


def test_asking_for_too_many_samples_says_how_many_there_are() -> None:
    with pytest.raises(DatasetError, match=r"samples_per_class is 361, .* has 360 training samples .* 0\.1 held out"):
        load(config(samples_per_class=361), "", CPU)
    assert len(load(config(samples_per_class=360), "", CPU).train.labels) == 3600


def test_asking_for_too_many_classes_says_how_many_there_are() -> None:
    with pytest.raises(DatasetError, match=r"dataset\.classes is 11, but mnist5k has 10 classes"):
        load(config(classes=11), "", CPU)


def test_normalized_training_pictures_have_mean_0_and_deviation_1(small: Dataset) -> None:
    normalized = small.normalize(small.train.images.float() / 255).double()
    assert normalized.mean().item() == pytest.approx(0, abs=1e-5)
    assert normalized.std(correction=0).item() == pytest.approx(1, abs=1e-5)


def test_normalization_is_per_channel_and_survives_a_constant_channel(tmp_path: Path, cifar) -> None:
    def dim_red_no_blue(size: int, seed: int) -> np.ndarray:
        rows = colours(size, seed)
        rows[:, :1024] //= 4
        rows[:, 2048:] = 0
        return rows

    cifar("cifar10", dim_red_no_blue)
    dataset = load(BuiltIn(name="cifar10", validation_fraction=0.0), str(tmp_path), CPU)
    normalized = dataset.normalize(dataset.train.images.float() / 255).double()
    assert normalized.mean((0, 2, 3)).tolist() == pytest.approx([0, 0, 0], abs=1e-5)
    assert normalized.std((0, 2, 3), correction=0).tolist() == pytest.approx([1, 1, 0], abs=1e-5)


def test_data_are_read_once_per_process() -> None:
    assert load(config(classes=2), "", CPU) is load(config(classes=2), "", CPU)


@given(LABELS, st.floats(0, 1), SEEDS)
@settings(max_examples=80)
def test_a_stratified_share_is_rounded_in_every_class_and_the_rest_is_the_rest(
    labels: torch.Tensor, fraction: float, seed: int
) -> None:
    chosen, rest = stratify(labels, fraction, seed, "validation")
    assert sorted(chosen.tolist() + rest.tolist()) == list(range(len(labels)))
    for part in (chosen, rest):
        assert part.tolist() == sorted(part.tolist())
    for label, size in zip(*labels.unique(return_counts=True), strict=True):
        assert abs(int((labels[chosen] == label).sum()) - fraction * int(size)) <= 0.5 + 1e-9
    again = stratify(labels, fraction, seed, "validation")
    assert torch.equal(again[0], chosen)


@given(LABELS, SEEDS, st.data())
@settings(max_examples=80)
def test_the_first_of_each_class_are_nested_and_balanced(labels: torch.Tensor, seed: int, draw: st.DataObject) -> None:
    sizes = labels.unique(return_counts=True)[1]
    larger = draw.draw(st.integers(1, int(sizes.min())))
    smaller = draw.draw(st.integers(1, larger))
    many, few = first_per_class(labels, larger, seed), first_per_class(labels, smaller, seed)
    assert few.tolist() == sorted(set(few.tolist()))
    assert set(few.tolist()) <= set(many.tolist())
    for count, picked in ((larger, many), (smaller, few)):
        assert labels[picked].unique(return_counts=True)[1].tolist() == [count] * len(sizes)


# ------------------------------------------------------------------------------------------------------ label noise


def noisy(fraction: float, **options: Any) -> Dataset:
    return load(config(classes=3, samples_per_class=31, label_noise=fraction, **options), "", CPU)


def test_a_share_of_the_training_labels_is_wrong_and_nothing_else_changes() -> None:
    clean, dirty = noisy(0.0), noisy(0.25)
    wrong = dirty.train.labels != clean.train.labels
    assert int(wrong.sum()) == 23  # a quarter of 93
    assert set(dirty.train.labels.tolist()) == {0, 1, 2}
    assert torch.equal(dirty.train.images, clean.train.images)
    assert torch.equal(dirty.mean, clean.mean)
    for split in ("validation", "test"):
        for ours, theirs in zip(getattr(dirty, split), getattr(clean, split), strict=True):
            assert torch.equal(ours, theirs)


def test_training_labels_are_true_without_noise(mnist5k: tuple[Split, Split]) -> None:
    truth = dict(zip(identities(mnist5k[0]), mnist5k[0].labels.tolist(), strict=True))
    train = noisy(0.0).train
    assert [truth[picture] for picture in identities(train)] == train.labels.tolist()


def test_wrong_labels_follow_the_split_seed() -> None:
    labels = torch.arange(300) % 3
    one, same, other = (mislabel(labels, 0.5, 3, seed) for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    whole = load(config(label_noise=0.1, split_seed=4), "", CPU).train.labels
    clean = load(config(split_seed=4), "", CPU).train.labels
    assert torch.equal(whole, mislabel(clean, 0.1, 10, 4))


def test_every_sample_and_every_other_class_is_as_likely() -> None:
    labels = torch.full((20_000,), 2)
    counts = torch.bincount(mislabel(labels, 0.5, 5, 7), minlength=5)
    assert counts[2] == 10_000
    assert (counts[[0, 1, 3, 4]] - 2500).abs().max() < 5 * (10_000 * 0.25 * 0.75) ** 0.5
    halves = (mislabel(labels, 0.5, 5, 7) != labels).view(2, -1).sum(1)
    assert (halves - 5000).abs().max() < 5 * (20_000 * 0.25) ** 0.5


@given(LABELS, st.integers(6, 12), st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True), SEEDS)
@settings(max_examples=80)
def test_wrong_labels_are_counted_within_the_classes_and_nested(
    labels: torch.Tensor, classes: int, one: float, other: float, seed: int
) -> None:
    truth = labels.clone()
    few, many = (mislabel(labels, fraction, classes, seed) for fraction in sorted((one, other)))
    assert torch.equal(labels, truth)  # the labels handed in are left alone
    for noisy, fraction in ((few, min(one, other)), (many, max(one, other))):
        assert int((noisy != labels).sum()) == round(fraction * len(labels))
        assert set(noisy.tolist()) <= set(range(classes))
    wrong = few != labels
    assert torch.equal(few[wrong], many[wrong])
    assert torch.equal(mislabel(labels, 0.0, classes, seed), labels)


@pytest.mark.parametrize("resident", [0, 4 * 24 * 3 * 32 * 32, 2**28])  # none, validation and test, all
def test_clean_pictures_are_the_same_whether_kept_or_made_each_time(
    make_dataset, monkeypatch: pytest.MonkeyPatch, resident: int
) -> None:
    monkeypatch.setattr(dataset_module, "RESIDENT", resident)
    pictures = make_dataset(train=48, validation=20, test=24)
    for name, split in pictures.splits():
        whole = pictures.normalize(split.images.float() / 255)
        positions = torch.tensor([7, 3, 19, 3])
        assert torch.equal(pictures.clean(name, positions), whole[positions])
        assert torch.equal(pictures.clean(name, slice(5, 9)), whole[5:9])
    kept = {0: [], 2**28: ["train", "validation", "test"]}.get(resident, ["validation", "test"])
    assert list(pictures._normalized) == kept
