"""The training loop that every training stage shares: epochs, schedule, progress, history, resuming."""

import math
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from stages.errors import UserError
from stages.training.checkpoint import Checkpoint
from stages.training.devices import mixed_precision
from stages.training.progress import Progress

# What a stage does with one batch: rows of the dataset (int64 (B,)) and a CPU generator for its draws give the terms to
# log, each a scalar or one value per head. The sum of "loss" over heads is minimised, so that no head learns slower for
# having company; means are logged. Without "loss" the step is skipped.
Step = Callable[[np.ndarray, torch.Generator], dict[str, Tensor]]
History = list[dict[str, float]]


class Plan(NamedTuple):
    """How long, in what batches and how fast to learn."""

    epochs: int
    batch_size: int
    lr: float
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_epochs: float = 0.0


def fit(
    phase: str,
    step: Step,
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
    if state := checkpoint.load(phase):
        module.load_state_dict(state["module"])
        optimizer.load_state_dict(state["optimizer"])
        history = state["history"]
        if len(history) < plan.epochs:
            print(f"{phase}: continuing after epoch {len(history)} of {plan.epochs}", flush=True)
    if len(history) >= plan.epochs:
        return history

    batch_size = min(plan.batch_size, images)
    steps = images // batch_size  # what is left of the last batch comes up in another epoch's order
    with Progress(phase, plan.epochs * steps * batch_size, done=len(history) * steps * batch_size) as progress:
        for epoch in range(len(history), plan.epochs):
            terms, counted = {}, {}
            for number, (index, generator) in enumerate(batches(images, batch_size, seed, epoch)):
                set_lr(optimizer, learning_rate(plan, epoch + number / steps))
                with mixed_precision():
                    losses = step(index, generator)
                if "loss" in losses:
                    optimizer.zero_grad(set_to_none=True)
                    losses["loss"].sum().backward()
                    optimizer.step()
                for name, value in losses.items():
                    terms[name] = terms.get(name, 0.0) + value.detach().double().mean()
                    counted[name] = counted.get(name, 0) + 1
                note = f"epoch {epoch + 1}/{plan.epochs}"
                if "loss" in terms:
                    mean = (terms["loss"] / counted["loss"]).item()
                    note += f", loss {mean:.3f}"
                    if not math.isfinite(mean):
                        raise UserError(
                            f"the loss of {phase} is {mean} in epoch {epoch + 1}, step {number + 1}; lower its lr "
                            f"(now {plan.lr:g}), or look for images that are no images"
                        )
                progress.advance(batch_size, note)
            row = {name: value.item() / counted[name] for name, value in terms.items()}
            history.append({"epoch": epoch + 1, "lr": optimizer.param_groups[0]["lr"], **row})
            state = {"module": module.state_dict(), "optimizer": optimizer.state_dict(), "history": history}
            checkpoint.save(phase, state)
    return history


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
