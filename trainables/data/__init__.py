"""Data sets held whole on the device as uint8, with their splits and subsets (section 4.2.3).

To read a data set takes one function in one file, from its configuration to :class:`Whole`; the table of them is
:data:`trainables.data.loading.READERS`. All else is the same for all: checks, splits, subsets, wrong labels.
"""

from trainables.data.arrays import Arrays, Whole, checked
from trainables.data.built_in import (
    CHANNELS,
    CLASSES,
    DEBIAN_FASHION_MNIST,
    FOLDER,
    TORCHVISION_NAME,
    read,
    read_idx,
)
from trainables.data.dataset import RESIDENT, Dataset, DatasetError, Split
from trainables.data.loading import Dimensions, dimensions, load
from trainables.data.subsets import first_per_class, long_tailed, mislabel, stratify

__all__ = [
    "CHANNELS",
    "CLASSES",
    "DEBIAN_FASHION_MNIST",
    "FOLDER",
    "RESIDENT",
    "TORCHVISION_NAME",
    "Arrays",
    "Dataset",
    "DatasetError",
    "Dimensions",
    "Split",
    "Whole",
    "checked",
    "dimensions",
    "first_per_class",
    "load",
    "long_tailed",
    "mislabel",
    "read",
    "read_idx",
    "stratify",
]
