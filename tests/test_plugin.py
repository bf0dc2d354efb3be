"""A stranger's method, in a package of its own: found by its entry point, listed, run, saved, told when
broken.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TOY = '''
from typing import ClassVar

from oubliette.erase.diffusion.common import NoiseOptions, PairObjective
from oubliette.train.roles import Role


class Toward(PairObjective):
    """The target's prediction is pulled towards the anchor's, by a stranger."""

    name: ClassVar[str] = "toward"
    backend: ClassVar[str] = "diffusion"
    solution: ClassVar[str] = "trained"
    paper: ClassVar[str] = "none"
    preset: ClassVar[dict] = {
        "scope": "xattn-kv",
        "train": {"steps": 2, "batch": 2, "learning_rate": 0.001},
        "data": {"prompts": 4, "pictures": 4, "picture_steps": 2},
    }

    class Options(NoiseOptions):
        """None of its own."""

    def roles(self, step):
        return {"forget": Role("forget")}

    def draw(self, step, rng, batch):
        draw = self.draw_pairs(step, rng, batch)
        draw["goal"] = self.teacher(draw["noisy"], draw["t"], draw["anchor"])
        return draw

    def loss(self, role, draw):
        return (self.student(draw["noisy"], draw["t"], draw["target"]) - draw["goal"]).square().mean()
'''
POINTS = """[oubliette.methods]
toward = toy_eraser:Toward
broken = toy_eraser:NotThere
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an installed package that brings two methods, one of which is not there."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "toy_eraser.py").write_text(TOY)
    facts = folder / "toy_eraser-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-eraser\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(POINTS)
    return folder


def oubliette(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, "-m", "oubliette", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )


def test_it_erases_by_its_name_with_its_own_preset(site: Path, tiny_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = oubliette(
        site, "erase", "--model", str(tiny_folder), "--concept", "car", "--anchor", "object",
        "--method", "toward", "--out", str(out), "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["method"] == "toward"
    assert json.loads((out / "oubliette.json").read_text())["recipe"]["train"]["steps"] == 2


def test_one_that_cannot_be_imported_is_named_with_its_package(site: Path, tiny_folder: Path) -> None:
    done = oubliette(
        site, "erase", "--model", str(tiny_folder), "--concept", "car", "--method", "broken", "--out", "x"
    )
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert "method 'broken' is brought by toy-eraser" in line


def test_without_the_package_there_is_none(tiny_folder: Path) -> None:
    done = oubliette(
        tiny_folder,
        "erase",
        "--model",
        str(tiny_folder),
        "--concept",
        "car",
        "--method",
        "toward",
        "--out",
        "x",
    )
    assert done.returncode == 2
    assert "no method or preset is called 'toward'" in done.stderr
