"""The field's protocols from the command line: rows with intervals and n, JSON, files, mistakes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes import THINGS, ToyJudge, ToyModel
from tiny_judges import clip_folder

from oubliette.cli import main
from oubliette.eval.protocols.canvas import Canvas
from oubliette.eval.protocols.cer import CerResult
from oubliette.eval.protocols.classes import ClassResult
from oubliette.eval.protocols.harmonic import HarmonicResult

GRID = ["--styles", "neon,flat", "--objects", "car,truck"]
TABLE = "case_number,prompt,evaluation_seed,class\n0,a car,1,car\n1,a boat,2,boat\n2,a truck,3,truck\n"


class Both(ToyModel):
    """Draws an object in one half and a style in the other."""

    def draw(self, prompts: Any, seeds: Any, **how: Any) -> Any:
        found = super().draw([prompt.partition(" in ")[0] for prompt in prompts], seeds, **how)
        styled = super().draw([prompt.partition(" in ")[2] for prompt in prompts], seeds, **how)
        found[:, 4:] = styled[:, 4:]
        return found


class HalfJudge(ToyJudge):
    """Looks for objects in the upper half, for styles in the lower."""

    def hits(self, pictures: Any, concept: Any) -> Any:
        return super().hits(pictures[:, 4:] if concept.kind == "style" else pictures[:, :4], concept)


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Toy models and judges by name, in an empty working folder."""
    models = {
        "whole": Both(source="whole"),
        "less": Both([name for name in THINGS if name != "car"], source="less"),
        "words": type("Words", (), {"kind": "language", "source": "words"})(),
    }
    judges: dict[str, Callable[[], Any]] = {"toy": ToyJudge, "half": HalfJudge}
    monkeypatch.setattr("oubliette.backends.open_model", lambda name: models[name])
    for module in ("canvas", "canvas_folder", "classes", "harmonic"):
        own = f"oubliette.eval.protocols.{module}.open_judge"
        monkeypatch.setattr(own, lambda name, model=None: judges[name]())
    (tmp_path / "classes.csv").write_text(TABLE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.split())


def test_canvas(toys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["protocol", "canvas", "--model", "less", "--model", "whole", "--concept", "car", *GRID]
    assert main([*command, "--judge", "half", "--out", "figures.json"]) == 0
    shown = said(capsys)
    assert "less car toy 100.0 % [72.2, 100.0] n=10 100.0 % [72.2, 100.0] n=10 100.0 %" in shown
    assert "whole car toy 0.0 % [0.0, 27.8] n=10" in shown
    assert "grid: 2 styles x 2 objects x 5 seeds" in shown
    found = [Canvas.from_dict(content) for content in json.loads(Path("figures.json").read_text())]
    assert [one.source for one in found] == ["less", "whole"]
    assert {path.name for path in toys.iterdir()} == {"classes.csv", "figures.json"}


def test_canvas_of_a_folder(toys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    model = Both(["truck", "neon", "flat"])
    for style in ("neon", "flat"):
        for thing in ("car", "truck"):
            path = toys / "answers" / style / thing / "188.png"
            path.parent.mkdir(parents=True)
            Image.fromarray(model.draw([f"{thing} in {style}"], [188])[0]).save(path)
    command = ["protocol", "canvas", "--folder", "answers", "--judge", "half"]
    assert main([*command, "--concept", "car", "--kind", "object"]) == 0
    assert "answers car toy 100.0 % [34.2, 100.0] n=2 100.0 % [34.2, 100.0] n=2" in said(capsys)
    assert main([*command, "--concept", "car"]) == 2
    assert "give --concept and --kind" in capsys.readouterr().err
    assert main([*command, "--concept", "car", "--kind", "object", "--model", "less"]) == 2
    assert "--model does nothing for a folder" in capsys.readouterr().err


def test_classes(toys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["protocol", "classes", "--model", "less", "--prompts", "classes.csv", "--judge", "half"]
    assert main([*command, "--erased", "car"]) == 0
    assert "less car toy 0.0 % [0.0, 79.3] n=1 100.0 % [20.7, 100.0] n=1 100.0 %" in said(capsys)
    assert main([*command, "--erased", "car", "--json"]) == 0
    (content,) = json.loads(capsys.readouterr().out)
    assert ClassResult.from_dict(content).figures[0].esr.value == 1
    assert main([*command, "--erased", "cat"]) == 2
    assert "the table has no class 'cat'" in capsys.readouterr().err


def test_harmonic_needs_something_beside_it(
    toys: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["protocol", "harmonic", "--model", "less", "--concept", "car", "--judge", "half", "--n", "4"]
    assert main(command) == 2
    assert "no other object than 'car'" in capsys.readouterr().err
    from fakes import RETAINED

    monkeypatch.setattr("oubliette.eval.pictures.evaluator.rest_of_world", lambda base, concepts: RETAINED)
    assert main([*command, "--json"]) == 0
    (content,) = json.loads(capsys.readouterr().out)
    (figures,) = HarmonicResult.from_dict(content).figures
    assert (figures.form, figures.value.value) == ("H_c", 1.0)
    assert main(command) == 0
    assert "toy, top-1 H_c 100.0 % [" in said(capsys)


def test_cer(toys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = str(clip_folder(toys / "tiny-clip"))
    command = ["protocol", "cer", "--model", "less", "--concept", "car", "--judge", clip, "--each", "1"]
    assert main([*command, "--out", "cer.json"]) == 0
    shown = said(capsys)
    assert "less car clip:tiny-clip" in shown
    assert "n=8" in shown
    assert "CER: 8 templates (the package's own), 1 pictures each, against the empty text" in shown
    (content,) = json.loads(Path("cer.json").read_text())
    assert CerResult.from_dict(content).figures[0].concept == "car"
    assert main([*command, "--out", "cer.json"]) == 2
    assert "exists already" in capsys.readouterr().err


@pytest.mark.usefixtures("toys")
def test_what_cannot_be_measured(capsys: pytest.CaptureFixture[str]) -> None:
    for models, message in ((["--model", "words"], "words: is a language model"), ([], "no model was given")):
        assert main(["protocol", "canvas", *models, "--concept", "car", *GRID]) == 2
        assert message in capsys.readouterr().err
