"""Stage embed: every image as a unit vector."""

import json
import shutil
from pathlib import Path

from stages.images.store import read_images
from stages.networks.encoder import Encoder, Layer
from stages.networks.model import load_model
from stages.plumbing.command import run
from stages.plumbing.outputs import output_folder, write_json
from stages.plumbing.params import Block
from stages.training import processes
from stages.training.devices import computed, device
from stages.training.inference import write_embeddings


class Embed(Block):
    """The block `embed`; what each key does is said in params.yaml."""

    layer: Layer


class Params(Block):
    """What this stage reads of params.yaml."""

    embed: Embed


def embed(
    params: Params,
    images: Path = Path("data/images"),
    pretext: Path = Path("data/pretext"),
    out: Path = Path("data/embeddings"),
) -> None:
    """Write train.npy and test.npy, float32 (N, D) of unit length, and meta.json that names the layer."""
    encoder = load_model(pretext / "model.pt", Encoder).to(device())
    layer = params.embed.layer
    encoder.dim(layer)  # complains before anything is begun
    with output_folder(out) as folder:
        for split in ("train", "test"):
            path = folder / f"{split}.npy"
            if (made_elsewhere := pretext / f"{split}.npy").exists():
                shutil.copyfile(made_elsewhere, path)
            else:
                write_embeddings(path, f"embed {split}", read_images(images, split), encoder, layer)
        before = json.loads((pretext / "meta.json").read_text())
        write_json(folder / "meta.json", {"layer": layer, **before, "embed": computed()})


if __name__ == "__main__":
    run(embed, within=processes.run)
