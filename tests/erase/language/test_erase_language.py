import pytest
import torch
from transformers import AutoModelForCausalLM

import tiny_language
from oubliette.backends import open_model
from oubliette.core.errors import UserError
from oubliette.erase.run import erase
from oubliette.recipe import load_recipe


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("erase")
    for kind in ("llama", "gpt2"):
        tiny_language.save(root / kind, kind)
    tiny_language.write_rows(root / "forget.jsonl", tiny_language.FORGET)
    tiny_language.write_rows(root / "retain.jsonl", tiny_language.RETAIN)
    return root


def recipe(root, name, *more):
    files = [f"forget={root / 'forget.jsonl'}", f"retain={root / 'retain.jsonl'}"]
    quick = ["train.steps=4", "train.accumulation=2", "train.learning_rate=1e-3", "train.warm_up=0"]
    return load_recipe(name, [*files, *quick, *more])


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("name", ["npo", "graddiff"])
def test_the_same_line_as_for_pictures_erases_saves_and_undoes(root, tmp_path, kind, name):
    model = open_model(root / kind, device="cpu")
    before = {key: tensor.detach().clone() for key, tensor in model.tensors().items()}
    parts = ["smoother=sam", "surgery=project", "scope=all-linear"]
    result = erase(model, recipe(root, name, *parts), show_progress=False)
    changed = {key for key, tensor in model.tensors().items() if not torch.equal(tensor, before[key])}
    assert changed == set(result.changed)
    assert set(result.losses) == {"forget", "retain"}
    result.save(tmp_path / "full")
    result.save(tmp_path / "delta", form="delta")
    opened = AutoModelForCausalLM.from_pretrained(tmp_path / "full")
    assert all(torch.equal(p, model.tensors()[key]) for key, p in opened.named_parameters())
    again = open_model(tmp_path / "delta", device="cpu")
    assert again.fingerprint() == model.fingerprint()
    result.undo()
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.tensors().items())


def test_a_resumed_erasure_ends_in_the_same_bits(root, tmp_path):
    options = ["smoother=sam", "surgery=project", "train.checkpoint_every=2", "train.schedule=cosine"]
    whole = open_model(root / "llama", device="cpu")
    erase(whole, recipe(root, "npo", *options), checkpoint=tmp_path / "a", show_progress=False)

    class KilledError(Exception):
        pass

    def kill(step, loop):
        raise KilledError

    part = open_model(root / "llama", device="cpu")
    with pytest.raises(KilledError):
        erase(
            part,
            recipe(root, "npo", *options),
            checkpoint=tmp_path / "b",
            callback=kill,
            callback_every=3,
            show_progress=False,
        )
    again = open_model(root / "llama", device="cpu")
    erase(again, recipe(root, "npo", *options), checkpoint=tmp_path / "b", resume=True, show_progress=False)
    assert again.fingerprint() == whole.fingerprint()


def test_what_does_not_fit_a_language_model_is_refused(root):
    model = open_model(root / "gpt2", device="cpu")
    with pytest.raises(UserError, match="scope 'xattn-kv' selects no tensor"):
        erase(model, recipe(root, "npo", "scope=xattn-kv"), show_progress=False)
    with pytest.raises(UserError, match="nothing to forget"):
        erase(model, recipe(root, "npo", "forget=null"), show_progress=False)
    with pytest.raises(UserError, match="cannot be read"):
        erase(model, recipe(root, "npo", "forget=none.jsonl"), show_progress=False)
