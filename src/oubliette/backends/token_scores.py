"""What a model says of each token of an answer, without a second copy of its logits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from oubliette.backends.tokens import IGNORED

__all__ = ["TokenScores", "score_tokens"]

#: Positions whose logits are held in fp32 at once.
_CHUNK = 256
#: Below this a log-probability adds nothing to a mean over the vocabulary; -inf would make it no number.
_LEAST = -1e4


@dataclass(frozen=True)
class TokenScores:
    """A row's counted tokens, each an array (T,): the log-probability of the token, whether it is the
    likeliest of all, and the mean and variance of the log-probability of a token drawn there.

    float64; `ended` says that the last token is the end of the text, which `answer` leaves out.
    """

    log_p: np.ndarray
    right: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    ended: bool

    @property
    def answer(self) -> TokenScores:
        """Without the end of the text, where another token is left."""
        if not self.ended or len(self.log_p) == 1:
            return self
        return TokenScores(self.log_p[:-1], self.right[:-1], self.mean[:-1], self.variance[:-1], False)


@torch.no_grad()
def score_tokens(
    logits: Tensor, labels: Tensor, end: int | None, *, chunk: int = _CHUNK
) -> list[TokenScores]:
    """Scores of each row of logits (B, L, V) at its counted labels (B, L), which are not shifted.

    Reckoned in fp32, `chunk` positions at a time: beside the logits no more is held than chunk x V numbers, a
    few times over.
    """
    labels = labels[:, 1:].to(logits.device)
    rows, places = (labels != IGNORED).nonzero(as_tuple=True)
    parts: list[Tensor] = []
    for first in range(0, len(rows), chunk):
        some = rows[first : first + chunk], places[first : first + chunk]
        found = logits[some].float().log_softmax(dim=-1)
        token = labels[some][:, None]
        likeliest = found.argmax(dim=-1, keepdim=True) == token
        log_p = found.gather(1, token)
        found = found.clamp(min=_LEAST)
        chance = found.exp()
        mean = (chance * found).sum(dim=-1, keepdim=True)
        # Around the mean: the difference of two squares would lose what is left in fp32.
        variance = (chance * (found - mean).square()).sum(dim=-1, keepdim=True)
        parts.append(torch.cat([log_p, likeliest.float(), mean, variance], dim=1).double().cpu())
    every = torch.cat(parts).numpy() if parts else np.zeros((0, 4))
    last = labels[rows, places].cpu().numpy()
    where = rows.cpu().numpy()
    made = []
    for row in range(len(labels)):
        own = every[where == row]
        tokens = last[where == row]
        ended = bool(len(tokens)) and end is not None and int(tokens[-1]) == end
        made.append(TokenScores(own[:, 0], own[:, 1] > 0, own[:, 2], own[:, 3], ended))
    return made
