"""Each objective equals its formula, written as loops over tokens, on tiny random models."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny_language
from oubliette.backends.language import LanguageBackend
from oubliette.core.errors import UserError
from oubliette.erase import METHODS
from oubliette.erase.language.prepare import prepare
from oubliette.erase.language.refusals import shipped_refusals
from oubliette.erase.request import ErasureRequest
from oubliette.train.scope import select
from oubliette.train.weights import Weights

ROWS = [
    "random-labels",
    "altpo",
    "pdu",
    "simnpo",
    "wga",
    "satimp",
    "undial",
    "whp",
    "ceu",
    "me",
    "idk",
    "dpo",
    "idk-ap",
    "rmu",
    "rmu-lat",
    "rr",
]
OPTIONS: dict[str, dict[str, Any]] = {
    "altpo": {"count": 2, "tokens": 4},
    "rmu-lat": {"layer": 1, "attack_layer": 0, "attack_steps": 4},
    "rmu": {"layer": 1},
    "rr": {"layers": [0, 1], "ramp": 10},
    "whp": {"reinforce_steps": 2},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("objectives")
    for kind in ("llama", "gpt2"):
        tiny_language.save(root / kind, kind)
    tiny_language.write_rows(root / "forget.jsonl", tiny_language.FORGET)
    tiny_language.write_rows(root / "retain.jsonl", tiny_language.RETAIN)
    return root


def setting(root: Path, name: str, kind: str = "llama", *, away: bool = True, **options: Any) -> Any:
    """A set-up objective on a model that has moved away from its original, and a draw of two rows each."""
    model = LanguageBackend.open(root / kind, device="cpu")
    request = ErasureRequest(forget=root / "forget.jsonl", retain_file=root / "retain.jsonl")
    method = METHODS.get(name)
    objective = method(method.Options(**{**OPTIONS.get(name, {}), **options}), request)
    weights = Weights(select(model, "full"))
    objective.setup(model, prepare(model, request, seed=0), weights, 0)
    if away:
        rng = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for parameter in weights.parameters:
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=rng))
    for parameter in weights.parameters:
        parameter.requires_grad_(True)
    draw = objective.draw(0, torch.Generator().manual_seed(1), 2)
    return model, objective, weights, draw


def tokens(model: Any, batch: Any) -> list[list[tuple[torch.Tensor, int]]]:
    """Of each row the counted tokens, each with the log-probabilities (V,) that it was predicted from."""
    found = []
    logs = model.predict(batch).float().log_softmax(dim=-1).detach()
    for row, labels in zip(logs, batch.labels, strict=True):
        found.append([(row[at - 1], int(label)) for at, label in enumerate(labels) if at > 0 and label >= 0])
    return found


def log_likelihood(model: Any, batch: Any) -> list[float]:
    return [float(sum(log[label] for log, label in row)) for row in tokens(model, batch)]


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def test_random_labels_are_uniform_fresh_and_stand_where_labels_count(root: Path) -> None:
    model, objective, _, draw = setting(root, "random-labels")
    own, drawn = draw["forget"].labels, draw["labels"]
    assert torch.equal(own < 0, drawn < 0)
    assert not torch.equal(own, drawn)
    rows = [
        sum(-float(log[int(u)]) for (log, _), u in zip(row, labels[1:][labels[1:] >= 0], strict=True))
        / len(row)
        for row, labels in zip(tokens(model, draw["forget"]), drawn, strict=True)
    ]
    assert float(objective.loss("forget", draw)) == pytest.approx(sum(rows) / len(rows), rel=1e-5)
    again = objective.draw(0, torch.Generator().manual_seed(1), 2)
    other = objective.draw(0, torch.Generator().manual_seed(2), 2)
    assert torch.equal(again["labels"], drawn)
    assert not torch.equal(other["labels"], drawn)
    many = torch.cat(
        [
            labels[labels >= 0]
            for seed in range(400)
            for labels in objective.draw(0, torch.Generator().manual_seed(seed), 2)["labels"]
        ]
    )
    size = model.reader.vocabulary
    assert (int(many.min()), int(many.max())) == (0, size - 1)
    assert float(many.float().mean()) == pytest.approx(
        (size - 1) / 2, abs=4 * size / math.sqrt(12 * len(many))
    )


@pytest.mark.parametrize("name", ["graddiff", "npo", "random-labels"])
def test_fits_anchor_and_the_true_divergence_differ_by_the_models_entropy(root: Path, name: str) -> None:
    found = {}
    for anchor in ("cross_entropy", "reverse_kl"):
        model, objective, weights, draw = setting(root, name, retain=anchor)
        found[anchor] = float(objective.loss("retain", draw))
    ours = tokens(model, draw["retain"])
    with weights.originals():
        theirs = tokens(model, draw["retain"])
    rows, entropies = [], []
    for one, other in zip(ours, theirs, strict=True):
        pairs = [(p.double(), q.double()) for (p, _), (q, _) in zip(one, other, strict=True)]
        rows.append(sum(-float((p.exp() * q).sum()) for p, q in pairs) / len(pairs))
        entropies.append(sum(-float((p.exp() * p).sum()) for p, _ in pairs) / len(pairs))
    assert found["cross_entropy"] == pytest.approx(sum(rows) / len(rows), rel=1e-5)
    assert found["cross_entropy"] - found["reverse_kl"] == pytest.approx(
        sum(entropies) / len(entropies), rel=1e-4
    )
    assert found["reverse_kl"] > 1e-3


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_simnpo(root: Path, kind: str) -> None:
    model, objective, _, draw = setting(root, "simnpo", kind, beta=2.5, margin=0.3)
    rows = tokens(model, draw["forget"])
    terms = [
        math.log(sigmoid(-2.5 * float(sum(log[label] for log, label in row)) / len(row) - 0.3))
        for row in rows
    ]
    wanted = -(2 / 2.5) * sum(terms) / len(terms)
    assert float(objective.loss("forget", draw)) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("name", ["wga", "satimp"])
def test_weighted_ascent(root: Path, name: str) -> None:
    model, objective, weights, draw = setting(root, name)
    total = 0.0
    for row in tokens(model, draw["forget"]):
        each = [float(log[label]) for log, label in row]
        weighed = [
            (math.exp(one) if name == "wga" else math.exp(one) ** 5 * (1 - math.exp(one))) * one
            for one in each
        ]
        total += sum(weighed) / len(row)
    loss = objective.loss("forget", draw)
    assert float(loss) == pytest.approx(total / 2, rel=1e-5)
    assert all(part is not None for part in torch.autograd.grad(loss, weights.parameters[:3]))


def test_a_weight_of_nothing_is_graddiff(root: Path) -> None:
    _, objective, _, draw = setting(root, "wga", beta=0.0)
    _, other, _, same = setting(root, "graddiff")
    assert float(objective.loss("forget", draw)) == pytest.approx(float(other.loss("forget", same)), rel=1e-6)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_undial(root: Path, kind: str) -> None:
    model, objective, weights, draw = setting(root, "undial", kind, beta=3.0)
    with weights.originals():
        before = model.predict(draw["forget"]).float().detach()
    total = 0.0
    for number, row in enumerate(tokens(model, draw["forget"])):
        places = [at for at, label in enumerate(draw["forget"].labels[number]) if at > 0 and label >= 0]
        each = []
        for at, (log, label) in zip(places, row, strict=True):
            lowered = before[number, at - 1].clone()
            lowered[label] -= 3.0
            each.append(-float((lowered.softmax(dim=-1) * log).sum()))
        total += sum(each) / len(each)
    assert float(objective.loss("forget", draw)) == pytest.approx(total / 2, rel=1e-5)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_whp(root: Path, kind: str) -> None:
    """The labels against two models made by hand: the original, and it after two steps of AdamW."""
    options = {"reinforce_steps": 2, "reinforce_batch": 1, "reinforce_rate": 0.02, "alpha": 1.5}
    model, objective, weights, draw = setting(root, "whp", kind, **options)
    batch = draw["forget"]
    log_p = tokens(model, batch)
    weights.restore()
    before = model.predict(batch).float().detach()
    rng = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(weights.parameters, lr=0.02, weight_decay=0.0)
    for _ in range(2):
        some = objective.data.forget.draw(rng, 1)
        optimizer.zero_grad()
        (-model.log_likelihood(model.predict(some), some) / some.counts()).mean().backward()
        optimizer.step()
    after = model.predict(batch).float().detach()
    total, changed = 0.0, 0
    for number, row in enumerate(log_p):
        places = [at for at, label in enumerate(batch.labels[number]) if at > 0 and label >= 0]
        each = []
        for at, (log, label) in zip(places, row, strict=True):
            scores = [
                float(z) - 1.5 * max(0.0, float(other - z))
                for z, other in zip(before[number, at - 1], after[number, at - 1], strict=True)
            ]
            best = scores.index(max(scores))
            changed += best != label
            each.append(-float(log[best]))
        total += sum(each) / len(each)
    assert changed > 0
    weights.restore()
    model, objective, weights, draw = setting(root, "whp", kind, **options)
    assert float(objective.loss("forget", draw)) == pytest.approx(total / 2, rel=1e-4)
    assert int((objective.generic.rows.labels >= 0).sum()) == int(
        (objective.data.forget.rows.labels >= 0).sum()
    )


def test_ceu(root: Path) -> None:
    model, objective, _, draw = setting(root, "ceu", skip=1)
    total = 0.0
    for row in tokens(model, draw["forget"]):
        each = []
        for log, label in row[1:]:
            own = log.exp()
            own[label] = 0
            each.append(-float((own / own.sum() * log).sum()))
        total += sum(each) / len(each)
    assert float(objective.loss("forget", draw)) == pytest.approx(total / 2, rel=1e-4)
    _, nothing, _, same = setting(root, "ceu", skip=1000)
    assert float(nothing.loss("forget", same)) == 0


def test_maximum_entropy_is_zero_where_every_token_is_as_likely(root: Path) -> None:
    model, objective, weights, draw = setting(root, "me")
    batch = draw["forget"]
    logs = model.predict(batch).float().log_softmax(dim=-1).detach()
    size, total = logs.shape[-1], 0.0
    for row, mask in zip(logs, batch.attention_mask, strict=True):
        count = int(mask.sum()) - 1
        kl = [sum((1 / size) * (math.log(1 / size) - float(p)) for p in row[at]) for at in range(count)]
        total += sum(kl) / count
    assert float(objective.loss("forget", draw)) == pytest.approx(total / 2, rel=1e-3)
    with torch.no_grad():
        for parameter in weights.parameters:
            parameter.zero_()
    assert float(objective.loss("forget", draw)) == pytest.approx(0, abs=1e-5)


def test_idk_is_the_nll_of_a_refusal_of_the_same_question(root: Path) -> None:
    model, objective, _, draw = setting(root, "idk")
    rows = tokens(model, draw["refused"])
    wanted = -sum(sum(float(log[label]) for log, label in row) / len(row) for row in rows) / len(rows)
    assert float(objective.loss("forget", draw)) == pytest.approx(wanted, rel=1e-5)
    said = [model.tokenizer.decode(ids, skip_special_tokens=True) for ids in draw["refused"].input_ids]
    asked = [model.tokenizer.decode(ids, skip_special_tokens=True) for ids in draw["forget"].input_ids]
    for one, other in zip(said, asked, strict=True):
        question = other.partition("?")[0]
        assert one.startswith(question)
        assert any(one.endswith(refusal) for refusal in shipped_refusals())


def test_dpo(root: Path) -> None:
    model, objective, weights, draw = setting(root, "dpo", beta=0.5)
    own = [log_likelihood(model, draw[key]) for key in ("refused", "forget")]
    with weights.originals():
        first = [log_likelihood(model, draw[key]) for key in ("refused", "forget")]
    terms = [
        math.log(sigmoid(0.5 * ((own[0][i] - first[0][i]) - (own[1][i] - first[1][i])))) for i in range(2)
    ]
    assert float(objective.loss("forget", draw)) == pytest.approx(-(2 / 0.5) * sum(terms) / 2, rel=1e-4)


def test_dpo_begins_at_2_log_2_over_beta(root: Path) -> None:
    _, objective, _, draw = setting(root, "dpo", away=False, beta=0.1)
    assert float(objective.loss("forget", draw)) == pytest.approx(2 * math.log(2) / 0.1, rel=1e-6)


def test_answers_are_preferred_on_what_is_retained(root: Path) -> None:
    model, objective, _, draw = setting(root, "idk-ap", beta=0.2)
    answered, refused = (log_likelihood(model, draw[key]) for key in ("retain", "retain_refused"))
    terms = [math.log(sigmoid(0.2 * (one - other))) for one, other in zip(answered, refused, strict=True)]
    assert float(objective.loss("retain", draw)) == pytest.approx(-(1 / 0.2) * sum(terms) / 2, rel=1e-4)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_rmu(root: Path, kind: str) -> None:
    model, objective, weights, draw = setting(root, "rmu", kind, steering=3.0)
    assert float(objective.target.norm()) == pytest.approx(3.0, rel=1e-5)
    assert bool((objective.target >= 0).all())
    for role, goal in (("forget", None), ("retain", "original")):
        batch, each = draw[role], []
        states = model.model(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask, output_hidden_states=True
        ).hidden_states
        del states  # the last is normed by the library: the block's own is what counts
        own = objective.states(batch)
        for row in range(len(batch)):
            for at in range(int(batch.attention_mask[row].sum())):
                want = objective.target if goal is None else draw[goal][row, at]
                each.append(float((own[row, at] - want).square().mean()))
        assert float(objective.loss(role, draw)) == pytest.approx(sum(each) / len(each), rel=1e-4)
    with weights.originals():
        assert float(objective.loss("retain", draw)) == 0


def test_adaptive_steering_is_a_multiple_of_the_originals_norm(root: Path) -> None:
    _, objective, _, _ = setting(root, "rmu", away=False, adaptive=5.0)
    batch = objective.data.forget.rows
    norms = objective.states(batch).norm(dim=-1)[batch.attention_mask.bool()]
    assert float(objective.target.norm()) == pytest.approx(5.0 * float(norms.mean()), rel=1e-5)


def test_rr_begins_turned_towards_the_original_and_changes_its_weights(root: Path) -> None:
    _, objective, weights, draw = setting(root, "rr", away=False)
    assert float(objective.loss("forget", draw)) == pytest.approx(1.0, abs=1e-5)
    assert float(objective.loss("retain", draw)) < 1e-5
    assert all(
        bool(torch.isfinite(part).all())
        for part in torch.autograd.grad(objective.loss("retain", draw), weights.parameters, allow_unused=True)
        if part is not None
    )
    shares = [
        [role.weight for role in objective.roles(step).values() if role.moves] for step in (0, 5, 10, 20)
    ]
    assert shares == [[10.0, 0.0], [5.0, 5.0], [0.0, 10.0], [0.0, 10.0]]


@pytest.mark.parametrize("name", ["rmu", "rr"])
def test_a_block_that_is_not_there(root: Path, name: str) -> None:
    options = {"layer": 2} if name == "rmu" else {"layers": [2]}
    with pytest.raises(UserError, match=r"2.*(blocks 0 to 1|\(0 to 1\))"):
        setting(root, name, **options)


@pytest.mark.parametrize("name", ["idk", "dpo", "idk-ap"])
def test_plain_text_cannot_be_refused(root: Path, tmp_path: Path, name: str) -> None:
    plain = tmp_path / "plain.jsonl"
    plain.write_text('{"text": "All of it counts."}\n', encoding="utf-8")
    model = LanguageBackend.open(root / "llama", device="cpu")
    request = ErasureRequest(forget=plain, retain_file=root / "retain.jsonl")
    method = METHODS.get(name)
    objective = method(method.Options(), request)
    with pytest.raises(UserError, match="is plain text"):
        objective.setup(model, prepare(model, request, seed=0), Weights(select(model, "full")), 0)


def test_refusals_of_ones_own(root: Path, tmp_path: Path) -> None:
    own = tmp_path / "refusals.jsonl"
    own.write_text('{"text": "No."}\n', encoding="utf-8")
    model = LanguageBackend.open(root / "llama", device="cpu")
    request = ErasureRequest(forget=root / "forget.jsonl", sources={"refusals": own})
    objective = METHODS.get("idk")(METHODS.get("idk").Options(), request)
    objective.setup(model, prepare(model, request, seed=0), Weights(select(model, "full")), 0)
    draw = objective.draw(0, torch.Generator().manual_seed(0), 2)
    assert all(
        model.tokenizer.decode(ids, skip_special_tokens=True).endswith("No.")
        for ids in draw["refused"].input_ids
    )


@pytest.mark.parametrize("name", ROWS)
def test_every_one_has_a_gradient_in_each_role_that_leaves_padding_out(root: Path, name: str) -> None:
    """A row's share of the loss is the same alone as beside a longer row."""
    _, objective, weights, draw = setting(root, name)
    for role in objective.roles(5):
        parts = torch.autograd.grad(objective.loss(role, draw), weights.parameters, allow_unused=True)
        size = sum(float(part.square().sum()) for part in parts if part is not None)
        assert math.isfinite(size)
        assert size > 0, role


def invariant(root: Path, **options: Any) -> Any:
    """NPO+IRM set up with the retain rows as the other task, and a draw."""
    model = LanguageBackend.open(root / "llama", device="cpu")
    request = ErasureRequest(
        forget=root / "forget.jsonl",
        retain_file=root / "retain.jsonl",
        sources={"auxiliary": root / "retain.jsonl"},
    )
    method = METHODS.get("npo-irm")
    objective = method(method.Options(**options), request)
    weights = Weights(select(model, "full"))
    objective.setup(model, prepare(model, request, seed=0), weights, 0)
    for parameter in weights.parameters:
        parameter.requires_grad_(True)
    return model, objective, weights, objective.draw(0, torch.Generator().manual_seed(1), 3)


def test_the_invariance_penalty_is_the_squared_slope_that_autograd_finds(root: Path) -> None:
    model, objective, weights, draw = invariant(root, invariance=0.3)
    batch = draw["auxiliary"]
    scale = torch.ones((), requires_grad=True)
    logits = model.predict(batch).detach() * scale
    (slope,) = torch.autograd.grad(objective.auxiliary.loss(Scaled(logits), batch), scale)
    loss = objective.loss("auxiliary", draw)
    assert float(loss) == pytest.approx(float(slope) ** 2, rel=1e-4)
    assert any(part is not None for part in torch.autograd.grad(loss, weights.parameters, allow_unused=True))
    assert {name: (role.kind, role.weight) for name, role in objective.roles(0).items()} == {
        "forget": ("forget", 1.0),
        "retain": ("retain", 1.0),
        "relearn": ("inner", 1.0),
        "auxiliary": ("retain", 0.3),
    }


def test_the_other_task_has_a_batch_of_its_own(root: Path) -> None:
    _, objective, _, draw = invariant(root, auxiliary_batch=2.0, retain_batch=4.0)
    assert [len(draw[name]) for name in ("forget", "retain", "auxiliary")] == [3, 12, 6]
    cost = type(objective).step_cost(objective.options)
    assert (cost.forwards, cost.backwards, cost.retain_batch) == (2.0, 2.0, 4.0)


class Scaled:
    """A model that gives these logits."""

    def __init__(self, logits: torch.Tensor) -> None:
        self.logits = logits

    def predict(self, batch: Any) -> torch.Tensor:
        return self.logits

    def log_likelihood(self, logits: torch.Tensor, batch: Any) -> torch.Tensor:
        return LanguageBackend.token_log_likelihood(self, logits, batch).sum(dim=1)  # type: ignore[arg-type]


def test_the_other_task_must_be_named(root: Path) -> None:
    request = ErasureRequest(forget=root / "forget.jsonl")
    model = LanguageBackend.open(root / "llama", device="cpu")
    method = METHODS.get("npo-irm")
    objective = method(method.Options(), request)
    with pytest.raises(UserError, match=r"sources\.auxiliary=FILE"):
        objective.setup(model, prepare(model, request, seed=0), Weights(select(model, "full")), 0)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_the_latent_attack_stays_in_its_ball_and_makes_the_rows_likelier(root: Path, kind: str) -> None:
    model, objective, _, draw = setting(root, "rmu-lat", kind, epsilon=0.5, attack_steps=8)
    batch, delta = draw["forget"], draw["delta"]
    assert delta.shape == objective.states(batch).shape
    assert float(delta.norm(dim=-1).max()) <= 0.5 + 1e-5
    assert not delta.requires_grad
    plain = float(objective.data.forget.loss(model, batch))
    with objective._perturbed(delta):
        pushed = float(objective.data.forget.loss(model, batch))
        states = objective.states(batch).detach()
    assert pushed < plain
    counted = batch.attention_mask.bool()
    wanted = (states - objective.target).square().mean(dim=-1)[counted].mean()
    assert float(objective.loss("forget", draw)) == pytest.approx(float(wanted), rel=1e-5)
    _, rmu, _, same = setting(root, "rmu", kind)
    _, faint, _, also = setting(root, "rmu-lat", kind, epsilon=1e-8)
    assert float(faint.loss("forget", also)) == pytest.approx(float(rmu.loss("forget", same)), rel=1e-4)
    assert float(faint.loss("retain", also)) == pytest.approx(float(rmu.loss("retain", same)), rel=1e-5)


def test_an_attack_behind_what_it_is_to_reach_is_refused(root: Path) -> None:
    with pytest.raises(UserError, match="attack_layer 1 must be a block"):
        setting(root, "rmu-lat", layer=0, attack_layer=1)
