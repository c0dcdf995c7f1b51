"""MentorNet's data-driven curriculum (Jiang et al. 2018, arXiv:1712.05055), for labels that are partly wrong.

Cost of an epoch: 3N, and the mentor's own pass over the batch, which is not counted: it has a few hundred weights. Cost
before the first update, for t passes of the student: 3tN.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from trainables.methods.auxiliary import train_pass
from trainables.methods.mentornet import EARLY, Curriculum, moved
from trainables.methods.scores import finite
from trainables.methods.selection import Memory, Run
from trainables.models import initialize

LATE = 0.95
"""The share of training after which nearly all of a batch is dropped, as in the authors' settings."""

DROPOUT = (0.5, 0.05, 0.9)
"""The shares of a batch that have no weight: early, in between and late."""

STEPS = 500
"""Updates of the mentor, on all that was recorded."""

EPOCHS = 100
"""Hundredths of training, each with an embedding of its own."""


class DataDriven(Curriculum):
    """Weighs a sample by a small network, the mentor, that has learned which labels are right.

    It is told for a random share ``clean_share`` of the samples whether their label is right, which a study knows where
    ``dataset.label_noise`` has replaced some; without label noise every label is right, and there is nothing to learn.

    Before the first update a student of the arm's own kind is trained by SGD on all samples, wrong labels included.
    Each time that it sees one of the known samples, its loss, the loss's distance to a moving percentile λ, its label
    and the share of training are recorded. On this record the mentor learns to tell right labels from wrong ones. Then
    the arm trains, and the loss of each sample is multiplied by the mentor's probability that its label is right.

    The mentor sees the loss and the distance directly, and label and hundredth of training as embeddings of 2 and 5
    numbers, in a hidden layer of 20. In the authors' code an LSTM reads the first two; they found that the architecture
    does not matter much. As there, a random share of every batch has no weight: half in the first 17 % of training,
    5 % until 95 %, then 90 %. Remembered: the mentor, λ, and how far training has come.
    """

    name: Literal["mentornet_dd"] = "mentornet_dd"
    clean_share: float = Field(
        0.1, gt=0, le=1, description="share of the samples whose labels are known right or wrong"
    )
    student_epochs: PositiveInt | None = Field(
        None, description="t: passes of the student; None: half as many as the run has epochs"
    )
    student_lr: float = Field(0.05, gt=0, description="learning rate of the student's SGD, with momentum 0.9")

    @property
    def knows_labels(self) -> bool:
        """Of a share of them."""
        return True

    def begin(self, run: Run, memory: Memory) -> None:
        """A mentor that knows nothing."""
        super().begin(run, memory)
        memory.mentor = Mentor(run.classes)
        initialize_mentor(memory.mentor, run.stream("mentor"))
        memory.mentor.to(run.device)

    def prepare(self, run: Run, memory: Memory) -> None:
        """Train a student, record what its losses say of right and wrong labels, and teach that to the mentor."""
        assert run.true_labels is not None
        known = torch.zeros(run.size, dtype=torch.bool, device=run.device)
        order = torch.randperm(run.size, generator=run.stream("known labels"))
        known[order[: math.ceil(self.clean_share * run.size)].to(run.device)] = True
        teach(memory.mentor, self._record(run, known))

    def _record(self, run: Run, known: Bool[Tensor, " N"]) -> Record:
        """What a student's training says of the samples whose labels are known to be right or wrong."""
        assert run.true_labels is not None
        everything = torch.arange(run.size, device=run.device)
        network, order = run.network("student"), run.stream("student")
        optimizer = torch.optim.SGD(network.parameters(), lr=self.student_lr, momentum=0.9)
        passes = self.student_epochs or math.ceil(run.epochs / 2)
        threshold, parts = torch.zeros((), device=run.device), []
        for number in range(passes):
            index, said = train_pass(run, network, optimizer, everything, order)
            losses, count = finite(said.losses.float()), math.ceil(run.size / run.batch_size)
            for place, (some, values) in enumerate(
                zip(index.tensor_split(count), losses.tensor_split(count), strict=True)
            ):
                threshold = moved(threshold, values, self.percentile)
                done = torch.full_like(values, (number + place / count) / passes)
                right = run.true_labels[some] == run.labels[some]
                row = Record(values, values - threshold, run.labels[some], done, right)
                parts.append(Record(*(column[known[some]] for column in row)))
        return Record(*map(torch.cat, zip(*parts, strict=True)))

    def weigh(self, losses: Float[Tensor, " n"], labels: Int64[Tensor, " n"], memory: Memory) -> Float[Tensor, " n"]:
        """The mentor's probabilities that the labels are right."""
        with torch.no_grad():
            return memory.mentor(losses, losses - memory.threshold, labels, memory.done.expand(len(losses))).sigmoid()

    def dropped(self, done: float) -> float:
        """Half of a batch early in training, and nearly all at its end."""
        return DROPOUT[0 if done < EARLY else 1 if done < LATE else 2]


class Record(NamedTuple):
    """What was seen of samples: a row each."""

    losses: Float[Tensor, " n"]
    above: Float[Tensor, " n"]
    labels: Int64[Tensor, " n"]
    done: Float[Tensor, " n"]
    right: Bool[Tensor, " n"]


class Mentor(nn.Module):
    """From a loss, its distance to λ, the label and the share of training: the logit that the label is right."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.label = nn.utils.skip_init(nn.Embedding, classes, 2)
        self.epoch = nn.utils.skip_init(nn.Embedding, EPOCHS, 5)
        self.hidden = nn.utils.skip_init(nn.Linear, 9, 20)
        self.out = nn.utils.skip_init(nn.Linear, 20, 1)

    def forward(
        self,
        losses: Float[Tensor, " n"],
        above: Float[Tensor, " n"],
        labels: Int64[Tensor, " n"],
        done: Float[Tensor, " n"],
    ) -> Float[Tensor, " n"]:
        """Logits."""
        hundredth = (EPOCHS * done).long().clamp(0, EPOCHS - 1)
        seen = torch.cat((losses[:, None], above[:, None], self.label(labels), self.epoch(hundredth)), 1)
        return self.out(self.hidden(seen).tanh()).squeeze(1)


def initialize_mentor(mentor: Mentor, generator: torch.Generator) -> None:
    """Draw its weights: PyTorch's own distributions, from ``generator``."""
    for table in (mentor.label, mentor.epoch):
        nn.init.normal_(table.weight, generator=generator)
    initialize(nn.ModuleList([mentor.hidden, mentor.out]), generator)


def teach(mentor: Mentor, record: Record) -> None:
    """Fit the mentor to the record by Adam."""
    right = record.right.float()
    optimizer = torch.optim.Adam(mentor.parameters(), lr=0.01)
    for _ in range(STEPS):
        logits = mentor(record.losses, record.above, record.labels, record.done)
        optimizer.zero_grad()
        binary_cross_entropy_with_logits(logits, right).backward()
        optimizer.step()
