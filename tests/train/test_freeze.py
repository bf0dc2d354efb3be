import json

import pytest

from oubliette.core.errors import UserError
from oubliette.train.freeze import apply_freeze

from .models import MlpBackend


def test_frozen_names_leave_the_scope():
    named = MlpBackend().tensors()
    left = apply_freeze(named, ["net.first.weight", "net.second.bias"])
    assert list(left) == ["net.first.bias", "net.second.weight"]
    assert list(apply_freeze(named, None)) == list(named)
    assert list(apply_freeze(named, [])) == list(named)


def test_names_come_from_a_text_file_or_a_json_list(tmp_path):
    text, listed = tmp_path / "mask.txt", tmp_path / "mask.json"
    text.write_text("# a mask\nnet.first.weight\n\n  net.second.bias \n", encoding="utf-8")
    listed.write_text(json.dumps(["net.first.weight", "net.second.bias"]), encoding="utf-8")
    named = MlpBackend().tensors()
    for path in (text, str(listed)):
        assert list(apply_freeze(named, path)) == ["net.first.bias", "net.second.weight"]


def test_a_name_outside_the_scope_but_in_the_model_is_no_error():
    named = MlpBackend().tensors()
    part = {"net.first.weight": named["net.first.weight"]}
    assert list(apply_freeze(part, ["net.second.bias"], known=named)) == ["net.first.weight"]


@pytest.mark.parametrize(
    ("content", "message"),
    [('{"a": 1}', "expected a JSON list"), ("[1]", "expected a JSON list"), ("[", "not JSON")],
)
def test_broken_files_are_refused(tmp_path, content, message):
    path = tmp_path / "mask.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        apply_freeze(MlpBackend().tensors(), path)


def test_refusals(tmp_path):
    named = MlpBackend().tensors()
    with pytest.raises(
        UserError, match=r"no tensor 'net\.frist\.weight'; did you mean 'net\.first\.weight'\?"
    ):
        apply_freeze(named, ["net.frist.weight"])
    with pytest.raises(UserError, match="nothing is left"):
        apply_freeze(named, list(named))
    with pytest.raises(UserError, match="no such file"):
        apply_freeze(named, tmp_path / "none.txt")
