from copy import deepcopy
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from study.bench import loop, peer
from study.bench.loop import Case, Rival
from trainables.comparison import Arm

CPU = torch.device("cpu")
GENERATED = Case("FCNet10", "generated", "thesis", 8, 3, 1, 2, 1.3, 1.4)


@pytest.fixture(autouse=True)
def _threads() -> Any:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def arm(case: Case, name: str = "filtered") -> Arm:
    data = loop.generated(case.batch_size * case.batches, CPU)
    config = loop.case_config(case.model, case.augmentation, case.batch_size)
    return Arm(name, config.arms[name], config, data, CPU, {})


def test_every_case_has_a_figure_for_each_arm_and_evaluation_and_every_rival_one() -> None:
    digits = Case("FCNet10", "mnist5k", "none", 20, 2, 1, 2, 1.3, None)
    rival = Rival("FCNet10", "thesis", 8, 2, 1, 1, 3.0)
    figures = list(loop.suite(CPU, [GENERATED, digits], [rival]))
    assert [(figure.unit, figure.bound, figure.limit) for figure in figures] == [
        ("×", "at most", 1.3),
        ("%", None, None),
        ("%", None, None),
        ("×", "at most", 1.4),
        ("%", None, None),
        ("%", None, None),
        ("%", None, None),
        ("×", None, None),
        ("×", "at most", 1.3),
        ("%", None, None),
        ("%", None, None),
        ("×", None, None),
        ("%", None, None),
        ("%", None, None),
        ("%", None, None),
        ("×", None, None),
        *[("%", "at most", 5.0)] * 4,
        ("×", "at least", 3.0),
    ]
    assert all(figure.suite == "loop" for figure in figures)
    assert all(figure.value > 0 for figure in figures if "in vain" not in figure.name)
    assert "3 bare steps" in figures[0].beside
    assert "3 bare forwards + " in figures[3].beside
    vain = [figure for figure in figures if "in vain" in figure.name]
    assert len(vain) == 2
    assert all(0 <= figure.value < 100 and "forward passes for" in figure.beside for figure in vain)
    assert all(0 < figure.value < 100 for figure in figures if figure.unit == "%" and figure not in vain)
    assert "1 workers" in figures[-1].beside


def test_of_a_small_network_it_is_told_what_surrounds_a_filtered_forward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    digits = Case("FCNet10", "mnist5k", "none", 20, 2, 1, 3, None, None)
    monkeypatch.setattr(loop, "PROFILED", "FCNet10")
    with_pieces = list(loop.suite(CPU, [digits], []))
    told = [figure for figure in with_pieces if figure.unit == "µs"]
    assert with_pieces == with_pieces[:12] + told
    assert [figure.name.split(": ")[1] for figure in told] == [
        "forward pass",
        "gather pictures and labels",
        "find what is misclassified",
        "its positions",
        "take it",
        "append it to a batch that is held",
        "a unit's generator",
    ]
    assert all(figure.value > 0 and figure.rounds == 3 and "2 raw batches" in figure.beside for figure in told)


def test_an_epoch_is_explained_by_probes_choosing_updates_and_auxiliary_work() -> None:
    assert loop.explained({"train": 2.0}) == 2.0
    assert loop.explained({"train": 2.0, "choose": 1.5, "probe": 1.0, "auxiliary": 0.25, "evaluate": 9.0}) == 3.75
    assert loop.explained({"train": 2.0, "choose": 0.9, "probe": 1.0}) == 3.0


def test_the_floor_is_so_many_forwards_and_steps_on_one_batch_and_changes_no_weight() -> None:
    one = arm(GENERATED)
    loop.train(one)
    before = {name: value.clone() for name, value in one.model.named_parameters()}
    passes: list[tuple[bool, bool, int]] = []
    updates: list[None] = []
    one.model.register_forward_hook(
        lambda model, given, _: passes.append((torch.is_grad_enabled(), model.training, len(given[0])))
    )
    one.optimizer.register_step_post_hook(lambda *_: updates.append(None))
    loop.floor(one, probes=4, steps=2)()
    assert passes == [(False, False, 8)] * 4 + [(True, True, 8)] * 2
    assert len(updates) == 2
    assert all(torch.equal(value, before[name]) for name, value in one.model.named_parameters())
    assert all(value.grad is not None for value in one.model.parameters())


def test_a_restored_arm_makes_the_same_epoch_again() -> None:
    one = arm(GENERATED)
    loop.train(one)
    restore = loop._restored(one, deepcopy(one.state_dict()))
    counts, weights = [], []
    for _ in range(2):
        restore()
        loop.train(one)
        counts.append(one.sampler.counts)
        weights.append(one.model.out.weight.clone())
    assert counts[0] == counts[1]
    assert counts[0].raw_batches == 3
    assert torch.equal(weights[0], weights[1])


def test_a_restored_arm_keeps_its_tensors_for_what_is_recorded_of_them() -> None:
    one = arm(GENERATED)
    one.optimizer = torch.optim.Adam(one.model.parameters())
    for parameter in one.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    one.optimizer.step()
    before = [value for state in one.optimizer.state.values() for value in state.values()]
    start = deepcopy(one.state_dict())
    restore = loop._restored(one, start)
    one.optimizer.step()
    restore()
    after = [value for state in one.optimizer.state.values() for value in state.values()]
    assert all(new is old for new, old in zip(after, before, strict=True))
    for number, state in one.optimizer.state_dict()["state"].items():
        for name, value in state.items():
            assert torch.equal(value, start["optimizer"]["state"][number][name])


def test_cases_say_what_they_are() -> None:
    assert str(GENERATED) == "FCNet10, batch 8, thesis augmentation"
    quick = Case("LeNet", "mnist5k", "none", 64, 40, 2, 3, None, None, "bf16", threads=1)
    assert str(quick) == "LeNet, batch 64, bf16, 1 thread"


def test_every_arm_of_every_case_trains_on_full_batches() -> None:
    for case in (*loop.CPU_CASES, *loop.CUDA_CASES):
        size = case.batch_size * case.batches
        assert case.pictures == "generated" or size % loop.CLASSES == 0, case
        assert case.pictures == "generated" or size // loop.CLASSES <= 400, case


def test_generated_pictures_are_cifars_shape_and_can_be_learned() -> None:
    data = loop.generated(50, CPU)
    assert data.train.images.shape == (50, 3, 32, 32)
    assert data.train.images.dtype == torch.uint8
    assert len(data.test.labels) == 10
    assert data.train.images.float().std() > 40
    label = int(data.train.labels[0])
    same = data.train.images[data.train.labels == label].float()
    assert (same.mean(0) - data.train.images.float().mean(0)).abs().mean() > 10


def test_the_peer_sees_the_pictures_that_we_see() -> None:
    for name in ("generated", "mnist5k"):
        case = Case("FCNet10", name, "none", 10, 2, 0, 1, None, None)  # type: ignore[arg-type]
        data = loop._pictures(case, CPU)
        theirs = peer.Pictures(data.train, peer.transform(data, "none"))
        assert len(theirs) == 20
        images, labels = zip(*(theirs[i] for i in range(20)), strict=True)
        assert torch.allclose(torch.stack(images), data.normalize(data.train.images.float() / 255), atol=1e-6)
        assert list(labels) == data.train.labels.tolist()


def test_the_peers_augmentation_is_that_of_the_thesis() -> None:
    data = loop.generated(4, CPU)
    kinds = [type(step).__name__ for step in peer.transform(data, "thesis").transforms]
    assert kinds == ["RandomHorizontalFlip", "RandomAffine", "RandomCrop", "ColorJitter", "ToTensor", "Normalize"]
    kinds = [type(step).__name__ for step in peer.transform(data, "standard").transforms]
    assert kinds == ["RandomCrop", "RandomHorizontalFlip", "ToTensor", "Normalize"]


def test_the_peer_trains_on_every_sample_once_and_returns_running_loss_and_accuracy() -> None:
    one = arm(GENERATED, "archetype")
    for group in one.optimizer.param_groups:
        group["lr"] = 0.0
    batches = peer.loader(one.data, "none", 8, 0, seed=0)
    loss, accuracy = peer.train_epoch(batches, one.model, one.optimizer, CPU)
    with torch.no_grad():
        logits = one.model(one.data.normalize(one.data.train.images.float() / 255))
    assert loss == pytest.approx(float(cross_entropy(logits, one.data.train.labels)), rel=1e-5)
    assert accuracy == pytest.approx(float((logits.argmax(1) == one.data.train.labels).float().mean()))
    assert all(parameter.grad is not None for parameter in one.model.parameters())
