"""How far a model's pictures moved: KID with a named extractor, and distances of pairs drawn from the same
seeds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from oubliette.eval.statistics import Estimate, t_interval

#: Fewest pictures a side for a KID: below, subsets are too small for the figure to mean anything.
FEWEST = 16
#: Binkowski et al. use subsets of 1,000; a smaller set is halved, so that the subsets differ from each other.
LARGEST_SUBSET = 1000


class Extractor(Protocol):
    """A named map from pictures to features."""

    name: str
    fingerprint: str

    def features(self, pictures: np.ndarray) -> np.ndarray:
        """Features, float32 (n, d), of uint8 pictures (n, H, W, 3)."""
        ...


@dataclass(frozen=True)
class Kid:
    """A kernel inception distance and all that it depends on; KIDs of different extractors cannot be
    compared.
    """

    value: float
    std: float
    extractor: str
    subsets: int
    subset_size: int
    n: int
    n_reference: int


@dataclass(frozen=True)
class PairedDistance:
    """Mean distance of pictures drawn from the same prompt and seed by two models.

    `pixels` is the root mean squared difference of a pair in [0, 1]; `features` is one minus the cosine of
    the pair's features. Intervals are t over pairs.
    """

    pixels: Estimate
    features: Estimate | None
    extractor: str | None


def subset_size(n: int) -> int:
    """The subset size used for n pictures a side: half of them, at most 1,000."""
    return max(2, min(LARGEST_SUBSET, n // 2))


def kid(
    features: np.ndarray, reference: np.ndarray, *, extractor: str, subsets: int = 100, seed: int = 0
) -> Kid | None:
    """Squared MMD with the cubic kernel (x.y / d + 1)^3, mean over subsets (Binkowski et al. 2018,
    1801.01401).

    Takes features (n, d) and (m, d). Returns None below 16 pictures a side. Computed by torch-fidelity, in
    float64.
    """
    from torch_fidelity.metric_kid import (
        KEY_METRIC_KID_MEAN,
        KEY_METRIC_KID_STD,
        kid_features_to_metric,
    )

    fewest = min(len(features), len(reference))
    if fewest < FEWEST:
        return None
    size = subset_size(fewest)
    found = kid_features_to_metric(
        torch.from_numpy(np.asarray(features, np.float64)),
        torch.from_numpy(np.asarray(reference, np.float64)),
        kid_subsets=subsets,
        kid_subset_size=size,
        rng_seed=seed,
        verbose=False,
    )
    return Kid(
        found[KEY_METRIC_KID_MEAN],
        found[KEY_METRIC_KID_STD],
        extractor,
        subsets,
        size,
        len(features),
        len(reference),
    )


def pixel_distances(pictures: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Root mean squared difference of each pair in [0, 1], (n,), of uint8 pictures (n, H, W, 3)."""
    if pictures.shape != reference.shape:
        raise ValueError(f"pairs must have one shape; found {pictures.shape} and {reference.shape}")
    difference = (pictures.astype(np.float32) - reference.astype(np.float32)) / 255.0
    return np.sqrt((difference**2).mean(axis=(1, 2, 3), dtype=np.float64))


def feature_distances(features: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """One minus the cosine of each pair of features, (n,), of arrays (n, d)."""
    if features.shape != reference.shape:
        raise ValueError(f"pairs must have one shape; found {features.shape} and {reference.shape}")
    a, b = features.astype(np.float64), reference.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return 1.0 - (a * b).sum(1) / np.maximum(lengths, 1e-12)


def paired_distance(pixels: np.ndarray, features: np.ndarray | None, extractor: str | None) -> PairedDistance:
    """The summary of distances (n,) of pairs."""
    return PairedDistance(t_interval(pixels), None if features is None else t_interval(features), extractor)
