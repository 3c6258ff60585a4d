"""Choose among heads by the SCAN loss, in a process of its own: `python -m benchmarks.selection usual|ours`.

Prints seconds for ten heads on 60,000 images and the memory they took beyond the inputs, as JSON.
"""

import argparse
import json
import resource
import time

import numpy as np
import torch

from stages.losses.entropy import entropy
from stages.losses.scan import dataset_scan_loss

IMAGES, NEIGHBORS, CLUSTERS, HEADS = 60_000, 20, 10, 10


def dense(p: torch.Tensor, neighbors: torch.Tensor, entropy_weight: float) -> float:
    """The loss by way of the N × N matrix of all agreements, of which N · K entries are read."""
    agreement = torch.mm(p, p.T).gather(1, neighbors)
    return (-agreement.log().mean() - entropy_weight * entropy(p.mean(dim=0))).item()


def main() -> None:
    """Measure one way."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.selection", description=__doc__.splitlines()[0])
    parser.add_argument("way", choices=["usual", "ours"])
    way = parser.parse_args().way
    random = np.random.default_rng(0)
    p = torch.from_numpy(random.dirichlet([0.1] * CLUSTERS, (IMAGES)).astype(np.float32))
    neighbors = random.integers(0, IMAGES, (IMAGES, NEIGHBORS)).astype(np.int32)
    wide = torch.from_numpy(neighbors.astype(np.int64))
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    if way == "usual":
        dense(p, wide, 5.0)  # ten heads would take ten times as long and no more memory
        seconds = HEADS * (time.perf_counter() - start)
    else:
        for _ in range(HEADS):
            dataset_scan_loss(p, neighbors, 5.0)
        seconds = time.perf_counter() - start
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(json.dumps({"seconds": seconds, "megabytes": max(memory, 1.0)}))


if __name__ == "__main__":
    main()
