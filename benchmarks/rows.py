"""The rows of `python -m benchmarks`: each measures the usual way and ours, alternating, and says what it measured."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks import usual
from benchmarks.timing import Row, alternate, paired, rate
from benchmarks.vectors import shifted_embeddings
from stages import pretext, scan, selflabel
from stages.images.loading import Images
from stages.images.store import Meta, read_images, read_labels, read_meta
from stages.images.strong import StrongSettings, StrongViews
from stages.images.views import PlainView, SimCLRViews, ViewSettings
from stages.losses.confident import confident_loss, pseudo_labels
from stages.losses.nt_xent import nt_xent
from stages.losses.scan import scan_loss
from stages.neighbors.approximate import nearest_approximately, recall_of
from stages.neighbors.exact import nearest
from stages.networks.classifier import Classifier
from stages.networks.encoder import Encoder, Input
from stages.plumbing.params import read
from stages.scoring.purity import purity
from stages.tasks.pretext import Settings
from stages.tasks.scan import HeadsOnEmbeddings, WholeNetwork
from stages.tasks.selflabel import SelfLabeling
from stages.tasks.simclr import SimCLR
from stages.training.devices import device, mixed_precision
from stages.training.inference import write_embeddings
from stages.training.loop import Means, Plan, Task, batches, learn, learning_rate, set_lr
from stages.training.mean_teacher import MeanTeacher

SEED = 0
CLUSTERS = 10
HEADS = 10


class Data(NamedTuple):
    """Images to work on and what is known of them."""

    images: np.ndarray
    meta: Meta


# SimCLR's views of photographs and SCAN's strong augmentation, as the paper has them for CIFAR-10.
PAPER_VIEWS = ViewSettings(
    crop_area=(0.2, 1.0),
    crop_ratio=(0.75, 4 / 3),
    zoom=(1.0, 1.0),
    shift_x=0.0,
    shift_y=0.0,
    flip=0.5,
    jitter=0.8,
    brightness=0.4,
    contrast=0.4,
    saturation=0.4,
    hue=0.1,
    grayscale=0.2,
    blur=0.0,
    blur_sigma=(0.1, 2.0),
)
PAPER_STRONG = StrongSettings(flip=0.5, padding=4, operations=4, cutout=16)


@cache
def grey() -> Data:
    """The images of the pipeline: by default Fashion-MNIST, 28 × 28 × 1."""
    return Data(read_images(Path("data/images"), "train"), read_meta(Path("data/images")))


@cache
def rgb() -> Data:
    """10,000 images of 32 × 32 × 3: random pixels, as no step here takes longer or shorter for what it sees."""
    pixels = np.random.default_rng(SEED).integers(0, 256, (10_000, 32, 32, 3), dtype=np.uint8)
    return Data(pixels, Meta("random", 32, 3, [0.5] * 3, [0.25] * 3, ""))


@cache
def params() -> scan.Params:
    """The blocks of params.yaml that the steps need."""
    return read(scan.Params, Path("params.yaml"))


@cache
def random_pairs(images: int) -> np.ndarray:
    """Twenty neighbours each; which ones changes no timing."""
    return np.random.default_rng(SEED).integers(0, images, (images, 20)).astype(np.int32)


def make_encoder(backbone: str, meta: Meta, projection_dim: int = 128) -> Encoder:
    """A fresh encoder on the device."""
    torch.manual_seed(SEED)
    return Encoder(backbone, projection_dim, Input(meta.size, meta.channels, meta.mean, meta.std)).to(device())


def sgd(module: nn.Module) -> torch.optim.Optimizer:
    """The optimiser of the pretext."""
    return torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)


def our_step(task: Task, module: nn.Module, optimizer: torch.optim.Optimizer, images: int, size: int) -> Callable:
    """One step of ours after another, all that `fit` does in one: draw, load, augment, learn, keep account."""
    batch = (item for epoch in range(10**6) for item in batches(images, size, SEED, epoch))
    means = Means("bench", Plan(1, size, 0.0), 0)
    module.train()

    def step() -> None:
        means.add(learn(task, task.prepare(*next(batch)), module, optimizer))

    return step


def usual_step(
    loss: Callable[..., Tensor], module: nn.Module, optimizer: torch.optim.Optimizer
) -> Callable[[list[Tensor]], float]:
    """A step of the usual way on one batch; `loss` takes what the batch consists of."""
    module.train()

    def step(batch: list[Tensor]) -> float:
        value = loss(*(part.to(device()) for part in batch))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        return value.item()

    return step


def views_row(title: str, target: float, usual_view: Callable, ours: Callable, views: int) -> Row:
    """Views per second on 32 × 32 × 3."""
    size = 500
    samples = usual.Samples(rgb().images, [usual_view] * views)
    found = alternate(lambda: usual.rate_of(len, samples, size, views), ours, rounds=5)
    return Row(title, *found, target, "views/s")


def simclr_views() -> Row:
    """Two SimCLR views of every image."""
    data, generator = rgb(), torch.Generator().manual_seed(SEED)
    images, views, size = Images(data.images, device()), SimCLRViews(PAPER_VIEWS, data.meta.mean, data.meta.std), 512
    rows = np.random.default_rng(SEED)

    def step() -> None:
        views(images(rows.integers(0, len(images), size)).repeat_interleave(2, dim=0), views.draw(2 * size, generator))

    transform = usual.simclr_views(PAPER_VIEWS, data.meta)
    return views_row("SimCLR views, 32×32×3", 10, transform, lambda: rate(step, 2 * size), views=2)


def strong_views() -> Row:
    """The strong augmentation, four operations and cutout."""
    data, generator = rgb(), torch.Generator().manual_seed(SEED)
    images, views, size = Images(data.images, device()), StrongViews(PAPER_STRONG, data.meta.mean, data.meta.std), 1000
    rows = np.random.default_rng(SEED)

    def step() -> None:
        views(images(rows.integers(0, len(images), size)), views.draw(size, generator))

    transform = usual.Strong(PAPER_STRONG, data.meta)
    row = views_row("strong views, 32×32×3, four operations and cutout", 8, transform, lambda: rate(step, size), 1)
    row.note = "1,000 images a call, as in self-labeling"
    return row


def simclr_step(title: str, target: float, backbone: str, data: Data, settings: ViewSettings, size: int) -> Row:
    """A training step of SimCLR, end to end."""
    encoder, plain = make_encoder(backbone, data.meta), usual.channels_first(make_encoder(backbone, data.meta))
    views = SimCLRViews(settings, data.meta.mean, data.meta.std)
    task = SimCLR(encoder, Images(data.images, device()), views, Settings(0.1))
    step = our_step(task, encoder, sgd(encoder), len(data.images), size)
    transform = usual.simclr_views(settings, data.meta)
    samples = usual.Samples(data.images, [transform] * 2)

    def loss(a: Tensor, b: Tensor) -> Tensor:
        return nt_xent(*plain(torch.cat([a, b])).chunk(2), 0.1)

    other = usual_step(loss, plain, sgd(plain))
    found = alternate(lambda: usual.rate_of(other, samples, size), lambda: rate(step, size))
    return Row(title, *found, target, "images/s")


def simclr_step_resnet() -> Row:
    """The paper's network."""
    row = simclr_step("SimCLR step, ResNet-18, 32×32, batch 128", 2.8, "resnet18-cifar", rgb(), PAPER_VIEWS, 128)
    return with_ceiling(row, 2 * 3 * forward_flops("resnet18-cifar", rgb().meta))


def simclr_step_default() -> Row:
    """The default network and views."""
    p = read(pretext.Params, Path("params.yaml")).pretext
    title = f"SimCLR step, default network, {grey().meta.size}×{grey().meta.size}, batch {p.batch_size}"
    row = simclr_step(title, 8, p.backbone, grey(), params().views, p.batch_size)
    return with_ceiling(row, 2 * 3 * forward_flops(p.backbone, grey().meta))


def overhead() -> Row:
    """What input and bookkeeping add to a step."""
    p, data = read(pretext.Params, Path("params.yaml")).pretext, grey()
    encoder = make_encoder(p.backbone, data.meta)
    views = SimCLRViews(params().views, data.meta.mean, data.meta.std)
    task = SimCLR(encoder, Images(data.images, device()), views, Settings(0.1))
    ready = torch.randn(2 * p.batch_size, data.meta.channels, data.meta.size, data.meta.size, device=device())
    optimizer = sgd(encoder)
    encoder.train()

    def bare() -> None:
        with mixed_precision():
            loss = nt_xent(*encoder(ready).chunk(2), 0.1)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    step = our_step(task, encoder, optimizer, len(data.images), p.batch_size)
    title = "our step ÷ the same on ready-made input, default network"
    return Row(title, *paired(bare, step), 1.08, "s/step", at_most=True)


def scan_step() -> Row:
    """A step of SCAN on the whole network."""
    p, data = params().scan, grey()
    backbone = read(pretext.Params, Path("params.yaml")).pretext.backbone
    pairs = random_pairs(len(data.images))
    model, plain = (Classifier(make_encoder(backbone, data.meta), "backbone", 1, CLUSTERS) for _ in range(2))
    plain = usual.channels_first(plain)
    strong = p.augmentation == "strong"
    settings = params().strong if strong else params().views
    views = (StrongViews if strong else SimCLRViews)(settings, data.meta.mean, data.meta.std)
    task = WholeNetwork(model, Images(data.images, device()), pairs, views, p.entropy_weight)
    step = our_step(task, model, torch.optim.Adam(model.parameters(), lr=1e-4), len(data.images), p.batch_size)
    transform = usual.Strong(settings, data.meta) if strong else usual.simclr_views(settings, data.meta)
    samples = usual.Samples(data.images, [transform] * 2, pairs)

    def loss(anchors: Tensor, neighbors: Tensor) -> Tensor:
        return scan_loss(plain(anchors)[0], plain(neighbors)[0], p.entropy_weight)["loss"]

    other = usual_step(loss, plain, torch.optim.Adam(plain.parameters(), lr=1e-4))
    found = alternate(lambda: usual.rate_of(other, samples, p.batch_size), lambda: rate(step, p.batch_size))
    row = Row("scan step, whole network, default", *found, 5, "images/s")
    return with_ceiling(row, 2 * 3 * forward_flops(backbone, data.meta))


def scan_heads() -> Row:
    """Ten heads on cached embeddings, against a frozen network that is run again for every batch."""
    p, data = params().scan, grey()
    backbone = read(pretext.Params, Path("params.yaml")).pretext.backbone
    pairs = random_pairs(len(data.images))
    model = Classifier(make_encoder(backbone, data.meta), "backbone", HEADS, CLUSTERS)
    frozen = usual.channels_first(Classifier(make_encoder(backbone, data.meta), "backbone", HEADS, CLUSTERS))
    vectors = np.random.default_rng(SEED).normal(size=(len(data.images), model.encoder.dim("backbone")))
    task = HeadsOnEmbeddings(model, vectors.astype(np.float32), pairs, p.entropy_weight)
    optimizer = torch.optim.Adam(model.heads.parameters(), lr=1e-2)
    step = our_step(task, model.heads, optimizer, len(data.images), p.head_batch_size)
    transform = usual.simclr_views(params().views, data.meta)
    samples = usual.Samples(data.images, [transform] * 2, pairs)

    def loss(anchors: Tensor, neighbors: Tensor) -> Tensor:
        with torch.no_grad():
            features = [frozen.encoder.embed(part, "backbone") for part in (anchors, neighbors)]
        return scan_loss(*(frozen.classify(part) for part in features), p.entropy_weight)["loss"].sum()

    other = usual_step(loss, frozen, torch.optim.Adam(frozen.heads.parameters(), lr=1e-2))
    found = alternate(lambda: usual.rate_of(other, samples, p.head_batch_size), lambda: rate(step, p.head_batch_size))
    return Row("scan, ten heads on cached embeddings", *found, 100, "images/s", "against re-running the frozen network")


def selflabel_step() -> Row:
    """A step of self-labeling, every image confident."""
    data, backbone = grey(), read(pretext.Params, Path("params.yaml")).pretext.backbone
    p, threshold = read(selflabel.Params, Path("params.yaml")).selflabel, 1e-6
    strong = params().strong
    student, plain = (Classifier(make_encoder(backbone, data.meta), "backbone", 1, CLUSTERS) for _ in range(2))
    plain, pair = usual.channels_first(plain), MeanTeacher(student, p.ema)
    optimizer = torch.optim.Adam(student.parameters(), lr=p.lr)
    optimizer.register_step_post_hook(lambda *_: pair.follow())
    task = SelfLabeling(pair, Images(data.images, device()), strong, threshold, p.class_weights)
    step = our_step(task, pair, optimizer, len(data.images), p.batch_size)
    transforms = [usual.transforms.Compose(usual.normalise(data.meta)), usual.Strong(strong, data.meta)]
    samples = usual.Samples(data.images, transforms)

    def loss(weak: Tensor, augmented: Tensor) -> Tensor:
        with torch.no_grad():
            confident = pseudo_labels(plain(weak)[0].softmax(dim=1), threshold)
        return confident_loss(plain(augmented)[0], confident, p.class_weights)

    other = usual_step(loss, plain, torch.optim.Adam(plain.parameters(), lr=p.lr))
    found = alternate(lambda: usual.rate_of(other, samples, p.batch_size), lambda: rate(step, p.batch_size))
    row = Row("selflabel step, default", *found, 5, "images/s")
    return with_ceiling(row, (1 + 3) * forward_flops(backbone, data.meta))


def embed() -> Row:
    """Embedding of a split, to disk."""
    data, backbone = grey(), read(pretext.Params, Path("params.yaml")).pretext.backbone
    encoder, plain = make_encoder(backbone, data.meta), usual.channels_first(make_encoder(backbone, data.meta)).eval()
    transform = usual.transforms.Compose(usual.normalise(data.meta))
    part = 20_000
    batches = usual.loader(usual.Samples(data.images[:part], [transform]), 500, shuffle=False)

    def theirs() -> float:
        start = time.perf_counter()
        with torch.no_grad():
            np.concatenate([F.normalize(plain.backbone(batch.to(device()))).cpu().numpy() for (batch,) in batches])
        return part / (time.perf_counter() - start)

    def ours() -> float:
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            write_embeddings(Path(folder, "train.npy"), "embed", data.images, encoder, "backbone")
            return len(data.images) / (time.perf_counter() - start)

    theirs()  # starts the workers
    return Row("embed, default network", *alternate(theirs, ours), 3, "images/s")


def head_selection() -> list[Row]:
    """The best of ten heads by the SCAN loss on 60,000 images, in processes of their own whose memory is looked at."""

    def measure(way: str) -> dict[str, float]:
        command = [sys.executable, "-m", "benchmarks.selection", way]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    pairs = [(measure("usual"), measure("ours")) for _ in range(3)]
    rows = []
    for key, unit, target in (("seconds", "s", 20), ("megabytes", "MB", None)):
        found = alternate(
            iter([a[key] for a, _ in pairs]).__next__, iter([b[key] for _, b in pairs]).__next__, 3, inverse=True
        )
        rows.append(Row(f"choosing among ten heads, N = 60,000: {key}", *found, target, unit))
    rows[0].note = "usual: one head, times ten"
    rows[1].note = "beyond the inputs"
    return rows


def exact_mining() -> Row:
    """Our exact search against faiss's own, on 60,000 vectors of 128."""
    import faiss

    vectors = shifted_embeddings(60_000)

    def bare() -> float:
        start = time.perf_counter()
        index = faiss.IndexFlatIP(vectors.shape[1])
        index.add(vectors)
        index.search(vectors, 21)
        return time.perf_counter() - start

    def ours() -> float:
        start = time.perf_counter()
        nearest(vectors, 20)
        return time.perf_counter() - start

    found = alternate(bare, ours)
    return Row(
        "exact mining, N = 60,000, D = 128, K = 20", *found, 1.1, "s", "against a bare IndexFlatIP", at_most=True
    )


def approximate_mining() -> Row:
    """The inverted file on a million vectors, all of it: building, tuning, searching, measuring the recall."""
    import faiss

    vectors, k, queries = shifted_embeddings(1_000_000), 20, 4096
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    recalls = []

    def exact() -> float:
        start = time.perf_counter()
        index.search(vectors[:queries], k + 1)
        return (time.perf_counter() - start) * len(vectors) / queries

    def ours() -> float:
        start = time.perf_counter()
        found = nearest_approximately(vectors, k, "ivf", 0.985)
        elapsed = time.perf_counter() - start
        rows = np.random.default_rng(SEED + 1).integers(0, len(vectors), 2000)  # others than it tuned itself on
        recalls.append(recall_of(vectors, rows, found.neighbors[rows], nearest(vectors, k, rows)))
        return elapsed

    found = alternate(exact, ours, rounds=3, inverse=True)
    note = f"recall@20 {min(recalls):.3f} on 2,000 others than it tunes on; exact: from {queries:,} queries"
    return Row("approximate mining, N = 1,000,000, D = 128", *found, 15 if min(recalls) >= 0.98 else np.inf, "s", note)


def compiled_step() -> Row:
    """The network's part of a training step under torch.compile, against the same without."""
    p, data = read(pretext.Params, Path("params.yaml")).pretext, grey()
    ready = torch.randn(2 * p.batch_size, data.meta.channels, data.meta.size, data.meta.size, device=device())

    def make(compiled: bool) -> Callable[[], None]:
        encoder = make_encoder(p.backbone, data.meta).train()
        if compiled:
            encoder.backbone.compile()

        def step() -> None:
            with mixed_precision():
                loss = nt_xent(*encoder(ready).chunk(2), 0.1)
            encoder.zero_grad(set_to_none=True)
            loss.backward()

        return step

    a, b, ratio = paired(make(False), make(True))
    return Row("torch.compile, default network: usual without, ours with", a, b, 1 / ratio, None, "s/step", "COMPILE=1")


def matrix_product() -> Row:
    """What the processor can do at best, in float32 and in bfloat16."""
    rates = [matrix_flops(dtype) / 1e9 for dtype in (torch.float32, torch.bfloat16)]
    note = f"usual: float32, ours: bfloat16; used here: {precision()}"
    return Row("matrix product 1,024³", *rates, rates[1] / rates[0], None, "GFLOP/s", note)


def equal_quality() -> Row:
    """Purity of neighbours after the same epochs of the usual and of our training, means over three seeds."""
    p, data = read(pretext.Params, Path("params.yaml")).pretext, grey()
    labels = read_labels(Path("data/labels"))[0]["train"]
    input = Input(data.meta.size, data.meta.channels, data.meta.mean, data.meta.std)
    part, epochs, purities, seconds = 10_000, 2, {"usual": [], "ours": []}, {"usual": 0.0, "ours": 0.0}
    plan = Plan(epochs, p.batch_size, p.lr, "cosine", p.warmup_epochs)
    pixels, steps = data.images[:part], part // p.batch_size
    views = SimCLRViews(params().views, data.meta.mean, data.meta.std)
    transform = usual.simclr_views(params().views, data.meta)
    samples = usual.Samples(pixels, [transform] * 2)
    plain_view, where = PlainView(data.meta.mean, data.meta.std), Images(pixels, device())

    def score(encoder: Encoder) -> float:
        encoder.eval()
        with torch.inference_mode():
            chunks = np.array_split(np.arange(part), 40)
            vectors = np.concatenate([encoder.embed(plain_view(where(rows)), "backbone").cpu() for rows in chunks])
        return 100 * purity(vectors, labels[:part], np.arange(part), (20,))[20]

    for seed in range(3):
        for way in ("usual", "ours"):
            torch.manual_seed(seed)
            encoder = Encoder(p.backbone, p.projection_dim, input)
            encoder = (usual.channels_first(encoder) if way == "usual" else encoder).to(device())
            optimizer = torch.optim.SGD(encoder.parameters(), lr=p.lr, momentum=p.momentum, weight_decay=p.weight_decay)
            rows = (item for epoch in range(epochs) for item in batches(part, p.batch_size, seed, epoch))
            task, endless = SimCLR(encoder, where, views, Settings(p.temperature)), usual.endless(samples, p.batch_size)

            def loss(a: Tensor, b: Tensor, encoder: Encoder = encoder) -> Tensor:
                return nt_xent(*encoder(torch.cat([a, b])).chunk(2), p.temperature)

            step = usual_step(loss, encoder, optimizer)
            encoder.train()
            start = time.perf_counter()
            for number in range(epochs * steps):
                set_lr(optimizer, learning_rate(plan, number / steps))
                if way == "usual":
                    step(next(endless))
                else:
                    learn(task, task.prepare(*next(rows)), encoder, optimizer)
            seconds[way] += time.perf_counter() - start
            endless.close()
            purities[way].append(score(encoder))
    a, b = np.mean(purities["usual"]), np.mean(purities["ours"])
    spread = max(np.std(purities[way], ddof=1) for way in purities)
    faster = seconds["usual"] / seconds["ours"]
    note = f"seeds 0, 1, 2; std {spread:.2f}; {part:,} images, {epochs} epochs; {faster:.1f}× faster"
    return Row("purity at 20, points that ours lies below", a, b, a - b, 0.5, "%", note, at_most=True)


def precision() -> str:
    """What `mixed_precision` has chosen on this machine."""
    with mixed_precision():
        return "bfloat16" if torch.is_autocast_enabled(device().type) else "float32"


def with_ceiling(row: Row, flops_per_image: float) -> Row:
    """The row with a note on how near ours is to the processor's limit, and which ratio the limit itself would have.

    A training step takes three times the operations of a forward pass: backward, they are twice as many.
    """
    share = row.ours * flops_per_image / matrix_flops()
    row.note = f"{share:.0%} of a matrix product in {precision()}; at all of it, {row.ratio / share:.1f}×"
    return row


def forward_flops(backbone: str, meta: Meta) -> float:
    """Floating-point operations of a forward pass of one view."""
    from torch.utils.flop_counter import FlopCounterMode

    encoder = make_encoder(backbone, meta).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        encoder(torch.zeros(1, meta.channels, meta.size, meta.size, device=device()))
    return counter.get_total_flops()


@cache
def matrix_flops(dtype: torch.dtype | None = None) -> float:
    """Floating-point operations per second of a matrix product, best of a few; by default in the chosen precision."""
    dtype = dtype or getattr(torch, precision())
    a, b = (torch.ones(1024, 1024, dtype=dtype, device=device()) for _ in range(2))
    return 2 * 1024**3 * max(rate(lambda: (a @ b)[0, 0].item(), 1, seconds=0.5) for _ in range(3))


ROWS: dict[str, Callable[[], Row | list[Row]]] = {
    "views": simclr_views,
    "strong": strong_views,
    "step-resnet": simclr_step_resnet,
    "step-default": simclr_step_default,
    "overhead": overhead,
    "scan-step": scan_step,
    "scan-heads": scan_heads,
    "selflabel-step": selflabel_step,
    "embed": embed,
    "selection": head_selection,
    "mine-exact": exact_mining,
    "mine-approximate": approximate_mining,
    "quality": equal_quality,
    "compile": compiled_step,
    "matrix": matrix_product,
}
