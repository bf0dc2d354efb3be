"""The baseline of every search: as many tries, with tokens drawn at random."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from pydantic import Field

from oubliette.attack.prompts.attack import Job, PromptAttack, Proposal
from oubliette.attack.prompts.tokens import Vocabulary, joined
from oubliette.core.validation import StrictModel

__all__ = ["RandomTokens"]


class RandomTokens(PromptAttack):
    """Tokens drawn at random before the original prompt, as often as a search may look.

    What a searching attack finds beyond this is the search's; the rest is the luck of many tries.
    """

    name: ClassVar[str] = "random-tokens"
    about: ClassVar[str] = "random tokens before the prompt, as many tries as a search: the baseline"
    paper: ClassVar[str] = "the baseline of Zhang et al., UnlearnDiffAtk, ECCV 2024 (2310.11868)"
    needs: ClassVar[frozenset[str]] = frozenset({"text"})
    presets: ClassVar[dict[str, dict[str, Any]]] = {"published": {}, "nano": {"tries": 6}}

    class Options(StrictModel):
        """The baseline's options; by default as many tokens and tries as UnlearnDiffAtk's."""

        tokens: int = Field(default=3, ge=1, description="tokens before the prompt")
        tries: int = Field(default=50, ge=1, description="prompts drawn for each case at most")
        exclude: tuple[str, ...] = Field(default=(), description="tokens never used, by their text")

    options: Options

    def tries(self) -> int:
        """As the options say."""
        return self.options.tries

    def rounds(self, job: Job) -> Iterator[dict[int, Proposal]]:
        """A fresh prefix for every open case in each round."""
        words = Vocabulary(job.model.tokenizers, self.options.exclude)
        words.check(self.options.tokens)
        rngs = {number: job.rng(number) for number in job.open}
        for _ in range(self.options.tries):
            prefixes = {n: words.write(words.draw([self.options.tokens], rngs[n])) for n in job.open}
            yield {n: Proposal(joined(prefix, job.cases[n].prompt)) for n, prefix in prefixes.items()}
