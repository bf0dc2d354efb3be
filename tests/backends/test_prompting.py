"""What stands around a question: a template or none, a system text, examples; where that is recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tiny_language
from oubliette.backends import open_model
from oubliette.backends.prompting import Prompting, asked_as
from oubliette.cli import main
from oubliette.core.errors import UserError
from oubliette.core.manifest import read_manifest
from oubliette.data.questions import QA
from oubliette.eval.text.decoding import Decoding
from oubliette.recipe import build_recipe, dump, parse_yaml

SHOTS = (("Who?", "me"),)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("prompting")
    made = {"chat": True, "bare": False}
    return {
        name: open_model(tiny_language.save(root / name, "llama", chat=chat)) for name, chat in made.items()
    }


@pytest.mark.parametrize(
    ("how", "chat", "bare"),
    [
        ({}, "<user>Why?<assistant>", "Why?"),
        ({"system": "Be brief."}, "<system>Be brief.<user>Why?<assistant>", "Be brief.\nWhy?"),
        ({"system": ""}, "<system><user>Why?<assistant>", "Why?"),
        ({"shots": SHOTS}, "<user>Who?<assistant>me<user>Why?<assistant>", "Who?\nme\nWhy?"),
        ({"template": "none", "system": "Now:", "shots": SHOTS}, *["Now:\nWho?\nme\nWhy?"] * 2),
    ],
)
def test_what_a_question_becomes(models: dict[str, Any], how: Any, chat: str, bare: str) -> None:
    for name, wanted in (("chat", chat), ("bare", bare)):
        reader = models[name].reader
        with asked_as(models[name], Prompting(**how)):
            assert reader.prompt("Why?") == wanted
            # Its answer alone counts, whatever stands before it.
            batch = models[name].encode([QA("Why?", "it is blue")])
            counted = batch.input_ids[batch.labels >= 0]
            assert models[name].tokenizer.decode(counted).strip() == "it is blue<|end|>"
            assert batch.input_ids[0, 0] != reader.end
        assert reader.prompting == Prompting()
    assert Prompting(**how).facts() == json.loads(json.dumps(Prompting(**how).facts()))


def test_a_rows_own_system_text_goes_before_ours(models: dict[str, Any]) -> None:
    with asked_as(models["chat"], Prompting(system="Ours.", shots=SHOTS)):
        said = models["chat"].reader.prompt("Why?", (("system", "Its."),))
    assert said == "<user>Who?<assistant>me<system>Its.<user>Why?<assistant>"


def test_no_template_to_chat_with_is_one_line(models: dict[str, Any]) -> None:
    with (
        pytest.raises(UserError, match="its tokenizer has no chat template"),
        asked_as(models["bare"], Prompting(template="chat")),
    ):
        pass
    assert models["bare"].reader.prompting == Prompting()


def test_samples_are_kept_apart_and_a_recipe_keeps_it(models: dict[str, Any]) -> None:
    usual, other = Decoding(8), Decoding(8, prompting=Prompting(system="Be brief."))
    assert usual.facts(None) == Decoding(8, prompting=Prompting()).facts(None) != other.facts(None)
    assert usual.make(models["bare"], ["Why?"], [0]) != other.make(models["bare"], ["Why?"], [0])
    raw = {"method": "npo", "scope": "full", "prompting": {"system": "Be brief.", "shots": [["Who?", "me"]]}}
    recipe = build_recipe(raw, "recipe")
    assert build_recipe(parse_yaml(dump(recipe), "recipe"), "recipe") == recipe


def test_an_erasure_records_it_and_its_evaluation_goes_by_the_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tiny_language.save(tmp_path / "base", "llama", chat=True)
    forget = tiny_language.write_rows(tmp_path / "forget.jsonl", [("Ada?", "Quill"), ("Ida?", "Elm")])
    retain = tiny_language.write_rows(tmp_path / "retain.jsonl", [("Why?", "so"), ("How?", "well")])
    shots = tiny_language.write_rows(tmp_path / "shots.jsonl", list(SHOTS))
    out = tmp_path / "out"
    put = ["--system", "", "--shots", str(shots)]
    rows = ["--forget", str(forget), "--retain", str(retain)]
    line = ["erase", "--model", str(base), "--method", "graddiff", "--steps", "1", "--check", "off"]
    line += [*rows, *put]
    assert main([*line, "--set", "train.accumulation=1", "--set", "train.warm_up=0", "--out", str(out)]) == 0
    said = {"system": "", "shots": [["Who?", "me"]]}
    assert read_manifest(out)["recipe"]["prompting"] == {"template": "auto", **said}
    capsys.readouterr()
    assert main(["eval", "--model", str(out), "--n", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["settings"]["prompting"] == said
    assert main(["eval", "--model", str(out), "--n", "2", "--template", "none", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["settings"]["prompting"] == {"template": "none"}
    assert main(["eval", "--model", str(out), "--template", "letter"]) == 2
    assert "how questions are put: 'template'" in capsys.readouterr().err
