"""NPO inside `transformers.Trainer`: your own loop, this package's rows and losses.

    python examples/train_npo.py --model_name_or_path M --forget F.jsonl --retain R.jsonl --output_dir OUT

The Trainer has the optimiser, the schedule, accumulation, logging and checkpoints; the package reads the
rows, encodes them (answers count, prompts and padding do not) and has the losses of `oubliette erase`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

import oubliette as ob
from oubliette.backends.tokens import TokenBatch
from oubliette.data.questions import QA, read_questions
from oubliette.erase.language.npo import preference_loss


class Pairs(Dataset[tuple[QA, QA, int]]):
    """A forget row, a retain row beside it, and the forget row's number; as long as the forget set."""

    def __init__(self, forget: Sequence[QA], retain: Sequence[QA]) -> None:
        self.forget, self.retain = forget, retain

    def __len__(self) -> int:
        return len(self.forget)

    def __getitem__(self, index: int) -> tuple[QA, QA, int]:
        return self.forget[index], self.retain[index % len(self.retain)], index


class NPOTrainer(Trainer):
    """Minimises NPO's preference loss on forget rows, plus `retain_weight` times the nll of retain rows."""

    def __init__(self, *named: Any, wrapped: Any, beta: float, retain_weight: float, **options: Any) -> None:
        super().__init__(*named, data_collator=self._collate, **options)
        self.wrapped, self.beta, self.retain_weight = wrapped, beta, retain_weight
        self.reference = self._reference()

    @torch.no_grad()
    def _reference(self) -> Tensor:
        """The original's log-likelihood of every forget row, once: there is no second network."""
        found = []
        for row in self.train_dataset.forget:
            batch = self.wrapped.encode([row])
            found.append(self.wrapped.log_likelihood(self.wrapped.predict(batch), batch))
        return torch.cat(found)

    def _collate(self, rows: Sequence[tuple[QA, QA, int]]) -> dict[str, Any]:
        forget, retain, numbers = zip(*rows, strict=True)
        found: dict[str, Any] = {"numbers": torch.tensor(numbers)}
        for name, some in (("forget", forget), ("retain", retain)):
            batch = self.wrapped.encode(some)
            found[name] = {part: getattr(batch, part) for part in ("input_ids", "attention_mask", "labels")}
        return found

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, **_: Any
    ) -> Tensor | tuple[Tensor, dict[str, Any]]:
        likelihood = {}
        for name in ("forget", "retain"):
            batch = TokenBatch(**inputs[name])
            words = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
            logits = model(**words, use_cache=False).logits
            likelihood[name] = self.wrapped.log_likelihood(logits, batch)
            if name == "retain":
                likelihood[name] = likelihood[name] / batch.counts().to(logits.device)
        reference = self.reference.to(likelihood["forget"].device)[inputs["numbers"]]
        loss = preference_loss(likelihood["forget"] - reference, self.beta)
        loss = loss - self.retain_weight * likelihood["retain"].mean()
        return (loss, {}) if return_outputs else loss


def main(arguments: Sequence[str] | None = None) -> NPOTrainer:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model_name_or_path", required=True)
    parser.add_argument("--forget", required=True, help="JSONL of questions and answers")
    parser.add_argument("--retain", required=True)
    parser.add_argument("--output_dir", required=True)
    parser.add_argument("--beta", type=float, default=0.1)
    parser.add_argument("--retain_weight", type=float, default=1.0)
    parser.add_argument("--learning_rate", type=float, default=1e-5)
    parser.add_argument("--max_steps", type=int, default=125)
    parser.add_argument("--per_device_train_batch_size", type=int, default=4)
    parser.add_argument("--gradient_accumulation_steps", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(arguments)

    model = AutoModelForCausalLM.from_pretrained(asked.model_name_or_path, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(asked.model_name_or_path)
    wrapped = ob.wrap(model, tokenizer)
    model.requires_grad_(True)  # wrapping freezes all weights; dropout stays off, as in the reference
    trainer = NPOTrainer(
        model,
        TrainingArguments(
            output_dir=asked.output_dir,
            learning_rate=asked.learning_rate,
            max_steps=asked.max_steps,
            per_device_train_batch_size=asked.per_device_train_batch_size,
            gradient_accumulation_steps=asked.gradient_accumulation_steps,
            seed=asked.seed,
            weight_decay=0.01,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            remove_unused_columns=False,
        ),
        train_dataset=Pairs(read_questions(asked.forget), read_questions(asked.retain)),
        wrapped=wrapped,
        beta=asked.beta,
        retain_weight=asked.retain_weight,
    )
    trainer.train()
    trainer.save_model(asked.output_dir)
    tokenizer.save_pretrained(asked.output_dir)
    return trainer


if __name__ == "__main__":
    main()
