"""What an arm trains on: filters say *which* samples, samplers say *when*."""

from trainables.samplers.filters import Filter, ProbeResult, wrong
from trainables.samplers.sampler import Counts, Probe, Sampler
from trainables.samplers.views import Views

__all__ = ["Counts", "Filter", "Probe", "ProbeResult", "Sampler", "Views", "wrong"]
