"""FIT's filter: chunks of a text that are like what was asked for, and that the model does not miss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from oubliette.core.errors import UserError
from oubliette.data.questions import QA

if TYPE_CHECKING:
    from oubliette.backends.language import LanguageBackend

__all__ = ["Encode", "Kept", "RedundancyFilter", "chunks_of", "encoder_in", "mean_embeddings", "text_losses"]

_BATCH = 32  # chunks or texts a pass
_SAME = 1 - 1e-5  # a cosine that only rounding keeps from 1

Encode = Callable[[Sequence[str]], Tensor]
"""Embeddings (N, D) of texts, fp32 on the CPU."""
Losses = Callable[[Sequence[str]], Tensor]
"""The mean negative log-likelihood a token of each text, (N,)."""


@dataclass(frozen=True, eq=False)
class Kept:
    """What the filter leaves of a text: its chunks that stay, one after another ("" where none does), their
    `embeddings` (N, D) of length 1, and how many chunks there were, were doubted, and stay.
    """

    text: str
    embeddings: Tensor
    facts: dict[str, int]


class RedundancyFilter:
    """The memory of what was asked for, (M, D) embeddings of length 1 of every chunk that was kept, and what
    is left of a text beside it.

    A chunk whose cosine to one in memory is at least `similar` stays only if leaving it (and all chunks equal
    to it) out changes the text's loss by more than `matters`. While the memory is empty all stay. Paper: Xu
    et al. (FIT), 2026 (2601.21682); the side of the similarity on which chunks are doubted, and that the loss
    is the current model's, as released. Ours: a text that is one chunk again and again leaves nothing to
    compare with, and goes where that chunk itself is in memory.
    """

    def __init__(self, length: int, similar: float, matters: float) -> None:
        self.length, self.similar, self.matters = length, similar, matters
        self.memory: Tensor | None = None

    def keep(self, text: str, encode: Encode, losses: Losses) -> Kept:
        """What is left of a text; the memory stays as it is (`remember`)."""
        chunks = chunks_of(text, self.length)
        if not chunks:
            return Kept("", torch.zeros(0, 0), {"chunks": 0, "doubted": 0, "kept": 0})
        found = F.normalize(encode(chunks), dim=1)
        doubted: list[int] = []
        near = torch.zeros(len(chunks))
        if self.memory is not None and len(self.memory):
            near = (found @ self.memory.T).max(dim=1).values
            doubted = torch.nonzero(near >= self.similar).flatten().tolist()
        idle: set[int] = set()
        if doubted:
            # Equal chunks leave the same text behind, which is read once.
            without = {chunks[place]: "".join(c for c in chunks if c != chunks[place]) for place in doubted}
            readable = {chunk: rest for chunk, rest in without.items() if rest.strip()}
            read = losses(["".join(chunks), *readable.values()])
            moved = dict(zip(readable, (read[1:] - read[0]).abs().tolist(), strict=True))
            idle = {
                place
                for place in doubted
                if (moved[chunks[place]] <= self.matters if chunks[place] in moved else near[place] >= _SAME)
            }
        stay = [place for place in range(len(chunks)) if place not in idle]
        counts = {"chunks": len(chunks), "doubted": len(doubted), "kept": len(stay)}
        return Kept("".join(chunks[place] for place in stay).strip(), found[stay], counts)

    def remember(self, embeddings: Tensor) -> None:
        """Add the embeddings of chunks that were forgotten."""
        held = [] if self.memory is None else [self.memory]
        self.memory = torch.cat([*held, embeddings])


def chunks_of(text: str, length: int) -> list[str]:
    """A text, stripped, in consecutive slices of `length` characters."""
    text = text.strip()
    return [text[first : first + length] for first in range(0, len(text), length)]


@torch.no_grad()
def text_losses(model: LanguageBackend, texts: Sequence[str], longest: int) -> Tensor:
    """The mean negative log-likelihood a token of each text, (N,) fp32; at most `longest` tokens are read,
    and no more than the model's context.
    """
    room = min(longest, model.reader.max_length - 1)  # the end of the text takes one
    found = []
    for first in range(0, len(texts), _BATCH):
        rows = [QA("", model.reader.shortened(text, room)) for text in texts[first : first + _BATCH]]
        batch = model.encode(rows)
        said = model.log_likelihood(model.predict(batch), batch).cpu()
        found.append(-said / batch.counts())
    return torch.cat(found)


def mean_embeddings(model: LanguageBackend) -> Encode:
    """Texts as the mean of the input embeddings of their tokens."""

    @torch.no_grad()
    def encode(texts: Sequence[str]) -> Tensor:
        table = model.model.get_input_embeddings().weight
        found = [
            table[torch.tensor(model.reader.tokens("", text)[0] or [model.reader.pad])].mean(dim=0)
            for text in texts
        ]
        return torch.stack(found).float().cpu()

    return encode


def encoder_in(
    folder: Path | str, device: Any, pooling: Literal["mean", "pooler"], longest: int | None
) -> Encode:
    """Texts as the encoder in a folder of transformers has them, at most `longest` tokens of each: the mean
    over its last hidden states, or its own pooled output. UserError where the folder holds none.
    """
    from transformers import AutoModel, AutoTokenizer

    from oubliette.backends.files.opening import reason
    from oubliette.backends.quiet import quiet_loading

    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise UserError(
            f"encoder {folder}: {'no config.json in it' if folder.is_dir() else 'no such folder'}; expected "
            "a folder of transformers with an encoder's weights (safetensors) and its tokenizer"
        )
    try:
        with quiet_loading():
            model = AutoModel.from_pretrained(str(folder), use_safetensors=True, trust_remote_code=False)
            tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
    except Exception as error:  # whatever a library makes of files it cannot read
        raise UserError(f"encoder {folder}: cannot be opened as an encoder ({reason(error)})") from error
    model = model.to(device).float().requires_grad_(False).eval()
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token

    @torch.no_grad()
    def encode(texts: Sequence[str]) -> Tensor:
        found = []
        for first in range(0, len(texts), _BATCH):
            words = tokenizer(
                list(texts[first : first + _BATCH]),
                return_tensors="pt",
                padding=True,
                truncation=True,
                max_length=longest,
            ).to(device)
            made = model(**words)
            if pooling == "pooler":
                pooled = getattr(made, "pooler_output", None)
                if pooled is None:
                    raise UserError(
                        f"encoder {folder}: has no pooled output; policy.pooling=mean does without"
                    )
            else:
                read = words["attention_mask"].unsqueeze(-1)
                pooled = (made.last_hidden_state * read).sum(dim=1) / read.sum(dim=1).clamp(min=1)
            found.append(pooled.float().cpu())
        return torch.cat(found)

    return encode
