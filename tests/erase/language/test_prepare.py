import pytest
import torch

import tiny_language
from oubliette.backends.language import LanguageBackend
from oubliette.core.errors import UserError
from oubliette.data.questions import QA
from oubliette.data.text import InputWarning
from oubliette.erase.language.prepare import TokenSet, prepare
from oubliette.erase.request import ErasureRequest
from oubliette.train.config import TrainConfig
from oubliette.train.finetune import FineTune
from oubliette.train.loop import Loop
from oubliette.train.scope import select
from oubliette.train.weights import Weights


@pytest.fixture
def model(tmp_path):
    return LanguageBackend.open(tiny_language.save(tmp_path / "model", "gpt2"), device="cpu")


def test_files_become_token_sets(model, tmp_path):
    forget = tiny_language.write_rows(tmp_path / "f.jsonl", tiny_language.FORGET)
    retain = tiny_language.write_rows(tmp_path / "r.jsonl", tiny_language.RETAIN)
    data = prepare(model, ErasureRequest(forget=forget, retain_file=retain), seed=0)
    assert (len(data.forget), len(data.retain)) == (2, 3)
    assert prepare(model, ErasureRequest(forget=forget), seed=0).retain is None


def test_errors_name_the_file(model, tmp_path):
    with pytest.raises(UserError, match="nothing to forget"):
        prepare(model, ErasureRequest(), seed=0)
    path = tiny_language.write_rows(tmp_path / "f.jsonl", [("word " * 90, "x")])
    with pytest.raises(UserError, match=r"f\.jsonl, line 1 \('word .*is \d+ tokens long, and .* reads 64"):
        prepare(model, ErasureRequest(forget=path), seed=0)


def test_rows_in_both_sets_are_told_of_and_all_of_them_refused(model, tmp_path):
    forget = tiny_language.write_rows(tmp_path / "f.jsonl", tiny_language.FORGET)
    some = tiny_language.write_rows(tmp_path / "r.jsonl", [*tiny_language.RETAIN, tiny_language.FORGET[1]])
    with pytest.warns(InputWarning, match=r"r\.jsonl: 1 of the 2 rows to forget stand here too, .* line 4"):
        prepare(model, ErasureRequest(forget=forget, retain_file=some), seed=0)
    with pytest.raises(UserError, match=r"2 of the 2 rows .*nothing would be forgotten"):
        prepare(model, ErasureRequest(forget=forget, retain_file=forget), seed=0)


@pytest.mark.parametrize("chat", [False, True])
def test_a_conversation_is_read_with_what_was_said_before(tmp_path, chat):
    model = LanguageBackend.open(tiny_language.save(tmp_path / "m", "gpt2", chat=chat), device="cpu")
    row = QA("When?", "Then.", (("system", "Be brief."), ("user", "Who?"), ("assistant", "She.")))
    batch = model.encode([row])
    words = model.tokenizer.decode(batch.input_ids[0])
    turns = ["Be brief.", "Who?", "She.", "When?", "Then."]
    assert [words.index(turn) for turn in turns] == sorted(words.index(turn) for turn in turns)
    counted = batch.labels[0][batch.labels[0] != -100]
    assert model.tokenizer.decode(counted).strip().startswith("Then.")


def test_turns_that_a_template_refuses_are_one_line(tmp_path):
    model = LanguageBackend.open(tiny_language.save(tmp_path / "m", "gpt2", chat=True), device="cpu")
    model.tokenizer.chat_template = "{{ raise_exception('no system role') }}"
    with pytest.raises(UserError, match=r"chat template refuses the turns system, user .no system role"):
        model.encode([QA("When?", "Then.", (("system", "Be brief."),))])


def test_a_long_row_is_refused_without_the_tokenizers_own_word(model, tmp_path, caplog):
    with pytest.raises(UserError, match="reads 64"):
        model.encode([QA("word " * 90, "x")])
    assert not caplog.records


def test_picking_repeats_no_row_before_all_were_picked(model):
    rows = TokenSet(_rows(model))
    for seed in range(20):
        picked = rows.pick(torch.Generator().manual_seed(seed), 8)
        assert len(picked) == 8
        assert all(sorted(picked[i : i + 3].tolist()) == [0, 1, 2] for i in (0, 3))
    assert torch.equal(
        rows.pick(torch.Generator().manual_seed(1), 3), rows.pick(torch.Generator().manual_seed(1), 3)
    )


def test_a_token_set_is_data_for_plain_fine_tuning(model):
    data = TokenSet(_rows(model))
    config = TrainConfig(steps=20, batch=3, learning_rate=3e-3)
    loop = Loop(model, FineTune(), data, Weights(select(model, "full")), config, show_progress=False)
    loop.run()
    assert loop.records[-1]["loss"]["fit"] < 0.8 * loop.records[0]["loss"]["fit"]


def _rows(model):
    from oubliette.data.questions import QA

    return model.encode([QA(*pair) for pair in tiny_language.RETAIN])
