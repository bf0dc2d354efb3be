"""What is asked of every model with one seed: the items, the base's answers to them, and the tiers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from oubliette.bench.blur.plan import Plan, source_of
from oubliette.bench.live import Live
from oubliette.core.errors import UserError
from oubliette.core.manifest import write_json
from oubliette.data.combined import Item, compose
from oubliette.data.entities import fact_id
from oubliette.data.questions import QA, read_questions
from oubliette.data.tiers import TIERS, make_tiers
from oubliette.eval.text.metrics.anchored import anchored
from oubliette.eval.text.overlap import edit_similarity, words_of
from oubliette.eval.text.subject import chosen_rows

__all__ = ["Sheet", "sheet_of"]

#: Rows of a tier, and of the target, whose similarities are averaged.
_PAIRED = 48


@dataclass(frozen=True)
class Sheet:
    """The items, the base's answer to each prompt (and to each question alone), the tiers' rows and how like
    the target they are (the mean edit similarity over pairs of rows, as text, and to each target row the
    likest), and what could not be made.
    """

    items: list[Item]
    base: dict[str, str]
    tiers: dict[str, list[QA]]
    similarity: dict[str, tuple[float, float]]
    notes: list[str]

    @cached_property
    def prompts(self) -> list[str]:
        """Every prompt that is answered, once."""
        asked = [item for item in self.items if item.kind != "distractor"]
        return list(dict.fromkeys(prompt for item in asked for prompt in (item.row.question, item.alone)))

    def anchor(self, item: Item) -> str:
        """The base's answer that the item's is held against: that to its question alone."""
        return self.base[item.alone]

    def separate(self, side: str) -> list[Item]:
        """The questions of one set by themselves."""
        return [item for item in self.items if item.kind == "separate" and item.side == side]

    def plainly(self, rows: Sequence[QA]) -> list[QA]:
        """The rows of these facts with the choices that they came with."""
        own = {item.row.id: item.row for item in self.separate("retain")}
        return [own[row.id] for row in rows]


def sheet_of(plan: Plan, seed: int, out: Path, base: Any) -> Sheet:
    """The seed's sheet as `out` keeps it, made where it is not there: the same for every model.

    Half of the forget facts, drawn with the seed, are the target. Composed prompts in which the base itself
    does not say in full what it says to the question alone are left out: they say nothing of an eraser.
    UserError for sets of which nothing can be asked.
    """
    path = out / "sheets" / f"{seed}.json"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, _made(plan, seed, out, base))
    facts = json.loads(path.read_text("utf-8"))
    return Sheet(
        [Item.read(one) for one in facts["items"]],
        facts["base"],
        {name: [QA(**row) for row in rows] for name, rows in facts["tiers"].items()},
        {name: tuple(pair) for name, pair in facts["similarity"].items()},
        facts["notes"],
    )


def _made(plan: Plan, seed: int, out: Path, base: Any) -> dict[str, Any]:
    rows = {name: read_questions(path) for name, path in source_of(plan, out).items()}
    forget, retain = rows["forget"], rows["retain"]
    if len(forget) < 2:
        raise UserError(
            f"{source_of(plan, out)['forget']}: a single row; expected two or more, half to be asked"
        )
    target = chosen_rows(forget, len(forget) // 2, seed)
    composed = compose(
        target,
        retain,
        n=plan.n,
        seed=seed,
        names=plan.names,
        separators=plan.separators,
        alias=rows.get("alias", ()),
        two_hops=rows.get("two_hops", ()),
    )
    largest = 1 if plan.relearn is None else plan.relearn.budget.pictures
    tiers = make_tiers(
        target,
        rows.get("relearn", forget),
        retain,
        rows.get("novel", ()),
        given={name: rows[name] for name in TIERS if name in rows},
        largest=largest,
        seed=seed,
    )
    items, said = _answered(composed.items, base, plan.tokens)
    if not any(words_of(said[row.question or row.answer]) for row in target):
        raise UserError(
            f"base {plan.base}: says nothing in words to any of the {len(target)} forget questions that are "
            "asked, so that there is nothing to hold a model to; name the model that knew them (--base)"
        )
    notes = [*composed.notes, *(tiers.notes if plan.relearn is not None else ())]
    asked, kept = (Counter(item.kind for item in some) for some in (composed.items, items))
    notes += [
        f"{kind}: {kept[kind]} of {count} are answered by the base as alone, and asked"
        for kind, count in asked.items()
        if kept[kind] < count
    ]
    return {
        "items": [item.facts() for item in items],
        "base": said,
        "tiers": {name: [_plain(row) for row in own] for name, own in tiers.rows.items()},
        "similarity": {name: _similarity(own, target) for name, own in tiers.rows.items()},
        "notes": notes,
    }


def _answered(items: Sequence[Item], base: Any, tokens: int) -> tuple[list[Item], dict[str, str]]:
    """The items that the base can be held to, and its answers by prompt."""
    prompts = [prompt for item in items for prompt in (item.row.question, item.alone)]
    prompts = list(dict.fromkeys(prompts))
    said = dict(zip(prompts, Live(base, {}).answers(prompts, tokens), strict=True))
    full = anchored([said[item.alone] for item in items], [said[item.row.question] for item in items]) == 1
    return [
        item for item, whole in zip(items, full, strict=True) if whole or item.row.question == item.alone
    ], said


def _plain(row: QA) -> dict[str, str]:
    return {"question": row.question, "answer": row.answer, "id": fact_id(row)}


def _similarity(rows: Sequence[QA], target: Sequence[QA]) -> tuple[float, float]:
    texts = [
        [f"{row.question} {row.answer}".strip() for row in some[:: -(-len(some) // _PAIRED)]]
        for some in (rows, target)
    ]
    found = np.array([[edit_similarity(one, other) for other in texts[1]] for one in texts[0]])
    return float(found.mean()), float(found.max(axis=0).mean())
