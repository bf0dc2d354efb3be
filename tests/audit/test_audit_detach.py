"""Models whose eraser is attached: audited with it and without, and told for what they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import tiny_erasure
import tiny_world
from audit import toys
from audit.test_audit_cli import SMALL
from oubliette.audit.attack_runner import PictureAttackRunner
from oubliette.audit.context import Described
from oubliette.audit.read_suite import read_suite
from oubliette.audit.resolve import describe
from oubliette.audit.result import Audit, RowResult
from oubliette.audit.suite import ProbeRow, RelearnRow
from oubliette.cli import main
from oubliette.data.concept import Concept
from oubliette.erase import METHODS
from oubliette.eval.pictures.sampling import Sampling
from oubliette.workflows.audit import conclude, run_rows
from oubliette.workflows.audit_setup import Setting
from oubliette.world.world import OPEN

CAR = Concept("car", "object")
DETACH: dict[str, Any] = {"row": "probe", "probe": "detach", "cases": 48}


class Detaching(toys.ToyDriver):
    """Whose probe is the real one's description: what is attached comes off, and `door` shows."""

    def __init__(self, attached: bool) -> None:
        super().__init__()
        self.attached = attached

    def describe(self, spec: Any) -> Described:
        if spec.kind != "probe":
            return super().describe(spec)
        return describe(spec, OPEN, Sampling(), frozen=0, given=False, attached=self.attached)


def audited(model: toys.Pupil, *, attached: bool, gold: Any = None) -> Audit:
    rows = (toys.RELEARN, DETACH)
    bench = toys.bench(model, gold=gold, suite=toys.suite(*rows), driver=Detaching(attached))
    sources = {"model": model.source, "base": "original", "gold": "gold"}
    return conclude(Setting(bench, sources, []), run_rows(bench, None, show_progress=False))


@pytest.mark.parametrize("gold", [True, False])
def test_what_comes_off_only_hides(gold: bool) -> None:
    """Slower to relearn than gold, and clean on prompts: but the weights are the original's."""
    veiled = toys.Pupil(half=20.0, door=1.0, source="veiled")
    found = audited(veiled, attached=True, gold=toys.gold() if gold else None)
    assert found.verdict.word == "hidden"
    assert "taking off what is attached to the model brings it back in 48 of 48" in found.verdict.sentence


@pytest.mark.parametrize("gold", [True, False])
def test_where_nothing_is_attached_the_row_has_no_say(gold: bool) -> None:
    real = toys.Pupil(half=20.0, door=1.0, source="real")
    found = audited(real, attached=False, gold=toys.gold() if gold else None)
    assert found.verdict.word == ("erased" if gold else "suppressed on prompts")
    row: RowResult = found.rows[-1]
    assert (row.status, row.moot) == ("skipped", True)
    assert row.note == "not applicable: nothing is attached to the model"
    assert not any("detach" in line for line in (*found.verdict.reasons, *found.verdict.limits))


@pytest.mark.parametrize("name", ["quick", "standard", "full"])
def test_the_suites_take_it_off_last(name: str) -> None:
    row = read_suite(name).rows[-1]
    assert isinstance(row, ProbeRow)
    assert row.probe == "detach"


def test_it_needs_no_pictures_of_the_concept() -> None:
    made = describe(ProbeRow(probe="detach"), OPEN, Sampling(), frozen=0, given=False, attached=True)
    assert made.skip == ""
    assert made.budget["given_pictures"] is False


@pytest.mark.parametrize("mode", ["full", "lora", "text-encoder", "textual-inversion"])
@pytest.mark.parametrize("name", ["sld", "safree", "adavd"])
def test_fine_tuning_trains_the_weights_and_looks_through_the_attachment(mode: str, name: str) -> None:
    model, bare = tiny_erasure.backend(), tiny_erasure.backend()
    method = METHODS.get(name)
    options = method.Options(**({"warm_up": 0} if name == "sld" else {}))
    own = method(options, tiny_erasure.request()).attachment(model, None, model.text_facing())
    model.attach(own)
    how: dict[str, Any] = {"steps": 2, "guidance": 2.0}
    drawn: list[dict[str, Any]] = []

    def look(step: int, attacked: Any) -> None:
        seen = attacked.draw_latents([prompt], [0], **how)
        with attacked.detached():
            drawn.append({"seen": seen, "bare": attacked.draw_latents([prompt], [0], **how)})

    spec = RelearnRow(mode=mode, budget={**SMALL, "learning_rate": 0.01})
    driver = PictureAttackRunner(CAR, bare, sampling=Sampling(steps=2, guidance=2.0, batch=4), words=["car"])
    prompt = (driver.rewrite(spec) or str)("a red car")
    driver.relearn(spec, model, seed=1, at=[0, 2], look=look)
    before, after = drawn
    assert not torch.equal(before["seen"], before["bare"])
    assert not torch.equal(after["seen"], after["bare"])
    assert not torch.equal(before["seen"], after["seen"])
    assert not torch.equal(before["bare"], after["bare"])
    assert model.attachment is own
    assert all(torch.equal(tensor, bare.tensors()[key]) for key, tensor in model.tensors().items())


@pytest.fixture
def here(
    tmp_path: Path,
    tiny_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """As in `test_audit_cli`: random weights for the embedded models, a base that shows the concept."""
    tiny_world.install(tmp_path_factory.mktemp("weights"), tiny_folder, monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("oubliette.audit.leakage_meter.LeakageMeter.span", 0.5)
    monkeypatch.setenv("OUBLIETTE_CACHE", str(tmp_path_factory.mktemp("cache")))
    return tmp_path


def test_an_attached_model_from_the_command_line(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Erased, drawn from, and audited by fine-tuning and by taking it off, by its folder's name."""
    from oubliette.backends import open_model

    erase = ["erase", "--model", "nano", "--concept", "car", "--check", "off"]
    assert main([*erase, "--method", "adavd", "--out", "veiled"]) == 0
    assert main(["sample", "--model", "veiled", "--prompt", "a car", "--steps", "2", "--out", "car.png"]) == 0
    weights = open_model("veiled").tensors()
    capsys.readouterr()
    detach = ["attack", "probe", "--probe", "detach", "--sampling-steps", "2", "--cases", "2"]
    assert main([*detach, "--model", "nano-gold", "--base", "nano", "--concept", "car"]) == 2
    assert "not applicable: nothing is attached to the model" in capsys.readouterr().err
    rows = [
        {"row": "evaluation", "n": 2, "each": 1, "near_n": 1},
        {"row": "relearn", "attack": "F2", "nano": SMALL},
    ]
    how = {"points": 2, "pictures": 2, "kept": 1, "steps": 2, "retained": [{"name": "truck"}]}
    suite = {**how, "rows": [*rows, {**DETACH, "cases": 2}]}
    (here / "tiny.yaml").write_text(yaml.safe_dump(suite))
    assert main(["audit", "--model", "veiled", "--suite", "tiny.yaml", "--out", "audit"]) == 0
    found = Audit.read(here / "audit")
    assert [row.status for row in found.rows] == ["done"] * 3
    assert found.model.fingerprint != found.base.fingerprint
    assert {made.subject for made in found.rows[2].found} == {"model", "gold"}
    assert all((open_model("nano").tensors()[name] == tensor).all() for name, tensor in weights.items())
