"""Stage selflabel: the network learns from its own confident answers."""

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from stages.command import fingerprint, output_folder, run, write_table
from stages.errors import UserError
from stages.images.loading import load
from stages.images.store import read_images
from stages.images.strong import StrongSettings, StrongViews
from stages.images.views import PlainView
from stages.networks.classifier import Classifier
from stages.networks.confident import confident_loss, pseudo_labels
from stages.networks.model import load_model, save_model
from stages.params import Block, Count, Positive, Seed
from stages.training.checkpoint import Checkpoint
from stages.training.devices import device
from stages.training.inference import write_probabilities
from stages.training.loop import Plan, fit
from stages.training.mean_teacher import MeanTeacher


class SelfLabel(Block):
    """The block `selflabel`; what each key does is said in params.yaml."""

    threshold: Annotated[float, Field(gt=0, le=1)]
    class_weights: bool
    ema: Annotated[float, Field(ge=0, lt=1)]
    epochs: Count
    batch_size: Annotated[int, Field(ge=2)]
    lr: Positive
    weight_decay: Annotated[float, Field(ge=0)]


class Params(Block):
    """What this stage reads of params.yaml."""

    seed: Seed
    strong: StrongSettings
    selflabel: SelfLabel


def selflabel(images: Path, scan: Path, out: Path, params: Params, checkpoints: Path = Path(".ckpt")) -> None:
    """Fine-tune the model of `scan` on its confident pseudo-labels; write model.pt, history.csv and probabilities."""
    p = params.selflabel
    train = read_images(images, "train")
    student = load_model(scan / "model.pt", Classifier).to(device())
    pair = MeanTeacher(student, p.ema)
    teacher, input = pair.teacher, student.encoder.input
    plain, strong = PlainView(input.mean, input.std), StrongViews(params.strong, input.mean, input.std)
    optimizer = torch.optim.Adam(student.parameters(), lr=p.lr, weight_decay=p.weight_decay)
    optimizer.register_step_post_hook(lambda *_: pair.follow())
    steps = {"idle": 0, "learning": 0}

    def step(index: np.ndarray, generator: torch.Generator) -> dict[str, Tensor]:
        batch = load(train, index, device())
        # In evaluation mode: pseudo-labels that went through batch statistics would drift with the batches, and so
        # would the running averages that the final model answers with.
        teacher.eval()
        with torch.no_grad():
            confident = pseudo_labels(teacher(plain(batch))[0].softmax(dim=1), p.threshold)
        views = strong(batch, strong.draw(len(index), generator))
        share = confident.mask.float().mean()
        if share == 0:
            steps["idle"] += 1
            if not steps["learning"] and steps["idle"] * len(index) > len(train) - len(index):
                raise UserError(
                    f"no image is sure of its cluster above selflabel.threshold = {p.threshold}; lower it, or let "
                    "scan get surer (more scan.epochs, a smaller scan.entropy_weight)"
                )
            return {"confident": share, "skipped": torch.ones(())}
        steps["learning"] += 1
        student.train()
        loss = confident_loss(student(views)[0], confident, p.class_weights)
        return {"loss": loss, "confident": share, "skipped": torch.zeros(())}

    plan = Plan(p.epochs, p.batch_size, p.lr, "constant")
    with Checkpoint(checkpoints, "selflabel", fingerprint(params, images, scan)) as checkpoint:
        history = fit("selflabel", step, pair, optimizer, len(train), plan, params.seed, checkpoint)
        with output_folder(out) as folder:
            write_probabilities(folder, "selflabel", images, teacher)
            save_model(folder / "model.pt", teacher)
            write_table(folder / "history.csv", history)
    checkpoint.clear()


if __name__ == "__main__":
    run(selflabel)
