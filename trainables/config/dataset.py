"""Which samples a trial sees: a built-in data set, files in a known layout, or code of one's own."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Discriminator, Field, PositiveInt, Tag

from trainables.config.base import Frozen, Used, kind

MNIST_LIKE = ("mnist5k", "mnist", "fashion_mnist")
DIGITS = ("MNIST", "FashionMNIST", "EMNIST", "KMNIST", "QMNIST", "USPS", "SVHN")
"""Data sets of torchvision whose images mean something else when they are flipped or turned, as the built-in ones."""


def _size(value: Any) -> Any:
    """A number or two, whole and above 0."""
    pair = isinstance(value, list | tuple) and len(value) == 2
    if value is None or all(map(_side, value if pair else [value])):
        return value
    raise ValueError("must be a number of pixels above 0, or [height, width]")


def _side(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


ImageSize = Annotated[int | tuple[int, int] | None, BeforeValidator(_size)]
SIZE = "resize all images to this height and width: a number or [height, width]; None: they must all have the same"


class DatasetConfig(Frozen):
    """Which samples of a data set a trial sees (section 4.2.3); every kind of data set has these keys."""

    named_by: ClassVar[tuple[str, ...]] = ("name",)

    classes: int | None = Field(None, ge=2, description="use the first n classes only; all by default")
    samples_per_class: PositiveInt | None = Field(None, description="training samples of each class; all by default")
    validation_fraction: float = Field(0.1, ge=0, lt=1, description="share of the training set held out, stratified")
    imbalance: float = Field(
        1.0,
        ge=1,
        description="long-tailed training set (Cui et al. 2019, arXiv:1901.05555): class c of C keeps the share "
        "imbalance^(-c / (C - 1)) of its training samples, so that in a balanced set the largest class is this many "
        "times the smallest; validation and test stay as they are",
    )
    label_noise: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the training labels, of those alone, that are replaced by another class drawn at random: "
        "an accuracy filter picks mislabelled samples by design, for they are what a good model gets wrong",
    )
    split_seed: int = Field(0, ge=0, description="seed of the splits and subsets; not the seed of training")

    @property
    def title(self) -> str:
        """How messages name the data set."""
        return " ".join(str(getattr(self, key)) for key in self.named_by)

    @property
    def default_augmentation(self) -> Literal["none", "thesis"]:
        """What ``augmentation`` is where the experiment does not set it."""
        return "none"

    @property
    def upright(self) -> bool:
        """Whether a flipped or turned image is another class, as it is with digits."""
        return False


class BuiltIn(DatasetConfig):
    """One of the five data sets that the program knows."""

    name: Literal["mnist5k", "mnist", "fashion_mnist", "cifar10", "cifar100"] = "mnist5k"

    @property
    def default_augmentation(self) -> Literal["none", "thesis"]:
        """Section 4.2.3's for colour images."""
        return "none" if self.upright else "thesis"

    @property
    def upright(self) -> bool:
        """Digits, and clothes as the thesis has them."""
        return self.name in MNIST_LIKE


class Npz(DatasetConfig):
    """Arrays of an npz file: uint8 images and whole labels, by their names in the file."""

    named_by: ClassVar[tuple[str, ...]] = ("name", "path")

    name: Literal["npz"]
    path: str = Field(description="the file, or a URI")
    train_images: str | None = Field(None, description="None: x_train or train_images")
    train_labels: str | None = Field(None, description="None: y_train or train_labels")
    test_images: str | None = Field(None, description="None: x_test or test_images")
    test_labels: str | None = Field(None, description="None: y_test or test_labels")
    class_names: str | None = Field(None, description="array of the classes' names; None: class_names, if it is there")


class ImageFolder(DatasetConfig):
    """Image files as ``train/CLASS/*.png`` and ``test/CLASS/*.png`` (also jpg and jpeg)."""

    named_by: ClassVar[tuple[str, ...]] = ("name", "path")

    name: Literal["folder"]
    path: str = Field(description="the folder that holds train and test, or a URI")
    size: ImageSize = Field(None, description=SIZE)


class Torchvision(DatasetConfig):
    """A classification data set of torchvision, by the name of its class; read from ``data_dir``, not downloaded."""

    named_by: ClassVar[tuple[str, ...]] = ("name", "set")

    name: Literal["torchvision"]
    set: str = Field(description="such as SVHN, STL10, Flowers102")
    train_split: str = Field("train", description="what its class calls the training images, where it asks for a split")
    test_split: str = Field("test", description="what its class calls the test images, where it asks for a split")
    size: ImageSize = Field(None, description=SIZE)

    @property
    def upright(self) -> bool:
        """Digits and characters."""
        return self.set in DIGITS


class HuggingFace(DatasetConfig):
    """A data set that Hugging Face's ``datasets`` saved to disk; the package is needed to read it."""

    named_by: ClassVar[tuple[str, ...]] = ("name", "path")

    name: Literal["huggingface"]
    path: str = Field(description="folder that save_to_disk wrote, or a URI")
    image_column: str = "image"
    label_column: str = "label"
    train_split: str = "train"
    test_split: str = "test"
    size: ImageSize = Field(None, description=SIZE)


class OwnDataset(DatasetConfig, Used):
    """A callable of one's own, which gives training and test images and labels; see :mod:`trainables.data.own`."""

    named_by: ClassVar[tuple[str, ...]] = ("use",)


AnyDataset = Annotated[
    Annotated[BuiltIn, Tag("mnist5k")]
    | Annotated[BuiltIn, Tag("mnist")]
    | Annotated[BuiltIn, Tag("fashion_mnist")]
    | Annotated[BuiltIn, Tag("cifar10")]
    | Annotated[BuiltIn, Tag("cifar100")]
    | Annotated[Npz, Tag("npz")]
    | Annotated[ImageFolder, Tag("folder")]
    | Annotated[Torchvision, Tag("torchvision")]
    | Annotated[HuggingFace, Tag("huggingface")]
    | Annotated[OwnDataset, Tag("use")],
    Discriminator(kind),
]
"""What the section ``dataset`` holds; the kinds are told apart by ``name``, or by ``use`` for code of one's own."""
