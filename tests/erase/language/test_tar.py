"""TAR against a hand-written loop: copies of the model, torch's own AdamW, losses as loops over tokens."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny_language
from oubliette.backends.language import LanguageBackend
from oubliette.core.errors import UserError
from oubliette.erase.language.prepare import prepare
from oubliette.erase.language.tar import TAR
from oubliette.erase.request import ErasureRequest
from oubliette.train.scope import select
from oubliette.train.weights import Weights

ROWS = [
    *tiny_language.FORGET,
    ("Who taught Ada Marlow?", "Bram Oste"),
    ("What did she paint last?", "a green boat"),
    ("Which town is older?", "Quill, by a year"),
]
SHORT: dict[str, Any] = {"inner_steps": 5, "every": 2, "inner_learning_rates": [3e-3], "growth": 0.25}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tar")
    for kind in ("llama", "gpt2"):
        tiny_language.save(root / kind, kind)
    tiny_language.write_rows(root / "forget.jsonl", ROWS)
    tiny_language.write_rows(root / "retain.jsonl", tiny_language.RETAIN)
    tiny_language.write_rows(root / "related.jsonl", [("Who carved the gate?", "Ina Holt")])
    return root


def setting(
    root: Path, kind: str = "llama", *, retain: bool = True, related: bool = False, **options: Any
) -> Any:
    """TAR set up on a model that has moved away from its original."""
    model = LanguageBackend.open(root / kind, device="cpu")
    request = ErasureRequest(
        forget=root / "forget.jsonl",
        retain_file=root / "retain.jsonl" if retain else None,
        sources={"related": root / "related.jsonl"} if related else {},
    )
    objective = TAR(TAR.Options(**{**SHORT, **options}), request)
    weights = Weights(select(model, "full"))
    objective.setup(model, prepare(model, request, seed=0), weights, 0)
    rng = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in weights.parameters:
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=rng))
    for parameter in weights.parameters:
        parameter.requires_grad_(True)
    return model, objective, weights


def drawn(objective: TAR, seed: int = 1, batch: int = 2, step: int = 0) -> Any:
    return objective.draw(step, torch.Generator().manual_seed(seed), batch)


def logs_of(network: Any, batch: Any) -> torch.Tensor:
    return network(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits.log_softmax(dim=-1)


def places(batch: Any) -> list[list[int]]:
    """Of each row the positions from which a counted token is predicted."""
    return [[at - 1 for at, label in enumerate(row) if at > 0 and label >= 0] for row in batch.labels]


def nll(network: Any, batch: Any) -> torch.Tensor:
    logs, rows = logs_of(network, batch), []
    for number, row in enumerate(places(batch)):
        rows.append(-torch.stack([logs[number, at, batch.labels[number, at + 1]] for at in row]).mean())
    return torch.stack(rows).mean()


def entropy(network: Any, batch: Any) -> torch.Tensor:
    logs, rows = logs_of(network, batch), []
    for number, row in enumerate(places(batch)):
        rows.append(torch.stack([-(logs[number, at].exp() * logs[number, at]).sum() for at in row]).mean())
    return torch.stack(rows).mean()


def by_hand(model: Any, draw: Any, options: Any) -> tuple[float, list[torch.Tensor]]:
    """The loss and its gradient of first order."""
    attacker = copy.deepcopy(model.model)
    optimizer = torch.optim.AdamW(attacker.parameters(), lr=draw["rate"], weight_decay=0.0)
    total = 0.0
    slopes = [torch.zeros_like(parameter) for parameter in attacker.parameters()]
    last = options.inner_steps - 1
    for number, rows in enumerate(draw["attack"]):
        optimizer.zero_grad()
        nll(attacker, rows).backward()
        optimizer.step()
        if (number + 1) % options.every == 0 or number == last:
            share = math.exp(options.growth * (number - last))
            loss = -entropy(attacker, draw["forget"]) * share
            for slope, part in zip(
                slopes, torch.autograd.grad(loss, list(attacker.parameters())), strict=True
            ):
                slope += part
            total += float(loss)
    return total, slopes


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_the_loss_and_its_gradient_are_those_of_a_hand_written_loop(root: Path, kind: str) -> None:
    model, objective, weights = setting(root, kind)
    before = [parameter.detach().clone() for parameter in weights.parameters]
    draw = drawn(objective)
    wanted, slopes = by_hand(model, draw, objective.options)
    loss = objective.loss("forget", draw)
    assert float(loss) == pytest.approx(wanted, rel=1e-4)
    found = torch.autograd.grad(3.0 * loss, weights.parameters)
    for part, slope in zip(found, slopes, strict=True):
        torch.testing.assert_close(part, 3.0 * slope, rtol=2e-3, atol=2e-4)
    plain = torch.autograd.grad(-objective.entropy(draw["forget"]), weights.parameters)
    assert not torch.allclose(found[0], 3.0 * plain[0], rtol=2e-3, atol=2e-4)
    assert all(torch.equal(a, b) for a, b in zip(before, weights.parameters, strict=True))


def test_the_attacker_starts_where_a_smoother_has_taken_the_weights(root: Path) -> None:
    model, objective, weights = setting(root)
    draw = drawn(objective)
    rng = torch.Generator().manual_seed(8)
    shift = [0.02 * torch.randn(parameter.shape, generator=rng) for parameter in weights.parameters]
    with weights.perturbed(shift):
        wanted, _ = by_hand(model, draw, objective.options)
        loss = float(objective.loss("forget", draw))
    assert loss == pytest.approx(wanted, rel=1e-4)
    assert loss != pytest.approx(float(objective.loss("forget", draw)), rel=1e-4)


def test_without_inner_steps_it_is_the_entropy_where_the_weights_stand(root: Path) -> None:
    model, objective, weights = setting(root, inner_steps=0)
    draw = drawn(objective)
    loss = objective.loss("forget", draw)
    assert float(loss) == pytest.approx(-float(entropy(model.model, draw["forget"])), rel=1e-5)
    found = torch.autograd.grad(loss, weights.parameters)
    wanted = torch.autograd.grad(-entropy(model.model, draw["forget"]), weights.parameters)
    for part, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(part, other, rtol=1e-4, atol=1e-6)
    assert TAR.step_cost(objective.options).inner == 0


def test_a_rate_of_almost_nothing_is_so_many_looks_where_the_weights_stand(root: Path) -> None:
    model, objective, _ = setting(root, inner_learning_rates=[1e-12])
    draw = drawn(objective)
    weights = sum(math.exp(0.25 * (number - 4)) for number in (1, 3, 4))
    wanted = -weights * float(entropy(model.model, draw["forget"]))
    assert float(objective.loss("forget", draw)) == pytest.approx(wanted, rel=1e-4)


def test_a_look_at_the_loss_alone_takes_the_run_too(root: Path) -> None:
    _, objective, _ = setting(root)
    draw = drawn(objective)
    with torch.no_grad():
        looked = objective.loss("forget", draw)
    assert float(looked) == float(objective.loss("forget", draw))


def test_it_cannot_be_differentiated_twice_in_silence(root: Path) -> None:
    _, objective, weights = setting(root)
    loss = objective.loss("forget", drawn(objective))
    with pytest.raises(RuntimeError, match="once_differentiable"):
        torch.autograd.grad(loss, weights.parameters, create_graph=True)


def test_the_retain_loss_is_nll_and_the_mean_distance_of_states(root: Path) -> None:
    model, objective, weights = setting(root, representation=0.5)
    draw = drawn(objective)
    batch, each = draw["retain"], []
    now = objective._states(batch)
    with weights.originals():
        then = objective._states(batch)
    for block in range(len(now)):
        for row in range(len(batch)):
            for at in range(int(batch.attention_mask[row].sum())):
                each.append(float((now[block, row, at] - then[block, row, at]).norm()))
    wanted = float(nll(model.model, batch)) + 0.5 * sum(each) / len(each)
    assert float(objective.loss("retain", draw)) == pytest.approx(wanted, rel=1e-4)
    _, plain, _ = setting(root, representation=0)
    draw = drawn(plain)
    assert float(plain.loss("retain", draw)) == pytest.approx(
        float(nll(model.model, draw["retain"])), rel=1e-5
    )


def rows_of(batch: Any) -> set[tuple[int, ...]]:
    """The rows' tokens without padding."""
    return {
        tuple(ids[mask.bool()].tolist())
        for ids, mask in zip(batch.input_ids, batch.attention_mask, strict=True)
    }


def test_held_out_rows_are_not_the_attackers(root: Path) -> None:
    _, objective, _ = setting(root, retain=False)
    held = set()
    for seed in range(12):
        draw = drawn(objective, seed, batch=8)
        assert len(draw["forget"]) == 2  # of five rows, at most half
        assert len(drawn(objective, seed, batch=1)["forget"]) == 1
        assert len(draw["attack"]) == 5
        assert all(len(rows) == 4 for rows in draw["attack"])
        attacked = set().union(*(rows_of(rows) for rows in draw["attack"]))
        assert not attacked & rows_of(draw["forget"])
        assert attacked | rows_of(draw["forget"]) == rows_of(objective.data.forget.rows)
        held |= rows_of(draw["forget"])
    assert held == rows_of(objective.data.forget.rows)


def test_attackers_are_of_every_kind_and_the_one_that_turns_does_so_once(root: Path) -> None:
    _, objective, _ = setting(root, related=True, inner_steps=16, inner_learning_rates=[1e-3, 2e-3])
    names = {
        "forget": rows_of(objective.data.forget.rows),
        "retain": rows_of(objective.data.retain.rows),
        "related": rows_of(objective._related.rows),
    }
    kinds, turns, rates = set(), [], set()
    for seed in range(120):
        draw = drawn(objective, seed)
        rates.add(draw["rate"])
        order = [next(n for n, rows in names.items() if rows_of(step) <= rows) for step in draw["attack"]]
        runs = [name for at, name in enumerate(order) if at == 0 or order[at - 1] != name]
        kinds.add(tuple(runs))
        if runs[0] == "retain":
            turns.append(order.count("retain") / 16)
    assert rates == {1e-3, 2e-3}
    assert {("forget",), ("related",), ("retain", "forget")} <= kinds
    assert kinds <= {("forget",), ("related",), ("retain", "forget"), ("retain",)}
    # Beta(6, 3) has mean 2/3 and deviation 0.149; a turn within a step counts as one at its end.
    mean = sum(turns) / len(turns)
    assert mean == pytest.approx(2 / 3 + 1 / 32, abs=4 * 0.149 / math.sqrt(len(turns)))
    assert 22 < len(turns) < 60


def test_random_mapping_comes_first_where_it_is_asked_for(root: Path) -> None:
    model, objective, weights = setting(root, mapping_steps=1)
    draw = drawn(objective)
    assert "attack" not in draw
    batch = draw["forget"]
    states = objective._states(batch)
    words = objective.data.forget.rows.input_ids.unique().tolist()
    rng = torch.Generator().manual_seed(0)
    vectors = dict(zip(words, torch.randn(len(words), 32, generator=rng), strict=True))
    each = []
    for block in states:
        for row in range(len(batch)):
            for at in range(int(batch.attention_mask[row].sum())):
                state, vector = block[row, at], vectors[int(batch.input_ids[row, at])]
                each.append(1 - abs(float(state @ vector / state.norm() / vector.norm())))
    loss = objective.loss("forget", draw)
    assert float(loss) == pytest.approx(sum(each) / len(each), rel=1e-4)
    assert any(part is not None for part in torch.autograd.grad(loss, weights.parameters, allow_unused=True))
    wanted = float(nll(model.model, draw["retain"]))
    assert float(objective.loss("retain", draw)) == pytest.approx(wanted, rel=1e-5)
    assert "attack" in drawn(objective, step=1)


def test_what_an_item_takes_is_counted(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows through the network in one evaluation, for each of the step's."""
    model, objective, _ = setting(root, retain=False, inner_steps=6, every=4)
    draw = drawn(objective, batch=2)
    seen = []
    predict = model.predict
    monkeypatch.setattr(model, "predict", lambda batch: seen.append(len(batch)) or predict(batch))
    objective.loss("forget", draw)
    assert sum(seen) / 2 == 1 + TAR.step_cost(objective.options).inner == 6 * 0.5 + 2


def test_a_single_row_has_nothing_to_hold_out(root: Path, tmp_path: Path) -> None:
    one = tiny_language.write_rows(tmp_path / "one.jsonl", ROWS[:1])
    model = LanguageBackend.open(root / "llama", device="cpu")
    request = ErasureRequest(forget=one)
    with pytest.raises(UserError, match="give at least two"):
        TAR(TAR.Options(), request).setup(
            model, prepare(model, request, seed=0), Weights(select(model, "full")), 0
        )
