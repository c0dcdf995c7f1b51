"""How selected samples become batches: sizes, and what happens to samples that do not fit."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Batching:
    """How selected samples become batches.

    Attributes:
        batch_size: samples in a stable batch.
        raw_batch_size: samples probed at once; None: as many as the acceptance ratio of the last filtered batch says
            it takes to fill one, at least ``batch_size`` and at most ``raw_batch_limit`` (section 5.2.2).
        raw_batch_limit: the bound of an adaptive raw batch, set by memory.
        stable: whether batches have ``batch_size`` samples (Alg. 10), or are all that was selected at once (Alg. 2, 9).
        carry: whether what does not fit a stable batch goes into the next one, or is discarded (section 3.3.2).
        at_once: samples that may be probed together, ahead of need: as many raw batches as are likely to be needed
            before the next update. Where fewer were, the probe of the others is forgotten, for the model changes;
            nothing is counted that was not needed. 0: one raw batch at a time. Only valid if the output for a sample
            does not depend on the rest of the batch, and with a fixed ``raw_batch_size``: the size of an adaptive raw
            batch depends on what the one before it kept.
    """

    batch_size: int
    raw_batch_size: int | None
    raw_batch_limit: int = 16384
    stable: bool = True
    carry: bool = False
    at_once: int = 0

    def probe_sizes(self) -> list[int]:
        """The sizes that whole probes have; none where raw batches are adaptive."""
        if self.raw_batch_size is None:
            return []
        most = max(self.at_once // self.raw_batch_size, 1)
        return [self.raw_batch_size * 2**power for power in range(most.bit_length())]
