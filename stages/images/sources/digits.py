"""The digits that come with scikit-learn: for trying things without a network."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from stages.images.sources.dataset import Dataset, Wanted
from stages.plumbing.errors import UserError


def digits(wanted: Wanted) -> Dataset:
    """scikit-learn's 1,797 handwritten digits (8 x 8 grey levels), which its package holds.

    Raises UserError if a folder is given.
    """
    if wanted.path is not None:
        raise UserError(
            f"data.path = {wanted.path}: digits come with scikit-learn and read no folder; set data.path to null"
        )
    # By its place, since importing the package takes a second. The last column is the label.
    package = Path(find_spec("sklearn").origin).parent
    table = np.loadtxt(package / "datasets/data/digits.csv.gz", delimiter=",", dtype=np.int64)
    images = np.rint(table[:, :-1].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)[..., None]
    labels = table[:, -1]
    # RandomState's stream is frozen for good, default_rng's may change with numpy: the split must not.
    order = np.random.RandomState(0).permutation(len(images))
    splits = {"train": order[:1437], "test": order[1437:]}
    return Dataset(
        images={split: images[index] for split, index in splits.items()},
        labels={split: labels[index] for split, index in splits.items()},
        classes=[str(digit) for digit in range(10)],
        source="scikit-learn's digits: 1,797 grey images of 8x8, split by a fixed permutation",
    )
