"""benchmarks/golden.py: what is written down, what is left out, and what a comparison says."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

HERE = Path(__file__).resolve().parents[2] / "benchmarks" / "golden.py"


@pytest.fixture
def golden(monkeypatch: pytest.MonkeyPatch) -> Any:
    spec = importlib.util.spec_from_file_location("golden", HERE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in [*module.SURROUNDINGS, "XDG_CACHE_HOME"]:
        monkeypatch.setenv(name, "kept")  # put back after the test, whatever a run sets
    return module


def test_what_differs_from_run_to_run_is_left_out_and_nothing_else(golden: Any) -> None:
    value = {
        "seconds": 3.2,
        "record": {"created": "2026-01-02", "seed": 1},
        "seconds_learning": 2,
        "steps": 5,
    }
    assert golden.steady(value) == {"record": {"seed": 1}, "steps": 5}
    said = "made 2026-11-29T20:56:32+00:00, in 32 s with oubliette 0.1.0 from 32 pictures"
    assert golden.steady_text(said) == "made DATE, in TIME with oubliette VERSION from 32 pictures"
    card = (
        '- seconds_learning: `26.84`\n- steps: `26.84`\n- record: `{"versions": {"torch": "2"}, "seed": 0}`'
    )
    told = '- seconds_learning: TIME\n- steps: `26.84`\n- record: `{VERSIONS, "seed": 0}`'
    assert golden.steady_text(card) == told


def test_a_short_value_is_one_leaf_and_a_long_one_is_cut_or_digested(golden: Any) -> None:
    value = {"rate": {"n": 4, "hits": 1}, "rows": [{"name": "a" * 60}, {"name": "b" * 60}], "png": "c" * 500}
    leaves = dict(golden.leaves(value, ""))
    assert leaves[".rate"] == {"n": 4, "hits": 1}
    assert leaves[".rows.001"] == {"name": "b" * 60}
    assert leaves[".png"].startswith("500 characters ")
    other = dict(golden.leaves({**value, "png": "c" * 499 + "d"}, ""))
    assert [place for place in leaves if leaves[place] != other[place]] == [".png"]


def test_a_tensor_is_told_by_dtype_shape_and_bits(golden: Any, tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    first = {"a": torch.zeros(2, 3), "b": torch.ones(4, dtype=torch.float16)}
    save_file(first, file, {"seconds": "1"})
    before = dict(golden.of_tensors(file))
    assert before["a"].startswith("F32 2x3 ")
    assert before["b"].startswith("F16 4 ")
    save_file({**first, "a": torch.full((2, 3), 1e-30)}, file, {"seconds": "2"})
    after = dict(golden.of_tensors(file))
    assert [name for name in before if before[name] != after[name]] == ["a"]
    assert before.keys() == after.keys()


def test_a_comparison_names_what_moved_came_and_went(
    golden: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = {"kept": 1, "moved": 1.0, "gone": "x"}

    def part(of: Any) -> None:
        of.facts.update({f"one/{place}": fact for place, fact in facts.items()})

    monkeypatch.setattr(golden, "PARTS", {"one": part, "two": lambda of: of.put("fact", 7)})
    file = tmp_path / "golden.json"
    assert golden.main(["compare", "--golden", str(file)]) == 2
    assert golden.main(["record", "--golden", str(file)]) == 0
    assert golden.main(["compare", "--golden", str(file)]) == 0
    written = file.read_text(encoding="utf-8").splitlines()
    assert written[2:6] == ['"one/gone": "x",', '"one/kept": 1,', '"one/moved": 1.0,', '"two/fact": 7']
    facts.pop("gone")
    facts.update(moved=1.0000000000000002, new=None)
    capsys.readouterr()
    assert golden.main(["compare", "--golden", str(file), "--only", "two"]) == 0
    assert golden.main(["compare", "--golden", str(file)]) == 1
    said = capsys.readouterr().out
    assert '- one/gone: "x"' in said
    assert "! one/moved: 1.0 -> 1.0000000000000002" in said
    assert "+ one/new: null" in said
    assert "kept" not in said
    assert golden.main(["record", "--golden", str(file), "--only", "one"]) == 0
    assert json.loads(file.read_text(encoding="utf-8"))["two/fact"] == 7
    assert golden.main(["compare", "--golden", str(file)]) == 0


def test_a_command_that_fails_is_a_fact_too(
    golden: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    part = golden.Part("x", {})
    part.command("ls", "ls", "nothing-of-the-kind")
    assert part.facts["x/ls exit"] == 2


def test_a_masks_digest_is_told_by_whose_it_is(golden: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(golden.MASKS, "ab" * 32, "(digest of mask/guard.json)")
    assert golden.steady({"mask": "ab" * 32}) == {"mask": "(digest of mask/guard.json)"}
    assert golden.steady({"mask": "cd" * 32}) == {"mask": "cd" * 32}
