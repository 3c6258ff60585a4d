"""How fast this machine is: a few batches of what stages do, with their own classes, on noise of the right shape."""

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

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

ITERATIONS = 40  # of k-means until it rests, about
ROWS = 4096  # of noise that stands for embeddings


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


def measure(size: int, backbone: str, channels: int, content: dict, batch: int) -> Speed:
    """Run a few batches of what the stages do, with that network at that size. content: as of params.yaml.

    batch: of the training; smaller ones, which take about as long an image, stand for large ones.
    """
    p, s, label = (
        module.Params.model_validate({name: content[name] for name in module.Params.model_fields})
        for module in (pretext, scan, selflabel)
    )
    batch, clusters = min(batch, 64 if device().type == "cpu" else 128), content["clusters"]
    noise = np.random.default_rng(0).integers(0, 256, (batch, size, size, channels), np.uint8)
    images = Images(noise, device())
    seen = Input(size, channels, [0.5] * channels, [0.25] * channels)
    encoder = Encoder(backbone, p.pretext.projection_dim, seen).to(device()).train()
    learning, activations = _of_pretext(encoder, images, p)
    labelling = _of_selflabel(encoder, images, label, clusters)
    encoder.eval()
    return Speed(
        learning,
        labelling,
        _of_embed(encoder, images),
        *_of_heads(encoder, s, clusters),
        _of_pairs(encoder.backbone.dim),
        _of_kmeans(encoder.backbone.dim, clusters),
        activations,
        sum(part.numel() * part.element_size() for part in encoder.state_dict().values()),
        encoder.backbone.dim,
    )


def _of_pretext(encoder: Encoder, images: Images, p: pretext.Params) -> tuple[float, float]:
    """Seconds of a training step and bytes that it keeps, for an image."""
    generator, rows = torch.Generator().manual_seed(0), np.arange(len(images))
    views = SimCLRViews(p.views, encoder.input.mean, encoder.input.std)
    task = SimCLR(encoder, images, views, Settings(p.pretext.temperature))
    optimizer = make_optimizer("sgd", task.parameters(), p.pretext.lr, 0.0)
    step = _seconds(lambda: learn(task, task.prepare(rows, generator), task, optimizer)) / len(rows)
    return step, _activations(lambda: task.step(*task.prepare(rows[:8], generator))["loss"]) / 8


def _of_selflabel(encoder: Encoder, images: Images, p: selflabel.Params, clusters: int) -> float:
    """Seconds of a training step for an image."""
    generator, rows = torch.Generator().manual_seed(0), np.arange(len(images))
    student = Classifier(encoder, "backbone", 1, clusters).to(device())
    least = 1e-6  # or nothing would be learnt from
    task = SelfLabeling(MeanTeacher(student, 0.9), images, p.strong, least, class_weights=True)
    optimizer = make_optimizer("adam", student.parameters(), 1e-6, 0.0)
    return _seconds(lambda: learn(task, task.prepare(rows, generator), student, optimizer)) / len(rows)


def _of_embed(encoder: Encoder, images: Images) -> float:
    """Seconds for an image."""
    view, rows = PlainView(encoder.input.mean, encoder.input.std), np.arange(len(images))

    @torch.inference_mode()
    def embed() -> None:
        with mixed_precision():
            encoder.embed(view(images(rows)), "backbone")

    return _seconds(embed) / len(rows)


def _of_heads(encoder: Encoder, p: scan.Params, clusters: int) -> tuple[float, float]:
    """Seconds of one epoch of all heads on embeddings, and of judging one head, for an image."""
    generator, vectors = torch.Generator().manual_seed(0), _vectors(encoder.backbone.dim)
    pairs = np.random.default_rng(0).integers(0, ROWS, (ROWS, 20), np.int32)
    model = Classifier(encoder, "backbone", p.scan.heads, clusters).to(device())
    task = HeadsOnEmbeddings(model, vectors, pairs, p.scan.entropy_weight)
    optimizer = make_optimizer("adam", model.heads.parameters(), p.scan.head_lr, 0.0)
    rows = np.arange(min(ROWS, p.scan.head_batch_size))
    head = _seconds(lambda: learn(task, task.prepare(rows, generator), model.heads, optimizer)) / len(rows)
    answers = torch.rand(ROWS, clusters, device=device())
    return head, _seconds(lambda: dataset_scan_loss(answers, pairs, p.scan.entropy_weight)) / ROWS


def _of_pairs(dim: int) -> float:
    """Seconds of a comparison of two embeddings."""
    vectors = _vectors(dim)
    return _seconds(lambda: nearest(vectors, 20)) / ROWS**2


def _of_kmeans(dim: int, clusters: int) -> float:
    """Seconds of one restart for an image."""
    vectors, steps = np.resize(_vectors(dim), (max(1000, clusters), dim)), 4
    with threadpool_limits(1):
        short = KMeans(clusters, init=vectors[:clusters], n_init=1, max_iter=steps, tol=0)
        return _seconds(lambda: short.fit(vectors)) / len(vectors) / steps * ITERATIONS


def _vectors(dim: int) -> np.ndarray:
    """Noise of unit length that stands for embeddings, float32 (ROWS, dim)."""
    vectors = np.random.default_rng(0).standard_normal((ROWS, dim), np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


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
