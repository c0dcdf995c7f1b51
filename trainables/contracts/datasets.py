"""What every data set must keep, as a suite of tests: subclass it in your own tests, and pytest runs it.

::

    class TestPlankton(DatasetContract):
        def load(self):
            return plankton.load(data_dir="data", size=48)
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from trainables.data import Split, Whole, checked


class DatasetContract:
    """Tests of a callable that gives a data set; :meth:`load` is yours.

    Attributes:
        overlap: test images that may also stand among the training images. None is right for most data; where the
            published data set has some, say how many, so that it stands somewhere.
        classes: how many classes there must be; None: as many as the labels or names say.
    """

    overlap: ClassVar[int] = 0
    classes: ClassVar[int | None] = None

    def load(self) -> Any:
        """What the callable of ``dataset.use`` returns, with options of your choice."""
        raise NotImplementedError("define load(self), which returns what your callable returns")

    def whole(self) -> Whole:
        """The same, checked as the program does."""
        return checked(self.load(), type(self).__name__)

    def test_shapes_types_and_labels_are_those_of_a_data_set(self) -> None:
        """The checks that the program makes before anything runs; every error is on a line."""
        train, test, names = self.whole()
        for split in (train, test):
            assert split.images.dtype == torch.uint8
            assert split.images.ndim == 4
            assert split.images.shape[1] in (1, 3)
            assert split.labels.shape == (len(split.images),)
        assert self.classes in (None, len(names)), f"{len(names)} classes, not {self.classes}"

    def test_two_loads_give_the_same(self) -> None:
        """The order too: a sample's number says which one it is, in every arm and after a resume."""
        one, other = self.whole(), self.whole()
        assert one.names == other.names, "class names differ between two loads"
        for part in ("train", "test"):
            first, second = getattr(one, part), getattr(other, part)
            assert torch.equal(first.images, second.images), f"{part} images, or their order, differ between two loads"
            assert torch.equal(first.labels, second.labels), f"{part} labels differ between two loads"

    def test_no_test_image_is_among_the_training_images(self) -> None:
        """Byte for byte; near duplicates are not found. See :attr:`overlap`."""
        train, test, _ = self.whole()
        seen = {image: place for place, image in enumerate(_bytes(train))}
        both = [(place, seen[image]) for place, image in enumerate(_bytes(test)) if image in seen]
        pairs = ", ".join(f"test {test_place} is training {train_place}" for test_place, train_place in both[:5])
        assert len(both) <= self.overlap, (
            f"{len(both)} of {len(test.images)} test images are training images too ({pairs}); leave them out of one, "
            "or say in the attribute overlap how many there may be"
        )

    def test_every_class_has_training_and_test_images(self) -> None:
        """A class without test images cannot be judged."""
        train, test, names = self.whole()
        for what, split in (("training", train), ("test", test)):
            counts = torch.bincount(split.labels, minlength=len(names)).tolist()
            assert all(counts), f"no {what} image of {[name for name, n in zip(names, counts, strict=True) if not n]}"

    def test_images_are_not_all_one(self) -> None:
        """Wrong scaling, such as [0, 1] made into bytes, leaves images that are all dark."""
        train, _, _ = self.whole()
        assert int(train.images.max()) > 1, "no pixel is above 1; scale images to 0 to 255"
        assert int(train.images.max()) > int(train.images.min()), "all pixels are the same"


def _bytes(split: Split) -> list[bytes]:
    return [image.numpy().tobytes() for image in split.images]
