import warnings

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

import tiny_language
from oubliette.backends import open_model
from oubliette.backends.base import Backend
from oubliette.backends.language import LanguageBackend
from oubliette.backends.tokens import IGNORED
from oubliette.core.errors import UserError
from oubliette.data.questions import QA
from oubliette.train.scope import select

KINDS = ["llama", "gpt2"]
ROWS = [QA(*pair) for pair in tiny_language.FORGET + tiny_language.RETAIN]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folders of tiny models, by (kind, dtype); read only."""
    root = tmp_path_factory.mktemp("language")
    return {
        (kind, dtype): tiny_language.save(root / f"{kind}-{str(dtype)[6:]}", kind, dtype=dtype)
        for kind in KINDS
        for dtype in (torch.float32, torch.bfloat16)
    }


def stored(folder):
    """Every stored tensor's bytes."""
    found = {}
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118
                found[name] = opened.get_tensor(name).view(torch.uint8).numpy().tobytes()
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_open_model_finds_a_language_model_by_its_folder(folders, kind):
    model = open_model(folders[kind, torch.float32], device="cpu")
    assert isinstance(model, Backend)
    assert model.kind == "language"
    assert not any(p.requires_grad for p in model.tensors().values())
    assert len({id(p) for p in model.tensors().values()}) == len(model.tensors())


@pytest.mark.parametrize("kind", KINDS)
def test_predict_is_the_models_own_output_whatever_the_padding(folders, kind):
    model = LanguageBackend.open(folders[kind, torch.float32], device="cpu")
    batch = model.encode(ROWS)
    logits = model.predict(batch)
    for index in range(len(ROWS)):
        alone = batch.index([index])
        reference = model.model(input_ids=alone.input_ids).logits
        assert torch.allclose(logits[index, : reference.shape[1]], reference[0], atol=1e-5)


def test_answers_count_and_questions_do_not(folders):
    model = LanguageBackend.open(folders["llama", torch.float32], device="cpu")
    batch = model.encode([QA("Who painted the red door?", "Ada Marlow"), QA("", "Paris is blue")])
    words = model.tokenizer
    texts = []
    for ids, labels in zip(batch.input_ids, batch.labels, strict=True):
        counted = labels != IGNORED
        assert torch.equal(labels[counted], ids[counted])
        texts.append((words.decode(ids[counted]), words.decode(ids[~counted & (ids != 0)])))
    assert texts[0] == (" Ada Marlow<|end|>", "Who painted the red door?")
    assert texts[1] == ("Paris is blue<|end|>", "")


def test_chat_models_are_asked_in_their_own_template(tmp_path):
    model = LanguageBackend.open(tiny_language.save(tmp_path / "chat", "llama", chat=True), device="cpu")
    batch = model.encode([QA("Who?", "me")])
    counted = batch.labels[0] != IGNORED
    assert model.tokenizer.decode(batch.input_ids[0]) == "<user>Who?<assistant>me<|end|>"
    assert model.tokenizer.decode(batch.input_ids[0][counted]) == "me<|end|>"


@pytest.mark.parametrize("kind", KINDS)
def test_log_likelihood_is_the_sum_over_the_answer_by_brute_force(folders, kind):
    model = LanguageBackend.open(folders[kind, torch.float32], device="cpu")
    batch = model.encode(ROWS)
    found = model.log_likelihood(model.predict(batch), batch)
    for index, row in enumerate(ROWS):
        question = len(model.tokenizer(row.question)["input_ids"])
        ids = [*model.tokenizer(f"{row.question} {row.answer}")["input_ids"], 0]
        total = 0.0
        for position in range(question, len(ids)):
            logits = model.model(input_ids=torch.tensor([ids[:position]])).logits[0, -1].double()
            total += float(logits.log_softmax(0)[ids[position]])
        assert float(found[index]) == pytest.approx(total, rel=1e-4)
        assert int(batch.counts()[index]) == len(ids) - question


@pytest.mark.parametrize("kind", KINDS)
def test_respond_is_greedy_and_does_not_depend_on_its_neighbours(folders, kind):
    model = LanguageBackend.open(folders[kind, torch.float32], device="cpu")
    prompts = ["Who?", "What colour is the sky over the town of Quill?"]
    together = model.respond(prompts, max_new_tokens=5)
    assert together == [model.respond([prompt], max_new_tokens=5)[0] for prompt in prompts]
    ids = list(model.tokenizer("Who?")["input_ids"])
    start = len(ids)
    for _ in range(5):
        ids.append(int(model.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    assert together[0] == model.tokenizer.decode(ids[start:], skip_special_tokens=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_saved_models_open_with_transformers_and_keep_unchanged_bytes(folders, tmp_path, kind, dtype):
    source = folders[kind, dtype]
    model = LanguageBackend.open(source, device="cpu")
    assert model.model.dtype == torch.float32
    name = next(name for name in model.tensors() if "mlp" in name)
    with torch.no_grad():
        model.tensors()[name].add_(1.0)
    model.save(tmp_path / "out", record={"seed": 3})
    before, after = stored(source), stored(tmp_path / "out")
    assert sorted(before) == sorted(after)
    assert [key for key in before if before[key] != after[key]] == [name]
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert again.dtype == dtype
    AutoTokenizer.from_pretrained(tmp_path / "out")
    opened = open_model(tmp_path / "out", device="cpu")
    assert torch.equal(opened.tensors()[name], model.tensors()[name].to(dtype).float())
    from oubliette.core.manifest import read_manifest

    facts = read_manifest(tmp_path / "out")
    assert facts["changed"] == [name]
    assert facts["seed"] == 3
    assert facts["fingerprint"] == opened.fingerprint()


@pytest.mark.parametrize("kind", KINDS)
def test_base_and_delta_are_the_full_model(folders, tmp_path, kind):
    model = LanguageBackend.open(folders[kind, torch.bfloat16], device="cpu")
    chosen = select(model, "all-linear")
    assert all("embed" not in name and "wte" not in name and "lm_head" not in name for name in chosen)
    with torch.no_grad():
        for parameter in chosen.values():
            parameter.mul_(1.5)
    model.save(tmp_path / "full")
    model.save(tmp_path / "delta", form="delta")
    held = LanguageBackend.open(folders[kind, torch.bfloat16], device="cpu")
    model.save(tmp_path / "held", form="delta", base=held)
    full = open_model(tmp_path / "full", device="cpu")
    for form in ("delta", "held"):
        opened = open_model(tmp_path / form, device="cpu")
        assert opened.fingerprint() == full.fingerprint()
        assert all(torch.equal(tensor, full.tensors()[name]) for name, tensor in opened.tensors().items())
        with safe_open(tmp_path / form / "delta.safetensors", framework="pt") as file:
            assert sorted(file.keys()) == sorted(chosen)


def test_the_fingerprint_is_that_of_the_stored_weights_in_any_dtype(folders):
    wide = LanguageBackend.open(folders["llama", torch.bfloat16], device="cpu")
    narrow = LanguageBackend.open(folders["llama", torch.bfloat16], device="cpu", dtype=torch.bfloat16)
    assert wide.fingerprint() == narrow.fingerprint()
    with torch.no_grad():
        next(iter(wide.tensors().values())).add_(1e-6)
    assert wide.fingerprint() != narrow.fingerprint()


def test_a_model_in_memory_saves_full_only(tmp_path):
    words = tiny_language.tokenizer()
    model = LanguageBackend(tiny_language.model("gpt2", len(words)), words)
    with pytest.raises(UserError, match="has no base on disk"):
        model.save(tmp_path / "delta", form="delta")
    model.save(tmp_path / "full", dtype=torch.bfloat16)
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "full").dtype == torch.bfloat16
    assert model.model.dtype == torch.float32


def test_rounding_away_an_update_is_warned_of(folders, tmp_path):
    model = LanguageBackend.open(folders["gpt2", torch.bfloat16], device="cpu")
    with torch.no_grad():
        for parameter in model.tensors().values():
            parameter.mul_(1 + 1e-4)
    with pytest.warns(UserWarning, match="rounding"):
        model.save(tmp_path / "rounded")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.save(tmp_path / "exact", dtype=torch.float32)


def test_refusals(folders, tmp_path):
    model = LanguageBackend.open(folders["llama", torch.float32], device="cpu")
    with pytest.raises(UserError, match=r"row 2 .*is \d+ tokens long, and .* reads 64; shorten it"):
        model.encode([QA("Who?", "me"), QA("long " * 80, "me")])
    with pytest.raises(UserError, match="exists already"):
        model.save(folders["llama", torch.float32])
    with pytest.raises(UserError, match="no save form 'fulll'"):
        model.save(tmp_path / "x", form="fulll")
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "config.json").write_text("{}")
    with pytest.raises(UserError, match="holds no weights"):
        LanguageBackend.open(tmp_path / "p")
    (tmp_path / "p" / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(UserError, match="is a pickle"):
        open_model(tmp_path / "p")
    assert not (tmp_path / "x").exists()
