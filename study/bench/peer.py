"""What a user would write instead: the training loop of kuangliu/pytorch-cifar's form.

A ``DataLoader`` with workers, torchvision's transforms sample by sample on PIL pictures, and the running loss and
accuracy fetched from the device at every step. Its progress bar, which prints at every step, is left out.
"""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as Samples
from torchvision import transforms

from trainables.augment import Augmentation
from trainables.data import Dataset, Split


class Pictures(Samples[tuple[Tensor, int]]):
    """Samples as torchvision's data sets give them out: one PIL picture at a time, transformed."""

    def __init__(self, split: Split, transform: transforms.Compose) -> None:
        pixels = split.images.permute(0, 2, 3, 1).cpu().numpy()
        self.pixels = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
        self.labels: list[int] = split.labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[index])), self.labels[index]


def transform(data: Dataset, policy: Augmentation) -> transforms.Compose:
    """The augmentation ``policy`` as torchvision's transforms, then conversion and normalization."""
    geometry = [transforms.RandomHorizontalFlip()]
    crop = [transforms.RandomCrop(32, padding=4)]
    steps = {
        "none": [],
        "standard": [*crop, *geometry],
        "thesis": [
            *geometry,
            transforms.RandomAffine(180, (0.1, 0.1), (0.9, 1.1)),
            *crop,
            transforms.ColorJitter(0.5, 0.5, 0.5, 0.05),
        ],
    }[policy]
    normalize = transforms.Normalize(data.mean.flatten().tolist(), data.std.flatten().tolist())
    return transforms.Compose([*steps, transforms.ToTensor(), normalize])


def loader(
    data: Dataset, policy: Augmentation, batch_size: int, workers: int, seed: int
) -> DataLoader[tuple[Tensor, int]]:
    """The training set in shuffled batches; its workers start anew in every epoch, as they do by default."""
    return DataLoader(
        Pictures(data.train, transform(data, policy)),
        batch_size=batch_size,
        shuffle=True,
        num_workers=workers,
        generator=torch.Generator().manual_seed(seed),
    )


def train_epoch(
    batches: DataLoader[tuple[Tensor, int]], model: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device
) -> tuple[float, float]:
    """One pass over the training data; the mean loss and accuracy on the way."""
    model.train()
    loss_sum, correct, total = 0.0, 0, 0
    for number, (images, labels) in enumerate(batches, start=1):
        images, labels = images.to(device), labels.to(device)
        optimizer.zero_grad()
        logits = model(images)
        loss = cross_entropy(logits, labels)
        loss.backward()
        optimizer.step()
        loss_sum += loss.item()
        total += len(labels)
        correct += logits.argmax(1).eq(labels).sum().item()
        running = loss_sum / number, correct / total
    return running
