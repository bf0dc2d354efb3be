"""Documents laid into rows see each other not at all; the stages go on from one another and ship."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from oubliette.backends import open_model
from oubliette.backends.tokens import IGNORED, TokenBatch
from oubliette.core.errors import UserError
from oubliette.workflows.world.training import language
from oubliette.workflows.world.training.language import TextTrainer, blank, pack, train_language
from oubliette.world.text.corpus import spelling
from oubliette.world.text.tokens import CONTEXT, SPECIAL


def _documents(lengths: list[int], start: int = 20) -> list[TokenBatch]:
    made = []
    for length in lengths:
        ids = torch.arange(start, start + length)[None]
        labels = torch.where(ids > start + 1, ids, IGNORED)
        made.append(TokenBatch(ids, torch.ones_like(ids), labels))
        start += length
    return made


def test_a_packed_document_is_read_as_it_is_alone() -> None:
    documents = _documents([5, 9, 4, 12, 7, 3, 20])
    left = iter(documents)
    batch = pack(lambda: next(left), 2, 20)
    model = blank(400, width=48, blocks=2).eval()
    labels = batch.pop("labels")
    with torch.no_grad():
        together = model(**batch, use_cache=False).logits
        # By first fit in order: 5 + 9 + 4 in the first row, 12 + 7 in the second; the third 3 no longer fits.
        for document, row, start in zip(documents[:5], (0, 0, 0, 1, 1), (0, 5, 14, 0, 12), strict=True):
            size = document.input_ids.shape[1]
            alone = model(document.input_ids).logits[0]
            assert torch.allclose(together[row, start : start + size], alone, atol=1e-5)
            assert torch.equal(labels[row, start + 1 : start + size], document.labels[0, 1:])
            assert labels[row, start] == IGNORED
    assert (labels[0, 18:] == IGNORED).all()
    assert (labels[1, 19:] == IGNORED).all()


def test_padding_sees_itself_alone() -> None:
    left = iter(_documents([3, 30]))
    mask = pack(lambda: next(left), 1, 8)["attention_mask"][0, 0]
    assert mask.diagonal().all()
    assert not mask[3:, :3].any()
    assert not mask.triu(1).any()


def test_the_size_of_the_models() -> None:
    model = blank()
    count = sum(parameter.numel() for parameter in model.parameters())
    assert 3_000_000 < count < 3_100_000
    assert model.config.max_position_embeddings == CONTEXT == 512
    assert model.config.tie_word_embeddings
    assert len(SPECIAL) == 13
    assert "<image>" in SPECIAL
    assert sum(name.startswith("<spare") for name in SPECIAL) == 7


def test_an_unknown_stage_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown training stage 'nano'"):
        train_language(["nano"], tmp_path / "cache")


def test_the_models_fork_from_one_stem_and_ship(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def small(vocabulary: int) -> Any:
        return blank(vocabulary, width=24, blocks=1)

    monkeypatch.setattr(language, "blank", small)
    monkeypatch.setattr(language, "spelling", lambda: spelling(1500))
    steps = {"stem": 2, "nano-lm": 3, "nano-lm-gold": 3}
    out = train_language([], tmp_path / "cache", tmp_path / "out", steps=steps)
    logs = {path.stem: path.read_text().splitlines() for path in (out / "logs").iterdir()}
    assert set(logs) == {"lm-stem", "nano-lm", "nano-lm-gold"}
    assert json.loads(logs["nano-lm"][-1])["step"] == 3
    nano, gold = (open_model(out / name) for name in ("nano-lm", "nano-lm-gold"))
    for model in (nano, gold):
        assert model.world == "text"
        assert model.stored_dtype == torch.float16  # type: ignore[attr-defined]
    assert any(
        not torch.equal(one, other)
        for one, other in zip(nano.tensors().values(), gold.tensors().values(), strict=True)
    )
    prompt = nano.reader.prompt("Who?")  # type: ignore[attr-defined]
    assert prompt == "<bos><user>Who?<assistant>"
    # A finished stage is read, not trained again: the same bits from the same cache.
    again = TextTrainer(tmp_path / "cache", steps).ship(tmp_path / "again")
    file = "nano-lm/model.safetensors"
    assert (out / file).read_bytes() == (again / file).read_bytes()
