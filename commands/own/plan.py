"""How to spend the time there is on a folder of pictures: size, network and epochs, from steps measured here.

What the stages do is run here for a few batches, with their own classes, on noise of the right shape. From the seconds
an image takes follow the seconds of a whole run.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from commands.own.folder import Found
from stages import pretext, scan, selflabel
from stages.images.loading import Images
from stages.images.views import PlainView, SimCLRViews
from stages.losses.scan import dataset_scan_loss
from stages.neighbors.exact import nearest
from stages.networks.classifier import Classifier
from stages.networks.encoder import Encoder, Input
from stages.tasks.pretext import Settings
from stages.tasks.scan import HeadsOnEmbeddings
from stages.tasks.selflabel import SelfLabeling
from stages.tasks.simclr import SimCLR
from stages.training.devices import device, mixed_precision
from stages.training.loop import learn, make_optimizer
from stages.training.mean_teacher import MeanTeacher

LADDER = {  # from the best to the cheapest
    # The receptive field of `small` is 30 pixels: of larger pictures it sees texture only.
    "cpu": [(64, "small"), (48, "small"), (32, "small"), (32, "tiny")],
    "gpu": [(96, "resnet18-stl"), (64, "resnet18-stl"), (32, "resnet18-cifar"), (32, "small"), (32, "tiny")],
}
# The committed values of what follows from the number of images. Choices start from them, not from an earlier choice.
STARTS = {
    "pretext": {"batch_size": 512, "lr": 0.4, "warmup_epochs": 0.5},
    "mine": {"k": 20},
    "kmeans": {"restarts": 10},
    "scan": {"head_epochs": 25, "head_batch_size": 1024, "batch_size": 512},
    "selflabel": {"batch_size": 1000, "threshold": 0.99},
}
SMALLEST = 8  # pixels, of the network `small`
FEWEST, MOST = 10, 200  # epochs of the pretext
WORTH_IT = 2_000_000  # images seen by the pretext, below which a cheaper rung is better than fewer epochs
MANY = 20_000  # images below which a network hardly gets as sure as the paper's threshold wants it
FEW = 500  # images below which nothing reliable is to be expected
MARGIN = 1.1  # on the estimate
# What is not measured, in seconds: to start a stage, to save an epoch, to look for copies of an image, to evaluate one.
START, EPOCH, DUPLICATES, EVALUATE = 4.0, 0.03, 1e-4, 6e-5
HASHED = 5 / 400e6  # seconds a byte: so often are images hashed, by DVC and by training, at that rate
ITERATIONS = 40  # of k-means until it rests, about
EXACT = 100_000  # images up to which neighbours are searched exactly; then the time grows in proportion
BASE = 0.85e9  # bytes that Python and torch take, with what is mapped for a moment


class Speed(NamedTuple):
    """Of one network at one size on this machine: seconds an image takes, where nothing else is said."""

    pretext: float  # a training step; scan's costs the same
    selflabel: float
    embed: float
    head: float  # one epoch of all heads on embeddings
    choose: float  # to judge one head
    pair: float  # seconds of a comparison of two embeddings
    kmeans: float  # one restart
    activations: float  # bytes that a training step keeps for each image
    weights: int  # bytes of the network
    dim: int  # numbers in an embedding


class Choice(NamedTuple):
    """What was chosen, as changes to params.yaml, and why."""

    changes: dict
    speed: Speed
    why: str


def kind() -> str:
    """Which ladder is this machine's."""
    return "cpu" if device().type == "cpu" else "gpu"


def machine() -> str:
    """The device in words, and whether it is busy, which makes a choice more modest than it need be."""
    if device().type == "cuda":
        return torch.cuda.get_device_name(device())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    name = f"{cores} CPU cores, no GPU" if device().type == "cpu" else f"{device().type}, {cores} CPU cores"
    return name + (", busy with other work at the moment" if os.getloadavg()[0] > cores else "")


def free_memory() -> float:
    """Bytes that a run may still take, of the GPU's memory where there is one."""
    if device().type == "cuda":
        torch.cuda.empty_cache()  # of what was measured before
        return torch.cuda.mem_get_info(device())[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def choose(found: Found, clusters: int, size: int | None, hours: float, content: dict) -> Choice:
    """The first rung of the ladder that leaves enough epochs within `hours`, else the cheapest with what it can do.

    size: the one to take, or None; content: params.yaml as nested dictionaries, which the changes are made to.
    """
    rungs, tried = _rungs(found.short_side, size), []
    for pixels, backbone in rungs:
        batch = _batch(found.counts["train"], STARTS["pretext"]["batch_size"], clusters)
        speed = measure(pixels, backbone, found.channels, clusters, content, batch)
        while batch > 32 and 2 * batch * speed.activations > 0.6 * free_memory():
            batch //= 2

        def changes(epochs: int, pixels=pixels, backbone=backbone, speed=speed, batch=batch) -> dict:
            wanted = from_counts(found.counts, clusters, epochs, batch)
            wanted["data"], wanted["pretext"]["backbone"] = {"image_size": pixels}, backbone
            # Of small pictures a hole, or the black beside them, must not be all there is.
            wanted["strong"] = {"padding": min(6, pixels // 8), "cutout": min(16, pixels // 2)}
            costs = found.counts["train"] * speed.kmeans
            wanted["kmeans"] = {"restarts": int(min(STARTS["kmeans"]["restarts"], max(1, 0.05 * 3600 * hours / costs)))}
            return wanted

        def fits(epochs: int, changes=changes, speed=speed) -> bool:
            return sum(seconds(found, merged(content, changes(epochs)), speed, clusters).values()) <= 3600 * hours

        epochs = next((epochs for epochs in range(MOST, FEWEST, -1) if fits(epochs)), FEWEST)
        # One digit less: more would pretend to know the time better than it is known.
        epochs = epochs // 10 * 10 if epochs >= 20 else epochs
        enough = min(100, max(2 * FEWEST, WORTH_IT // found.total))
        if epochs >= enough:
            break
        if (pixels, backbone) != rungs[-1]:
            tried.append(f"{pixels} with the network {backbone} would leave time for only {epochs} epochs")
    if size is not None:
        why = "as asked for"
    elif pixels == LADDER[kind()][0][0]:
        why = "more would do this network no good"
    else:
        why = "what the pictures have" if pixels == rungs[0][0] else "what there is time for"
    why = "; ".join([why, *tried[-1:]])
    return Choice(changes(epochs), speed, why)


def _rungs(short_side: int, size: int | None) -> list[tuple[int, str]]:
    ladder = LADDER[kind()]
    if size is None:
        rungs = [rung for rung in ladder if rung[0] <= short_side]
        if rungs:
            return rungs
        size = max(SMALLEST, short_side)
    networks = list(dict.fromkeys(backbone for _, backbone in ladder))
    if size < 28:
        return [(size, "small")]  # `tiny` is for 28 and more
    if kind() == "gpu":
        largest = "resnet18" if size > 128 else "resnet18-stl" if size > 40 else "resnet18-cifar"
        networks = [largest, "small", "tiny"]
    return [(size, backbone) for backbone in networks]


def _batch(images: int, largest: int, clusters: int) -> int:
    """A batch that is seen four times in an epoch and holds every cluster twice, where there are images for it."""
    wanted = max(images // 4, 2 * clusters, 32)
    return max(2, min(largest, images, 2 ** (wanted.bit_length() - 1)))


def from_counts(counts: dict[str, int], clusters: int, epochs: int, batch: int) -> dict:
    """All that follows from the number of images by split, of clusters and of the pretext's epochs: K, batches, …

    batch: of the pretext, which memory bounds, too.
    """
    train, p, s = counts["train"], STARTS["pretext"], STARTS["scan"]
    images = train + counts.get("unlabeled", 0)
    heads = _batch(train, s["head_batch_size"], clusters)
    few = images // batch < 20  # steps in an epoch
    return {
        "pretext": {
            "method": "simclr",
            "weights": None,
            "epochs": epochs,
            "batch_size": batch,
            "lr": round(p["lr"] * batch / p["batch_size"], 4),
            "warmup_epochs": epochs / 20 if few else p["warmup_epochs"],
        },
        # Neighbours are to be of the same group, which may have few images.
        "mine": {"k": max(1, min(STARTS["mine"]["k"], max(5, train // (2 * clusters)), train - 1))},
        "scan": {
            # A thousand steps, where images are few.
            "head_epochs": min(250, max(s["head_epochs"], 1000 // max(1, train // heads))),
            "head_batch_size": heads,
            "epochs": max(1, min(5, epochs // 8)),
            "batch_size": min(batch, _batch(train, s["batch_size"], clusters)),
        },
        "selflabel": {
            "epochs": 0 if train < FEW else 2 if epochs >= 20 else 1,
            "threshold": STARTS["selflabel"]["threshold"] if train >= MANY else 0.95,
            "batch_size": _batch(train, STARTS["selflabel"]["batch_size"], clusters),
        },
    }


def merged(content: dict, changes: dict) -> dict:
    """Nested dictionaries with the changes in them; neither is altered."""
    return content | {
        key: merged(content[key], value) if isinstance(value, dict) else value for key, value in changes.items()
    }


def measure(size: int, backbone: str, channels: int, clusters: int, content: dict, batch: int) -> Speed:
    """Run a few batches of what the stages do, with that network at that size. content: as of params.yaml.

    batch: of the training; smaller ones, which take about as long an image, stand for large ones.
    """
    p, s, label = (
        module.Params.model_validate({name: content[name] for name in module.Params.model_fields})
        for module in (pretext, scan, selflabel)
    )
    generator, chance = torch.Generator().manual_seed(0), np.random.default_rng(0)
    batch = min(batch, 64 if device().type == "cpu" else 128)
    images = Images(chance.integers(0, 256, (batch, size, size, channels), np.uint8), device())
    rows, mean, std = np.arange(batch), [0.5] * channels, [0.25] * channels
    encoder = Encoder(backbone, p.pretext.projection_dim, Input(size, channels, mean, std)).to(device()).train()

    task = SimCLR(encoder, images, SimCLRViews(p.views, mean, std), Settings(p.pretext.temperature))
    optimizer = make_optimizer("sgd", task.parameters(), p.pretext.lr, 0.0)
    learning = _seconds(lambda: learn(task, task.prepare(rows, generator), task, optimizer)) / batch
    kept = _activations(lambda: task.step(*task.prepare(rows[:8], generator))["loss"]) / 8

    student = Classifier(encoder, "backbone", 1, clusters).to(device())
    pair = MeanTeacher(student, 0.9)
    least = 1e-6  # or nothing would be learnt from
    task = SelfLabeling(pair, images, label.strong, least, class_weights=True)
    optimizer = make_optimizer("adam", student.parameters(), 1e-6, 0.0)
    labelling = _seconds(lambda: learn(task, task.prepare(rows, generator), student, optimizer)) / batch

    encoder.eval()
    view = PlainView(mean, std)

    @torch.inference_mode()
    def embed() -> None:
        with mixed_precision():
            encoder.embed(view(images(rows)), "backbone")

    embedding = _seconds(embed) / batch
    weights = sum(part.numel() * part.element_size() for part in encoder.state_dict().values())
    return Speed(
        learning, labelling, embedding, *_on_vectors(encoder, clusters, s), kept, weights, encoder.backbone.dim
    )


def _on_vectors(encoder: Encoder, clusters: int, p: scan.Params) -> tuple[float, float, float, float]:
    """The speeds `head`, `choose`, `pair` and `kmeans`."""
    count, chance, generator = 4096, np.random.default_rng(0), torch.Generator().manual_seed(0)
    vectors = chance.standard_normal((count, encoder.backbone.dim), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    pairs = chance.integers(0, count, (count, 20), np.int32)
    model = Classifier(encoder, "backbone", p.scan.heads, clusters).to(device())
    task = HeadsOnEmbeddings(model, vectors, pairs, p.scan.entropy_weight)
    optimizer = make_optimizer("adam", model.heads.parameters(), p.scan.head_lr, 0.0)
    rows = np.arange(min(count, p.scan.head_batch_size))
    head = _seconds(lambda: learn(task, task.prepare(rows, generator), model.heads, optimizer)) / len(rows)
    answers = torch.rand(count, clusters, device=device())
    judge = _seconds(lambda: dataset_scan_loss(answers, pairs, p.scan.entropy_weight)) / count
    pair = _seconds(lambda: nearest(vectors, 20)) / count**2
    some = vectors[: max(1000, clusters)] if clusters <= count else np.resize(vectors, (clusters, vectors.shape[1]))
    with threadpool_limits(1):
        short = KMeans(clusters, init=some[:clusters], n_init=1, max_iter=4, tol=0)
        kmeans = _seconds(lambda: short.fit(some)) / len(some) / 4 * ITERATIONS
    return head, judge, pair, kmeans


def _seconds(step: Callable[[], object]) -> float:
    """The least seconds that a step takes, after a first one that prepares: what else the machine does is not ours."""
    taken: list[float] = []
    for number in range(100):
        start = time.perf_counter()
        step()
        torch.zeros(1, device=device()).item()  # a GPU is done when this is
        if number:
            taken.append(time.perf_counter() - start)
        if len(taken) >= 3 and sum(taken) > 0.2:
            break
    return min(taken)


def _activations(loss: Callable[[], torch.Tensor]) -> int:
    """Bytes that are kept for the backward pass."""
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor), mixed_precision():
        loss()
    return sum(kept.values())


def seconds(found: Found, content: dict, speed: Speed, clusters: int) -> dict[str, float]:
    """The estimated seconds of a whole run by part, with a margin."""
    train, test, s = found.counts["train"], found.counts["test"], content["scan"]
    processes = max(1, torch.cuda.device_count()) if device().type == "cuda" else 1  # they share the training
    pairs = min(train, EXACT) * train + min(test, EXACT) * test
    epochs = {name: content[name]["epochs"] for name in ("pretext", "scan", "selflabel")}
    parts = {
        "reading": found.total * (found.seconds + DUPLICATES),
        "pretext": epochs["pretext"] * ((found.total - test) * speed.pretext / processes + EPOCH),
        "neighbours, k-means": pairs * speed.pair + train * content["kmeans"]["restarts"] * speed.kmeans,
        "SCAN": s["head_epochs"] * (train * speed.head + EPOCH)
        + s["heads"] * train * speed.choose
        + epochs["scan"] * train * speed.pretext / processes,
        "self-labeling": epochs["selflabel"] * train * speed.selflabel / processes,
        "the rest": 9 * START
        + 4 * (train + test) * speed.embed / processes
        + (train + test) * EVALUATE
        + HASHED * _image_bytes(found, content),
    }
    return {name: MARGIN * value for name, value in parts.items()}


def by_stage(found: Found, content: dict, speed: Speed, clusters: int) -> dict[str, float]:
    """The same by stage, in their order, but for download, which is over when a plan is made."""
    parts = seconds(found, content, speed, clusters)
    both, rest = parts["neighbours, k-means"], parts["the rest"]
    return {
        "pretext": parts["pretext"],
        "embed": 0.4 * rest,
        "mine": 0.5 * both,
        "kmeans": 0.5 * both,
        "scan": parts["SCAN"],
        "selflabel": parts["self-labeling"],
        "evaluate": 0.3 * rest,
        "report": 0.3 * rest,
    }


def _image_bytes(found: Found, content: dict) -> int:
    return found.total * content["data"]["image_size"] ** 2 * found.channels


def disk(found: Found, content: dict, speed: Speed, clusters: int) -> float:
    """Bytes that a whole run writes, counted twice: DVC's cache may hold copies where it cannot link."""
    vectors, answers = 4 * speed.dim, 2 * clusters
    # Per image: what scan measures lies beside embeddings for a while; two tables of probabilities; neighbours; a row
    # of the tables of assignments and of paths.
    rows = 2 * vectors + 2 * answers + 4 * content["mine"]["k"] + 500
    once = _image_bytes(found, content) + found.total * rows + 12 * speed.weights + 20e6
    return 2 * once


def memory(found: Found, content: dict, speed: Speed, clusters: int) -> float:
    """Bytes that the hungriest stage holds, on the GPU for training where there is one, else in all."""
    training = 2 * max(content["pretext"]["batch_size"], content["selflabel"]["batch_size"] / 2) * speed.activations
    vectors = 3 * found.total * speed.dim * 4
    answers = 3 * found.counts["train"] * clusters * 4
    return BASE + max(training, vectors + answers, 300 * found.total)
