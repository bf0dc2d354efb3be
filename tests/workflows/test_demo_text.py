"""`oubliette demo --text` on a tiny random model of the text world's form."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from oubliette.backends import open_model
from oubliette.cli import main
from oubliette.core.manifest import write_manifest
from oubliette.workflows.world.training.language import blank
from oubliette.world import embedded


def test_it_writes_models_figures_and_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, name in enumerate(("nano-lm", "nano-lm-gold")):
        blank(width=24, blocks=2, seed=seed).save_pretrained(tmp_path / "weights" / name)
        AutoTokenizer.from_pretrained(str(embedded.WEIGHTS / "nano-lm")).save_pretrained(
            tmp_path / "weights" / name
        )
        write_manifest(tmp_path / "weights" / name, {"world": "text"})
    monkeypatch.setattr(embedded, "WEIGHTS", tmp_path / "weights")
    monkeypatch.chdir(tmp_path)
    asked = ["demo", "--text", "--method", "npo", "--n", "4", "--save", "delta", "--out", "d", "--json"]
    assert main([*asked, "--set", "train.steps=1", "--set", "train.batch=2", "--set", "train.warm_up=0"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["models"]) == {"NPO"}
    assert open_model("d/npo").source == "d/npo"
    assert sorted(path.name for path in Path("d").iterdir()) == ["npo", "report"]
    page = Path("d/report/index.html").read_text()
    assert "forgotten by nano-lm" in page
    assert "gold" in page
    record = json.loads(Path("d/npo/oubliette.json").read_text())
    assert Path(record["recipe"]["forget"]).is_file()  # what a later `oubliette eval` asks about
    assert main([*asked, "--method", "npo"]) == 2  # the folder is there
