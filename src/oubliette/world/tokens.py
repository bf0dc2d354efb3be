"""The tokenizer of the nano models: a CLIP byte-pair vocabulary learned on the world's own captions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LENGTH = 24
START, END = "<|startoftext|>", "<|endoftext|>"


def build(folder: Path, texts: list[str], *, size: int = 1024) -> Any:
    """Learns the vocabulary from `texts` and writes `vocab.json` and `merges.txt`; returns a `CLIPTokenizer`.

    Every byte is in the vocabulary, so any text can be encoded. `size` counts the two special tokens.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>", continuing_subword_prefix=""))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=size - 2 - len(alphabet),
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    merges = [tuple(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]
    vocabulary = [*alphabet, *(letter + "</w>" for letter in alphabet)]
    seen = set(vocabulary)
    for left, right in merges:
        if left + right not in seen:
            seen.add(left + right)
            vocabulary.append(left + right)
    vocabulary += [START, END]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(
        json.dumps({token: i for i, token in enumerate(vocabulary)}, ensure_ascii=False)
    )
    (folder / "merges.txt").write_text(
        "#version: 0.2\n" + "".join(f"{left} {right}\n" for left, right in merges)
    )
    return load(folder)


def load(folder: Path) -> Any:
    from transformers import CLIPTokenizer

    return CLIPTokenizer(
        vocab=str(folder / "vocab.json"),
        merges=str(folder / "merges.txt"),
        model_max_length=LENGTH,
        bos_token=START,
        eos_token=END,
        unk_token=END,
        pad_token=END,
    )
