"""Experiments, their search on Ray Tune, the records they leave, and the command line."""
