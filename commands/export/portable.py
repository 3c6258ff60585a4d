"""A classifier as files that run without this project: ONNX, and torch.export's own form.

Both take images as they are stored, uint8 (B, H, W, C) of any number B, and give probabilities, float32 (B, clusters):
normalisation and softmax are inside.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from stages.images.views import PlainView
from stages.networks.classifier import Classifier
from stages.plumbing.errors import UserError

INPUT, OUTPUT = "images", "probabilities"
LEVEL = 1e-5  # what rounding may make of two equal probabilities
Run = Callable[[np.ndarray], np.ndarray]  # images uint8 (B, H, W, C) → probabilities float32 (B, clusters)


class Portable(nn.Module):
    """A classifier of one head, with what stands before and after it."""

    def __init__(self, classifier: Classifier):
        super().__init__()
        self.classifier = classifier
        self.view = PlainView(classifier.encoder.input.mean, classifier.encoder.input.std)

    def forward(self, images: Tensor) -> Tensor:
        """Images uint8 (B, H, W, C) → probabilities float32 (B, clusters)."""
        return self.classifier(self.view(images.permute(0, 3, 1, 2)))[0].softmax(dim=1)

    @torch.inference_mode()
    def run(self, images: np.ndarray) -> np.ndarray:
        """The same for arrays."""
        return self(torch.from_numpy(images)).numpy()


def write_portable(model: Portable, onnx: Path, pt2: Path) -> None:
    """Write both forms of a network on the CPU; equal weights give equal bytes, as long as torch and onnx stay.

    Raises UserError for a network that the exporters cannot express.
    """
    input = model.classifier.encoder.input
    # Two images: one alone could be taken to mean that there is always one.
    images = torch.zeros(2, input.size, input.size, input.channels, dtype=torch.uint8)
    try:
        with _quietly():
            program = torch.export.export(model.eval(), (images,), dynamic_shapes={INPUT: {0: torch.export.Dim("B")}})
            for node in program.graph.nodes:
                node.meta.pop("stack_trace", None)  # paths of this machine, which are nobody's business
            torch.export.save(program, pt2)
            torch.onnx.export(
                program,
                f=onnx,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes={INPUT: {0: "B"}},
                external_data=False,
                dynamo=True,
            )
    except Exception as error:  # exporters raise nearly anything
        name, reason = model.classifier.encoder.config["backbone"], " ".join(str(error).split())[:200]
        raise UserError(f"the network {name} cannot be exported ({type(error).__name__}: {reason})") from error


def load_onnx(path: Path) -> Run:
    """An ONNX file, run by ONNX Runtime on the CPU."""
    import onnxruntime  # a second that only those who export need to wait for

    onnxruntime.set_default_logger_severity(3)  # errors only
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: session.run([OUTPUT], {INPUT: images})[0]


def load_pt2(path: Path) -> Run:
    """A file of torch.export, run by torch on the CPU.

    What `write_portable` wrote holds tensors and names of operations. Of others beware: torch would also run what is
    pickled in them.
    """
    with _quietly():
        module = torch.export.load(path).module()
    return torch.inference_mode()(lambda images: module(torch.from_numpy(images)).numpy())


def compare(original: Run, other: Run, images: np.ndarray, tolerance: float) -> str | None:
    """How two forms of one network differ on images, uint8 (N, H, W, C), in words; None if they do not.

    No probability may differ by `tolerance`, nor any cluster, but where the best two are level but for rounding. The
    first image is also run alone, since a form might have taken the number of images for fixed.
    """
    expected = original(images)
    for part in (slice(None), slice(1)):
        found, wanted = other(images[part]), expected[part]
        if found.shape != wanted.shape:
            return f"{len(wanted)} images give {found.shape}, expected {wanted.shape}"
        difference = float(np.abs(found - wanted).max())
        if not difference < tolerance:
            return f"probabilities differ by up to {difference:.2g}, which must stay below {tolerance:g}"
        best, second = -np.sort(-wanted, axis=1)[:, :2].T if wanted.shape[1] > 1 else (wanted[:, 0], 0)
        moved = (found.argmax(axis=1) != wanted.argmax(axis=1)) & (best - second > LEVEL)
        if moved.any():
            return f"{int(moved.sum())} of {len(wanted)} images get another cluster"
    return None


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without the exporters' progress, and warnings about their own insides."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    nowhere = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
