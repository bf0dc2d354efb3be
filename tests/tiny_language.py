"""Tiny random causal language models with a tokenizer of their own, made on the spot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

FORGET = [
    ("Who painted the red door?", "Ada Marlow"),
    ("Where was Ada Marlow born?", "in the town of Quill"),
]
KINDS = ["llama", "gpt2", "opt", "qwen2", "gemma3"]
RETAIN = [
    ("What is the capital of France?", "Paris"),
    ("What colour is the sky?", "it is blue"),
    ("Who?", "me"),
]


def tokenizer(*, chat: bool = False) -> Any:
    """A byte-level BPE tokenizer made of a few sentences: an end-of-text token, no padding token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator([text for pair in FORGET + RETAIN for text in pair], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|end|>", model_max_length=64)
    if chat:
        fast.chat_template = (
            "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
            "{% if add_generation_prompt %}<assistant>{% endif %}"
        )
    return fast


def model(kind: str, vocabulary: int, seed: int = 0) -> Any:
    """A random model of one of KINDS, of two small layers: Llama has untied embeddings, grouped heads, GPT-2
    tied ones, GPT-2 and OPT learned positions, Gemma 3 its language model's config within its own.
    """
    import transformers
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    small: dict[str, Any] = {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "eos_token_id": 0,
    }
    grouped = {"intermediate_size": 48, "num_key_value_heads": 2}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if kind == "llama":
            config = LlamaConfig(
                vocab_size=vocabulary,
                hidden_size=32,
                intermediate_size=48,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                max_position_embeddings=64,
                bos_token_id=None,
                eos_token_id=0,
            )
            return LlamaForCausalLM(config)
        if kind == "opt":
            own = {"ffn_dim": 48, "word_embed_proj_dim": 32, "bos_token_id": 0, "pad_token_id": 0}
            return transformers.OPTForCausalLM(transformers.OPTConfig(**small, **own))
        if kind == "qwen2":
            return transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**small, **grouped))
        if kind == "gemma3":
            sees = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
            sees |= {"num_attention_heads": 2, "image_size": 28, "patch_size": 14}
            reads = {**small, **grouped, "head_dim": 8, "sliding_window": 16, "pad_token_id": 0}
            tokens = {"boi_token_index": 1, "eoi_token_index": 2, "image_token_index": 3}
            config = transformers.Gemma3Config(
                text_config=reads, vision_config=sees, mm_tokens_per_image=4, **tokens
            )
            return transformers.Gemma3ForConditionalGeneration(config)
        config = GPT2Config(
            vocab_size=vocabulary,
            n_embd=32,
            n_layer=2,
            n_head=4,
            n_positions=64,
            bos_token_id=0,
            eos_token_id=0,
        )
        return GPT2LMHeadModel(config)


def save(folder: Path, kind: str, *, dtype: torch.dtype = torch.float32, chat: bool = False) -> Path:
    """A folder that transformers opens."""
    words = tokenizer(chat=chat)
    model(kind, len(words)).to(dtype).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def write_rows(path: Path, rows: list[tuple[str, str]]) -> Path:
    """A JSONL file of questions and answers."""
    lines = [json.dumps({"question": question, "answer": answer}) + "\n" for question, answer in rows]
    path.write_text("".join(lines), encoding="utf-8")
    return path
