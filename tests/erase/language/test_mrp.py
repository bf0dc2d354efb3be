"""MRP: what projections are, where they start, what they are trained to, how they grow, and what stays."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny_language
from oubliette.backends import open_model
from oubliette.backends.hooks import read
from oubliette.core.errors import UserError
from oubliette.erase.language.mrp import off_retain, second_moments
from oubliette.erase.language.prepare import TokenSet
from oubliette.erase.language.projections import Projections, orthonormal
from oubliette.erase.result import EraseResult
from oubliette.erase.run import erase
from oubliette.recipe import Recipe, build_recipe, read_recipe

WIDTH = 32


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mrp")
    for kind in tiny_language.KINDS:
        tiny_language.save(root / kind, kind)
    tiny_language.write_rows(root / "forget.jsonl", tiny_language.FORGET)
    tiny_language.write_rows(root / "second.jsonl", [("What does Bram sell?", "kites and lamps")])
    tiny_language.write_rows(root / "retain.jsonl", tiny_language.RETAIN)
    return root


def recipe(
    root: Path, *, forget: str = "forget", train: dict[str, Any] | None = None, **method: Any
) -> Recipe:
    facts = {
        "method": {"name": "mrp", "blocks": [0, 1], **method},
        "forget": str(root / f"{forget}.jsonl"),
        "retain": str(root / "retain.jsonl"),
        "train": {"steps": 3, "batch": 2, "learning_rate": 0.1, "optimizer": "sgd", **(train or {})},
        "scope": "full",
        "save": {"form": "attached"},
    }
    return build_recipe(facts)


def opened(root: Path, kind: str = "llama", **how: Any) -> Any:
    return open_model(root / kind, device="cpu", **how)


def erased(root: Path, model: Any, **more: Any) -> EraseResult:
    return erase(model, recipe(root, **more), show_progress=False)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.rehearse(2)
        return found


def random(rows: int, width: int = WIDTH, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


# -- the projection ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_projection_is_idempotent_and_leaves_nothing_along_its_directions(dtype: torch.dtype) -> None:
    made = Projections.grown(
        Projections({"0.kept": orthonormal(random(3), random(0))}), {0: random(2, seed=1)}
    )
    states = (5 * random(2 * 7, seed=2)).view(2, 7, WIDTH).to(dtype)
    once = made.project(0, states)
    assert once.dtype == dtype
    near = {"atol": 0.05 if dtype == torch.bfloat16 else 2e-5}
    assert torch.allclose(made.project(0, once).float(), once.float(), **near)
    assert torch.allclose(once.float() @ made.basis(0).T, torch.zeros(2, 7, 5), **near)
    # By hand: a direction at a time.
    wanted = states.float()
    for row in made.basis(0):
        wanted = wanted - (states.float() @ row).unsqueeze(-1) * row
    assert torch.allclose(once.float(), wanted, **near)


def test_autocast_does_not_round_the_projection() -> None:
    made = Projections.grown(None, {0: random(4)})
    states = random(9, seed=3)
    plain = made.project(0, states)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(made.project(0, states), plain)


def test_directions_are_orthonormal_span_what_they_are_made_of_and_keep_the_earlier_ones() -> None:
    kept = orthonormal(random(3), random(0))
    rows = torch.cat([kept[:1] + 1e-3 * random(1, seed=4), random(2, seed=5)])  # one is nearly an earlier one
    found = torch.cat([kept, orthonormal(rows, kept)])
    assert torch.allclose(found @ found.T, torch.eye(6), atol=1e-6)
    projected = rows - (rows @ found.T) @ found
    assert float(projected.abs().max()) < 1e-5


def test_gradients_go_through_the_orthonormalisation() -> None:
    """Against finite differences, in the direction of a random change of the rows."""
    kept, states, change = orthonormal(random(2), random(0)), random(5, seed=6), random(2, seed=7)
    rows = random(2, seed=8).double().requires_grad_(True)
    goal = random(5, seed=9).double()

    def loss(at: torch.Tensor) -> torch.Tensor:
        basis = orthonormal(at, kept.double())
        return ((states.double() - states.double() @ basis.T @ basis) * goal).sum()

    (slope,) = torch.autograd.grad(loss(rows), [rows])
    step = 1e-5 * change.double()
    wanted = (loss(rows.detach() + step) - loss(rows.detach() - step)) / 2
    assert float((slope * step).sum()) == pytest.approx(float(wanted), rel=1e-5)
    # Its length has no part in what a direction takes out.
    assert torch.allclose(slope @ rows.T, torch.zeros(2, 2, dtype=torch.float64), atol=1e-9)


# -- where it starts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", tiny_language.KINDS)
def test_moments_are_of_what_the_hooked_block_puts_out_padding_aside(root: Path, kind: str) -> None:
    """Row by row, without padding, at the library's own hidden states after that block."""
    from oubliette.data.questions import QA

    model = opened(root, kind)
    pairs = [QA(question, answer) for question, answer in [*tiny_language.FORGET, *tiny_language.RETAIN]]
    found = second_moments(model, TokenSet(model.encode(pairs)), [0])[0]
    wanted = torch.zeros_like(found)
    for pair in pairs:
        batch = model.encode([pair])
        with torch.no_grad():
            states = model.model(input_ids=batch.input_ids, output_hidden_states=True).hidden_states[1]
        for state in states[0].double():
            wanted += torch.outer(state, state)
    assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))


def test_the_start_is_the_pca_of_forget_states_off_the_retain_subspace() -> None:
    """Against an SVD of the states themselves."""
    forget, retain = random(40, 12).double(), random(30, 12, seed=1).double()
    forget[:, 0] *= 9
    retain[:, 0] *= 9
    found = off_retain(forget.T @ forget, retain.T @ retain, 3, 2)
    kept = torch.linalg.svd(retain).Vh[:3]
    wanted = torch.linalg.svd(forget - forget @ kept.T @ kept).Vh[:2]
    assert torch.allclose((found @ wanted.T).abs(), torch.eye(2, dtype=torch.float64), atol=1e-9)
    assert torch.allclose(found @ kept.T, torch.zeros(2, 3, dtype=torch.float64), atol=1e-9)
    alone = off_retain(forget.T @ forget, None, 3, 2)
    wanted = torch.linalg.svd(forget).Vh[:2]
    assert torch.allclose((alone @ wanted.T).abs(), torch.eye(2, dtype=torch.float64), atol=1e-9)
    assert torch.equal(off_retain(forget.T @ forget, retain.T @ retain, 0, 2), alone)


def test_no_more_directions_are_found_than_there_are() -> None:
    forget = random(3, 12).double()
    assert len(off_retain(forget.T @ forget, None, 0, 5)) == 3
    both = torch.cat([forget, random(2, 12, seed=1).double()])
    assert len(off_retain(both.T @ both, forget.T @ forget, 3, 5)) == 2


def test_an_untrained_request_is_that_start_in_the_model(root: Path) -> None:
    model = opened(root)
    sets = {name: _set(root, model, name) for name in ("forget", "retain")}
    moments = {name: second_moments(model, rows, [1])[1] for name, rows in sets.items()}
    wanted = off_retain(moments["forget"], moments["retain"], WIDTH // 8, 2).float()
    erased(root, model, blocks=[1], train={"steps": 1, "learning_rate": 1e-12})
    assert model.attachment.blocks == [1]
    found = model.attachment.basis(1)
    assert torch.allclose(found.T @ found, wanted.T @ wanted, atol=1e-5)


def _set(root: Path, model: Any, name: str) -> TokenSet:
    from oubliette.data.questions import read_questions

    return TokenSet(model.encode(read_questions(root / f"{name}.jsonl")))


def test_blocks_are_drawn_with_the_seed_from_all_but_the_last(facts_folder: Path) -> None:
    drawn = set()
    for seed in range(8):
        model: Any = open_model(facts_folder / "base", device="cpu")
        own = recipe(facts_folder, blocks=1, train={"steps": 1}).model_copy(update={"seed": seed})
        erase(model, own, show_progress=False)
        drawn |= set(model.attachment.blocks)
    assert drawn == {0, 1}


# -- training ------------------------------------------------------------------------------------------------


def test_one_step_is_sgd_on_the_published_loss(root: Path) -> None:
    """-nll(forget) + 1.2 nll(retain) through the projections, by autograd on a copy of the start."""
    model, rate = opened(root), 0.1
    erased(root, model, train={"steps": 1, "learning_rate": 1e-12})
    start = {name: tensor.detach().clone() for name, tensor in model.attachment.tensors().items()}
    rows = {name: _set(root, model, name).rows for name in ("forget", "retain")}
    model.detach()
    leaves = {name: tensor.clone().requires_grad_(True) for name, tensor in start.items()}
    with Projections(leaves).install(model):
        nll = {
            name: -(model.log_likelihood(model.predict(batch), batch) / batch.counts()).mean()
            for name, batch in rows.items()
        }
    slopes = torch.autograd.grad(-nll["forget"] + 1.2 * nll["retain"], list(leaves.values()))
    train = {"steps": 1, "learning_rate": rate, "batch": 6, "betas": [0.0, 0.999], "weight_decay": 0.0}
    result = erased(root, model, train={**train, "retain_weight": 1.2})
    assert result.losses["forget"][0] == pytest.approx(-nll["forget"].item(), rel=1e-5)
    for (name, tensor), slope in zip(start.items(), slopes, strict=True):
        moved = model.attachment.tensors()[name].detach()
        assert torch.allclose(moved, tensor - rate * slope, atol=1e-6)
        assert not torch.allclose(moved, tensor, atol=1e-6)


def test_a_bounded_loss_compares_with_the_model_before_the_request(root: Path) -> None:
    """NPO's reference is the bare model's for the first request, and the first's for the second."""
    model, still = opened(root), {"steps": 1, "learning_rate": 1e-12}
    for _ in range(2):
        before = _likelihood(root, model)
        result = erased(root, model, loss={"name": "npo", "beta": 0.1}, train=still)
        gap = _likelihood(root, model) - before
        assert not torch.allclose(gap, torch.zeros(2), atol=1e-3)
        wanted = [-20 * math.log(1 / (1 + math.exp(0.1 * one))) for one in gap.tolist()]
        assert result.losses["forget"][0] == pytest.approx(sum(wanted) / 2, rel=1e-5)
        with result.weights.originals():
            assert torch.equal(_likelihood(root, model), before)


def _likelihood(root: Path, model: Any) -> torch.Tensor:
    batch = _set(root, model, "forget").rows
    with torch.no_grad():
        found: torch.Tensor = model.log_likelihood(model.predict(batch), batch)
        return found


def test_it_forgets_what_it_is_told_to_and_no_weight_moves(facts_folder: Path) -> None:
    """On a model that knows facts: forgotten by more than what is retained, by the projections alone."""
    model: Any = open_model(facts_folder / "base", device="cpu")
    weights = {name: tensor.detach().clone() for name, tensor in model.tensors().items()}
    plain = logits(model)
    before = {name: _mean(facts_folder, model, name) for name in ("forget", "retain")}
    own = recipe(
        facts_folder,
        blocks=[0, 1],
        directions=8,
        train={"steps": 40, "batch": 16, "learning_rate": 0.05, "optimizer": "adam", "retain_weight": 1.2},
    )
    erase(model, own, show_progress=False)
    after = {name: _mean(facts_folder, model, name) for name in ("forget", "retain")}
    assert after["forget"] < before["forget"] - 1
    assert after["retain"] > before["retain"] - 0.7
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.tensors().items())
    assert not torch.equal(logits(model), plain)
    model.detach()
    assert torch.equal(logits(model), plain)


def _mean(root: Path, model: Any, name: str) -> float:
    rows = _set(root, model, name)
    with torch.no_grad():
        return -float(rows.loss(model, rows.rows))


# -- growing -------------------------------------------------------------------------------------------------


def test_growth_keeps_the_earlier_directions_bit_by_bit(root: Path, tmp_path: Path) -> None:
    model = opened(root)
    bare = {name: tensor.detach().clone() for name, tensor in model.tensors().items()}
    erased(root, model, blocks=[0])
    first = model.attachment.basis(0).detach().clone()
    for number, blocks in ((2, [0, 1]), (3, [0])):
        erased(root, model, forget="second", blocks=blocks)
        found = model.attachment.basis(0).detach()
        assert len(found) == 2 * number
        assert torch.equal(found[:2], first)
        assert torch.allclose(found @ found.T, torch.eye(len(found)), atol=1e-5)
    assert len(model.attachment.basis(1)) == 2
    assert all(torch.equal(tensor, bare[name]) for name, tensor in model.tensors().items())
    with read(model.blocks(), [0]) as seen:
        logits(model)
    assert float((seen[0] @ found.T).abs().max()) < 1e-4


def test_growing_in_memory_and_from_the_folder_gives_the_same_bits(root: Path, tmp_path: Path) -> None:
    model = opened(root)
    erased(root, model).save(tmp_path / "first")
    again = open_model(tmp_path / "first", device="cpu")
    for one in (model, again):
        erased(root, one, forget="second")
    assert again.fingerprint() == model.fingerprint()
    assert torch.equal(logits(again), logits(model))


@pytest.mark.parametrize("kind", tiny_language.KINDS)
def test_saved_and_opened_it_gives_the_same_logits(root: Path, tmp_path: Path, kind: str) -> None:
    model = opened(root, kind)
    erased(root, model).save(tmp_path / "out")
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        "attached.json",
        "attached.safetensors",
        "oubliette.json",
    }
    again: Any = open_model(tmp_path / "out", device="cpu")
    assert torch.equal(logits(again), logits(model))
    assert again.fingerprint() == model.fingerprint()
    assert again.respond(["Who?"], 5) == model.respond(["Who?"], 5)
    again.detach()
    assert torch.equal(logits(again), logits(opened(root, kind)))


def test_a_run_cut_short_ends_in_the_same_bits(root: Path, tmp_path: Path) -> None:
    from oubliette.train.loop import Loop

    whole = opened(root)
    own = recipe(root, train={"steps": 6, "checkpoint_every": 2, "betas": [0.9, 0.999]})
    erase(whole, own, show_progress=False)
    cut, original = opened(root), Loop.save_checkpoint

    def stop(loop: Any) -> None:
        original(loop)
        if loop.step == 4:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, "save_checkpoint", stop)
        with pytest.raises(KeyboardInterrupt):
            erase(cut, own, checkpoint=tmp_path / "at", show_progress=False)
    assert cut.attachment is None
    assert torch.equal(logits(cut), logits(opened(root)))
    erase(cut, own, checkpoint=tmp_path / "at", resume=True, show_progress=False)
    assert cut.fingerprint() == whole.fingerprint()
    assert torch.equal(logits(cut), logits(whole))


def test_a_model_held_in_bf16_is_projected_in_fp32(root: Path, tmp_path: Path) -> None:
    tiny_language.save(tmp_path / "base", "llama", dtype=torch.bfloat16)
    model: Any = open_model(tmp_path / "base", device="cpu", dtype=torch.bfloat16)
    erased(root, model).save(tmp_path / "out")
    assert all(tensor.dtype == torch.float32 for tensor in model.attachment.tensors().values())
    again = open_model(tmp_path / "out", device="cpu", dtype=torch.bfloat16)
    assert torch.equal(logits(again), logits(model))


# -- what cannot be ------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "too many blocks": ({"blocks": 2}, "2 blocks are to be drawn, and .*llama has 2, of which the last"),
    "no blocks": ({"blocks": 0}, "0 blocks are to be drawn"),
    "an empty list": ({"blocks": []}, "name some, each once"),
    "a block twice": ({"blocks": [1, 1]}, "name some, each once"),
    "a block that is not there": ({"blocks": [2]}, "has blocks 0 to 1"),
    "more than there are": ({"directions": 31}, "have 28 directions beside the 4 of the retain rows"),
    "an unknown loss": ({"loss": "npoo"}, "no method is called 'npoo'; did you mean 'npo'"),
    "a loss of pictures": ({"loss": "esd"}, "'esd' is trained, for diffusion models"),
    "itself": ({"loss": "mrp"}, "'mrp' is attached"),
    "an option of the loss": ({"loss": {"name": "npo", "gamma": 1}}, "loss 'npo': unknown key 'gamma'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_one_line(root: Path, case: str) -> None:
    options, message = REFUSED[case]
    model = opened(root)
    with pytest.raises(UserError, match=message) as caught:
        erased(root, model, **options)
    assert "\n" not in str(caught.value)
    assert model.attachment is None


BROKEN: dict[str, tuple[dict[str, torch.Tensor], str]] = {
    "nothing": ({}, "expected its directions"),
    "another name": ({"0.first": random(2)}, "found '0.first'"),
    "no block": ({"a.kept": random(2)}, "found 'a.kept'"),
    "a vector": ({"0.latest": random(2)[0]}, "found '0.latest'"),
    "two widths": ({"0.kept": torch.eye(4)[:1], "0.latest": random(2)}, "block 0 are not orthonormal"),
    "not orthonormal": ({"1.kept": random(2)}, "block 1 are not orthonormal"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_tensors_of_another_kind_are_refused(case: str) -> None:
    tensors, message = BROKEN[case]
    with pytest.raises(UserError, match=message):
        Projections.build({}, tensors)


def test_what_was_made_for_another_model_is_refused(root: Path) -> None:
    model = opened(root)
    plain = logits(model)
    for made, message in (
        (Projections.grown(None, {0: random(2, 16)}), "made for blocks of width 16; .* has those of 32"),
        (Projections.grown(None, {7: random(2)}), "no block 7"),
    ):
        with pytest.raises(UserError, match=message):
            model.attach(made)
        assert model.attachment is None
    assert torch.equal(logits(model), plain)


def test_the_preset_is_the_released_codes() -> None:
    raw = read_recipe("mrp")
    assert raw["method"] == {
        "name": "mrp",
        "directions": 2,
        "blocks": 2,
        "retain_rank": None,
        "loss": "graddiff",
    }
    train = raw["train"]
    assert (train["optimizer"], train["learning_rate"], train["batch"], train["retain_weight"]) == (
        "sgd",
        2e-4,
        5,
        1.2,
    )
    assert train["betas"][0] == 0
