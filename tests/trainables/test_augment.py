from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor
from torchvision.transforms import ColorJitter, Compose, RandomAffine, RandomCrop, RandomHorizontalFlip
from torchvision.transforms import functional as F
from torchvision.transforms.functional import InterpolationMode

from trainables.augment import augment, jitter, uniforms, warp

POLICIES = ("none", "standard", "thesis")
SEEDS = st.integers(0, 2**63 - 1)


def smooth(size: int, seed: int = 0) -> Tensor:
    """Smooth random colour pictures, uint8."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(size, 3, 5, 5, generator=generator)
    pictures = torch.nn.functional.interpolate(coarse, size=(32, 32), mode="bicubic", align_corners=True)
    return (pictures.clamp(0, 1) * 255).to(torch.uint8)


def keys(index: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
    return index, torch.full_like(index, epoch)


# ----------------------------------------------------------------------------------------------------------- purity


@given(
    policy=st.sampled_from(POLICIES),
    seed=SEEDS,
    batch=st.lists(st.tuples(st.integers(0, 15), st.integers(0, 400)), min_size=1, max_size=12),
)
@settings(max_examples=40)
def test_a_picture_is_a_function_of_seed_epoch_and_index_alone(
    policy: str, seed: int, batch: list[tuple[int, int]]
) -> None:
    images = smooth(16)
    index, epoch = (torch.tensor(column) for column in zip(*batch, strict=True))
    together = augment(images[index], index, epoch, seed, policy)
    torch.rand(3)  # the global generator has no say
    for place, (i, e) in enumerate(batch):
        alone = augment(images[[i]], torch.tensor([i]), torch.tensor([e]), seed, policy)[0]
        assert torch.equal(alone, together[place])


@pytest.mark.parametrize("policy", ["standard", "thesis"])
def test_pictures_differ_by_epoch_index_and_seed(policy: str) -> None:
    images = smooth(1).expand(32, -1, -1, -1)
    index = torch.arange(32)
    base = augment(images, *keys(index, 1), 0, policy)
    for other in (
        augment(images, *keys(index, 2), 0, policy),
        augment(images, *keys(index + 32, 1), 0, policy),
        augment(images, *keys(index, 1), 1, policy),
    ):
        differs = (base != other).flatten(1).any(1)
        assert differs.float().mean() > 0.9  # standard has 162 outcomes, so a few coincide


@pytest.mark.parametrize("channels", [1, 3])
def test_none_is_the_pixels_in_0_to_1(channels: int) -> None:
    images = torch.arange(256, dtype=torch.uint8).repeat(4 * channels).view(1, channels, 32, 32)
    out = augment(images, *keys(torch.tensor([5]), 3), 0, "none")
    assert out.dtype == torch.float32
    assert torch.equal(out, images.float() / 255)


@pytest.mark.parametrize("policy", POLICIES)
def test_pictures_stay_in_0_to_1_and_keep_their_shape_and_the_originals(policy: str) -> None:
    black, white = (torch.full((2, 3, 32, 32), value, dtype=torch.uint8) for value in (0, 255))
    images = torch.cat((smooth(60), black, white))
    before = images.clone()
    out = augment(images, *keys(torch.arange(64), 1), 0, policy)
    assert out.shape == images.shape
    assert out.isfinite().all()
    assert out.min() >= 0
    assert out.max() <= 1
    assert torch.equal(images, before)


def test_no_pictures_are_no_trouble() -> None:
    for policy in POLICIES:
        out = augment(smooth(1)[:0], *keys(torch.arange(0), 1), 0, policy)
        assert out.shape == (0, 3, 32, 32)


# --------------------------------------------------------------------------------------------------------- uniforms


def test_uniforms_never_change() -> None:
    drawn = uniforms(478652391635435375, torch.tensor([0, 1]), torch.tensor([5, 5]), 2)
    assert drawn.tolist() == [[0.7773447036743164, 0.3542051315307617], [0.863477349281311, 0.0387648344039917]]


def test_uniforms_are_splitmix64_in_plain_integers() -> None:
    mask = 2**64 - 1

    def mix(x: int) -> int:
        x = (x + 0x9E3779B97F4A7C15) & mask
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
        return x ^ (x >> 31)

    for seed, epoch, index in ((0, 0, 0), (2**63 - 1, 300, 59_999), (12345, 1, 7)):
        ours = uniforms(seed, torch.tensor([epoch]), torch.tensor([index]), 12)[0].tolist()
        state = mix(mix(mix(seed) + epoch) + index)
        expected = [(mix(state + column * 0x9E3779B97F4A7C15) >> 40) / 2**24 for column in range(1, 13)]
        assert ours == expected


@pytest.fixture(scope="module")
def drawn() -> np.ndarray:
    """Uniform numbers by epoch, index and column."""
    index = torch.arange(4000)
    return np.stack([uniforms(99, *reversed(keys(index, epoch)), 12).double().numpy() for epoch in range(1, 9)])


def test_every_column_is_uniform(drawn: np.ndarray) -> None:
    assert drawn.min() >= 0
    assert drawn.max() < 1
    for column in range(drawn.shape[2]):
        assert stats.kstest(drawn[..., column].ravel(), "uniform").pvalue > 1e-3
        for epoch in range(len(drawn)):
            assert stats.kstest(drawn[epoch, :, column], "uniform").pvalue > 1e-4


def test_columns_neighbouring_samples_and_epochs_are_uncorrelated(drawn: np.ndarray) -> None:
    def correlation(one: np.ndarray, other: np.ndarray) -> float:
        return abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) * math.sqrt(one.size)

    columns = range(drawn.shape[2])
    for a in columns:
        assert correlation(drawn[:, :-1, a], drawn[:, 1:, a]) < 4.5, "neighbouring samples"
        assert correlation(drawn[:-1, :, a], drawn[1:, :, a]) < 4.5, "neighbouring epochs"
        assert correlation(drawn[:-1, 1:, a], drawn[1:, :-1, a]) < 4.5, "the diagonal"
        for b in columns:
            assert a == b or correlation(drawn[..., a], drawn[..., b]) < 4.5, "columns"
            assert a == b or correlation(drawn[:, :-1, a], drawn[:, 1:, b]) < 4.5, "columns of neighbours"


def test_epoch_and_index_are_not_interchangeable() -> None:
    one = uniforms(0, torch.tensor([3]), torch.tensor([7]), 4)
    assert not torch.equal(one, uniforms(0, torch.tensor([7]), torch.tensor([3]), 4))
    assert not torch.equal(one, uniforms(0, torch.tensor([4]), torch.tensor([6]), 4))


# ------------------------------------------------------------------------------------------------------------- warp


def torchvision_geometry(
    image: Tensor, flip: bool, angle: float, shift: list[int], scale: float, crop: Tensor
) -> Tensor:
    if flip:
        image = F.hflip(image)
    image = F.affine(image, math.degrees(angle), shift, scale, [0.0, 0.0], InterpolationMode.NEAREST, fill=[0.0])
    x, y = crop.int().tolist()
    return F.crop(F.pad(image, [4], fill=0), top=4 + y, left=4 + x, height=32, width=32)


def test_warp_is_torchvisions_flip_affine_pad_and_crop() -> None:
    n = 400
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(n, 3, 32, 32, generator=generator) + 0.1  # noise, so that one pixel off is seen; black is fill
    flip = torch.rand(n, generator=generator) < 0.5
    angle = (2 * torch.rand(n, generator=generator) - 1) * math.pi
    shift = torch.randint(-3, 4, (n, 2), generator=generator).float()
    scale = 0.9 + 0.2 * torch.rand(n, generator=generator)
    crop = torch.randint(-4, 5, (n, 2), generator=generator).float()
    ours = warp(images, flip, crop, angle, shift, scale)
    theirs = torch.stack(
        [
            torchvision_geometry(
                images[i], bool(flip[i]), float(angle[i]), shift[i].int().tolist(), float(scale[i]), crop[i]
            )
            for i in range(n)
        ]
    )
    wrong = (ours != theirs).any(1).float().mean((1, 2))
    assert wrong.mean() < 0.001  # ties in rounding
    assert wrong.max() < 0.01


def test_without_an_affine_step_warp_is_exactly_a_flip_and_a_crop() -> None:
    image = smooth(1).float() / 255 + 0.01
    for flip in (False, True):
        for x, y in ((-4, -4), (4, 4), (0, 0), (3, -2)):
            ours = warp(image, torch.tensor([flip]), torch.tensor([[x, y]]).float())[0]
            flipped = F.hflip(image[0]) if flip else image[0]
            theirs = F.crop(F.pad(flipped, [4]), top=4 + y, left=4 + x, height=32, width=32)
            assert torch.equal(ours, theirs)


def test_quarter_turns_are_exact() -> None:
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) + 0.1
    still = {"flip": torch.tensor([False]), "crop": torch.zeros(1, 2), "shift": torch.zeros(1, 2)}
    for quarters in (0, 1, 2, -1):
        turned = warp(image, angle=torch.tensor([quarters * math.pi / 2]), scale=torch.ones(1), **still)
        assert torch.equal(turned, torch.rot90(image, -quarters, (2, 3)))  # clockwise


# ----------------------------------------------------------------------------------------------------------- jitter

ADJUST = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue)


def torchvision_jitter(image: Tensor, factors: Tensor, hue: float, order: list[int]) -> Tensor:
    amounts = [*factors.tolist(), hue]
    for kind in order:
        image = ADJUST[kind](image, amounts[kind])
    return image


@pytest.mark.parametrize("order", list(permutations(range(4))), ids=lambda order: "".join(map(str, order)))
def test_jitter_is_torchvisions_adjustments_in_any_order(order: tuple[int, ...]) -> None:
    n = 12
    generator = torch.Generator().manual_seed(sum(place * 4**i for i, place in enumerate(order)))
    images = torch.cat((smooth(n - 4, seed=1).float() / 255, torch.rand(2, 3, 32, 32, generator=generator)))
    gray = torch.rand(1, 1, 32, 32, generator=generator).expand(-1, 3, -1, -1)
    framed = smooth(1, seed=2).float() / 255
    framed[..., :9] = 0  # as the geometry leaves it
    images = torch.cat((images, gray, framed))
    factors = 0.5 + torch.rand(n, 3, generator=generator)
    hue = (torch.rand(n, generator=generator) - 0.5) * 0.1
    ours = jitter(images, factors, hue, torch.tensor(order).expand(n, -1))
    for i in range(n):
        theirs = torchvision_jitter(images[i], factors[i], float(hue[i]), list(order))
        assert (ours[i] - theirs).abs().max() < 1e-3, i


def test_each_sample_is_jittered_in_its_own_order() -> None:
    orders = torch.tensor(list(permutations(range(4))))
    n = len(orders)
    images = smooth(1, seed=3).float().expand(n, -1, -1, -1) / 255
    factors, hue = torch.tensor([[1.4, 0.6, 1.5]]).expand(n, -1), torch.full((n,), 0.05)
    together = jitter(images, factors, hue, orders)
    for i in range(n):
        alone = jitter(images[[i]], factors[[i]], hue[[i]], orders[[i]])[0]
        assert torch.allclose(together[i], alone, atol=1e-6)
    assert len({picture.numpy().tobytes() for picture in together}) > n / 2  # the order matters


# ----------------------------------------------------------------------------------------------------- distribution

THESIS = Compose(
    [
        RandomHorizontalFlip(),
        RandomAffine(degrees=180, translate=(0.1, 0.1), scale=(0.9, 1.1)),
        RandomCrop(32, padding=4),
        ColorJitter(brightness=0.5, contrast=0.5, saturation=0.5, hue=0.05),
    ]
)
STANDARD = Compose([RandomHorizontalFlip(), RandomCrop(32, padding=4)])


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(("standard", STANDARD, 1000), id="standard"),
        pytest.param(("thesis", THESIS, 1500), id="thesis"),
    ],
)
def draws(request: pytest.FixtureRequest) -> tuple[Tensor, Tensor]:
    """Many augmentations of one picture, by us and by torchvision."""
    policy, reference, count = request.param
    picture = smooth(1, seed=4)[0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theirs = torch.stack([reference(picture.float() / 255) for _ in range(count)])
    return augment(picture.expand(count, -1, -1, -1), *keys(torch.arange(count), 1), 5, policy), theirs


@pytest.mark.slow
def test_the_mean_picture_is_torchvisions(draws: tuple[Tensor, Tensor]) -> None:
    ours, theirs = draws
    error = ((ours.var(0) + theirs.var(0)) / len(ours)).sqrt()
    z = (ours.mean(0) - theirs.mean(0)) / error.clamp(min=1e-4)
    assert z.abs().max() < 5
    assert z.pow(2).mean() < 2.5  # pixels are correlated, so far from 1 can still be chance


@pytest.mark.parametrize(
    "statistic",
    [
        pytest.param(lambda p: p.mean((1, 2, 3)), id="mean"),
        pytest.param(lambda p: p.flatten(1).std(1), id="deviation"),
        pytest.param(lambda p: (p.sum(1) == 0).float().mean((1, 2)), id="share of black"),
        pytest.param(lambda p: p.mean((2, 3))[:, 0] - p.mean((2, 3))[:, 2], id="red less blue"),
        pytest.param(lambda p: p[:, :, 12:20, 12:20].mean((1, 2, 3)), id="middle"),
        pytest.param(lambda p: p[:, :, :8, :8].mean((1, 2, 3)), id="corner"),
        pytest.param(lambda p: p[:, :, :, 16:].mean((1, 2, 3)) - p[:, :, :, :16].mean((1, 2, 3)), id="right less left"),
        pytest.param(lambda p: p[:, :, 16:].mean((1, 2, 3)) - p[:, :, :16].mean((1, 2, 3)), id="bottom less top"),
        pytest.param(lambda p: p.amax((1, 2, 3)), id="brightest"),
    ],
)
def test_pictures_are_distributed_as_torchvisions(draws: tuple[Tensor, Tensor], statistic) -> None:
    ours, theirs = (statistic(pictures).round(decimals=5).numpy() for pictures in draws)
    assert stats.ks_2samp(ours, theirs).pvalue > 1e-3


def test_a_spot_in_the_middle_lands_where_torchvision_puts_it() -> None:
    n = 1000
    spot = torch.zeros(3, 32, 32, dtype=torch.uint8)
    spot[:, 15:17, 15:17] = 255
    geometry = Compose(THESIS.transforms[:-1])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theirs = torch.stack([geometry(spot.float() / 255) for _ in range(n)])
    ours = augment(spot.expand(n, -1, -1, -1), *keys(torch.arange(n), 1), 5, "thesis")

    def offsets(pictures: Tensor, axis: int) -> np.ndarray:
        profile = pictures.sum(1).sum(axis)
        profile = (profile - profile.amin(1, keepdim=True)) / (profile - profile.amin(1, keepdim=True)).sum(1)[:, None]
        return ((profile * torch.arange(32.0)).sum(1) - 15.5).round().int().numpy()

    for axis in (1, 2):
        counts = np.stack([np.bincount(offsets(p, axis) + 16, minlength=32) for p in (ours, theirs)])
        assert stats.chi2_contingency(counts[:, counts.sum(0) > 0]).pvalue > 1e-3


def spots() -> Tensor:
    """A red, a green and a blue spot near the middle: a picture that knows left from right at any angle."""
    picture = torch.full((3, 32, 32), 30, dtype=torch.uint8)
    for channel, (y, x) in enumerate(((10, 12), (12, 21), (21, 15))):
        picture[channel, y - 2 : y + 3, x - 2 : x + 3] = 220
    return picture


def handedness(pictures: Tensor) -> Tensor:
    """Which way round the three spots go: the sign of the triangle of their centroids."""
    colour = pictures - (pictures.sum(1, keepdim=True) - pictures) / 2
    weights = (colour - colour.amax((2, 3), keepdim=True) / 2).clamp(min=0)
    grid = torch.arange(32.0)
    mass = weights.sum((2, 3))
    y, x = (weights.sum(3) * grid).sum(2) / mass, (weights.sum(2) * grid).sum(2) / mass
    return ((x[:, 1] - x[:, 0]) * (y[:, 2] - y[:, 0]) - (y[:, 1] - y[:, 0]) * (x[:, 2] - x[:, 0])).sign()


@pytest.mark.parametrize("policy", ["standard", "thesis"])
def test_half_of_the_pictures_are_flipped(policy: str) -> None:
    n = 2000
    picture = spots()[None]
    upright, mirrored = handedness(picture.float()), handedness(picture.flip(3).float())
    assert upright == -mirrored != 0
    signs = handedness(augment(picture.expand(n, -1, -1, -1), *keys(torch.arange(n), 1), 5, policy))
    assert (signs != 0).all()
    assert stats.binomtest(int((signs == mirrored).sum()), n).pvalue > 1e-3


# ------------------------------------------------------------------------------------------------------------- CUDA


@pytest.mark.cuda
def test_a_gpu_draws_the_same_numbers_and_nearly_the_same_pictures(cuda: torch.device) -> None:
    images, (index, epoch) = smooth(64), keys(torch.arange(64), 3)
    here = uniforms(7, epoch, index, 12)
    assert torch.equal(uniforms(7, epoch.to(cuda), index.to(cuda), 12).cpu(), here)
    for policy in POLICIES:
        ours = augment(images.to(cuda), index.to(cuda), epoch.to(cuda), 7, policy).cpu()
        close = (ours - augment(images, index, epoch, 7, policy)).abs().amax(1) < 1e-3
        assert close.float().mean() > 0.99  # ties in rounding
