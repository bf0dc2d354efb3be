"""The tokenizer of the text models: a byte-level BPE learned on another world's text, and how one asks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = ["CONTEXT", "SPECIAL", "build"]

CONTEXT = 512
PAD, START, END, USER, ASSISTANT = "<pad>", "<bos>", "<eos>", "<user>", "<assistant>"
#: In the order of their numbers; what is spare may be given a meaning without resizing a model.
SPECIAL = (PAD, START, END, USER, ASSISTANT, "<image>", *(f"<spare{n}>" for n in range(1, 8)))
#: A system text is said by nobody; question and answer have a token each before them.
TEMPLATE = (
    "{{ bos_token }}{% for turn in messages %}"
    "{% if turn['role'] == 'user' %}<user>{{ turn['content'] }}"
    "{% elif turn['role'] == 'assistant' %}<assistant>{{ turn['content'] }}"
    "{% else %}{{ turn['content'] }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


def build(texts: Iterable[str], size: int = 2048) -> Any:
    """Learn a vocabulary of `size` from `texts`; returns a `PreTrainedTokenizerFast` with the chat template.

    Every byte is in the vocabulary, digits stand alone, and a word is the same token after a blank as at the
    beginning of an answer.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.ByteLevel(add_prefix_space=True), pre_tokenizers.Digits(individual_digits=True)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=list(SPECIAL),
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=START,
        eos_token=END,
        additional_special_tokens=list(SPECIAL[3:]),
        chat_template=TEMPLATE,
        model_max_length=CONTEXT,
        padding_side="right",
        clean_up_tokenization_spaces=False,
    )
