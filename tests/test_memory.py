"""Memory stays flat: four times the images take hardly more, because they are read from disk batch by batch."""

import sys
from pathlib import Path

import numpy as np
import pytest
from project import make_project, set_params

from benchmarks.scale import measure
from stages.images.duplicates import write_duplicates
from stages.images.store import write_images

FEW, MANY = 4_000, 16_000
SIDE = 48  # large images, so that holding them would show: 2.3 kB each, 28 MB for those that come in addition
PER_IMAGE = 1000  # bytes that an image may cost: an embedding, neighbours, probabilities, a place in an order


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells own memory from mapped files")
def test_memory_does_not_grow_with_the_images(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")  # how threads share the allocator's arenas is chance
    flags = {
        "pretext": "--images data/images --out data/pretext",
        "embed": "--images data/images --pretext data/pretext --out data/embeddings",
        "mine": "--images data/images --embeddings data/embeddings --out data/neighbors",
        "scan": "--images data/images --pretext data/pretext --embeddings data/embeddings --neighbors data/neighbors "
        "--out data/scan",
        "selflabel": "--images data/images --scan data/scan --out data/selflabel",
    }
    found = {}
    for count in (FEW, MANY):
        project = make_project(tmp_path / str(count))
        # Equally many steps, since a process grows for some; small batches, since what they take varies by 5 %.
        short = {"epochs": MANY // count, "batch_size": 64}
        set_params(
            project, {"pretext": short | {"backbone": "tiny"}, "scan": short, "selflabel": short | {"threshold": 0.05}}
        )
        (project / "data/images").mkdir(parents=True)
        random = np.random.default_rng(0)
        pixels = {"train": random.integers(0, 256, (count, SIDE, SIDE, 1), dtype=np.uint8)}
        write_images(project / "data/images", "noise", pixels | {"test": pixels["train"][:500]}, "noise")
        write_duplicates(project / "data/images", [])
        for stage, text in flags.items():
            _, gigabytes = measure([sys.executable, "-m", f"stages.{stage}", *text.split()], project)
            found[stage, count] = 1e9 * gigabytes
    for stage in flags:
        growth = (found[stage, MANY] - found[stage, FEW]) / (MANY - FEW)
        print(f"{stage}: {found[stage, FEW] / 1e6:.0f} MB, {found[stage, MANY] / 1e6:.0f} MB, {growth:.0f} B an image")
        assert growth < PER_IMAGE, f"{stage}: {growth:.0f} bytes an image"
