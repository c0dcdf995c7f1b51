"""Small synthetic data and a device for the tests of ``trainables``."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from trainables.data import Dataset, Split

MakeDataset = Callable[..., Dataset]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Results are bit-identical for the same number of threads, so every module starts from one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def cpu() -> torch.device:
    return torch.device("cpu")


@pytest.fixture
def cuda() -> torch.device:
    if not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU")
    return torch.device("cuda")


@pytest.fixture(scope="session")
def make_dataset() -> MakeDataset:
    """Noisy pictures around one prototype a class: learnable, but not in one epoch."""

    def make(
        train: int = 48,
        validation: int = 20,
        test: int = 24,
        channels: int = 3,
        classes: int = 4,
        seed: int = 0,
        device: str = "cpu",
    ) -> Dataset:
        generator = torch.Generator().manual_seed(seed)
        prototypes = torch.randint(40, 216, (classes, channels, 4, 4), generator=generator).float()
        prototypes = torch.nn.functional.interpolate(prototypes, size=(32, 32), mode="bilinear")

        def split(size: int) -> Split:
            labels = torch.arange(size) % classes
            noise = 60 * torch.randn(size, channels, 32, 32, generator=generator)
            return Split((prototypes[labels] + noise).clamp(0, 255).to(torch.uint8), labels)

        parts = split(train), split(validation) if validation else None, split(test)
        pixels = parts[0].images.float() / 255
        dev = torch.device(device)
        return Dataset(
            parts[0].to(dev),
            parts[1] and parts[1].to(dev),
            parts[2].to(dev),
            classes,
            pixels.mean((0, 2, 3)).view(-1, 1, 1).to(dev),
            pixels.std((0, 2, 3)).view(-1, 1, 1).to(dev),
        )

    return make
