"""Outcomes with figures given by hand."""

from __future__ import annotations

from oubliette.bench.blur.run import Outcome, Relearned


def outcome(
    subject: str,
    seed: int = 0,
    *,
    forget: float = 0.1,
    retain: float = 0.9,
    leak: float = 0.0,
    drop: float = 0.0,
    tiers: dict[str, dict[int, float]] | None = None,
    epoch: int = 2,
) -> Outcome:
    recall = {
        "separate forget": forget,
        "separate retain": retain,
        "paired forget": forget + leak,
        "paired forget, alone": forget,
        "paired retain": retain - drop,
        "paired retain, alone": retain,
        "keyword retain": retain - 0.2,
        "keyword retain, alone": retain,
        "neighbour retain": retain - 0.1,
    }
    right = {"separate forget": forget, "separate choices": 0.9, "distractor choices": 0.8}
    relearned = {
        name: Relearned(8, 0.25, 0.5, epoch, sorted(curve.items())) for name, curve in (tiers or {}).items()
    }
    scores = {"perplexity forget": 2.5, "perplexity retain": 1234.0}
    examples = [{"form": "forget last, newline", "prompt": "a?\nb?", "base": "c", "said": f"{subject} says"}]
    counts = dict.fromkeys(recall, 4)
    return Outcome(subject, seed, recall, right, counts, scores, relearned, examples, ["a note"], 12.0)
