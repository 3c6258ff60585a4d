"""Embeddings on a plane, to look at."""

import numpy as np
from threadpoolctl import threadpool_limits

NOISE = 50  # dimensions that are kept before; what lies beyond is mostly noise, and t-SNE's authors did the same
PERPLEXITY = 30.0
STEPS = 500  # half of scikit-learn's: the last ones move little, and whoever names groups waits for this


def plane(vectors: np.ndarray) -> np.ndarray:
    """t-SNE of unit vectors, float32 (n, D): float64 (n, 2) in [0, 1], near what is near. Equal input, equal output.

    Distances across the plane mean little: only that neighbours stay neighbours. Takes some seconds for 2,000 vectors.
    Source: van der Maaten and Hinton, Visualizing Data using t-SNE, JMLR 2008.
    """
    count, dim = vectors.shape
    if count < 5:
        return np.stack([np.arange(count) / max(count - 1, 1), np.full(count, 0.5)], axis=1)
    from sklearn.decomposition import PCA  # a second, which nobody waits for who only reads this stage's params
    from sklearn.manifold import TSNE

    with threadpool_limits(1):  # with several threads sums come out a little different every time
        if dim > NOISE and count > NOISE:
            vectors = PCA(NOISE, svd_solver="full").fit_transform(vectors)
        perplexity = min(PERPLEXITY, (count - 1) / 3)
        found = TSNE(perplexity=perplexity, init="pca", random_state=0, max_iter=STEPS).fit_transform(vectors)
    found = found.astype(np.float64) - found.min(axis=0)
    found /= max(found.max(), 1e-9)
    return found + (1 - found.max(axis=0)) / 2  # in the middle, also along the shorter side
