"""A GGUF file by gguf's own writer opens as the model it was written from, and is saved as any other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers.utils
from transformers import AutoModelForCausalLM

import tiny_language
from oubliette.backends import open_model
from oubliette.backends.files.stored import PICKLES
from oubliette.cli import main
from oubliette.core.errors import UserError
from oubliette.data.questions import QA

gguf = pytest.importorskip("gguf")

ROWS = [QA(*pair) for pair in tiny_language.FORGET + tiny_language.RETAIN]
#: Llama's tensors in a block as llama.cpp names them.
BLOCK = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def woven(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows of queries or keys in llama.cpp's order: the two halves of each head's rotation by turns."""
    rows = [row for head in weight.split(len(weight) // heads) for row in zip(*head.chunk(2), strict=True)]
    return torch.stack([one for pair in rows for one in pair])


def write(path: Path, architecture: str = "llama", lacks: str = "") -> Any:
    """The file of a tiny Llama, which is returned."""
    words = tiny_language.tokenizer(chat=True)
    model = tiny_language.model("llama", len(words))
    config, held = model.config, model.state_dict()
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name("tiny")
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_block_count(2)
    writer.add_feed_forward_length(48)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_vocab_size(len(words))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    merges = json.loads(words.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(words.convert_ids_to_tokens(range(len(words))))
    writer.add_token_types([3] + [1] * (len(words) - 1))
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_eos_token_id(0)
    writer.add_bos_token_id(0)
    writer.add_chat_template(words.chat_template)
    names = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
    names |= {
        f"blk.{block}.{short}": f"model.layers.{block}.{name}"
        for block in range(2)
        for short, name in BLOCK.items()
    }
    for short, name in names.items():
        weight = held[f"{name}.weight"]
        if short.endswith(("attn_q", "attn_k")):
            weight = woven(weight, 4 if short.endswith("q") else 2)
        if short != lacks:
            writer.add_tensor(f"{short}.weight", weight.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    return path, write(path)


def test_it_opens_as_the_model_it_was_written_from(file: tuple[Path, Any]) -> None:
    path, written = file
    model = open_model(path, device="cpu")
    batch = model.encode(ROWS)
    expected = written(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
    assert torch.allclose(model.predict(batch), expected, atol=1e-5)
    assert model.reader.prompt("Who?") == "<user>Who?<assistant>"
    assert model.tokenizer.decode(batch.input_ids[0][: int(batch.attention_mask[0].sum())]).startswith(
        "<user>"
    )


def test_it_is_saved_as_safetensors_that_open_with_transformers_alone(
    file: tuple[Path, Any], tmp_path: Path
) -> None:
    model = open_model(file[0], device="cpu")
    with torch.no_grad():
        model.tensors()["lm_head.weight"].add_(0.5)
    model.save(tmp_path / "full")
    model.save(tmp_path / "delta", form="delta")
    files = {entry.suffix for entry in (tmp_path / "full").iterdir()}
    assert ".safetensors" in files
    assert not files & {".gguf", *PICKLES}
    alone = AutoModelForCausalLM.from_pretrained(tmp_path / "full")
    assert torch.equal(alone.lm_head.weight, model.tensors()["lm_head.weight"])
    for form in ("full", "delta"):
        opened = open_model(tmp_path / form, device="cpu")
        assert opened.fingerprint() == model.fingerprint()
        assert torch.equal(opened.encode(ROWS).input_ids, model.encode(ROWS).input_ids)
        assert opened.reader.prompt("Who?") == model.reader.prompt("Who?")


def test_one_line_says_what_cannot_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    strange, broken, short = (tmp_path / f"{name}.gguf" for name in ("strange", "broken", "short"))
    write(strange, architecture="nonsense")
    broken.write_bytes(b"no header at all")
    write(short, lacks="blk.1.ffn_up")
    for path, said in ((strange, "nonsense"), (broken, "magic"), (short, "layers.1.mlp.up_proj")):
        assert main(["sample", "--model", str(path), "--prompt", "Who?"]) == 2
        line = capsys.readouterr().err.strip()
        assert "\n" not in line
        assert str(path) in line
        assert said in line
    monkeypatch.setattr(transformers.utils, "is_gguf_available", lambda: False)
    with pytest.raises(UserError, match=r"pip install 'oubliette\[gguf\]'"):
        open_model(strange)
