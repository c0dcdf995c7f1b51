"""torchvision's classification data sets by name, read from ``data_dir``; nothing is downloaded.

A class's constructor takes ``train`` or ``split`` (EMNIST both), which tell training and test images apart; a data set
whose constructor takes neither has no test set.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from trainables.config import Torchvision
from trainables.data.arrays import Arrays, Whole, checked
from trainables.data.dataset import DatasetError
from trainables.data.decoding import pixels, stacked
from trainables.errors import did_you_mean
from trainables.places import Place, is_uri


def whole(config: Torchvision, data_dir: str) -> Whole:
    """All samples of a data set of torchvision.

    Raises:
        DatasetError: there is no such data set, it is not in ``data_dir`` (says how to get it), or has no test set.
    """
    made = _class(config.set)
    if is_uri(data_dir):
        raise DatasetError(f"{config.title}: data_dir must be a folder, not the URI {Place(data_dir)}")
    takes = inspect.signature(made).parameters
    parts = []
    names: list[str] = []
    for training, split in ((True, config.train_split), (False, config.test_split)):
        options = {"train": training, "split": split, "download": False}
        part = _opened(made, data_dir, {key: value for key, value in options.items() if key in takes}, config)
        parts.append(_samples(part, config, "training" if training else "test"))
        names = names or list(getattr(part, "classes", ()))
    fits = len(names) > max(int(labels.max()) for _, labels in parts)
    return checked(Arrays(parts[0], parts[1], names if fits else ()), config.title)


def sets() -> dict[str, Callable[..., Any]]:
    """torchvision's data sets that have training and test images, by name."""
    import torchvision

    found = {name: getattr(torchvision.datasets, name) for name in torchvision.datasets.__all__}
    return {
        name: made
        for name, made in found.items()
        if inspect.isclass(made) and {"train", "split"} & inspect.signature(made).parameters.keys()
    }


def _class(name: str) -> Callable[..., Any]:
    known = sets()
    if name not in known:
        hint = did_you_mean(name, known, f"it must be one of {', '.join(sorted(known))}")
        raise DatasetError(f"dataset.set: {name!r} is no data set of torchvision with training and test images; {hint}")
    return known[name]


def _opened(made: Callable[..., Any], data_dir: str, options: Mapping[str, Any], config: Torchvision) -> Any:
    try:
        return made(data_dir, **options)
    except Exception as error:  # whatever its class says of missing files, a damaged archive or a wrong split
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        arguments = "".join(f", {key}={value!r}" for key, value in options.items() if key != "download")
        how = f"{arguments}, download=True" if "download" in options else arguments
        remedy = (
            f'get it where there is a network with: python -c "import torchvision; '
            f"torchvision.datasets.{config.set}('DATA_DIR'{how})\" and pass --data-dir DATA_DIR"
            if "download" in options
            else "torchvision does not download it; see its documentation for where to get the files"
        )
        raise DatasetError(f"{config.title} cannot be read from {data_dir}: {reason}; {remedy}") from None


def _samples(part: Any, config: Torchvision, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of one part."""
    labels: list[int] = []

    def images() -> Iterator[tuple[str, np.ndarray]]:
        for index in range(len(part)):
            try:
                image, label = part[index]
                array = pixels(image, config.size)
                labels.append(int(label))
            except Exception as error:
                raise DatasetError(
                    f"{config.title}: {what} sample {index} is no image with one label: {error}"
                ) from None
            yield f"{config.title}: {what} image {index}", array

    stack = stacked(images())
    return stack, np.asarray(labels)
