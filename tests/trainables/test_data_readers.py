"""Data sets that are not built in: files in a known layout, and code of one's own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from trainables import data
from trainables.comparison import prepare
from trainables.config import Npz, OwnDataset, Runtime, TrialConfig
from trainables.contracts import DatasetContract
from trainables.data import Arrays, Dataset, DatasetError, checked, folder, load, long_tailed, torchvision_sets
from trainables.data.loading import READERS
from trainables.imports import CodeError

CPU = torch.device("cpu")
NAMES = ["comb jelly", "copepod", "diatom", "larva", "radiolarian", "salp", "worm"]


def images(count: int, size: tuple[int, ...] = (48, 48, 3), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *size), dtype=np.uint8)


def labels(count: int, classes: int = 7) -> np.ndarray:
    return np.arange(count) % classes


def arrays(**options: Any) -> Arrays:
    train, test = images(42, seed=1, **options), images(14, seed=2, **options)
    return Arrays((train, labels(42)), (test, labels(14)), NAMES)


def opened(section: dict[str, Any], data_dir: str = "") -> Dataset:
    return load(TrialConfig.model_validate({"dataset": {"validation_fraction": 0, **section}}).dataset, data_dir, CPU)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, and nothing left in memory."""
    load.cache_clear()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


# ------------------------------------------------------------------------------------------------------------ checks

GOOD = arrays()
IMAGES, LABELS = GOOD.train
WRONG: list[tuple[Any, str]] = [
    (None, "must give ((train_images, train_labels), (test_images, test_labels))"),
    ((GOOD.train,), "gives no test set"),
    ((GOOD.train, None), "gives no test set"),
    ((GOOD.train, (IMAGES,)), "the test set is a tuple of 1"),
    (((IMAGES / 255, LABELS), GOOD.test), "training images are float64; they must be uint8"),
    (((IMAGES[..., :2], LABELS), GOOD.test), "training images have the shape [42, 48, 48, 2]"),
    (((IMAGES[:, 0, 0], LABELS), GOOD.test), "training images have the shape [42, 3]"),
    (((IMAGES[:0], LABELS[:0]), GOOD.test), "there are no training images: their shape is [0, 48, 48, 3]"),
    (((IMAGES, LABELS[:-1]), GOOD.test), "41 labels for 42 training images"),
    (((IMAGES, LABELS + 0.5), GOOD.test), "training label 0.5 at 0 is not a whole number"),
    (((IMAGES, LABELS - 1), GOOD.test), "training label -1 at 0 is below 0"),
    (((IMAGES, LABELS.astype(str)), GOOD.test), "training labels are <U21; they must be whole numbers"),
    (((IMAGES, np.eye(7)[LABELS]), GOOD.test), "training labels have the shape [42, 7]"),
    ((GOOD.train, (IMAGES[:14], LABELS[:14] + 1)), "test label 7 at 6 is out of range: classes are 0 to 6"),
    (((IMAGES, np.where(LABELS == 3, 2, LABELS)), GOOD.test), "no training image has the label 3 (3)"),
    (((IMAGES, LABELS * 0), (IMAGES, LABELS * 0)), "there is 1 class; there must be 2 or more"),
    ((GOOD.train, (IMAGES[:14, :32], LABELS[:14])), "training images are 3 x 48 x 48"),
    ((GOOD.train, GOOD.test, [*NAMES[:6], "copepod"]), "classes have the same name: copepod"),
    ((GOOD.train, (IMAGES[:5], LABELS[:5]), NAMES[:5]), "training label 6 at 6 is out of range: classes are 0 to 4"),
]


@pytest.mark.parametrize(("given", "message"), WRONG, ids=[message[:40] for _, message in WRONG])
def test_what_is_no_data_set_is_refused_in_one_line_that_says_who_gave_it(given: Any, message: str) -> None:
    with pytest.raises(DatasetError) as caught:
        checked(given, "lab:load (lab.py, line 3)")
    assert str(caught.value).startswith("lab:load (lab.py, line 3): ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_errors_of_a_data_set_are_told_at_once() -> None:
    with pytest.raises(DatasetError) as caught:
        checked(((IMAGES / 255, LABELS), (IMAGES, LABELS[:3])), "lab:load")
    assert [line.partition(": ")[2].split(";")[0] for line in str(caught.value).splitlines()] == [
        "training images are float64",
        "3 labels for 42 test images",
    ]


@pytest.mark.parametrize(
    ("given", "shape"),
    [
        (images(42, (20, 24)), (1, 20, 24)),
        (images(42, (20, 24, 1)), (1, 20, 24)),
        (images(42, (1, 20, 24)), (1, 20, 24)),
        (images(42, (20, 24, 3)), (3, 20, 24)),
        (torch.from_numpy(images(42, (3, 20, 24))), (3, 20, 24)),
    ],
)
def test_every_layout_becomes_channels_first(given: Any, shape: tuple[int, ...]) -> None:
    whole = checked(((given, labels(42)), (given, torch.from_numpy(labels(42)).view(-1, 1))), "")
    assert whole.train.images.shape == (42, *shape)
    assert whole.train.images.is_contiguous()
    pixels = np.asarray(given).reshape(42, -1)
    assert np.array_equal(np.sort(whole.train.images.flatten(1).numpy()), np.sort(pixels))
    assert whole.test.labels.tolist() == labels(42).tolist()
    assert whole.names == tuple("0123456")


# --------------------------------------------------------------------------------------------------------------- npz


@pytest.mark.parametrize("form", ["{part}_{kind}", "{letter}_{part}"])
def test_arrays_of_an_npz_file_are_found_by_their_usual_names(tmp_path: Path, form: str) -> None:
    kinds = {"images": "x", "labels": "y"}
    stored = {
        form.format(part=part, kind=kind, letter=letter): array
        for part, pair in zip(("train", "test"), arrays()[:2], strict=True)
        for (kind, letter), array in zip(kinds.items(), pair, strict=True)
    }
    np.savez(tmp_path / "plankton.npz", class_names=np.array(NAMES), **stored)
    dataset = opened({"name": "npz", "path": str(tmp_path / "plankton.npz")})
    assert (dataset.channels, dataset.size, dataset.classes, dataset.names) == (3, (48, 48), 7, tuple(NAMES))
    assert np.array_equal(dataset.train.images.numpy(), arrays().train[0].transpose(0, 3, 1, 2))


def test_what_is_wrong_with_an_npz_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "plankton.npz"
    config = Npz(name="npz", path=str(path), test_labels="truth")
    with pytest.raises(DatasetError, match=f"{path}: there is no such file"):
        load(config, "", CPU)
    path.write_bytes(b"PK no zip")
    with pytest.raises(DatasetError, match=f"{path}: cannot be read as an npz file"):
        load(config, "", CPU)
    np.savez(path, x_train=1, y_train=2, x_test=3)
    with pytest.raises(DatasetError, match=r"has no array truth; set dataset.test_labels to one of x_train, y_train"):
        load(config, "", CPU)
    np.savez(path, x_train=np.array([{}]), y_train=2, x_test=3, truth=4)  # a pickle, which is not opened
    with pytest.raises(DatasetError, match="Object arrays cannot be loaded when allow_pickle=False"):
        load(config, "", CPU)


# ------------------------------------------------------------------------------------------------------------ folder


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Seven classes of image files, outside the checkout."""
    root = tmp_path / "plankton"
    for (pixels, truth), part in zip(arrays()[:2], ("train", "test"), strict=True):
        for place, (image, label) in enumerate(zip(pixels, truth, strict=True)):
            where = root / part / NAMES[label]
            where.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(where / f"{place:02}.{'png' if place % 5 else 'PNG'}")
    return root


def section(tree: Path, **options: Any) -> dict[str, Any]:
    return {"name": "folder", "path": str(tree), **options}


def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are decoded from now on."""
    seen: list[Path] = []
    original = folder._decoded

    def watched(path: Path, *rest: Any) -> np.ndarray:
        seen.append(path)
        return original(path, *rest)

    monkeypatch.setattr(folder, "_decoded", watched)
    return seen


def test_a_folder_of_images_is_decoded_once_and_again_where_it_changes(
    tree: Path, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = decoded(monkeypatch)
    dataset = opened(section(tree))
    assert (dataset.size, dataset.names, len(seen)) == ((48, 48), tuple(NAMES), 56)
    assert f"{tree}: decoding 56 images, once" in capsys.readouterr().err
    for label in range(7):
        mine = dataset.train.images[dataset.train.labels == label].permute(0, 2, 3, 1).numpy()
        assert np.array_equal(mine, arrays().train[0][labels(42) == label])
    load.cache_clear()
    assert torch.equal(opened(section(tree)).train.images, dataset.train.images)
    assert len(seen) == 56
    assert capsys.readouterr().err == ""
    (tree / "train" / "salp" / "05.PNG").unlink()
    load.cache_clear()
    assert len(opened(section(tree)).train.labels) == 41
    assert {path.parent for path in seen[56:]} == {tree / "train" / "salp"}
    assert len(list(home.rglob("*.npz"))) == 14  # what is of no use any more is gone


def test_a_damaged_or_interrupted_cache_is_mended(tree: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = opened(section(tree)).train.images
    cached = sorted(home.rglob("*.npz"))
    content = bytearray(cached[0].read_bytes())
    content[len(content) // 2] ^= 1
    cached[0].write_bytes(content)
    cached[1].unlink()
    seen = decoded(monkeypatch)
    load.cache_clear()
    assert torch.equal(opened(section(tree)).train.images, whole)
    assert len({path.parent for path in seen}) == 2


def _count(tree: Path) -> int:
    return len(opened(section(tree)).train.labels)


def test_several_processes_may_ask_at_once(tree: Path, home: Path) -> None:
    with get_context("fork").Pool(3) as pool:
        assert pool.map(_count, [tree] * 3) == [42] * 3
    assert len(list(home.rglob("*.npz"))) == 14
    assert not list(home.rglob("*.part"))


def test_images_of_several_sizes_need_an_option_and_the_file_is_named(tree: Path) -> None:
    odd = tree / "test" / "worm" / "13.png"
    Image.fromarray(images(1, (30, 40, 3))[0]).save(odd)
    with pytest.raises(DatasetError, match=f"{odd}: is 30 x 40, and .* is 48 x 48; .* set dataset.size"):
        opened(section(tree))
    assert opened(section(tree, size=[16, 20])).size == (16, 20)
    assert opened(section(tree, size=16)).size == (16, 16)


def test_gray_and_coloured_files_become_colour_and_gray_ones_stay_gray(tree: Path) -> None:
    for path in tree.rglob("*.[pP][nN][gG]"):
        Image.open(path).convert("L").save(path)
    assert opened(section(tree)).channels == 1
    load.cache_clear()
    Image.fromarray(images(1)[0]).save(tree / "train" / "worm" / "06.png")
    dataset = opened(section(tree))
    assert dataset.channels == 3
    assert torch.equal(dataset.test.images[:, 0], dataset.test.images[:, 2])


def test_what_is_wrong_with_a_folder_is_named(tree: Path) -> None:
    def told() -> str:
        with pytest.raises(DatasetError) as caught:
            opened(section(tree))
        return str(caught.value)

    broken = tree / "train" / "diatom" / "02.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:200])
    assert told().startswith(f"{broken}: cannot be decoded: ")
    broken.write_text("no image")
    assert told() == f"{broken}: is no image that can be decoded"
    Image.fromarray(images(1, (48, 48))[0].astype(np.uint16) * 256).save(broken)
    assert told().startswith(f"{broken}: cannot be decoded: has more than 8 bits")
    broken.write_bytes(whole)
    (tree / "test" / "shrimp").mkdir()
    assert told() == f"{tree / 'test' / 'shrimp'}: there is no class 'shrimp' in {tree / 'train'}"
    (tree / "test").rename(tree / "held")
    assert told() == f"{tree / 'test'}: there is no such folder; images must lie in train/CLASS and test/CLASS"


# ------------------------------------------------------------------------------------- torchvision and Hugging Face


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision's own generator of images, which needs no file, as if it had a training and a test split."""
    from torchvision import datasets

    class Fake(datasets.FakeData):
        classes = NAMES

        def __init__(self, root: str, split: str = "train") -> None:
            super().__init__({"train": 42, "test": 14}[split], (3, 48, 40), 7, random_offset=len(split))

    monkeypatch.setattr(datasets, "FakeData", Fake)


@pytest.mark.usefixtures("fake")
def test_a_torchvision_set_of_another_size_has_its_split_and_names() -> None:
    dataset = opened({"name": "torchvision", "set": "FakeData"}, "nowhere")
    assert (len(dataset.train.labels), len(dataset.test.labels), dataset.size) == (42, 14, (48, 40))
    assert dataset.names == tuple(NAMES)
    assert opened({"name": "torchvision", "set": "FakeData", "size": 8}).size == (8, 8)
    with pytest.raises(DatasetError, match="cannot be read from nowhere: 'val'"):
        opened({"name": "torchvision", "set": "FakeData", "test_split": "val"}, "nowhere")


def test_a_torchvision_set_that_is_not_there_or_unknown_is_told(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"STL10 cannot be read from .*: .*; get it where there is a network with"):
        opened({"name": "torchvision", "set": "STL10"}, str(tmp_path))
    with pytest.raises(DatasetError, match=r"'SVNH' is no data set of torchvision .*; did you mean 'SVHN'"):
        opened({"name": "torchvision", "set": "SVNH"}, str(tmp_path))
    assert {"SVHN", "STL10", "Flowers102", "EMNIST", "GTSRB"} <= torchvision_sets.sets().keys()
    with pytest.raises(ValueError, match="use none with torchvision MNIST"):
        TrialConfig.model_validate({"dataset": {"name": "torchvision", "set": "MNIST"}, "augmentation": "standard"})


class Rows(dict[str, Any]):
    """Columns of a saved split, with their features, as the package ``datasets`` gives them."""

    features: Any = None


def test_a_data_set_of_hugging_face_needs_the_package_and_is_read_by_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DatasetError, match="needs the package datasets, which is not installed: pip install datasets"):
        opened({"name": "huggingface", "path": str(tmp_path)})
    parts = {}
    for part, (pixels, truth) in zip(("train", "test"), arrays()[:2], strict=True):
        parts[part] = Rows(img=list(map(Image.fromarray, pixels)), label=truth.tolist())
        parts[part].features = {"img": None, "label": SimpleNamespace(names=NAMES)}
    module = ModuleType("datasets")
    module.load_from_disk = lambda path: parts  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", module)
    with pytest.raises(DatasetError, match=r"no column 'image'; set dataset.image_column to one of img, label"):
        opened({"name": "huggingface", "path": str(tmp_path)})
    dataset = opened({"name": "huggingface", "path": str(tmp_path), "image_column": "img"})
    assert dataset.names == tuple(NAMES)
    assert np.array_equal(dataset.test.images.permute(0, 2, 3, 1).numpy(), arrays().test[0])


# ---------------------------------------------------------------------------------------------------- code of one's own

LAB = """
import numpy as np

def load(data_dir, size=48, classes_given=7, fail=False):
    assert data_dir == "there"
    rng = np.random.default_rng(0)
    if fail:
        raise RuntimeError("the microscope is off")
    def part(n):
        truth = np.arange(n) % classes_given
        images = rng.integers(0, 64, (n, size, size, 3)) + 24 * truth[:, None, None, None]
        return images.astype(np.uint8), truth
    return part(140), part(70)

number = 5
"""


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module of a researcher's own, outside the checkout."""
    file = tmp_path / "plankton_lab.py"
    file.write_text(LAB)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield file
    sys.modules.pop("plankton_lab", None)


def test_code_of_ones_own_gets_its_options_and_the_data_directory(lab: Path) -> None:
    dataset = opened({"use": "plankton_lab:load", "size": 40, "classes": 5}, "there")
    assert (dataset.size, dataset.channels, dataset.classes) == ((40, 40), 3, 5)


@pytest.mark.parametrize(
    ("options", "messages"),
    [
        ({"use": "plankton_lab:laod"}, ["did you mean 'load'"]),
        ({"use": "plankton_lab:number"}, ["is a int, which cannot be called"]),
        ({"use": "plankton_lab:load", "szie": 3, "x": 1}, ["dataset.szie: unknown option; did you mean 'size'", ".x:"]),
        ({"use": "plankton_lab:load", "fail": True}, ["RuntimeError: the microscope is off ({lab}, line 8)"]),
        ({"use": "plankton_lab:load", "classes_given": 1}, ["({lab}, line 4): there is 1 class"]),
    ],
)
def test_a_mistake_in_ones_own_code_is_told_with_file_and_line(
    lab: Path, options: dict[str, Any], messages: list[str]
) -> None:
    with pytest.raises((CodeError, DatasetError)) as caught:
        opened(options, "there")
    for message in messages:
        assert message.format(lab=lab) in str(caught.value)


@pytest.mark.parametrize("network", ["LeNet", "FCNet16"])
def test_a_set_of_48_by_48_and_seven_classes_trains(lab: Path, network: str) -> None:
    config = TrialConfig.from_dotted(
        {
            "dataset.use": "plankton_lab:load",
            "dataset.imbalance": 2,
            "model.name": network,
            "augmentation": "standard",
            "batch_size": 16,
            "epochs": 6,
            "optimizer.lr": 0.02,
        }
    )
    comparison = prepare(config, Runtime(device="cpu", data_dir="there"))
    rows = [row for _ in range(7) for row in comparison.step()]
    assert [row["epoch"] for row in rows if row["arm"] == "archetype"] == list(range(7))
    assert rows[-1]["test_accuracy"] > 1.5 / 7


def test_a_gray_set_refuses_colour_jitter_and_takes_the_crop() -> None:
    from trainables.augment import AugmentationError, augment

    gray = torch.from_numpy(images(4, (1, 24, 40)))
    place = torch.arange(4)
    assert augment(gray, place, place, 0, "standard").shape == (4, 1, 24, 40)
    with pytest.raises(AugmentationError, match="changes colours, and these images have 1 channel; use standard"):
        augment(gray, place, place, 0, "thesis")


# --------------------------------------------------------------------------------------------------------- imbalance


def test_a_long_tail_follows_the_exponential_profile_and_is_nested() -> None:
    truth = torch.arange(1000) % 10
    kept = {ratio: long_tailed(truth, ratio, 10, seed=3) for ratio in (1.0, 10.0, 100.0)}
    assert torch.equal(kept[1], torch.arange(1000))
    for ratio, chosen in kept.items():
        counts = torch.bincount(truth[chosen], minlength=10).tolist()
        assert counts == [round(100 * ratio ** (-c / 9)) for c in range(10)]
        assert torch.equal(chosen, long_tailed(truth, ratio, 10, seed=3))
    assert set(kept[100].tolist()) < set(kept[10].tolist())
    assert not torch.equal(kept[10], long_tailed(truth, 10.0, 10, seed=4))


def test_imbalance_is_of_the_training_split_alone_and_comes_before_wrong_labels() -> None:
    options = {"name": "mnist5k", "validation_fraction": 0.2, "samples_per_class": 100}
    plain = opened(options)
    tailed = opened({**options, "imbalance": 10})
    assert plain.validation is not None
    assert tailed.validation is not None
    assert torch.equal(plain.validation.images, tailed.validation.images)
    assert torch.equal(plain.test.images, tailed.test.images)
    assert torch.bincount(tailed.train.labels).tolist() == [round(100 * 10 ** (-c / 9)) for c in range(10)]
    noisy = opened({**options, "imbalance": 10, "label_noise": 0.25})
    assert torch.equal(noisy.train.images, tailed.train.images)
    assert int((noisy.train.labels != tailed.train.labels).sum()) == round(0.25 * len(tailed.train.labels))


def test_every_kind_of_data_set_has_a_reader_and_built_in_ones_know_their_classes() -> None:
    from trainables.config import members

    assert members(TrialConfig.model_fields["dataset"].annotation).keys() == READERS.keys()
    assert opened({"name": "mnist5k", "classes": 3}).names == ("0", "1", "2")
    for name, classes in data.CLASSES.items():
        assert len(data.built_in.NAMES.get(name, range(100))) == classes
    assert OwnDataset(use="a:b", size=3) != OwnDataset(use="a:b", size=4)
    assert {TrialConfig.from_dotted({"dataset.use": "a:b", "dataset.sizes": [[1, 2], 3]})}


# ---------------------------------------------------------------------------------------------------------- contract


class TestMnist5k(DatasetContract):
    classes = 10

    def load(self) -> Any:
        return READERS["mnist5k"](TrialConfig().dataset, "")


class TestMade(DatasetContract):
    def load(self) -> Any:
        return arrays()


class TestFolder(DatasetContract):
    @pytest.fixture(autouse=True)
    def _there(self, tree: Path) -> None:
        self.tree = tree

    def load(self) -> Any:
        return READERS["folder"](TrialConfig.model_validate({"dataset": section(self.tree)}).dataset, "")


@pytest.mark.parametrize(
    ("given", "test", "message"),
    [
        (lambda: (GOOD.train, GOOD.train), "no_test_image_is_among_the_training_images", "42 of 42 test images"),
        (lambda: (GOOD.train, (IMAGES[:3], LABELS[:3])), "every_class_has_training_and_test_images", "no test image"),
        (lambda: ((IMAGES // 255, LABELS), GOOD.test), "images_are_not_all_one", "scale images"),
        (lambda: ((IMAGES[np.random.permutation(42)], LABELS), GOOD.test), "two_loads_give_the_same", "order"),
    ],
)
def test_the_contract_finds_what_is_wrong(given: Any, test: str, message: str) -> None:
    class Wrong(DatasetContract):
        def load(self) -> Any:
            return given()

    with pytest.raises(AssertionError, match=message):
        getattr(Wrong(), f"test_{test}")()
