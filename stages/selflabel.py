"""Stage selflabel: the network learns from its own confident answers."""

import shutil
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from stages.images.loading import Images
from stages.images.store import read_images
from stages.images.strong import StrongSettings
from stages.networks.classifier import Classifier
from stages.networks.model import load_model, save_model
from stages.plumbing.command import run
from stages.plumbing.outputs import output_folder, write_json, write_table
from stages.plumbing.params import Block, Positive, Seed
from stages.tasks.selflabel import SelfLabeling
from stages.training import processes
from stages.training.checkpoint import Checkpoint, fingerprint
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


def selflabel(
    params: Params,
    images: Path = Path("data/images"),
    scan: Path = Path("data/scan"),
    out: Path = Path("data/selflabel"),
    checkpoints: Path = Path(".ckpt"),
) -> None:
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
        task = SelfLabeling(pair, train, params.strong, p.threshold, p.class_weights)
        history = fit("selflabel", task, pair, optimizer, len(train), plan, params.seed, checkpoint)
        with output_folder(out) as folder:
            write_probabilities(folder, "selflabel", images, pair.teacher)
            save_model(folder / "model.pt", pair.teacher)
            write_json(folder / "meta.json", {"selflabel": computed()})
            write_table(folder / "history.csv", history)


if __name__ == "__main__":
    run(selflabel, within=processes.run)
