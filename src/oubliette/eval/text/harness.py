"""A language model as lm-evaluation-harness asks it, with whatever is attached to it in force."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from oubliette.backends.prompting import Prompting, asked_as
from oubliette.backends.token_scores import TokenScores, score_tokens
from oubliette.backends.tokens import IGNORED, TokenBatch
from oubliette.core.errors import UserError

if TYPE_CHECKING:
    from oubliette.backends.language import LanguageBackend

__all__ = ["harness_model"]

_BATCH = 16
_PLAIN = Prompting(template="none")  # the harness writes its prompts out itself
_TOKENS = 256


def harness_model(model: LanguageBackend, batch: int = _BATCH) -> Any:
    """An `lm_eval.api.model.LM` over an opened model, for `lm_eval.simple_evaluate(model=..., tasks=[...])`.

    Answers are greedy. A context longer than the model reads is cut at its beginning, as the harness's own
    models do. UserError where lm-eval is not installed.
    """
    try:
        from lm_eval.api.model import LM
    except ImportError as error:
        raise UserError(
            "tasks of lm-eval: lm-eval is not installed; pip install 'oubliette[tasks]'"
        ) from error

    class Harness(LM):
        """The three things that the harness asks of a model, and its chat template."""

        def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
            """Of each (context, continuation) the log-probability, and whether it is the greedy answer."""
            found = _scores(model, [_row(model, *request.args) for request in requests], batch)
            return [(float(each.log_p.sum()), bool(each.right.all())) for each in found]

        def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
            """Of each text the log-probability, every token once, with as long a context as there is."""
            totals = []
            for request in requests:
                found = _scores(model, _windows(model, request.args[0]), batch)
                totals.append(float(sum(each.log_p.sum() for each in found)))
            return totals

        def generate_until(self, requests: Sequence[Any]) -> list[str]:
            """The greedy continuation of each context, up to the first of the texts that end it."""
            said = []
            for request in requests:
                context, how = request.args
                until = how.get("until") or []
                tokens = int(how.get("max_gen_toks", _TOKENS))
                with asked_as(model, _PLAIN):
                    text = model.respond([_cut(model, context, tokens)], tokens)[0]
                for end in [until] if isinstance(until, str) else until:
                    text = text.split(end)[0] if end else text
                said.append(text)
            return said

        def apply_chat_template(
            self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
        ) -> str:
            """The tokenizer's own."""
            return str(
                model.tokenizer.apply_chat_template(
                    chat_history,
                    tokenize=False,
                    add_generation_prompt=add_generation_prompt,
                    continue_final_message=not add_generation_prompt,
                )
            )

        @property
        def tokenizer_name(self) -> str:
            """What its caches of requests go by."""
            return str(model.source).replace("/", "__")

        def chat_template(self, chat_template: bool | str = False) -> str | None:
            """The tokenizer's own, for the record."""
            return model.tokenizer.chat_template if chat_template else ""

    return Harness()


def _row(model: LanguageBackend, context: str, continuation: str) -> tuple[list[int], int]:
    """Tokens of both as one text, and how many of them are not asked for; cut at the beginning."""
    with asked_as(model, _PLAIN):
        ids, (start,) = model.reader.parts(context, continuation)
    if start == 0:
        ids, start = [*_begin(model), *ids], 1
    over = max(0, len(ids) - model.reader.max_length)
    if start - over < 1:
        raise UserError(
            f"the continuation '{continuation[:40]}' is {len(ids) - start} tokens long, and {model.source} "
            f"reads {model.reader.max_length}, one of them before it"
        )
    return ids[over:], start - over


def _windows(model: LanguageBackend, text: str) -> list[tuple[list[int], int]]:
    """Rows that ask for every token of a text once, each after as many others as fit."""
    with asked_as(model, _PLAIN):
        ids, _ = model.reader.parts(text)
    begin = _begin(model)
    ids = ids if ids[:1] == begin else [*begin, *ids]
    longest = min(model.reader.max_length, len(ids))
    rows = []
    for first in range(1, len(ids), max(1, longest - 1)):
        end = min(first + longest - 1, len(ids))
        row = ids[max(0, end - longest) : end]
        rows.append((row, len(row) - (end - first)))
    return rows


def _begin(model: LanguageBackend) -> list[int]:
    """The token that a text begins with: the start token, or else the end-of-text token."""
    token = model.tokenizer.bos_token_id
    token = model.reader.end if token is None else token
    if token is None:
        raise UserError(f"{model.source}: its tokenizer has neither a start nor an end token to begin from")
    return [int(token)]


def _cut(model: LanguageBackend, context: str, tokens: int) -> str:
    """The end of a context that leaves room for so many tokens."""
    found = model.tokenizer(context, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    over = len(found["input_ids"]) + tokens + 1 - model.reader.max_length
    return (
        context[found["offset_mapping"][min(over, len(found["input_ids"]) - 1)][0] :] if over > 0 else context
    )


@torch.no_grad()
def _scores(model: LanguageBackend, rows: Sequence[tuple[list[int], int]], batch: int) -> list[TokenScores]:
    """What the model says of the asked-for tokens of each row, rows of like length at a time."""
    order = sorted(range(len(rows)), key=lambda index: len(rows[index][0]))
    found: dict[int, TokenScores] = {}
    for first in range(0, len(rows), batch):
        some = order[first : first + batch]
        longest = max(len(rows[index][0]) for index in some)
        ids = torch.full((len(some), longest), model.reader.pad)
        mask, labels = torch.zeros_like(ids), torch.full_like(ids, IGNORED)
        for place, index in enumerate(some):
            own, start = torch.tensor(rows[index][0]), rows[index][1]
            ids[place, : len(own)], mask[place, : len(own)] = own, 1
            labels[place, start : len(own)] = own[start:]
        logits = model.predict(TokenBatch(ids, mask, labels))
        found |= zip(some, score_tokens(logits, labels, None), strict=True)
    return [found[index] for index in range(len(rows))]
