"""What every selection promises. Subclass it in your own tests, and name your selection:

.. code-block:: python

    from trainables.contracts import SelectionContract

    class TestRhoLoss(SelectionContract):
        selection = RhoLoss(keep=0.1)
"""

from __future__ import annotations

import io
from typing import Any

import torch
from torch import Tensor, nn

from trainables.methods.build import Problem, sampler
from trainables.methods.sampler import Batching, Sampler
from trainables.methods.selection import ProbeResult, Selection
from trainables.methods.views import Views
from trainables.seeds import generator, permutation

SIZE, CLASSES, BATCH, EPOCHS = 40, 3, 8, 3


class SelectionContract:
    """Tests of a selection: it is trained for a few epochs on a small problem.

    Attributes:
        selection: the selection under test.
        raw_batch_size: samples in a raw batch.
        epochs: epochs that are trained; a method that waits for some takes more.
    """

    selection: Selection
    raw_batch_size = 10
    epochs = EPOCHS

    def test_positions_are_in_the_unit(self) -> None:
        """Samples that are trained on are those of the training set, in batches that are not empty."""
        for _, batches in self._trained().items():
            for index, _ in batches:
                assert index, "a batch is empty"
                assert all(0 <= i < SIZE for i in index), "a sample is not in the training set"

    def test_no_image_is_trained_on_twice_in_an_epoch(self) -> None:
        """Each repeat of a sample shows an image of its own: say ``Choice(..., repeats=True)`` if there are repeats."""
        for batches in self._trained().values():
            seen = [pair for index, epoch in batches for pair in zip(index, epoch, strict=True)]
            assert len(set(seen)) == len(seen), "an image is trained on twice; say Choice(..., repeats=True)"

    def test_no_more_is_selected_than_it_says(self) -> None:
        """``most(unit)`` bounds what is chosen from a unit of that size."""
        sampler = self._sampler()
        for epoch in range(1, self.epochs + 1):
            sampler.start_epoch(epoch)
            for views in sampler.batches(_Model(sampler).probe):
                _train(sampler, views)
            raw = self.selection.draw(self.raw_batch_size, sampler.memory)
            drawn = SIZE if sampler.by_epoch else min(2 * max(raw, self.raw_batch_size), SIZE)
            most = self.selection.most(drawn)
            assert max(sampler.kept_by_unit, default=0) <= most, f"more than most({drawn}) = {most} are chosen"

    def test_the_same_seed_gives_the_same_batches(self) -> None:
        """All random numbers come from ``unit.random`` and ``run.stream``; no global generator is used."""
        before = torch.random.get_rng_state()
        one = self._trained()
        assert torch.equal(torch.random.get_rng_state(), before), "torch's global generator was used"
        torch.rand(7)
        assert self._trained() == one, "the same seed gives other batches"

    def test_a_restored_run_goes_on_as_it_would_have(self) -> None:
        """All state stands in the memory: a run that is saved and restored after any batch does not differ."""
        whole = self._trained()
        for stop in (1, 3):
            restored = self._trained(interrupted_after=stop)
            assert restored == whole, f"restored after batch {stop}, it does not go on as it would have"

    def test_the_loss_is_a_number_with_a_gradient(self) -> None:
        """``loss`` gives a finite scalar that depends on the logits."""
        sampler = self._sampler()
        sampler.start_epoch(1)
        losses = [_train(sampler, views) for views in sampler.batches(_Model(sampler).probe)]
        assert losses, "no batch was trained on in the first epoch"
        for loss, gradient in losses:
            assert loss.shape == (), f"the loss has shape {tuple(loss.shape)}, not that of a scalar"
            assert bool(loss.isfinite()), f"the loss is {float(loss)}"
            assert gradient is not None, "the loss does not depend on the logits"

    def test_what_the_loss_remembers_keeps_its_place(self) -> None:
        """``loss`` writes to the memory's tensors in place: a recorded CUDA graph knows them by their place."""
        sampler = self._sampler()
        sampler.start_epoch(1)
        for views in sampler.batches(_Model(sampler).probe):
            before = _places(sampler)
            _train(sampler, views)
            assert _places(sampler) == before, "loss() replaced a tensor of the memory; write to it in place"

    def test_options_survive_a_configuration(self) -> None:
        """The options are plain values that read back as the same selection."""
        kind = type(self.selection)
        options = {name: getattr(self.selection, name) for name in kind.model_fields}
        assert kind.model_validate(options) == self.selection

    def _sampler(self) -> Sampler:
        by_batch = "batch" in self.selection.granularities and self.selection.follows is None
        return sampler(
            self.selection,
            "batch" if by_batch else "epoch",
            Batching(BATCH, self.raw_batch_size),
            _problem(self.epochs),
            order=lambda epoch: permutation(SIZE, 0, "order", epoch),
            seed=0,
            device=torch.device("cpu"),
            kept=lambda arm, number: [self.raw_batch_size // 2] * SIZE,
        )

    def _trained(self, interrupted_after: int | None = None) -> dict[int, list[tuple[list[int], list[int]]]]:
        """The batches of every epoch, as sample indices and the epochs whose images they show."""
        sampler = self._sampler()
        model = _Model(sampler)
        trained: dict[int, list[tuple[list[int], list[int]]]] = {}
        count = 0
        for epoch in range(1, self.epochs + 1):
            trained[epoch] = []
            sampler.start_epoch(epoch)
            while (views := next(sampler.batches(model.probe), None)) is not None:
                _train(sampler, views)
                model.updates += 1
                trained[epoch].append((views.index.tolist(), views.epoch.tolist()))
                count += 1
                if count == interrupted_after:
                    state = _saved(sampler.state_dict())
                    sampler = self._sampler()
                    sampler.load_state_dict(state)
        return trained


class _Model:
    """A model whose output is a function of sample, epoch and the number of updates."""

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler
        self.updates = 0

    def probe(self, views: Views) -> ProbeResult:
        return ProbeResult(_logits(views, self.updates), self.sampler.run.labels[views.index])


def _logits(views: Views, updates: int) -> Tensor:
    phase = views.index[:, None] * 1.7 + views.epoch[:, None] * 0.3 + torch.arange(CLASSES) * 2.1 + updates * 0.11
    return 3 * phase.sin()


def _train(sampler: Sampler, views: Views) -> tuple[Tensor, Tensor | None]:
    """The loss of an update on the views, and its gradient by the logits."""
    logits = _logits(views, 0).requires_grad_()
    images = sampler.run.images(views.index)
    loss = sampler.loss(views, logits, sampler.run.labels[views.index], images)
    (gradient,) = torch.autograd.grad(loss, logits, allow_unused=True)
    return loss.detach(), gradient


def _problem(epochs: int) -> Problem:
    labels = torch.arange(SIZE) % CLASSES
    images = torch.rand(SIZE, 1, 8, 8, generator=generator(0, "images"))

    def network(stream: str) -> nn.Module:
        layer = nn.utils.skip_init(nn.Linear, 64, CLASSES)
        nn.init.normal_(layer.weight, generator=generator(0, stream))
        nn.init.zeros_(layer.bias)
        return nn.Sequential(nn.Flatten(), layer)

    return Problem(
        labels,
        CLASSES,
        BATCH,
        epochs,
        images=lambda index: images[index],
        network=network,
        samples=lambda views: (images[views.index], labels[views.index]),
        gradient_norms=lambda views: 1 + (views.index % 5).float(),
    )


def _places(sampler: Sampler) -> dict[str, int]:
    return {name: value.data_ptr() for name, value in vars(sampler.memory).items() if isinstance(value, Tensor)}


def _saved(state: dict[str, Any]) -> dict[str, Any]:
    """The state as a checkpoint gives it back, with no pickled code."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)
