"""`oubliette continual run` on pictures in folders: its result, its record, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from continual.toys import toy
from oubliette.backends.classifier import ClassifierBackend
from oubliette.cli import main
from oubliette.core.errors import UserError
from oubliette.train.loop import Loop

SMALL = [
    *("--tasks", "3x2", "--buffer", "6", "--set", "side=8", "--set", "widths=[8, 8]", "--set", "epochs=1"),
    *("--set", "batch=4", "--set", "replay=4", "--set", "fisher_rows=4"),
]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    data = toy(train=10)
    for index, (picture, label) in enumerate(zip(data.pictures, data.labels, strict=True)):
        path = tmp_path / "pictures" / data.classes[label] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
    return tmp_path / "pictures"


def run(pictures: Path, out: Path, *more: str) -> int:
    return main(["continual", "run", "--data", str(pictures), "--out", str(out), *SMALL, *more])


def test_it_learns_saves_and_says_what_it_came_to(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(pictures, tmp_path / "out", "--refresh", "released", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    kept = json.loads((tmp_path / "out" / "oubliette.json").read_text())
    assert kept["continual"]["figures"] == said["figures"]
    assert said["settings"]["refresh"] == {"form": "released"}
    assert said["classes"][0] == "class 0"
    opened = ClassifierBackend.open(tmp_path / "out", device="cpu")
    assert opened.fingerprint() == said["weights"]
    assert not (tmp_path / "out.unfinished").exists()
    assert run(pictures, tmp_path / "again", "--refresh", "released") == 0
    assert "class-il accuracy" in capsys.readouterr().out
    assert ClassifierBackend.open(tmp_path / "again").fingerprint() == said["weights"]


def test_cut_short_it_goes_on_in_the_same_bits(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(pictures, tmp_path / "whole") == 0
    update, left = Loop._update, [8]

    def watched(self: Loop) -> dict[str, float]:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return update(self)

    monkeypatch.setattr(Loop, "_update", watched)
    assert run(pictures, tmp_path / "part") == 130
    assert run(pictures, tmp_path / "part") == 2  # without --resume
    assert run(pictures, tmp_path / "part", "--resume", "--seed", "1") == 2  # another run's
    assert run(pictures, tmp_path / "part", "--resume") == 0
    ends = [ClassifierBackend.open(tmp_path / name).fingerprint() for name in ("whole", "part")]
    assert ends[0] == ends[1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--tasks", "4x2"), "possible: 6x1, 3x2, 2x3"),
        (("--buffer", "0"), "its size is 0"),
        (("--method", "derpp"), "der++"),
        (("--refresh", "always"), "expected none, released, paper"),
        (("--set", "refresh.J=2"), "there is no refresh to set"),
        (("--refresh", "paper", "--set", "refresh.gama=2"), "unknown key 'gama'; did you mean 'gamma'"),
        (("--set", "epoch=2"), "unknown key 'epoch'; did you mean 'epochs'"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], said: str
) -> None:
    assert run(pictures, tmp_path / "out", *options) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert "\n" not in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pictures"]


def test_a_folder_that_is_no_classifier_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        ClassifierBackend.open(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="not a classifier of this package"):
        ClassifierBackend.open(tmp_path)
    model = ClassifierBackend(["a", "b"], 8, widths=(8, 8), gaussian=True, device="cpu")
    model.save(tmp_path / "net")
    opened = ClassifierBackend.open(tmp_path / "net")
    assert torch.equal(opened.rehearse(2), model.rehearse(2))
    with pytest.raises(UserError, match="saved full"):
        model.save(tmp_path / "delta", form="delta")
