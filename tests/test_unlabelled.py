"""A flat folder of pictures that nobody labelled, through the whole pipeline."""

import csv
import json

import numpy as np
from PIL import Image, ImageDraw
from project import TINY, params_text, run_stage, set_params


def draw_pictures(folder, count=240):
    """Discs, crosses and stripes of any colour and place, as PNG and JPEG of mixed sizes; one file is broken."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(count):
        width, height = random.integers(30, 60, 2).tolist()
        picture = Image.new("RGB", (width, height), tuple(random.integers(0, 100, 3).tolist()))
        pen, colour = ImageDraw.Draw(picture), tuple(random.integers(150, 256, 3).tolist())
        x, y = width / 2 + random.integers(-4, 5), height / 2 + random.integers(-4, 5)
        if number % 3 == 0:
            pen.ellipse([x - 9, y - 9, x + 9, y + 9], fill=colour)
        elif number % 3 == 1:
            pen.line([x - 12, y, x + 12, y], fill=colour, width=5)
            pen.line([x, y - 12, x, y + 12], fill=colour, width=5)
        else:
            for line in range(0, height, 8):
                pen.line([0, line, width, line], fill=colour, width=3)
        picture.save(folder / f"{number:03d}.{'png' if number % 2 else 'jpg'}")
    (folder / "broken.jpg").write_bytes(b"")


def test_a_flat_folder_without_labels_gives_clusters_for_every_file(tmp_path):
    draw_pictures(tmp_path / "pictures")
    (tmp_path / "params.yaml").write_text(params_text())
    set_params(tmp_path, TINY)
    set_params(
        tmp_path, {"data": {"name": "folder", "path": str(tmp_path / "pictures"), "image_size": 16}, "clusters": 3}
    )
    set_params(tmp_path, {"pretext": {"epochs": 10, "batch_size": 64}, "scan": {"batch_size": 64}})
    for stage in ("download", "pretext", "embed", "mine", "kmeans", "scan", "selflabel", "evaluate", "report"):
        run_stage(tmp_path, stage)
    metrics = json.loads((tmp_path / "reports/metrics.json").read_text())
    assert metrics["labelled"] is False
    assert "acc" not in metrics["selflabel"]["test"]
    assert metrics["selflabel"]["train"]["clusters_alive"] >= 2
    with open(tmp_path / "reports/assignments.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["path"] for row in rows) == [path.name for path in sorted((tmp_path / "pictures").glob("[0-9]*"))]
    assert [row["split"] for row in rows].count("test") == 24
    with open(tmp_path / "data/images/skipped.csv", newline="") as file:
        assert [row["path"] for row in csv.DictReader(file)] == ["broken.jpg"]
    assert (tmp_path / "reports/index.html").stat().st_size > 10_000
    # The drawings tell themselves apart: clusters follow them far better than chance would.
    kind = np.array([int(row["path"][:3]) % 3 for row in rows])
    cluster = np.array([int(row["cluster"]) for row in rows])
    pure = sum(np.bincount(kind[cluster == number]).max() for number in np.unique(cluster)) / len(rows)
    assert pure > 0.5
