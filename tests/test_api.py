"""The package's face: what is erased, what comes back, and how little has to be said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import oubliette as ob
import tiny
import tiny_language
import tiny_world
from oubliette.data.concepts import make_concepts
from oubliette.erase import METHODS
from oubliette.recipe import preset_names
from oubliette.workflows.check import OriginalView, check, check_covering, fitted
from oubliette.workflows.compose import compose, pick_preset
from oubliette.workflows.order import Order

UCE = ["method.prompts=name"]
DOCO = ["data.prompts=4", "data.pictures=4", "data.picture_steps=2", "train.batch=2", "method.warm_up=1"]


@pytest.fixture
def nano(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A random model that says it comes from the picture world."""
    tiny_world.install(tmp_path / "weights", tiny_folder, monkeypatch)
    return ob.load("nano", device="cpu")


@pytest.fixture
def model(tiny_folder: Path) -> Any:
    return ob.load(tiny_folder, device="cpu")


def test_the_line_of_the_readme(nano: Any, tmp_path: Path) -> None:
    before = nano.fingerprint()
    result = ob.erase(
        nano, concept="car", anchor="object", method="doco", steps=3, overrides=DOCO, show_progress=False
    )
    assert result.recipe.name == "doco-nano"
    erased = nano.fingerprint()
    assert erased != before
    nano.save(tmp_path / "out")
    assert ob.load(tmp_path / "out", device="cpu").world == "picture"
    result.undo()
    assert nano.fingerprint() == before


def test_a_wrapped_pipeline_is_changed_and_given_back() -> None:
    pipe = tiny.pipeline(seed=5)
    name, weight = next((n, p) for n, p in pipe.unet.named_parameters() if n.endswith("attn2.to_k.weight"))
    before = weight.detach().clone()
    result = ob.erase(ob.wrap(pipe), "car", "object", method="uce", overrides=UCE)
    assert not torch.equal(dict(pipe.unet.named_parameters())[name], before)
    result.undo()
    assert torch.equal(dict(pipe.unet.named_parameters())[name], before)


def test_a_wrapped_language_model_is_changed_and_given_back(tmp_path: Path) -> None:
    """Its owner's own calls go through what is attached, until it is taken off; then every logit is back."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tiny_language.save(tmp_path / "base", "llama")
    rows = {"forget": tiny_language.FORGET, "retain": tiny_language.RETAIN}
    paths = {name: tiny_language.write_rows(tmp_path / f"{name}.jsonl", some) for name, some in rows.items()}
    owned, words = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    asked = words("Who painted the red door?", return_tensors="pt")
    plain = owned(**asked).logits
    wrapped = ob.wrap(owned, words)
    over = ["method.blocks=[0]", "train.batch=2"]
    result = ob.erase(wrapped, method="mrp", steps=2, overrides=over, show_progress=False, **paths)
    found = owned(**asked).logits
    assert not torch.equal(found, plain)
    with pytest.raises(ob.UserError, match="wrapped in memory has no base on disk to go with: give base="):
        result.save(tmp_path / "no")
    result.save(tmp_path / "out", base=ob.load(folder))
    opened: Any = ob.load(tmp_path / "out", device="cpu")
    assert torch.equal(opened.model(**asked).logits, found)
    other = tiny_language.save(tmp_path / "other", "gpt2")
    with pytest.raises(ob.UserError, match="its weights were changed as well"):
        result.save(tmp_path / "no", base=ob.load(other))
    result.undo()
    assert torch.equal(owned(**asked).logits, plain)
    assert not (tmp_path / "no").exists()
    trained = ob.erase(wrapped, method="npo", steps=1, overrides=["train.batch=2"], **paths)
    assert not torch.equal(owned(**asked).logits, plain)
    trained.undo()
    assert torch.equal(owned(**asked).logits, plain)


def test_a_language_model_is_wrapped_with_its_tokenizer() -> None:
    words = tiny_language.tokenizer()
    model = tiny_language.model("llama", len(words))
    with pytest.raises(ob.UserError, match=r"cannot open a LlamaForCausalLM.*wrapped with its tokenizer"):
        ob.wrap(model)
    with pytest.raises(ob.UserError, match="found a LlamaModel and a"):
        ob.wrap(model.model, words)
    with pytest.raises(ob.UserError, match="found a LlamaForCausalLM and a dict"):
        ob.wrap(model, {})


def test_a_room_of_the_same_name_is_the_function_too() -> None:
    import oubliette.erase.run

    assert callable(ob.erase)
    assert ob.erase.run is oubliette.erase.run  # type: ignore[attr-defined]
    with pytest.raises(ob.UserError, match="no model 'nanno'"):
        ob.erase("nanno", "car")


def test_several_concepts_with_one_anchor_or_one_each(model: Any) -> None:
    one = make_concepts(model, ["car", "dog"], "object")
    assert [concept.anchor for concept in one] == ["object", "object"]
    each = make_concepts(model, ["car", "monet"], ["vehicle", "painting"], ["object", "style"])
    assert [(c.anchor, c.kind) for c in each] == [("vehicle", "object"), ("painting", "style")]
    with pytest.raises(ob.UserError, match="2 kinds for 3 concepts"):
        make_concepts(model, ["car", "dog", "cat"], "object", ["object", "style"])
    assert [(c.anchor, c.kind) for c in make_concepts(model, "car")] == [("", "object")]


def test_the_world_knows_kinds_and_anchors(nano: Any) -> None:
    found = make_concepts(nano, ["car", "etching", "mira voss"])
    assert [(c.kind, c.anchor) for c in found] == [
        ("object", "object"),
        ("style", "picture"),
        ("person", "person"),
    ]
    with pytest.raises(ob.UserError, match="did you mean 'truck'"):
        make_concepts(nano, "trck")
    assert make_concepts(nano, "crane", kind="object")[0].kind == "object"


def test_a_presets_budget_is_one_concepts_and_grows_with_their_number(model: Any, nano: Any) -> None:
    one, three = (
        compose(nano, Order(concept=names, method="doco")) for names in ("car", ["car", "fish", "boat"])
    )
    assert (one.budget_for, three.budget_for) == (1, 3)
    for numbers in (lambda r: r.train.steps, lambda r: r.data.pictures, lambda r: r.method["warm_up"]):
        assert numbers(three) == 3 * numbers(one)
    assert three.data.prompts == one.data.prompts  # these are for each concept anyway
    released = compose(model, Order(concept=["car", "fish"], method="stereo"))
    assert released.method["erase_steps"] == 2 * METHODS.get("stereo").Options().erase_steps


def test_a_number_that_is_asked_for_is_the_total(nano: Any) -> None:
    names = ["car", "fish"]
    recipe = compose(nano, Order(concept=names, method="doco", steps=70, overrides=["data.pictures=9"]))
    assert (recipe.train.steps, recipe.data.pictures) == (70, 9)
    assert recipe.method["warm_up"] == compose(nano, Order(concept="car", method="doco")).method["warm_up"]
    assert (
        compose(nano, Order(concept=names, method="doco", overrides=["data.pictures=9"])).train.steps == 600
    )


@pytest.mark.parametrize("method", METHODS.names())
def test_every_method_has_a_preset_that_validates(method: str, model: Any, nano: Any, tmp_path: Path) -> None:
    if METHODS.get(method).backend == "language":
        tiny_language.save(tmp_path / "lm", "gpt2")
        language = ob.load(tmp_path / "lm", device="cpu")
        assert compose(language, Order(forget="f.jsonl", method=method)).method["name"] == method
        return
    own = [name for name in preset_names() if name.split("-")[0] == method]
    for name in own:
        assert compose(model, Order(concept="car", method=name)).method["name"] == method
        assert compose(nano, Order(concept="car", method=name)).method["name"] == method


def test_the_worlds_preset_goes_first_and_a_preset_is_itself(model: Any, nano: Any) -> None:
    assert (pick_preset(model, "doco"), pick_preset(nano, "doco")) == ("doco", "doco-nano")
    assert pick_preset(nano, "doco-released") == "doco-released"
    assert pick_preset(nano, "esd-x") == "esd-x-nano"
    assert (pick_preset(nano, None), pick_preset(model, None)) == ("doco-nano", "doco")


def test_what_is_asked_for_goes_over_the_preset_and_overrides_go_over_that(
    model: Any, tmp_path: Path
) -> None:
    (tmp_path / "keep.txt").write_text("a truck\n\na dog\n")
    recipe = compose(
        model,
        Order(
            concept="car",
            method="doco",
            surgery="project",
            smoother="sam",
            scope="full",
            seed=3,
            steps=7,
            retain=tmp_path / "keep.txt",
            freeze=["a", "b"],
            save="delta",
            overrides=["smoother.rho=0.5", "train.steps=9", "method.warm_up=2"],
        ),
    )
    assert recipe.surgery == {"name": "project", "strength": 1.0, "per": "tensor"}  # the preset's own options
    assert recipe.smoother == {"name": "sam", "rho": 0.5}
    assert (recipe.scope["name"], recipe.seed, recipe.train.steps) == ("full", 3, 9)
    assert recipe.data.retain == ["a truck", "a dog"]
    assert (recipe.freeze, recipe.save.form) == (["a", "b"], "delta")
    assert compose(model, Order(concept="car", method="doco", retain=["a"])).data.retain == ["a"]


@pytest.mark.parametrize("scope", ["xattn-kv", "text-encoder"])
def test_before_draws_as_before_and_leaves_every_bit(model: Any, scope: str) -> None:
    prompts, seeds = ["a car", "a truck"], [1, 2]
    drawn = model.draw(prompts, seeds, steps=2)
    original = model.fingerprint()
    result = ob.erase(
        model, "car", "object", method="ablation", scope=scope, steps=1, show_progress=False,
        overrides=[*DOCO[:4], "train.learning_rate=0.05"],
    )  # fmt: skip
    erased, changed = model.draw(prompts, seeds, steps=2), model.fingerprint()
    assert not np.array_equal(erased, drawn)
    before = OriginalView(model, result.weights)
    assert before.fingerprint() == original
    assert np.array_equal(before.draw(prompts, seeds, steps=2), drawn)
    assert model.fingerprint() == changed
    assert np.array_equal(model.draw(prompts, seeds, steps=2), erased)
    assert (before.source, before.world) == (model.source, model.world)


def test_a_check_says_why_there_was_none(model: Any) -> None:
    result = ob.erase(model, "car", "object", method="uce", overrides=UCE)
    assert "no judge" in check(model, result.weights, make_concepts(model, "car"), judges=[]).reason
    assert check(model, result.weights, [], judges=[], mode="off").reason == "switched off"


class Ignorant:
    """A judge that knows dogs alone."""

    name, fingerprint, threshold = "ignorant", "0", None

    def covers(self, concept: Any) -> bool:
        return concept.name == "dog"

    def hits(self, pictures: np.ndarray, concept: Any) -> np.ndarray:
        raise AssertionError("asked of what it does not know")


def test_a_judge_that_knows_nothing_of_it_is_refused_before_a_picture_is_drawn(model: Any) -> None:
    car, dog = make_concepts(model, ["car", "dog"])
    with pytest.raises(
        ob.UserError, match=r"judge ignorant does not know 'car'.*name another judge"
    ) as caught:
        check_covering([Ignorant()], [car])
    assert "name one" not in str(caught.value)
    check_covering([Ignorant()], [car, dog])
    size, reason, _ = fitted(model, None, [car], mode="on", judges=[Ignorant()])  # type: ignore[arg-type]
    assert size is None
    assert reason.startswith("none of this model's judges knows what was erased")


@pytest.mark.parametrize("command", ["erase", "eval", "dry run", "stream"])
def test_every_command_refuses_a_judge_in_vain(
    command: str, model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from oubliette.cli import main
    from oubliette.eval.judge import JUDGES

    monkeypatch.setattr(Ignorant, "open", classmethod(lambda cls, argument, model: cls()), raising=False)
    monkeypatch.setitem(JUDGES._targets, "ignorant", Ignorant)
    monkeypatch.setattr(type(model), "draw", lambda *a, **b: pytest.fail("drew"))
    (tmp_path / "r.yaml").write_text("[{concept: car}]")
    erase = ["erase", "--model", model.source, "--method=uce", "--judge=ignorant", f"--out={tmp_path}/o"]
    commands = {
        "erase": [*erase, "--concept=car"],
        "dry run": [*erase, "--concept=car", "--dry-run"],
        "stream": [*erase, f"--stream={tmp_path}/r.yaml"],
        "eval": [
            "eval",
            "--model",
            model.source,
            "--base",
            model.source,
            "--concept=car",
            "--judge=ignorant",
        ],
    }
    assert main(commands[command]) == 2
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("method", ["uce", "doco"])
def test_the_highest_seed_runs(model: Any, method: str) -> None:
    overrides = DOCO if method == "doco" else UCE
    steps = {"steps": 2} if method == "doco" else {}
    result = ob.erase(
        model,
        "car",
        "object",
        method=method,
        seed=2**63 - 1,
        overrides=overrides,
        show_progress=False,
        **steps,
    )
    assert result.record()["seed"] == 2**63 - 1


def test_evaluate_finds_base_and_concepts_in_the_record(nano: Any, tmp_path: Path) -> None:
    from oubliette.eval.pictures.sampling import Sampling

    result = ob.erase(nano, ["car", "engraving"], method="uce", overrides=["data.prompts=8"])
    result.save(tmp_path / "out", form="delta")
    how: dict[str, Any] = {"n": 1, "each": 1, "near_n": 1, "sampling": Sampling(steps=1)}
    found = ob.evaluate(tmp_path / "out", **how)
    assert [row.name for row in found.rows] == ["out", "base"]
    assert [figures.name for figures in found.rows[0].concepts] == ["car", "engraving"]
    assert found.rows[0].fingerprint != found.rows[1].fingerprint
    with pytest.raises(ob.UserError, match="no record of a base"):
        ob.evaluate(nano, concept="car")


def test_language_models_are_erased_but_not_drawn(tmp_path: Path) -> None:
    tiny_language.save(tmp_path / "lm", "llama")
    forget = tiny_language.write_rows(tmp_path / "f.jsonl", tiny_language.FORGET)
    language = ob.load(tmp_path / "lm", device="cpu")
    result = ob.erase(language, forget=forget, steps=2, show_progress=False)
    assert result.recipe.method["name"] == "npo"
    with pytest.raises(ob.UserError, match="only models that draw"):
        ob.evaluate(language, base=tmp_path / "lm", concept="x")


def test_a_failed_erasure_leaves_the_model_as_it_was(model: Any) -> None:
    before = model.fingerprint()
    with pytest.raises(ob.UserError, match="warming up"):
        ob.erase(model, "car", "object", method="doco", steps=1, overrides=DOCO, show_progress=False)
    assert model.fingerprint() == before
