"""Figures and tables of `real_lm.py` from what its cells observed, each held against the twin's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from oubliette.eval.metric import Figure, Items, Seen, open_metric

#: Columns: metric, set, what it is called.
Column = tuple[str, str, str]
TOFU: list[Column] = [
    ("probability", "forget", "P forget"),
    ("rouge_l", "forget", "ROUGE forget"),
    ("extraction_strength", "forget", "extraction"),
    ("truth_ratio", "forget", "truth ratio"),
    ("forget_quality", "forget", "forget quality (p)"),
    ("mia_loss", "forget", "membership AUC"),
    ("privleak", "forget", "PrivLeak"),
    ("probability", "retain", "P retain"),
    ("rouge_l", "retain", "ROUGE retain"),
    ("model_utility", "kept", "utility"),
    ("repetition", "retain", "repetition"),
]
RELEARNED = TOFU[:5]
KNOWLEDGE: list[Column] = [
    ("open_qa", "forget", "capitals forgotten"),
    ("open_qa", "retain", "other capitals"),
    ("open_qa", "same countries", "same countries"),
    ("probability", "forget", "P forgotten"),
    ("probability", "retain", "P other capitals"),
]
AGAIN = [KNOWLEDGE[0], KNOWLEDGE[3]]


def metrics_of(columns: Sequence[Column]) -> list[str]:
    """The metrics that columns need, each once."""
    return list(dict.fromkeys(metric for metric, _, _ in columns))


def table(folder: Path, names: Sequence[str], columns: Sequence[Column], gold: str | None = None) -> str:
    """A markdown table of the cells of that name that are in `folder`, "value [low, high]" a column."""
    there = {name: _read(folder / f"{name}.json") for name in names if (folder / f"{name}.json").exists()}
    twin = _read(folder / f"{gold}.json") if gold and (folder / f"{gold}.json").exists() else None
    head = ["model", *(title for _, _, title in columns)]
    lines = [head, ["---"] * len(head)]
    for name, found in there.items():
        lines.append([name, *(_said(name, found, twin, metric, key) for metric, key, _ in columns)])
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _said(name: str, found: Any, twin: Any, metric: str, key: str) -> str:
    opened = open_metric(metric)
    if opened.needs_gold and twin is None:
        return "-"
    seen = Seen(found[metric], None if twin is None else twin[metric], found[metric], None)
    figures: list[Figure] = opened.figures(name, seen)
    return next((str(one) for one in figures if one.set == key), "-")


def _read(path: Path) -> dict[str, dict[str, Items]]:
    content = json.loads(path.read_text("utf-8"))["items"]
    return {
        metric: {
            key: Items(tuple(one["names"]), np.array(one["values"]), one["chance"])
            for key, one in sets.items()
        }
        for metric, sets in content.items()
    }
