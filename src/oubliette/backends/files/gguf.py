"""A GGUF file, as llama.cpp writes them, read by transformers: weights out of their blocks, a tokenizer."""

from __future__ import annotations

from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import torch

from oubliette.backends.files.opening import reason, refuse_missing
from oubliette.backends.quiet import quiet_loading
from oubliette.core.errors import UserError

__all__ = ["is_gguf", "read_gguf"]


def is_gguf(path: Path) -> bool:
    """Whether a path is that of a GGUF file that is there."""
    return path.suffix.lower() == ".gguf" and path.is_file()


def read_gguf(path: Path, dtype: torch.dtype) -> tuple[Any, Any]:
    """The causal language model and the tokenizer that a GGUF file holds, as any other of transformers'.

    Weights are dequantized to `dtype`; what they were quantized to is not kept, so that they can be trained
    and saved. Raises UserError where the extra is missing, for an architecture that transformers does not
    read, for a broken file, and for one that lacks a tensor.
    """
    import transformers
    from transformers.utils import is_gguf_available

    if not is_gguf_available():
        raise UserError(f"{path}: reading GGUF needs gguf; pip install 'oubliette[gguf]'")
    where = {"gguf_file": path.name, "trust_remote_code": False, "local_files_only": True}
    # transformers from 5.2x on keeps the blocks where it has a kernel for them: those cannot be trained.
    made = getattr(transformers, "GgufConfig", None)
    unpacked = {} if made is None else {"quantization_config": made(dequantize=True)}
    try:
        with quiet_loading(), redirect_stderr(StringIO()):  # a bar of its own that no setting hides
            model, found = transformers.AutoModelForCausalLM.from_pretrained(
                str(path.parent), dtype=dtype, output_loading_info=True, **where, **unpacked
            )
            tokenizer = transformers.AutoTokenizer.from_pretrained(str(path.parent), **where)
    except Exception as error:  # whatever a library makes of a file it cannot read
        raise UserError(
            f"{path}: cannot be opened as a causal language model ({reason(error)}); expected a GGUF of an "
            "architecture that transformers reads (llama, qwen2, gemma2, phi3, gpt2, ...)"
        ) from error
    refuse_missing(found["missing_keys"], str(path))
    for owner, name in ((model, "hf_quantizer"), (model.config, "quantization_config")):
        if name in vars(owner):
            delattr(owner, name)
    return model, tokenizer
