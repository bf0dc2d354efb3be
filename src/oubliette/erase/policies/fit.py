"""FIT: what a request repeats is left out, and the model says how and where the rest is forgotten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator

from oubliette.backends.base import answers
from oubliette.core.errors import UserError
from oubliette.core.validation import StrictModel
from oubliette.data.questions import QA
from oubliette.erase.policies.importance import LEVELS, importance, level_of, tertiles
from oubliette.erase.policies.redundancy import (
    Encode,
    RedundancyFilter,
    encoder_in,
    mean_embeddings,
    text_losses,
)
from oubliette.erase.policy import Asked, Decision
from oubliette.recipe import validate

if TYPE_CHECKING:
    from torch import Tensor

    from oubliette.backends.language import LanguageBackend
    from oubliette.backends.tokens import TokenReader
    from oubliette.recipe import Recipe

__all__ = ["FIT", "windows"]


class FIT:
    """Filtering, importance, targeted layers: a stream of texts is forgotten one by one (2601.21682).

    F leaves out the chunks of a request that repeat what was asked for (`RedundancyFilter`), and skips one of
    which nothing is left. I reads the gradient at the input embeddings and chooses random labels, NPO, or NPO
    with a retain anchor (`importance`). T is the recipe's scope, `attribution` in the presets. Each step (an
    epoch) is over all windows of the text, as `train.steps` has it; the objective's original is the model the
    stream began with. The retain rows of the anchor are drawn anew for each request, of the retain set and
    (`future`, as released) of the requests to come.
    """

    name: ClassVar[str] = "fit"

    class Options(StrictModel):
        """FIT's options; the defaults are the release's."""

        filter: bool = Field(default=True, description="F: leave out what repeats")
        importance: bool = Field(default=True, description="I: let the gradient choose the objective")
        target: bool = Field(default=True, description="T: the recipe's scope, else `everywhere`")
        chunk: int = Field(default=8, ge=1, description="characters a chunk")
        similar: float = Field(default=0.9, ge=-1, le=1, description="cosine from which a chunk is doubted")
        matters: float = Field(default=0.2, ge=0, description="change of the loss that keeps a doubted chunk")
        encoder: str | None = Field(default=None, description="folder of an encoder; None: the model's own")
        pooling: Literal["mean", "pooler"] = Field(default="mean", description="how an encoder's text is one")
        encoder_tokens: int | None = Field(default=None, ge=1, description="what an encoder reads of a chunk")
        loss_tokens: int = Field(default=4096, ge=2, description="tokens the filter's losses are read on")
        bounds: tuple[float, float] | None = Field(
            default=(6.0, 12.0), description="importance from which it is middle and high; None: tertiles"
        )
        calibrate: int = Field(default=9, ge=3, description="first requests whose tertiles are the bounds")
        low: dict[str, Any] = Field(default={"name": "random-labels"})
        middle: dict[str, Any] = Field(default={"name": "npo", "beta": 0.1})
        high: dict[str, Any] = Field(default={"name": "npo", "beta": 0.1, "retain": "cross_entropy"})
        anchored: tuple[Literal["low", "middle", "high"], ...] = Field(
            default=("high",), description="levels that are given retain rows"
        )
        without_importance: Literal["low", "middle", "high"] = Field(
            default="high", description="the level of every request where `importance` is off"
        )
        everywhere: dict[str, Any] = Field(
            default={"name": "all-linear"}, description="the scope where `target` is off"
        )
        window: int = Field(default=1024, ge=1, description="characters of a text that are one row")
        future: bool = Field(default=True, description="requests to come may be among the retain rows")

        @model_validator(mode="after")
        def _in_order(self) -> FIT.Options:
            if self.bounds is not None and self.bounds[0] > self.bounds[1]:
                raise ValueError(f"bounds go up, found {list(self.bounds)}")
            return self

    def __init__(self, options: FIT.Options) -> None:
        self.options = options
        self.redundancy = RedundancyFilter(options.chunk, options.similar, options.matters)
        self.seen: list[float] = []
        """The importances that the bounds are made of, where they are."""
        self._encode: Encode | None = None
        self._last: tuple[Tensor | None, float | None] = (None, None)

    def begin(self, model: LanguageBackend, recipe: Recipe) -> None:
        """Open the encoder, and try what may be decided."""
        if not answers(model):
            raise UserError(f"policy 'fit' reads texts, and {model.source} is a {model.kind} model")
        options = self.options
        for level in LEVELS:
            validate(self._recipe(recipe, level, rows=1))
        if not options.filter:
            return
        if options.encoder is None:
            self._encode = mean_embeddings(model)
        else:
            self._encode = encoder_in(
                Path(options.encoder), model.device, options.pooling, options.encoder_tokens
            )

    def decide(self, model: LanguageBackend, asked: Asked) -> Decision:
        """Filter the request's text, weigh what is left, and have that forgotten."""
        options = self.options
        text = "\n".join(said(row) for row in asked.forget)
        facts: dict[str, Any] = {}
        embeddings: Tensor | None = None
        if options.filter:
            kept = self.redundancy.keep(
                text,
                lambda chunks: self._encoded(asked, chunks),
                lambda texts: text_losses(model, texts, options.loss_tokens),
            )
            text, embeddings = kept.text, kept.embeddings
            facts["filter"] = kept.facts
        if not text.strip():
            self._last = (None, None)
            return Decision(None, facts=facts)
        value = None
        level: str = options.without_importance
        if options.importance:
            value = importance(model, text)
            level = level_of(value, options.bounds or tertiles(self.seen))
            facts["importance"] = value
        self._last = (embeddings, value)
        forget = [QA("", part) for part in windows(model.reader, text, options.window)]
        retain: Sequence[QA] = ()
        if level in options.anchored:
            retain = self._anchor(asked, len(forget) * asked.recipe.train.steps)
        facts |= {"level": level, "characters": len(text)}
        return Decision(
            self._recipe(asked.recipe, level, rows=len(forget)),
            {"forget": forget, "retain": retain},
            from_start=True,
            facts=facts,
        )

    def done(self) -> None:
        """Remember the chunks that were forgotten, and the importance of a first request."""
        embeddings, value = self._last
        if embeddings is not None:
            self.redundancy.remember(embeddings)
        if value is not None and self.options.bounds is None and len(self.seen) < self.options.calibrate:
            self.seen.append(value)
        self._last = (None, None)

    def tensors(self) -> dict[str, Tensor]:
        """The memory, (M, D)."""
        return {} if self.redundancy.memory is None else {"memory": self.redundancy.memory}

    def facts(self) -> dict[str, Any]:
        """The importances seen."""
        return {"seen": self.seen}

    def load(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Take up memory and importances."""
        self.redundancy.memory = tensors.get("memory")
        self.seen = list(facts["seen"])

    def _encoded(self, asked: Asked, chunks: Sequence[str]) -> Tensor:
        assert self._encode is not None
        with asked.before():  # the model's own embeddings may move
            return self._encode(chunks)

    def _recipe(self, recipe: Recipe, level: str, rows: int) -> Recipe:
        """The request's recipe with the level's objective, each step over all rows."""
        options = self.options
        train = recipe.train.model_copy(update={"batch": rows, "accumulation": 1})
        changes: dict[str, Any] = {"method": dict(getattr(options, level)), "train": train, "policy": None}
        if not options.target:
            changes["scope"] = dict(options.everywhere)
        return recipe.model_copy(update=changes)

    def _anchor(self, asked: Asked, count: int) -> list[QA]:
        """`count` rows to stay near the original on, or all there are; drawn from the request's seed."""
        pool = [*asked.retain, *(asked.to_come() if self.options.future else ())]
        if not pool:
            return []
        rng = torch.Generator().manual_seed(asked.recipe.seed)
        return [pool[place] for place in torch.randperm(len(pool), generator=rng)[:count].tolist()]


def said(row: QA) -> str:
    """A row as text: what it says, or its question and its answer."""
    return row.answer if row.plain else f"{row.question} {row.answer}"


def windows(reader: TokenReader, text: str, characters: int) -> list[str]:
    """A text in consecutive parts of at most `characters`, each short enough for the model's context; none is
    blank.
    """
    room, found = reader.max_length - 1, []
    while text:
        part = reader.shortened(text[:characters], room)
        found.append(part)
        text = text[len(part) :]
    return [part for part in found if part.strip()]
