"""Early stopping: how many comparisons have no final gap, who chose them, and what can be said of all of them.

A rule that stops comparisons chooses which of them have a final gap, so that these need not stand for all. What the
stopped ones would have come to is not known, and no model of it is fitted here. Two things are said instead:

- Bounds. Each stopped comparison could have ended on either side, so the share won and the median of all comparisons
  lie between two numbers that need no assumption (Manski 1990, Nonparametric Bounds on Treatment Effects).
- A sensitivity estimate. Each stopped comparison counts with the gap at the last epoch that both of its arms reached.
  Both arms have trained for as many epochs, but these gaps are of models that are not trained to their end.

Weights by the inverse probability of surviving are not used: a rule that stops all below a threshold gives those a
probability of 0, for which there is no weight.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from analysis.load import Study, config_keys
from analysis.pairs import STUDY, Pairs, pair
from analysis.statistics import gaps_of
from analysis.stopping_rule import NAMES, Rule
from trainables import documents

BY_RULE = re.compile(r"stopped by (\w+) after epoch \d+")
"""What the record says of a comparison that a rule stopped."""


@dataclass(frozen=True)
class Bounds:
    """Between which numbers something of all comparisons lies, whatever the stopped ones would have come to.

    Attributes:
        share: of comparisons that the treatment wins, a tie counting half; NaN without a comparison.
        median: of the gaps; infinite where half of the comparisons or more were stopped, NaN half way between minus and
            plus infinity.
    """

    share: tuple[float, float]
    median: tuple[float, float]


@dataclass(frozen=True)
class Stopping:
    """What early stopping leaves out of some pairs.

    Attributes:
        pairs: the comparisons that were paired.
        reached: these, and after them the stopped ones that can be read at the last epoch that both of their arms
            reached.
        stopped: how many others were stopped; one that repeats another comparison, seed and all, is not missing.
        dead: how many of these because neither arm had learned (``dead_run``), not by the rule.
        rule: who stopped the others, or moved them.
    """

    pairs: Pairs
    reached: pd.DataFrame
    stopped: int
    dead: int
    rule: Rule

    @property
    def count(self) -> int:
        """How many comparisons there are, paired or stopped."""
        return len(self.pairs.frame) + self.stopped

    @property
    def read(self) -> int:
        """How many of the stopped ones are in ``reached``."""
        return len(self.reached) - len(self.pairs.frame)

    @property
    def which(self) -> str:
        """What the paired comparisons have in common that the stopped ones lack."""
        return "finished" if isinstance(self.pairs.at, str) else f"reached epoch {self.pairs.at}"

    @property
    def short(self) -> str:
        """The caveat for a number, in one sentence; empty where nothing was stopped."""
        if not self.stopped:
            return ""
        return f"{self.brief[:-1]}: {self.who()}."

    @property
    def brief(self) -> str:
        """The caveat under a table or figure that stands beside others; empty where nothing was stopped."""
        if not self.stopped:
            return ""
        return f"This is of the {self.count - self.stopped} of {self.count} comparisons that {self.which}."

    def full(self, baseline: str, treatment: str) -> str:
        """The caveat with what stopping does to the gaps; empty where nothing was stopped."""
        if not self.stopped:
            return ""
        who = self.who(f", {self.rule.effect(baseline, treatment)}")
        return f"Of {self.count} comparisons {who}. What holds for those that {self.which} need not hold for all."

    def who(self, effect: str = "") -> str:
        """Who stopped how many, and by what."""
        by_rule = self.stopped - self.dead
        name = NAMES.get(self.rule.name, self.rule.name) or "a scheduler"
        parts = [f"{name} stopped {by_rule} by {self.rule.looks_at}{effect}"] if by_rule else []
        parts += [f"dead_run stopped {self.dead} in which neither arm had learned"] if self.dead else []
        return "; ".join(parts)

    def bounds(self, metric: str) -> Bounds:
        """The share won and the median gap in ``metric`` of all comparisons, stopped ones on either side.

        Raises:
            TableError: ``metric`` has no gap.
        """
        gaps = gaps_of(self.pairs.frame, metric)
        gaps = gaps[~np.isnan(gaps)]
        unknown = np.full(self.stopped, np.inf)
        lowest, highest = np.concatenate([gaps, -unknown]), np.concatenate([gaps, unknown])
        if not len(lowest):
            return Bounds((np.nan, np.nan), (np.nan, np.nan))
        shares = [float(np.mean((values > 0) + (values == 0) / 2)) for values in (lowest, highest)]
        with np.errstate(invalid="ignore"):  # half way between minus and plus infinity
            medians = float(np.median(lowest)), float(np.median(highest))
        return Bounds((shares[0], shares[1]), medians)

    def settles(self, metric: str, sign: float) -> bool:
        """Whether most comparisons have a gap of this sign, whatever the stopped ones would have come to."""
        low, high = self.bounds(metric).median
        return not self.stopped or (low > 0 if sign > 0 else high < 0)


def stopping(pairs: Pairs) -> Stopping:
    """What early stopping leaves out of ``pairs``; nothing where these do not say which study they are of."""
    study = pairs.study
    if study is None:
        return Stopping(pairs, pairs.frame, 0, 0, Rule())
    rule, trials = rule_of(study), study.trials
    paired = trials["trial_id"].isin(pairs.frame["trial_id"])
    candidates = pd.concat([trials[paired], trials[(trials["status"] == "stopped") & ~paired]])
    again = candidates[[key for key in config_keys(trials) if key != STUDY]].duplicated()
    early = candidates[~again].iloc[int(paired.sum()) :]
    if early.empty:
        return Stopping(pairs, pairs.frame, 0, 0, rule)
    reached = pd.concat([pairs.frame, _as_far_as_they_came(study, pairs, early)], ignore_index=True)
    dead = int(early["error"].fillna("").str.startswith("dead:").sum())
    if not rule.name:
        rule = replace(rule, name=_named(early["error"]))
    return Stopping(pairs, reached, len(early), dead, rule)


def rule_of(study: Study) -> Rule:
    """What the experiment of ``study`` says of its scheduler; an empty rule where there is none, or it is not known."""
    try:
        document = documents.parse(study.experiment)
        scheduler, objective = document["scheduler"], document.get("objective", {})
        name, metric = str(scheduler["name"]), scheduler.get("metric")
        if metric in (None, "objective"):
            metric = objective.get("metric", "")
        return Rule() if name == "none" else Rule(name, str(metric[0] if isinstance(metric, list) else metric))
    except (documents.DocumentError, ValueError, TypeError, KeyError, AttributeError, IndexError):
        return Rule()


def _as_far_as_they_came(study: Study, pairs: Pairs, early: pd.DataFrame) -> pd.DataFrame:
    """The stopped comparisons ``early``, paired as if the last epoch that both arms reached were their last."""
    epochs = study.epochs[study.epochs["trial_id"].isin(early["trial_id"])].reset_index(drop=True)
    last = early["trial_id"].map(epochs.groupby("trial_id")["epoch"].max())
    shortened = early.assign(status="finished", epochs=last).sort_values("number", ignore_index=True)
    at = pairs.at if isinstance(pairs.at, str) else "final"
    roles = pairs.roles.get("baseline"), pairs.roles.get("treatment")
    frame = pair(replace(study, trials=shortened, epochs=epochs), at, pairs.clock, *roles).frame
    if "epochs" not in early:
        return frame.drop(columns="epochs")
    return frame.assign(epochs=frame["trial_id"].map(early.set_index("trial_id")["epochs"]))


def _named(errors: pd.Series[Any]) -> str:
    """The rule that the record names most often for stopped comparisons."""
    found = Counter(match[1] for match in map(BY_RULE.match, errors.dropna()) if match)
    return found.most_common(1)[0][0] if found else ""
