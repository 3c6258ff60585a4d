"""What a run will take: seconds, disk and memory, from what lies in the folder, the params and the measured speed."""

import torch

from commands.own.speed import Speed
from commands.own.survey import Survey
from stages.training.devices import device

MARGIN = 1.1  # on the seconds
# What is not measured, in seconds: to start a stage, to save an epoch, to look for copies of an image, to evaluate one.
START, EPOCH, DUPLICATES, EVALUATE = 4.0, 0.03, 1e-4, 6e-5
HASHED = 5 / 400e6  # seconds a byte: so often are images hashed, by DVC and by training, at that rate
EXACT = 100_000  # images up to which neighbours are searched exactly; then the time grows in proportion
BASE = 0.85e9  # bytes that Python and torch take, with what is mapped for a moment


def seconds(survey: Survey, content: dict, speed: Speed) -> dict[str, float]:
    """The estimated seconds of a whole run by part, with a margin. content: params.yaml as nested dictionaries."""
    train, test, s = survey.counts["train"], survey.counts["test"], content["scan"]
    processes = max(1, torch.cuda.device_count()) if device().type == "cuda" else 1  # they share the training
    pairs = min(train, EXACT) * train + min(test, EXACT) * test
    epochs = {name: content[name]["epochs"] for name in ("pretext", "scan", "selflabel")}
    parts = {
        "reading": survey.total * (survey.seconds + DUPLICATES),
        "pretext": epochs["pretext"] * ((survey.total - test) * speed.pretext / processes + EPOCH),
        "neighbours, k-means": pairs * speed.pair + train * content["kmeans"]["restarts"] * speed.kmeans,
        "SCAN": s["head_epochs"] * (train * speed.head + EPOCH)
        + s["heads"] * train * speed.choose
        + epochs["scan"] * train * speed.pretext / processes,
        "self-labeling": epochs["selflabel"] * train * speed.selflabel / processes,
        "the rest": 9 * START
        + 4 * (train + test) * speed.embed / processes
        + (train + test) * EVALUATE
        + HASHED * _image_bytes(survey, content),
    }
    return {name: MARGIN * value for name, value in parts.items()}


def by_stage(survey: Survey, content: dict, speed: Speed) -> dict[str, float]:
    """The same by stage, in their order, but for download, which is over when a plan is made."""
    parts = seconds(survey, content, speed)
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


def _image_bytes(survey: Survey, content: dict) -> int:
    return survey.total * content["data"]["image_size"] ** 2 * survey.channels


def disk(survey: Survey, content: dict, speed: Speed) -> float:
    """Bytes that a whole run writes, counted twice: DVC's cache may hold copies where it cannot link."""
    vectors, answers = 4 * speed.dim, 2 * content["clusters"]
    # Per image: what scan measures lies beside embeddings for a while; two tables of probabilities; neighbours; a row
    # of the tables of assignments and of paths.
    rows = 2 * vectors + 2 * answers + 4 * content["mine"]["k"] + 500
    once = _image_bytes(survey, content) + survey.total * rows + 12 * speed.weights + 20e6
    return 2 * once


def memory(survey: Survey, content: dict, speed: Speed) -> float:
    """Bytes that the hungriest stage holds, on the GPU for training where there is one, else in all."""
    training = 2 * max(content["pretext"]["batch_size"], content["selflabel"]["batch_size"] / 2) * speed.activations
    vectors = 3 * survey.total * speed.dim * 4
    answers = 3 * survey.counts["train"] * content["clusters"] * 4
    return BASE + max(training, vectors + answers, 300 * survey.total)
