"""The training loop that every training stage shares: epochs, schedule, progress, history, resuming."""

import math
from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from stages.images.loading import ahead
from stages.plumbing import live
from stages.plumbing.errors import UserError
from stages.plumbing.progress import Progress
from stages.training import processes
from stages.training.checkpoint import Checkpoint
from stages.training.devices import device, mixed_precision

History = list[dict[str, float]]


class Task(Protocol):
    """What a stage does with one batch."""

    def prepare(self, rows: np.ndarray, generator: torch.Generator) -> tuple:
        """Draw all that chance decides, fetch the images and augment them, in float32: what `step` gets.

        rows: int64 (B,), rows of the dataset, the global batch. The generator is on the CPU. With CUDA this runs a
        batch ahead, beside `step`, so neither may change what the other reads.
        """

    def step(self, *prepared: Any) -> dict[str, Tensor]:
        """The terms to log, each a scalar or one value per head, equal in all processes.

        The sum of "loss" over heads is minimised, so that no head learns slower for having company; means are logged.
        Without "loss" the step is skipped.
        """


class Plan(NamedTuple):
    """How long, in what batches and how fast to learn."""

    epochs: int
    batch_size: int
    lr: float
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_epochs: float = 0.0


def make_optimizer(
    name: Literal["adam", "sgd"], weights: Iterable[nn.Parameter], lr: float, weight_decay: float, momentum: float = 0.9
) -> torch.optim.Optimizer:
    """Adam, or SGD with that momentum. As in the paper, the decay reaches every weight: BatchNorm's and biases, too."""
    if name == "adam":
        return torch.optim.Adam(weights, lr=lr, weight_decay=weight_decay)
    return torch.optim.SGD(weights, lr=lr, momentum=momentum, weight_decay=weight_decay)


def fit(
    phase: str,
    task: Task,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: int,
    plan: Plan,
    seed: int,
    checkpoint: Checkpoint,
) -> History:
    """Train `module` in place for `plan.epochs` epochs over `images` rows; return one row of terms per epoch.

    Every epoch's order and draws come from (seed, epoch) alone, and the state is saved after each epoch, so a run that
    was killed continues from its last finished epoch and ends in the same bytes. `phase` names the state in the
    checkpoint and the work on screen. Everything that learns or averages has to be in `module`.
    Raises UserError when the loss is no longer a number.
    """
    history: History = []
    if state := processes.broadcast(checkpoint.load(phase)):
        module.load_state_dict(state["module"])
        optimizer.load_state_dict(state["optimizer"])
        history = state["history"]
        if len(history) < plan.epochs:
            print(f"{phase}: continuing after epoch {len(history)} of {plan.epochs}", flush=True)
    if len(history) >= plan.epochs:
        return history

    batch_size = min(plan.batch_size, images)
    if batch_size < processes.count():
        raise UserError(f"{phase}: a batch of {batch_size} images does not go round {processes.count()} processes")
    steps = images // batch_size  # what is left of the last batch comes up in another epoch's order
    with Progress(phase, plan.epochs * steps * batch_size, done=len(history) * steps * batch_size) as progress:
        for epoch in range(len(history), plan.epochs):
            means = Means(phase, plan, epoch)
            prepared = (task.prepare(*batch) for batch in batches(images, batch_size, seed, epoch))
            for number, inputs in enumerate(ahead(prepared, device())):
                set_lr(optimizer, learning_rate(plan, epoch + number / steps))
                terms = learn(task, inputs, module, optimizer)
                progress.advance(batch_size, means.add(terms))
            history.append({"epoch": epoch + 1, "lr": optimizer.param_groups[0]["lr"], **means.row()})
            state = {"module": module.state_dict(), "optimizer": optimizer.state_dict(), "history": history}
            checkpoint.save(phase, state)
            live.record(phase, history)
    return history


def learn(task: Task, inputs: tuple, module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """One step on what `task.prepare` made; returns its terms."""
    with mixed_precision():
        terms = task.step(*inputs)
    if "loss" in terms:
        optimizer.zero_grad(set_to_none=True)
        terms["loss"].sum().backward()
        processes.add_gradients(module)
        optimizer.step()
    return terms


class Means:
    """The mean of every term over the steps of an epoch, and a watch that the loss stays a number."""

    def __init__(self, phase: str, plan: Plan, epoch: int):
        self.phase, self.plan, self.epoch = phase, plan, epoch
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}
        self.steps = 0
        self.pending: Tensor | None = None

    def add(self, terms: dict[str, Tensor]) -> str:
        """Count the terms of a step; returns the note to show. Raises UserError if the loss is no number."""
        # Of the step before: this one's may still be on its way through the device, which shall not wait for us.
        note = self._check()
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0.0) + value.detach().float().mean()
            self.counts[name] = self.counts.get(name, 0) + 1
        self.steps += 1
        if "loss" in terms:
            self.pending = self.sums["loss"] / self.counts["loss"]
        return note

    def row(self) -> dict[str, float]:
        """The means of all terms. Raises UserError if that of the loss is no number."""
        self._check()
        return {name: value.item() / self.counts[name] for name, value in self.sums.items()}

    def _check(self) -> str:
        note = f"epoch {self.epoch + 1}/{self.plan.epochs}"
        if self.pending is None:
            return note
        mean = self.pending.item()
        if not math.isfinite(mean):
            raise UserError(
                f"the loss of {self.phase} is {mean} in epoch {self.epoch + 1}, step {self.steps}; lower its lr "
                f"(now {self.plan.lr:g}), or look for images that are no images"
            )
        return f"{note}, loss {mean:.3f}"


def batches(images: int, batch_size: int, seed: int, epoch: int) -> Iterator[tuple[np.ndarray, torch.Generator]]:
    """The rows of each batch of an epoch in random order, full batches only, with the generator of the epoch."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = torch.randperm(images, generator=generator).numpy()
    for start in range(0, images - batch_size + 1, batch_size):
        yield order[start : start + batch_size], generator


def learning_rate(plan: Plan, epoch: float) -> float:
    """The learning rate at a (fractional) epoch: a linear warm-up, then constant or half a cosine down to lr / 1000."""
    if epoch < plan.warmup_epochs:
        return plan.lr * (epoch + 1e-3) / plan.warmup_epochs
    if plan.schedule == "constant":
        return plan.lr
    done = (epoch - plan.warmup_epochs) / max(plan.epochs - plan.warmup_epochs, 1e-9)
    return plan.lr * (0.001 + 0.999 * 0.5 * (1 + math.cos(math.pi * done)))


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every parameter group this learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr
