"""FID, and why it is refused for few pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats

from oubliette.core.errors import UserError
from oubliette.eval.statistics import CONFIDENCE

#: Fewest pictures a side.
FEWEST = 5000
#: The interval leaves out a tenth of the pictures at a time.
GROUPS = 10


@dataclass(frozen=True)
class Fid:
    """A Frechet inception distance, its 95 % interval over pictures, and all that it depends on.

    It is a published FID only where the extractor is the Inception network that those were made with.
    """

    value: float
    low: float
    high: float
    extractor: str
    n: int
    n_reference: int


def fid(features: np.ndarray, reference: np.ndarray, *, extractor: str, seed: int = 0) -> Fid:
    """Frechet distance of the Gaussians with the features' means and covariances (Heusel et al. 2017).

    Takes features (n, d) and (m, d); computed by torch-fidelity in float64. The interval is t with the
    variance of a jackknife that leaves out a tenth of both sides at a time (`seed` deals them out), not below
    zero; it says nothing of the bias. Raises UserError below 5,000 pictures a side: the bias is of the order
    of 1/n and depends on the model, so that at small n two models may come out in the wrong order (Chong and
    Forsyth 2020, arXiv:1911.07023).
    """
    why_not = refusal(len(features), len(reference))
    if why_not is not None:
        raise UserError(why_not)
    x, y = np.asarray(features, np.float64), np.asarray(reference, np.float64)
    value = _distance(x, y)
    rng = np.random.default_rng(seed)
    dealt, dealt_y = rng.permutation(len(x)) % GROUPS, rng.permutation(len(y)) % GROUPS
    left = np.array([_distance(x[dealt != group], y[dealt_y != group]) for group in range(GROUPS)])
    spread = (GROUPS - 1) / GROUPS * float(((left - left.mean()) ** 2).sum())
    half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, GROUPS - 1)) * float(np.sqrt(spread))
    return Fid(value, max(0.0, value - half), value + half, extractor, len(x), len(y))


def refusal(n: int, n_reference: int) -> str | None:
    """Why there is no FID for so many pictures, or None where there is one."""
    if min(n, n_reference) >= FEWEST:
        return None
    return (
        f"FID: found {n} pictures against {n_reference}, needs at least {FEWEST} a side, because its bias "
        "depends on n and on the model; KID and CMMD hold at small n"
    )


def _distance(x: np.ndarray, y: np.ndarray) -> float:
    from torch_fidelity.metric_fid import (
        KEY_METRIC_FID,
        fid_features_to_statistics,
        fid_statistics_to_metric,
    )

    found = fid_statistics_to_metric(
        fid_features_to_statistics(torch.from_numpy(x)),
        fid_features_to_statistics(torch.from_numpy(y)),
        verbose=False,
    )
    return float(found[KEY_METRIC_FID])
