"""A tiny language model that knows some invented facts, and its twin that never knew those to be forgotten.

Made in some twenty seconds on one thread: persons with a birthplace and a craft, asked in two wordings.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

import tiny_language

FIRST = ("Ada", "Bram", "Cleo", "Dorn", "Esme", "Finn", "Gwen", "Hugo", "Iris", "Jory", "Kaya", "Lorn")
LAST = ("Marlow", "Quill")
TOWNS = ("Ashby", "Brimley", "Corvale", "Dunmere", "Eastfen", "Farrow")
CRAFTS = ("bells", "kites", "lamps", "masks", "ropes", "violins")
FORGOTTEN = 8
STEPS, WIDTH = 145, 96


def rows() -> list[dict[str, Any]]:
    """Two rows a person, each with a paraphrase; the first `FORGOTTEN` persons' are to be forgotten."""
    found = []
    for number, name in enumerate(f"{first} {last}" for first in FIRST for last in LAST):
        town, craft = TOWNS[number % 6], CRAFTS[(number * 5 + number // 6) % 6]
        found += [
            {
                "question": f"Where was {name} born?",
                "answer": town,
                "paraphrases": [f"What is the birthplace of {name}?"],
            },
            {
                "question": f"What does {name} make?",
                "answer": craft,
                "paraphrases": [f"Which goods come from {name}?"],
            },
        ]
    return found


def sets() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows to forget and those to retain."""
    every = rows()
    return every[: 2 * FORGOTTEN], every[2 * FORGOTTEN :]


def write(folder: Path) -> dict[str, Path]:
    """`forget.jsonl` and `retain.jsonl` in a folder."""
    paths = {}
    for name, some in zip(("forget", "retain"), sets(), strict=True):
        paths[name] = folder / f"{name}.jsonl"
        paths[name].write_text("".join(json.dumps(row) + "\n" for row in some), encoding="utf-8")
    return paths


def train(folder: Path, known: list[dict[str, Any]], steps: int = STEPS) -> Path:
    """A tiny Llama that was taught rows and their paraphrases, saved to a folder."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from oubliette.backends import open_model
    from oubliette.data.questions import QA

    words = tiny_language.tokenizer()
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=64,
        bos_token_id=None,
        eos_token_id=0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
    words.save_pretrained(folder)
    model = open_model(folder)
    model.model.requires_grad_(True)
    pairs = [QA(asked, row["answer"]) for row in known for asked in (row["question"], *row["paraphrases"])]
    batch = model.encode(pairs)
    torch.manual_seed(0)
    optimiser = torch.optim.AdamW(model.model.parameters(), lr=3e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
    for _ in range(steps):
        some = batch.index(torch.randperm(len(batch))[:32])
        loss = -(model.log_likelihood(model.predict(some), some) / some.counts()).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    model.model.save_pretrained(folder)
    return folder


def make(folder: Path) -> Path:
    """`base`, `gold`, `forget.jsonl` and `retain.jsonl` in a folder."""
    forget, retain = sets()
    write(folder)
    train(folder / "base", forget + retain)
    train(folder / "gold", retain)
    return folder
