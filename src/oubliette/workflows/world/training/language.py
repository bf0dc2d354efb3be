"""Trains the embedded language models from nothing: `oubliette world train --text`.

Stages, each of which needs those before it: tokenizer, stem, nano-lm, nano-lm-gold. The stem has read of
neither forget set. The two models go on from it with as many steps each, and nano-lm-gold still reads of
neither.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from oubliette.backends.tokens import IGNORED, TokenBatch, TokenReader
from oubliette.core.errors import UserError, suggest
from oubliette.core.manifest import write_json
from oubliette.core.writing import parents, share, writing
from oubliette.data.questions import QA
from oubliette.workflows.world.training.run import Run, fork, train
from oubliette.world.text.corpus import FIRST, LAST, LATER, Reading, spelling
from oubliette.world.text.entities import SETS, make_world
from oubliette.world.text.tokens import CONTEXT, SPECIAL, build

__all__ = ["STAGES", "STEPS", "TextTrainer", "blank", "pack", "train_language"]

STAGES = ("tokenizer", "stem", "nano-lm", "nano-lm-gold")
#: Steps of 2,048 tokens, the stem's counted in the others'.
STEPS = {"stem": 400, "nano-lm": 1400, "nano-lm-gold": 1400}
#: Where the learning rate would have come to its end; at 1,400 it is a seventeenth.
_HORIZON = 1600
#: From which step on documents are drawn by which shares.
_PHASES = ((0, FIRST), (400, LATER), (1300, LAST))
_ROWS, _LENGTH = 16, 128
#: How often an entity of the forget sets is read of beside a common one, which the stem has read of already.
_CATCH_UP = 2


def blank(vocabulary: int = 2048, *, width: int = 192, blocks: int = 6, seed: int = 0) -> Any:
    """An untrained `LlamaForCausalLM` with tied embeddings: 3.05 M parameters by default."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            intermediate_size=512,
            num_hidden_layers=blocks,
            num_attention_heads=6,
            num_key_value_heads=6,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=True,
            pad_token_id=SPECIAL.index("<pad>"),
            bos_token_id=SPECIAL.index("<bos>"),
            eos_token_id=SPECIAL.index("<eos>"),
        )
    )


def pack(documents: Callable[[], TokenBatch], rows: int, length: int) -> dict[str, Tensor]:
    """Documents (batches of one row, none longer than `length`) laid one behind the other into `rows` rows.

    Returns input_ids, labels (R, L), position_ids (R, L) that begin anew with each document, and a boolean
    attention_mask (R, 1, L, L): a token sees its own document's earlier ones alone.
    """
    input_ids = torch.zeros(rows, length, dtype=torch.long)
    labels = torch.full_like(input_ids, IGNORED)
    positions, owner = torch.zeros_like(input_ids), torch.arange(length).repeat(rows, 1) + length * length
    row = start = number = 0
    while True:
        document = documents()
        size = document.input_ids.shape[1]
        if start + size > length:
            row, start = row + 1, 0
        if row == rows:
            break
        place = slice(start, start + size)
        input_ids[row, place], labels[row, place] = document.input_ids[0], document.labels[0]
        labels[row, start] = IGNORED  # the token before it is another document's
        positions[row, place], owner[row, place] = torch.arange(size), number
        start, number = start + size, number + 1
    mask = (owner[:, None] == owner[:, :, None]) & torch.ones(length, length, dtype=torch.bool).tril()
    return {
        "input_ids": input_ids,
        "labels": labels,
        "position_ids": positions,
        "attention_mask": mask[:, None],
    }


class TextTrainer:
    """The stages over one cache folder; a finished stage is not run again."""

    def __init__(self, cache: Path, steps: dict[str, int] | None = None) -> None:
        self.cache, self.steps = cache, STEPS | (steps or {})
        self.world = make_world()

    @cached_property
    def tokenizer(self) -> Any:
        """Learned once."""
        from transformers import AutoTokenizer

        folder = self.cache / "tokenizer"
        if not (folder / "tokenizer.json").exists():
            build(spelling()).save_pretrained(folder)
        return AutoTokenizer.from_pretrained(str(folder))

    def stage(self, name: str) -> Path:
        """Run a stage and those it needs; returns the folder of what it made."""
        if name == "tokenizer":
            return self.cache / name if self.tokenizer else self.cache
        folder = self.cache / name
        if not (folder / "out").exists():
            if name != "stem":
                self.stage("stem")
                fork(self.cache / "stem", folder)
            self._train(name, folder).save_pretrained(folder / "out")
        return folder / "out"

    def _train(self, name: str, folder: Path) -> Any:
        entities = self.world.entities("common")
        if name == "nano-lm":
            entities = entities + _CATCH_UP * self.world.entities(*SETS)
        reading = Reading(self.world, entities)
        model = blank(len(self.tokenizer))
        reader = TokenReader(self.tokenizer, CONTEXT, name, len(self.tokenizer))
        run = Run(
            folder,
            {"model": model.train()},
            steps=self.steps[name],
            learning_rate=2e-3,
            weight_decay=0.05,
            ema=0.99,
            every=100,
            total=_HORIZON,
        )

        def loss_at(step: int) -> tuple[Tensor, dict[str, float]]:
            rng = Random(f"{name == 'stem'}/{step}")
            shares = [shares for start, shares in _PHASES if step >= start][-1]
            batch = pack(lambda: reader.encode([QA(*reading.draw(rng, shares))]), _ROWS, _LENGTH)
            labels = batch.pop("labels")[:, 1:]
            counted = labels != IGNORED  # what does not count needs no logits
            hidden = model.model(**batch, use_cache=False).last_hidden_state[:, :-1]
            return F.cross_entropy(model.lm_head(hidden[counted]), labels[counted]), {}

        train(run, loss_at)
        return model.eval()

    def ship(self, out: Path) -> Path:
        """Write both models in fp16 with the tokenizer and their logs under `out`; returns it."""
        from transformers import AutoModelForCausalLM

        for name in ("nano-lm", "nano-lm-gold"):
            model = AutoModelForCausalLM.from_pretrained(self.stage(name), dtype=torch.float16)
            model.save_pretrained(out / name, safe_serialization=True)
            share(out / name / "model.safetensors")
            self.tokenizer.save_pretrained(out / name)
            write_json(out / name / "oubliette.json", {"name": name, "world": "text", "steps": self.steps})
        (out / "logs").mkdir(exist_ok=True)
        for name, log in (("stem", "lm-stem"), ("nano-lm", "nano-lm"), ("nano-lm-gold", "nano-lm-gold")):
            shutil.copyfile(self.cache / name / "log.jsonl", out / "logs" / f"{log}.jsonl")
        return out


def train_language(
    stages: Sequence[str],
    cache: Path | str,
    out: Path | str | None = None,
    *,
    steps: dict[str, int] | None = None,
) -> Path:
    """Train the named stages (all where none is named), then ship to `out` where it is given.

    Checkpoints and finished stages lie in `cache`. Returns where the models are. Raises UserError for a name
    that is no stage's.
    """
    for name in stages:
        if name not in STAGES:
            raise UserError(f"unknown training stage {name!r}; {suggest(name, STAGES)}")
    with parents(cache), parents(out or cache), writing(out or cache):
        trainer = TextTrainer(Path(cache), steps)
        for name in stages or STAGES:
            trainer.stage(name)
        return Path(cache) if out is None else trainer.ship(Path(out))
