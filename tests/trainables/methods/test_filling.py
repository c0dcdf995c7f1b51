import pytest
import torch
from drawing import blank
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.config import MethodConfig, TrialConfig
from trainables.methods import build
from trainables.methods.filling import most_selected, unfillable
from trainables.methods.selection import ProbeResult

CPU = torch.device("cpu")


def config(batch_size, epochs=10, **options):
    return TrialConfig.from_dotted(
        {
            "batch_size": batch_size,
            "epochs": epochs,
            "arms.archetype.granularity": "none",
            **{f"arms.filtered.{key}": value for key, value in options.items()},
            "baseline": "archetype",
            "treatment": "filtered",
        }
    )


def test_batches_larger_than_the_training_set_are_never_filled_from_what_is_selected():
    reasons = unfillable(config(1024, granularity="batch"), 180)
    assert list(reasons) == ["filtered"]  # the archetype trains on the whole set at once
    assert reasons["filtered"] == (
        "batch_size: 1024: arm filtered trains on full batches of the samples that it selects, and there are 180 "
        "training samples; set batch_size to 180 at most, take more samples, or set arms.filtered.batch to unstable"
    )
    assert unfillable(config(180, granularity="batch"), 180) == {}


@pytest.mark.parametrize(
    "options",
    [
        {"granularity": "batch", "batch": "unstable"},
        {"granularity": "epoch"},
        {"granularity": "epoch", "fallback": "random"},
        {"granularity": "epoch", "selector": "infobatch"},
    ],
)
def test_arms_that_train_on_what_there_is_are_not_refused(options):
    assert unfillable(config(1024, **options), 180) == {}


def test_a_selector_that_takes_too_few_is_refused():
    few = {"granularity": "batch", "selector": "top_k", "k": 1, "raw_batch_size": 90}
    assert "at most 2 an epoch, which fill none in 10 epochs" in unfillable(config(64, **few), 180)["filtered"]
    assert unfillable(config(20, **few), 180) == {}


OPTIONS = st.sampled_from(
    [
        {"granularity": "batch"},
        {"granularity": "batch", "filter": "soft"},
        {"granularity": "batch", "selector": "top_k", "k": 3},
        {"granularity": "batch", "selector": "top_k", "k": 3, "fallback": "random"},
        {"granularity": "batch", "filter": "soft", "selector": "top_k", "k": 3},
        {"granularity": "epoch+batch", "selector": "top_k", "k": 3},
        {"granularity": "epoch+batch", "filter": "hard"},
        {"granularity": "batch", "selector": "random", "ratio": 0.3},
        {"granularity": "batch", "selector": "random", "k": 2, "filter": "none"},
        {"granularity": "batch", "selector": "selective_backprop"},
    ]
)


@settings(max_examples=40, deadline=None)
@given(
    OPTIONS,
    st.integers(1, 20),
    st.sampled_from([None, 5, "adaptive"]),
    st.integers(1, 30),
    st.integers(1, 3),
    st.integers(0, 9),
)
def test_what_is_refused_makes_less_than_one_update_an_epoch(options, batch_size, raw, size, epochs, seed):
    """Whatever the model answers: these are right or wrong at random, with a chance that the seed decides."""
    trial = config(batch_size, epochs, **options, raw_batch_size=raw)
    stream = torch.Generator().manual_seed(seed)

    def probe(views):
        labels = torch.zeros(len(views), dtype=torch.int64)
        return ProbeResult(torch.rand(len(views), 2, generator=stream) + torch.tensor([0.0, seed / 9]), labels)

    method = MethodConfig(**options, raw_batch_size=raw)
    sampler = build(method, blank(size, batch_size, epochs), lambda _: torch.randperm(size), 0, CPU, {})
    kept, steps = [], 0
    for epoch in range(1, epochs + 1):
        sampler.start_epoch(epoch)
        steps += sum(1 for _ in sampler.batches(probe))
        kept.append(sampler.counts.samples_kept)
    assert max(kept) <= most_selected(trial.arms, "filtered", batch_size, size)
    if "filtered" in unfillable(trial, size):
        assert steps < epochs
