"""Stage selflabel: the network learns from its own confident answers."""

import shutil
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from stages.images.loading import Images
from stages.images.store import read_images
from stages.images.strong import StrongSettings, StrongViews
from stages.images.views import PlainView
from stages.losses.confident import confident_loss, pseudo_labels
from stages.networks.classifier import Classifier
from stages.networks.model import load_model, save_model
from stages.plumbing.command import fingerprint, output_folder, run, write_json, write_table
from stages.plumbing.errors import UserError
from stages.plumbing.params import Block, Positive, Seed
from stages.training import processes
from stages.training.checkpoint import Checkpoint
from stages.training.devices import compile_if_asked, computed, device
from stages.training.inference import write_probabilities
from stages.training.loop import Plan, fit, make_optimizer
from stages.training.mean_teacher import MeanTeacher
from stages.training.processes import synchronise_batchnorm


class SelfLabel(Block):
    """The block `selflabel`; what each key does is said in params.yaml."""

    threshold: Annotated[float, Field(gt=0, lt=1)]
    class_weights: bool
    ema: Annotated[float, Field(ge=0, lt=1)]
    epochs: Annotated[int, Field(ge=0)]
    batch_size: Annotated[int, Field(ge=2)]
    optimizer: Literal["adam", "sgd"]
    lr: Positive
    weight_decay: Annotated[float, Field(ge=0)]


class Params(Block):
    """What this stage reads of params.yaml."""

    seed: Seed
    strong: StrongSettings
    selflabel: SelfLabel


class SelfLabeling:
    """A batch of self-labeling: what the teacher is sure of on plain images, the student learns on strong views."""

    def __init__(self, pair: MeanTeacher, images: Images, strong: StrongSettings, params: SelfLabel):
        input = pair.student.encoder.input
        self.pair, self.images, self.params = pair, images, params
        self.plain, self.strong = PlainView(input.mean, input.std), StrongViews(strong, input.mean, input.std)
        self.idle, self.learning = 0, 0

    def prepare(self, rows: np.ndarray, generator: torch.Generator) -> tuple[Tensor, Tensor, int]:
        """Plain and strong views of the images of this process, (B, C, H, W), and the size of the global batch."""
        own = processes.share(len(rows))
        images, draws = self.images(rows[own]), self.strong.draw(len(rows), generator).slice(own.start, own.stop)
        return self.plain(images), self.strong(images, draws), len(rows)

    def step(self, plain: Tensor, strong: Tensor, rows: int) -> dict[str, Tensor]:
        """The loss, unless nothing is confident; the share that is. UserError if nothing is in a whole epoch."""
        # In evaluation mode: pseudo-labels that went through batch statistics would drift with the batches, and so
        # would the running averages that the final model answers with.
        self.pair.teacher.eval()
        with torch.no_grad():
            probabilities = self.pair.teacher(plain)[0].softmax(dim=1)
        # Where teacher and student are one, older torch would give the student the teacher's cached casts of the
        # weights, which carry no gradient.
        torch.clear_autocast_cache()
        confident = pseudo_labels(processes.gather(probabilities, rows), self.params.threshold)
        share = confident.mask.float().mean()
        if share == 0:
            self.idle += 1
            if not self.learning and self.idle * rows > len(self.images) - rows:
                raise UserError(
                    f"no image is sure of its cluster above selflabel.threshold = {self.params.threshold}; lower it, "
                    "or let scan get surer (more scan.epochs, a smaller scan.entropy_weight)"
                )
            return {"confident": share, "skipped": torch.ones(())}
        self.learning += 1
        self.pair.student.train()
        logits = processes.gather(self.pair.student(strong)[0], rows)
        loss = confident_loss(logits, confident, self.params.class_weights)
        return {"loss": loss, "confident": share, "skipped": torch.zeros(())}


def selflabel(images: Path, scan: Path, out: Path, params: Params, checkpoints: Path = Path(".ckpt")) -> None:
    """Fine-tune the model of `scan` on its confident pseudo-labels; write model.pt, history.csv and probabilities."""
    p = params.selflabel
    if p.epochs == 0:
        with output_folder(out) as folder:
            for name in ("model.pt", "meta.json", "probabilities-train.npy", "probabilities-test.npy"):
                shutil.copyfile(scan / name, folder / name)
            write_table(folder / "history.csv", [], ["epoch", "lr", "loss"])
        return print("selflabel: epochs = 0, scan's answer stays as it is")
    train = Images(read_images(images, "train"), device())
    student = load_model(scan / "model.pt", Classifier)
    student.encoder.require_network("set selflabel.epochs: 0")
    student = synchronise_batchnorm(student.to(device()))
    compile_if_asked(student.encoder.backbone)
    pair = MeanTeacher(student, p.ema)
    optimizer = make_optimizer(p.optimizer, student.parameters(), p.lr, p.weight_decay)
    optimizer.register_step_post_hook(lambda *_: pair.follow())
    plan = Plan(p.epochs, p.batch_size, p.lr, "constant")
    with Checkpoint(checkpoints, "selflabel", fingerprint(params, images, scan)) as checkpoint:
        task = SelfLabeling(pair, train, params.strong, p)
        history = fit("selflabel", task, pair, optimizer, len(train), plan, params.seed, checkpoint)
        with output_folder(out) as folder:
            write_probabilities(folder, "selflabel", images, pair.teacher)
            save_model(folder / "model.pt", pair.teacher)
            write_json(folder / "meta.json", {"selflabel": computed()})
            write_table(folder / "history.csv", history)


if __name__ == "__main__":
    run(selflabel, within=processes.run)
