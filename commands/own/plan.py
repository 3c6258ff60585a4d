"""How to spend the time there is on a folder of pictures: size, network and epochs, by what steps take here."""

from typing import NamedTuple

from commands.own.estimate import seconds
from commands.own.machine import free_memory, kind
from commands.own.speed import Speed, measure
from commands.own.survey import Survey

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


class Choice(NamedTuple):
    """What was chosen, as changes to params.yaml, and why."""

    changes: dict
    speed: Speed
    why: str


def choose(survey: Survey, size: int | None, hours: float, content: dict) -> Choice:
    """The first rung of the ladder that leaves enough epochs within `hours`, else the cheapest with what it can do.

    size: the one to take, or None; content: params.yaml as nested dictionaries, which the changes are made to.
    """
    rungs, tried = _rungs(survey.short_side, size), []
    enough = min(100, max(2 * FEWEST, WORTH_IT // survey.total))
    for pixels, backbone in rungs:
        changes, speed = _within(hours, survey, pixels, backbone, content)
        epochs = changes["pretext"]["epochs"]
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
    return Choice(changes, speed, "; ".join([why, *tried[-1:]]))


def _within(hours: float, survey: Survey, pixels: int, backbone: str, content: dict) -> tuple[dict, Speed]:
    """The changes for one rung, with as many epochs of the pretext as fit into `hours`; and its measured speed."""
    train = survey.counts["train"]
    batch = _batch(train, STARTS["pretext"]["batch_size"], content["clusters"])
    speed = measure(pixels, backbone, survey.channels, content, batch)
    while batch > 32 and 2 * batch * speed.activations > 0.6 * free_memory():
        batch //= 2
    restarts = int(min(STARTS["kmeans"]["restarts"], max(1, 0.05 * 3600 * hours / (train * speed.kmeans))))

    def changes(epochs: int) -> dict:
        wanted = from_counts(survey.counts, content["clusters"], epochs, batch)
        wanted["data"], wanted["pretext"]["backbone"] = {"image_size": pixels}, backbone
        # Of small pictures a hole, or the black beside them, must not be all there is.
        wanted["strong"] = {"padding": min(6, pixels // 8), "cutout": min(16, pixels // 2)}
        return wanted | {"kmeans": {"restarts": restarts}}

    def fits(epochs: int) -> bool:
        return sum(seconds(survey, merged(content, changes(epochs)), speed).values()) <= 3600 * hours

    epochs = next((epochs for epochs in range(MOST, FEWEST, -1) if fits(epochs)), FEWEST)
    # One digit less: more would pretend to know the time better than it is known.
    return changes(epochs // 10 * 10 if epochs >= 20 else epochs), speed


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
