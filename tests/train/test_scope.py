import pytest

from oubliette.core.errors import UserError
from oubliette.train import SCOPES
from oubliette.train.scope import select

from .models import MlpBackend


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        ("xattn-kv", ["net.second.weight"]),
        ({"name": "xattn-kv"}, ["net.second.weight"]),
        ("xattn", ["net.second.weight", "net.second.bias"]),
        ("non-xattn", ["net.first.weight", "net.first.bias"]),
        ("full", ["net.first.weight", "net.first.bias", "net.second.weight", "net.second.bias"]),
        ("all-linear", ["net.first.weight", "net.second.weight"]),
        (r"re:first\.", ["net.first.weight", "net.first.bias"]),
        ("re:bias$", ["net.first.bias", "net.second.bias"]),
    ],
)
def test_rules_select_in_the_models_order(spec, names):
    model = MlpBackend()
    chosen = select(model, spec)
    assert list(chosen) == names
    assert all(chosen[name] is model.tensors()[name] for name in names)


def test_an_empty_selection_says_what_tensors_there_are():
    with pytest.raises(UserError, match=r"scope 're:attn9' selects no tensor of a test.*net\.first\.weight"):
        select(MlpBackend(), "re:attn9")
    with pytest.raises(UserError, match="'text-encoder' selects no tensor"):
        select(MlpBackend(), "text-encoder")


def test_unknown_scopes_are_refused():
    with pytest.raises(UserError, match=r"no scope is called 'xatn-kv'; did you mean 'xattn-kv'\?"):
        select(MlpBackend(), "xatn-kv")
    with pytest.raises(UserError, match="not a regular expression"):
        select(MlpBackend(), "re:(")
    with pytest.raises(UserError, match=r"unknown key 'ranks'; did you mean 'rank'\?"):
        select(MlpBackend(), {"name": "full", "ranks": 3})
    with pytest.raises(UserError, match="give rank too"):
        select(MlpBackend(), {"name": "full", "alpha": 1.0})
    with pytest.raises(UserError, match="exclude each other"):
        select(MlpBackend(), {"name": "full", "rank": 1, "elements": "saliency"})


def test_a_registered_rule_is_found():
    SCOPES.register("biases", lambda model: [name for name in model.tensors() if name.endswith("bias")])
    assert list(select(MlpBackend(), "biases")) == ["net.first.bias", "net.second.bias"]
