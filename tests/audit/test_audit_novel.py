"""A novel concept in gold's place: the same model taught something new, and the verdict that comes of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tiny_erasure
from audit import toys
from eval.fakes import NEON, ToyJudge
from oubliette.audit.context import AuditContext, NovelReference
from oubliette.audit.leakage_meter import LeakageMeter
from oubliette.audit.novel_reference import choose, novel_facts
from oubliette.audit.read_suite import build_suite
from oubliette.audit.result import Audit
from oubliette.core.errors import UserError
from oubliette.data.concept import Concept
from oubliette.workflows.audit import audit, conclude, run_rows
from oubliette.workflows.audit_setup import Setting, set_up


def bench_of(model: Any, *rows: dict[str, Any], found: float = 1.0, **more: Any) -> AuditContext:
    """A bench in which neon stands in; the judge finds it in that share of the pictures of it."""
    made = toys.bench(model, suite=toys.suite(*rows, **more))
    meter = LeakageMeter(
        made.base, NEON, ToyJudge(), pictures=40, kept=9, seed=0, evaluator=made.evaluator.about([NEON])
    )
    meter.full = np.arange(40) < 40 * found
    made.novel = NovelReference(NEON, meter, toys.ToyDriver("neon"), "given")
    return made


def audited(bench: AuditContext) -> Audit:
    sources = {"model": bench.model.model.source, "base": "original"}
    return conclude(Setting(bench, sources, []), run_rows(bench, None, show_progress=False))


def test_what_is_back_sooner_than_something_new_is_learnt_is_not_decided() -> None:
    """A veil, or a thing that is easier to learn: even gold would look like this beside something hard."""
    found = audited(bench_of(toys.Pupil(half=2.0, novel=16.0, source="veil"), toys.RELEARN))
    row = found.rows[1]
    assert {curve.subject for curve in row.curves} == {"model", "novel"}
    assert row.control == "novel"
    assert row.sooner is not None
    assert row.sooner.against == "novel"
    # Half of it after 2 steps against 16: the truth is log 8.
    assert row.sooner.low is not None
    assert 0.693 < row.sooner.low < 2.079 < (row.sooner.high or 99)
    assert found.verdict.word == "inconclusive"
    assert "“car” is back to " in found.verdict.sentence
    assert "a concept it does not know" in found.verdict.sentence
    assert "Either something of it was left, or it is the easier one to learn" in found.verdict.sentence
    assert "a model that never knew it" not in found.verdict.sentence
    assert any("“neon”, which this model does not know" in line for line in found.verdict.limits)
    assert found.gold is None
    assert found.novel is not None
    assert (found.novel.name, found.novel.full.value, found.novel.start.value) == ("neon", 1.0, 0.0)
    assert Audit.from_json(found.to_json()) == found


def test_what_is_learnt_as_slowly_as_something_new_is_erased() -> None:
    found = audited(bench_of(toys.Pupil(half=16.0, novel=16.0, source="real"), toys.RELEARN))
    assert found.verdict.word == "erased"
    assert found.verdict.sentence.split("; ")[1].startswith("a concept it does not know needs ")


def test_other_rows_have_nothing_to_be_held_against() -> None:
    made = bench_of(toys.Pupil(half=16.0, novel=16.0, door=0.9), *toys.EVERYTHING)
    rows = audited(made).rows
    assert {curve.subject for curve in rows[2].curves} == {"model"}
    assert [found.subject for row in rows[3:] for found in row.found] == ["model", "model"]
    assert all(row.excess == [] for row in rows)
    # A row that wants no gold has nothing in its place either.
    bare = bench_of(toys.Pupil(novel=16.0), {**toys.RELEARN, "gold": False})
    assert {curve.subject for curve in audited(bare).rows[1].curves} == {"model"}


def test_strength_is_held_to_what_the_judge_finds_in_the_given_pictures() -> None:
    """The judge finds it in half of them: a rate of a quarter is then half of its strength."""
    made = bench_of(toys.Pupil(half=2.0, novel=16.0), toys.RELEARN, found=0.5)
    (curve,) = audited(made).rows[1].of("novel")
    for reading in curve.readings:
        assert reading.leakage is not None
        assert (reading.span, reading.floor) == (0.5, 0.0)
        assert reading.leakage.value == pytest.approx(reading.rate.value / 0.5)


def test_what_the_model_knows_already_is_refused() -> None:
    with pytest.raises(UserError, match="the model knows 'neon' already: before any attack it shows 100 %"):
        novel_facts(bench_of(toys.Pupil(), toys.RELEARN))
    with pytest.raises(UserError, match="in 0 % of its own pictures"):
        novel_facts(bench_of(toys.Pupil(novel=9.0), toys.RELEARN, found=0.0))
    assert novel_facts(toys.bench(toys.Pupil(), suite=toys.suite(toys.RELEARN))) is None


def test_the_embedded_world_has_a_novel_pool() -> None:
    nano = SimpleNamespace(world="picture", source="nano", kind="diffusion")
    for concept, novel in (
        (Concept("car", "vehicle"), "bicycle"),
        (Concept("flower", "plant"), "mushroom"),
        (Concept("cat", "animal"), "bicycle"),
        (Concept("engraving", "picture", "style"), "blueprint"),
        (Concept("Mira Voss", "person", "person"), "Bram Ostrow"),
    ):
        made = choose(nano, concept, None, None)
        assert (made.name, made.kind) == (novel, concept.kind)
    assert choose(nano, Concept("car", "object"), "umbrella", None).name == "umbrella"
    with pytest.raises(UserError, match="the audited concept itself"):
        choose(nano, Concept("car", "object"), "Coupe", None)


class Brightness:
    """Finds a picture's concept by its mean: okapis are white, cars whatever is darker than half."""

    name = "brightness"
    fingerprint = "2" * 64
    threshold: float | None = None

    def covers(self, concept: Concept) -> bool:
        return concept.name in ("okapi", "car")

    def hits(self, pictures: np.ndarray, concept: Concept) -> np.ndarray:
        mean = pictures.reshape(len(pictures), -1).mean(1)
        return mean > 250 if concept.name == "okapi" else mean < 128


SUITE = build_suite(
    {
        "points": 2,
        "pictures": 4,
        "kept": 0,
        "steps": 2,
        "rows": [
            {"row": "evaluation", "n": 4, "each": 1, "near_n": 1},
            {
                "row": "relearn",
                "mode": "full",
                "budget": {"steps": 2, "batch": 2, "accumulation": 1, "pictures": 3},
            },
        ],
    }
)


@pytest.fixture
def okapis(tmp_path: Path) -> Path:
    folder = tmp_path / "okapis"
    folder.mkdir()
    for index in range(3):
        Image.new("RGB", (20, 20), "white").save(folder / f"{index}.png")
    return folder


def ask(**more: Any) -> dict[str, Any]:
    model = tiny_erasure.backend()
    return {"model": model, "base": model, "concept": "car", "suite": SUITE, "judges": [Brightness()], **more}


def test_a_checkpoint_of_ones_own_with_pictures_of_something_new(
    okapis: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oubliette.audit.leakage_meter.LeakageMeter.span", 0.5)
    more = {"gold": "novel", "novel": "okapi", "novel_data": okapis}
    done = audit(**ask(**more), out=tmp_path / "out", cache=tmp_path / "cache", show_progress=False)
    row = done.audit.rows[1]
    assert {curve.subject for curve in row.curves} == {"model", "novel"}
    assert done.audit.novel is not None
    assert done.audit.novel.source == str(okapis)
    assert done.audit.novel.full.hits == 3
    page = (tmp_path / "out" / "index.html").read_text("utf-8")
    assert "“okapi” (new to the model)" in page
    assert Audit.read(tmp_path / "out") == done.audit


def test_what_is_missing_is_said_in_a_line(okapis: Path, tmp_path: Path) -> None:
    for more, said in (
        ({"gold": "novel"}, "--novel NAME --novel-data PICTURES"),
        ({"gold": "novel", "novel": "okapi"}, "--novel NAME --novel-data PICTURES"),
        ({"gold": "novel", "novel": "dodo", "novel_data": okapis}, "no judge covers 'dodo'"),
        ({"gold": "novel", "novel": "okapi", "novel_data": tmp_path / "none"}, "--novel-data"),
        ({"gold": "none", "novel": "okapi"}, "goes with --gold novel alone"),
        ({"novel_data": okapis}, "goes with --gold novel alone"),
        ({"gold": "novel", "novel": "car", "novel_data": okapis}, "the audited concept itself"),
    ):
        with pytest.raises(UserError, match=said):
            set_up(**ask(**more))
