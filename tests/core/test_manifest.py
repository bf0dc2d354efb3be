"""Records, hashes and writes that either happen whole or not at all."""

from __future__ import annotations

import hashlib
import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from oubliette.core import manifest
from oubliette.core.errors import UserError


def test_a_record_names_versions_and_takes_facts() -> None:
    made = manifest.record(seed=3, method="uce")
    assert made["versions"]["torch"] == torch.__version__.split("+")[0] or made["versions"]["torch"]
    assert (made["seed"], made["method"], made["processes"]) == (3, "uce", 1)
    json.dumps(made)


def test_a_record_counts_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert manifest.record()["processes"] == 4


def test_manifest_is_light() -> None:
    code = "import sys, oubliette.core.manifest as m; m.record(); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_a_manifest_comes_back(tmp_path: Path) -> None:
    path = manifest.write_manifest(
        tmp_path, {"path": tmp_path, "loss": torch.tensor(2.0), "names": {"b", "a"}}
    )
    assert path.name == "oubliette.json"
    assert manifest.read_manifest(tmp_path) == {"path": str(tmp_path), "loss": 2.0, "names": ["a", "b"]}
    assert [entry.name for entry in tmp_path.iterdir()] == ["oubliette.json"]
    assert manifest.read_manifest(tmp_path / "nowhere") == {}


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    manifest.write_manifest(tmp_path, {"old": 1})
    with pytest.raises(TypeError):
        manifest.write_manifest(tmp_path, {"new": object()})
    assert manifest.read_manifest(tmp_path) == {"old": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["oubliette.json"]


@pytest.mark.parametrize("content", ["{", "[1]", "\udcff"])
def test_a_broken_manifest_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "oubliette.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=r"oubliette\.json"):
        manifest.read_manifest(tmp_path)


def test_a_folder_appears_when_it_is_whole(tmp_path: Path) -> None:
    goal = tmp_path / "deep" / "er" / "out"
    with manifest.atomic_folder(goal) as inside:
        (inside / "a").write_text("x")
        assert not goal.exists()
        assert inside.parent == goal.parent
    assert (goal / "a").read_text() == "x"
    assert [entry.name for entry in goal.parent.iterdir()] == ["out"]
    assert stat.S_IMODE(goal.stat().st_mode) & 0o500 == 0o500


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    def fail() -> None:
        with manifest.atomic_folder(tmp_path / "deep" / "out") as inside:
            (inside / "a").write_text("x")
            raise error

    with pytest.raises(error):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_what_exists_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").write_text("x")
    (tmp_path / "empty").mkdir()
    for name in ("file", "full"):
        with pytest.raises(UserError, match="exists already"), manifest.atomic_folder(tmp_path / name):
            raise AssertionError("the block must not run")
    with manifest.atomic_folder(tmp_path / "empty") as inside:
        (inside / "a").write_text("x")
    assert (tmp_path / "empty" / "a").is_file()


def test_what_appears_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    goal = tmp_path / "out"

    def race() -> None:
        with manifest.atomic_folder(goal):
            goal.mkdir()
            (goal / "other").write_text("kept")

    with pytest.raises(UserError, match="exists already"):
        race()
    assert (goal / "other").read_text() == "kept"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


@given(st.binary(max_size=3000))
def test_hash_file_is_sha256(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "hashed"
    path.write_bytes(content)
    assert manifest.hash_file(path) == hashlib.sha256(content).hexdigest()


def test_a_fingerprint_sees_name_dtype_shape_and_bytes() -> None:
    base = {
        "a": torch.arange(6.0).reshape(2, 3),
        "b": torch.ones(2, dtype=torch.bfloat16),
        "c": torch.tensor(1),
    }
    print_of = manifest.fingerprint(base)
    assert print_of == manifest.fingerprint(dict(reversed(list(base.items()))))
    assert print_of == manifest.fingerprint({**base, "a": base["a"].t().contiguous().t()})
    others = [
        {**base, "a": base["a"].reshape(3, 2)},
        {**base, "a": base["a"].double()},
        {**base, "a": base["a"] + torch.tensor([0, 0, 1e-6])},
        {"x": base["a"], "b": base["b"], "c": base["c"]},
        {**base, "b": -base["b"]},
    ]
    assert len({manifest.fingerprint(other) for other in others} | {print_of}) == 6
