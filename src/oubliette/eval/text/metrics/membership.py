"""Membership scores: whether rows to forget can be told from rows like them that nobody trained on."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch

from oubliette.backends.token_scores import TokenScores
from oubliette.core.errors import UserError
from oubliette.data.questions import QA
from oubliette.eval.auroc import auroc
from oubliette.eval.metric import Figure, Items, Seen
from oubliette.eval.text.metrics.probability import mean_log_p
from oubliette.eval.text.metrics.row_metric import FORGET, HOLDOUT, RowMetric
from oubliette.eval.text.subject import Subject

__all__ = ["GradNorm", "Loss", "MinK", "MinKPlus", "Reference", "Zlib", "lowest"]

#: The share of a row's tokens that Min-k looks at, as in MUSE.
K = 0.4
#: Of a variance, so that a token that the model is sure of divides by no zero.
_LEAST_VARIANCE = 1e-6


class Loss(RowMetric):
    """How well the nll a token tells rows to forget from a holdout: AUC, 0.5 where it cannot.

    A row's score is higher the less it looks like one that was trained on, and the AUC is that of a
    holdout row scoring above one to forget. Yeom et al. 2018, 1709.01604.
    """

    better = "0.5"
    sets: ClassVar[tuple[str, ...]] = (FORGET, HOLDOUT)

    def values(self, subject: Subject, rows: Sequence[QA]) -> np.ndarray:
        """A score a row."""
        return -mean_log_p(subject, rows)

    def scores(self, items: Mapping[str, Items], seen: Seen) -> dict[str, np.ndarray]:
        """The scores of both sets."""
        return {name: one.values for name, one in items.items()}

    def figures(self, row: str, seen: Seen) -> list[Figure]:
        """The AUC, with DeLong's interval."""
        scores = self.scores(seen.own, seen)
        values = np.concatenate([scores[FORGET], scores[HOLDOUT]])
        names = tuple(f"{name}/{key}" for name in self.sets for key in seen.own[name].names)
        items = Items(names, values)
        if not np.isfinite(values).all():
            return [self.figure(row, FORGET, items, (np.nan, None, None), "", "a score is not finite")]
        found = auroc(values, np.arange(len(values)) >= len(scores[FORGET]))
        assert found is not None
        return [self.figure(row, FORGET, items, (found.value, found.low, found.high), found.interval)]


class Zlib(Loss):
    """As mia_loss, by the nll a token over the length of the compressed text.

    Carlini et al. 2021, 2012.07805.
    """

    def values(self, subject: Subject, rows: Sequence[QA]) -> np.ndarray:
        """nll / len(zlib(answer))."""
        lengths = [len(zlib.compress(row.answer.encode())) for row in rows]
        return super().values(subject, rows) / np.array(lengths)


class MinK(Loss):
    """As mia_loss, by the mean nll of the least likely 40 % of a row's tokens (`mia_min_k:0.2`: of 20 %).

    Shi et al. 2024, 2310.16789.
    """

    def __init__(self, k: float = K) -> None:
        self.k = k

    @classmethod
    def open(cls, argument: str | None) -> MinK:
        """With a share of the tokens."""
        try:
            k = K if argument is None else float(argument)
        except ValueError:
            k = 0.0
        if not 0 < k <= 1:
            raise UserError(
                f"metric: Min-k takes a share of the tokens above 0, at most 1; found {argument!r}"
            )
        return cls(k)

    def values(self, subject: Subject, rows: Sequence[QA]) -> np.ndarray:
        """Of the answer's tokens, the end of the text aside."""
        return np.array(
            [-lowest(self.tokens(scores.answer), self.k).mean() for scores in subject.scores(rows)]
        )

    def tokens(self, scores: TokenScores) -> np.ndarray:
        """A number a token, low where it is no member's."""
        return scores.log_p


class MinKPlus(MinK):
    """As mia_min_k, with each token's log-probability standardised by that of a token drawn there (Min-k%++).

    Zhang et al. 2025, 2404.02936.
    """

    def tokens(self, scores: TokenScores) -> np.ndarray:
        """(log p - mean) / standard deviation, both over the vocabulary."""
        spread = np.sqrt(np.maximum(scores.variance, _LEAST_VARIANCE))
        return np.asarray((scores.log_p - scores.mean) / spread)


class Reference(Loss):
    """As mia_loss, by the nll a token less gold's.

    Carlini et al. 2021, 2012.07805.
    """

    needs_gold = True

    def scores(self, items: Mapping[str, Items], seen: Seen) -> dict[str, np.ndarray]:
        """Gold's taken off."""
        assert seen.gold is not None
        return {name: one.values - seen.gold[name].values for name, one in items.items()}


class GradNorm(Loss):
    """As mia_loss, by the L2 norm of the gradient of a row's nll a token, a mean over the tensors.

    Nasr et al. 2019, 1812.00910; as in open-unlearning (2506.12618).
    """

    def values(self, subject: Subject, rows: Sequence[QA]) -> np.ndarray:
        """A backward pass a row; weights and flags are as before."""
        model: Any = subject.model
        tensors = list(model.tensors().values())
        flags = [tensor.requires_grad for tensor in tensors]
        norms = []
        try:
            for tensor in tensors:
                tensor.requires_grad_(True)
            for row in rows:
                with subject.asked():
                    batch = model.encode([row])
                with torch.enable_grad():
                    loss = -model.log_likelihood(model.predict(batch), batch)[0] / int(batch.counts()[0])
                    found = torch.autograd.grad(loss, tensors, allow_unused=True)
                norms.append(
                    float(np.mean([0.0 if each is None else float(each.float().norm()) for each in found]))
                )
        finally:
            for tensor, flag in zip(tensors, flags, strict=True):
                tensor.requires_grad_(flag)
        return np.array(norms)


def lowest(values: np.ndarray, share: float) -> np.ndarray:
    """The lowest share of some values, rounded down, and at least one."""
    return np.sort(values)[: max(1, int(len(values) * share))]
