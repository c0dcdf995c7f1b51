"""What an arm trains on: selections say *which* samples, the sampler says *when*."""

from trainables.methods.build import build
from trainables.methods.filters import Filter, Judgement
from trainables.methods.sampler import Batching, Counts, Order, Probe, Sampler
from trainables.methods.selection import Batch, Choice, Memory, ProbeResult, Run, Selection, Unit
from trainables.methods.selectors import Selector
from trainables.methods.views import Views

__all__ = [
    "Batch",
    "Batching",
    "Choice",
    "Counts",
    "Filter",
    "Judgement",
    "Memory",
    "Order",
    "Probe",
    "ProbeResult",
    "Run",
    "Sampler",
    "Selection",
    "Selector",
    "Unit",
    "Views",
    "build",
]
