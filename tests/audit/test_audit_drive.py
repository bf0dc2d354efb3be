"""The attack room put to work: budgets resolved, data apart from the evaluation, every bit back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import tiny_erasure
from oubliette.audit.attack_runner import PictureAttackRunner
from oubliette.audit.resolve import resolve
from oubliette.audit.suite import BenignRow, ProbeRow, PromptsRow, RelearnRow
from oubliette.core.errors import UserError
from oubliette.data.concept import Concept
from oubliette.eval.pictures.sampling import Sampling
from oubliette.world.facts import PICTURE

CAR = Concept("car", "object", "object")
SMALL: dict[str, Any] = {"steps": 2, "batch": 2, "accumulation": 1, "pictures": 3}


def attacks(**more: Any) -> PictureAttackRunner:
    return PictureAttackRunner(
        CAR, tiny_erasure.backend(), sampling=Sampling(steps=2, guidance=2.0, batch=4), **more
    )


def folder(path: Path, count: int = 4) -> Path:
    path.mkdir()
    rng = np.random.default_rng(0)
    for index in range(count):
        Image.fromarray(rng.integers(0, 255, (20, 24, 3), dtype=np.uint8)).save(path / f"{index}.png")
    return path


def test_a_row_is_the_catalogues_attack_with_changes() -> None:
    from oubliette.attack.catalogue import attack

    row = RelearnRow(attack="L1", budget={"steps": 200}, nano={"rank": 2})
    assert resolve(row).budget == attack("L1").budget.changed(steps=200)
    assert resolve(row, PICTURE).budget == attack("L1-nano").budget.changed(rank=2)
    assert resolve(row, PICTURE).options == attack("L1-nano").options
    own = resolve(BenignRow(mode="xattn", budget={"steps": 3}))
    assert (own.mode, own.data, own.budget.steps) == ("xattn", "benign", 3)


def test_cost_is_counted_by_hand() -> None:
    made = attacks()
    found = made.describe(RelearnRow(mode="full", budget={**SMALL, "accumulation": 3}))
    assert (found.cost.forwards, found.cost.backwards) == (2 * 2 * 3, 2 * 2 * 3)
    assert found.steps == 2
    assert "3 pictures" in found.title
    # Six fillings and six originals, two guided steps each.
    inpainted = made.describe(ProbeRow(probe="inpaint", cases=6)).cost
    assert (inpainted.pictures, inpainted.forwards) == (12, 12 * 2 * 2)


def test_rows_that_cannot_run_say_so_beforehand() -> None:
    assert "--mask" in attacks().describe(RelearnRow(attack="F3")).skip
    frozen = attacks(frozen=["unet.conv_in.weight"])
    assert frozen.describe(RelearnRow(attack="F3")).skip == ""
    assert "sibling" in attacks().describe(ProbeRow(probe="transplant")).skip
    assert attacks().describe(ProbeRow(probe="transplant", options={"sibling": "x"})).skip == ""
    with pytest.raises(UserError, match="looks at step 9"):
        attacks().describe(RelearnRow(mode="full", budget=SMALL, at=[0, 9]))


@pytest.mark.parametrize("mode", ["full", "lora", "textual-inversion"])
def test_fine_tuning_is_looked_at_and_taken_back(mode: str) -> None:
    model = tiny_erasure.backend()
    before = {name: value.detach().clone() for name, value in model.tensors().items()}
    frozen = [name for name in before if "attn2.to_v" in name]
    made = attacks(frozen=frozen, words=["car"])
    spec = RelearnRow(mode=mode, budget={**SMALL, "learning_rate": 0.01})
    seen: list[int] = []
    moved: list[str] = []

    def look(step: int, attacked: Any) -> None:
        seen.append(step)
        rewrite = made.rewrite(spec) or str
        attacked.draw([rewrite("a car")], [0], steps=2)
        now = attacked.tensors()
        assert all(torch.equal(now[name], before[name]) for name in frozen)
        if step:
            moved.extend(n for n in before if n in now and now[n].shape != before[n].shape)
            moved.extend(
                n for n in before if now[n].shape == before[n].shape and not torch.equal(now[n], before[n])
            )

    made.relearn(spec, model, seed=1, at=[0, 1, 2], look=look)
    assert seen == [0, 1, 2]
    assert moved
    after = model.tensors()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_data_is_apart_from_the_evaluations(tmp_path: Path) -> None:
    from oubliette.eval.pictures.evaluator import plan_for

    base = tiny_erasure.backend()
    plan = plan_for(base, [CAR], n=16)
    asked = [prompt for item in plan.targets for prompt in item.prompts]
    taken = {seed for item in (*plan.targets, *plan.anchors, *plan.retained) for seed in item.seeds}
    made = PictureAttackRunner(CAR, base, sampling=Sampling(steps=2, batch=4), avoid=asked)
    cases = made.cases(12, 0)
    assert {case.seed for case in cases} & taken == set()
    assert {case.prompt for case in cases} & set(asked) == set()
    drawn = made.material("concept", 3, 0)
    assert len(drawn) == 3
    assert set(drawn.captions) & set(asked) == set()
    benign = made.material("benign", 3, 0)
    assert not any("car" in caption.split() for caption in benign.captions)


def test_what_an_attack_depends_on_is_in_its_facts(tmp_path: Path) -> None:
    row = RelearnRow(mode="full", budget=SMALL)
    one, two = folder(tmp_path / "one", 4), folder(tmp_path / "two", 2)
    base = attacks(data=one)
    assert base.facts(row, 0) == attacks(data=one).facts(row, 0)
    assert base.facts(row, 0) != attacks(data=two).facts(row, 0)
    assert base.facts(row, 0) != attacks(data=one, frozen=["unet.conv_in.weight"]).facts(row, 0)
    search, probe = PromptsRow(attack="paraphrase", cases=2), ProbeRow(probe="inpaint", cases=2)
    for spec in (search, probe):
        assert attacks().facts(spec, 0) == attacks().facts(spec, 0)
        assert attacks().facts(spec, 0) != attacks().facts(spec, 1)


def test_broken_pictures_are_skipped_named_and_counted(tmp_path: Path) -> None:
    path = folder(tmp_path / "mixed", 2)
    (path / "1b.png").write_bytes(b"no picture")
    made = attacks(data=path)
    note = made.relearn(
        RelearnRow(mode="full", budget={**SMALL, "pictures": 8}),
        tiny_erasure.backend(),
        seed=0,
        at=[],
        look=lambda step, model: None,
    )
    assert note == "only 2 of 8 pictures were there; 1 broken picture skipped"
    assert made.skipped == {"1b.png": "not a picture"}
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="found none"):
        attacks(data=tmp_path / "empty").material("concept", 2, 0)


def test_probes_and_searches_run(tmp_path: Path) -> None:
    made, model = attacks(), tiny_erasure.backend()

    def never(pictures: np.ndarray) -> np.ndarray:
        return np.zeros(len(pictures), dtype=bool)

    for probe in ("inpaint", "complete", "invert"):
        shown = made.probe(ProbeRow(probe=probe, cases=2), model, hits=never, seed=0)
        assert len(shown.samples) == len(shown.prompts) == len(shown.seeds)
    spec = PromptsRow(attack="paraphrase", cases=2, options={"tries": 2})
    found = made.search(spec, model, hits=never, seed=0)
    assert [row.after for row in found] == [False, False]
    assert made.tries(spec) == 2
    assert made.csv(spec, found).splitlines()[0].startswith("case_number,prompt,evaluation_seed")


def test_items_are_timed_and_leave_no_trace() -> None:
    made, model = attacks(), tiny_erasure.backend()
    before = model.fingerprint()
    assert made.seconds_an_item(RelearnRow(mode="full", budget=SMALL), model) > 0
    assert model.fingerprint() == before


def test_what_searches_begin_with_is_drawn_once(tmp_path: Path) -> None:
    """By model, prompt and seed; what a search tries is drawn and forgotten."""
    from oubliette.eval.sample_store import SampleStore

    store = SampleStore(tmp_path)
    made, model = attacks(pictures=store), tiny_erasure.backend()

    def never(pictures: np.ndarray) -> np.ndarray:
        return np.zeros(len(pictures), dtype=bool)

    spec = PromptsRow(attack="paraphrase", cases=2, options={"tries": 2})
    first = made.search(spec, model, hits=never, seed=0)
    assert (store.drawn, store.found) == (2, 0)
    # Another search on the same model, and the same in another audit.
    other = PromptsRow(attack="random-tokens", cases=2, options={"tries": 1})
    made.search(other, model, hits=never, seed=0)
    assert (store.drawn, store.found) == (2, 2)
    again = SampleStore(tmp_path)
    assert attacks(pictures=again).search(spec, tiny_erasure.backend(), hits=never, seed=0) == first
    assert (again.drawn, again.found) == (0, 2)
    # The pictures of a probe are the base's of the same cases, and base and model are the same here.
    made.probe(ProbeRow(probe="invert", cases=2), model, hits=never, seed=0)
    assert (store.drawn, store.found) == (2, 4)
    with torch.no_grad():
        next(iter(model.tensors().values())).add_(1.0)
    made.search(spec, model, hits=never, seed=0)
    assert store.drawn == 4
