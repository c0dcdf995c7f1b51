"""What an arm trains on: filters and selectors say *which* samples, samplers say *when*."""

from trainables.samplers.build import build
from trainables.samplers.filters import ProbeResult
from trainables.samplers.sampler import Batching, Counts, Order, Probe, Sampler
from trainables.samplers.selection import Judged, Selection
from trainables.samplers.views import Views

__all__ = ["Batching", "Counts", "Judged", "Order", "Probe", "ProbeResult", "Sampler", "Selection", "Views", "build"]
