"""What every network promises. Subclass it in your own tests, and build your network:

.. code-block:: python

    from trainables.contracts import NetworkContract

    class TestMine(NetworkContract):
        def build(self):
            return my_lab.nets.build(channels=3, classes=10)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from trainables.models.own import seeded
from trainables.seeds import generator


class NetworkContract:
    """Tests of a network.

    Attributes:
        channels: of the images that it is tested on.
        size: height and width of these, in pixels.
        classes: how many it is built for.
    """

    channels = 3
    size = (32, 32)
    classes = 10

    def build(self) -> nn.Module:
        """A fresh network for such images."""
        raise NotImplementedError

    def test_the_output_is_a_finite_number_for_each_image_and_class(self) -> None:
        """In training and in evaluation, for several images and, in evaluation, for one."""
        network = self._network()
        for training, count in ((True, 4), (False, 4), (False, 1)):
            logits = self._logits(network.train(training), self._images(count))
            assert logits.shape == (count, self.classes), f"the output has the shape {list(logits.shape)}"
            assert logits.isfinite().all(), "the output is not finite"

    def test_a_gradient_reaches_every_parameter_that_is_trained(self) -> None:
        """A parameter that the loss does not depend on is a layer that is not used, or should be frozen."""
        network = self._network().train()
        labels = torch.arange(4) % self.classes
        cross_entropy(self._logits(network, self._images(4)), labels).backward()
        for name, parameter in network.named_parameters():
            if parameter.requires_grad:
                assert parameter.grad is not None, f"no gradient reaches {name}"
                assert parameter.grad.isfinite().all(), f"the gradient of {name} is not finite"

    def test_the_same_seed_gives_the_same_bits(self) -> None:
        """All random numbers come from the global generators of torch, numpy and Python, which the program seeds."""
        one, same = self._network(), self._network()
        for (name, value), other in zip(one.state_dict().items(), same.state_dict().values(), strict=True):
            assert torch.equal(value, other), f"{name} differs between two networks of the same seed"
        images = self._images(4)
        assert torch.equal(self._logits(one.train(), images), self._logits(same.train(), images)), "training differs"

    def test_in_evaluation_an_image_says_the_same_alone_and_among_others(self) -> None:
        """Evaluation draws no random numbers, changes nothing, and does not look at the rest of the batch."""
        network = self._network().eval()
        images = self._images(4)
        with torch.no_grad():
            together, again = network(images), network(images)
            alone = torch.cat([network(image[None]) for image in images])
        assert torch.equal(together, again), "two evaluations differ"
        assert torch.allclose(together, alone, rtol=1e-3, atol=1e-4), "the output depends on the rest of the batch"

    def test_its_state_is_all_that_it_knows(self) -> None:
        """What was trained, saved and loaded into another network gives the same output."""
        network, other = self._network(), self._network(seed=1)
        self._logits(network.train(), self._images(4))  # which changes running statistics
        other.load_state_dict(network.state_dict())
        images = self._images(4)
        assert torch.equal(self._logits(network.eval(), images), self._logits(other.eval(), images)), "they differ"

    def _network(self, seed: int = 0) -> nn.Module:
        with seeded(generator(seed, "weights")):
            return self.build()

    def _images(self, count: int) -> Tensor:
        return torch.randn(count, self.channels, *self.size, generator=generator(0, "images"))

    def _logits(self, network: nn.Module, images: Tensor) -> Tensor:
        with seeded(generator(0, "layers")):
            return network(images)
