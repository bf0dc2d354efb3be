import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

import tiny_language
from oubliette.backends.language import LanguageBackend
from oubliette.erase import METHODS
from oubliette.erase.language.npo import NPO, preference_loss
from oubliette.erase.language.prepare import prepare
from oubliette.erase.request import ErasureRequest
from oubliette.train.config import TrainConfig
from oubliette.train.loop import Loop
from oubliette.train.scope import select
from oubliette.train.smoothing import Sam
from oubliette.train.surgery import Project
from oubliette.train.weights import Weights


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two tiny models and their question files."""
    root = tmp_path_factory.mktemp("npo")
    for kind in ("llama", "gpt2"):
        tiny_language.save(root / kind, kind)
    tiny_language.write_rows(root / "forget.jsonl", tiny_language.FORGET)
    tiny_language.write_rows(root / "retain.jsonl", tiny_language.RETAIN)
    return root


def setting(root: Path, name: str = "npo", kind: str = "llama", **options):
    """A set-up objective on a fresh model, and a draw of both forget rows."""
    model = LanguageBackend.open(root / kind, device="cpu")
    request = ErasureRequest(forget=root / "forget.jsonl", retain_file=root / "retain.jsonl")
    method = METHODS.get(name)
    objective = method(method.Options(**options), request)
    weights = Weights(select(model, "full"))
    data = prepare(model, request, seed=0)
    objective.setup(model, data, weights, 0)
    for parameter in weights.parameters:
        parameter.requires_grad_(True)
    return model, objective, weights, data


def moved(weights: Weights, size: float = 0.02) -> None:
    """Take the weights away from their originals."""
    rng = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in weights.parameters:
            parameter.add_(size * torch.randn(parameter.shape, generator=rng))


def gradient(loss: torch.Tensor, weights: Weights) -> torch.Tensor:
    parts = torch.autograd.grad(loss, weights.parameters, allow_unused=True)
    return torch.cat([part.flatten() for part in parts if part is not None])


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_at_the_reference_the_loss_is_two_log_two_over_beta(root, kind, beta):
    _, npo, weights, _ = setting(root, kind=kind, beta=beta)
    draw = npo.draw(0, torch.Generator().manual_seed(0), 2)
    loss = npo.loss("forget", draw)
    assert loss.item() == pytest.approx(2 * math.log(2) / beta, rel=1e-5)
    # The gradient there is that of ascent on the summed likelihood, whatever beta is.
    batch = draw["forget"]
    ascent = npo.model.log_likelihood(npo.model.predict(batch), batch).mean()
    assert torch.allclose(gradient(loss, weights), gradient(ascent, weights), atol=1e-4)


@settings(deadline=None, max_examples=50)
@given(ratios=st.lists(st.floats(-30, 30), min_size=1, max_size=6), beta=st.floats(0.01, 2))
def test_preference_loss_is_its_formula(ratios, beta):
    found = preference_loss(torch.tensor(ratios, dtype=torch.float64), beta)
    terms = [-2 / beta * math.log(1 / (1 + math.exp(beta * ratio))) for ratio in ratios]
    assert float(found) == pytest.approx(sum(terms) / len(terms), rel=1e-9)


def test_the_log_ratio_is_summed_over_the_answer(root):
    """Against next-token probabilities taken one by one from both models."""
    model, npo, weights, data = setting(root, beta=0.5)

    def likelihood(row: int) -> float:
        ids, labels = data.forget.rows.input_ids[row], data.forget.rows.labels[row]
        total = 0.0
        for position in range(1, len(ids)):
            if labels[position] >= 0:
                logits = model.model(input_ids=ids[None, :position]).logits[0, -1].double()
                total += float(logits.log_softmax(0)[ids[position]])
        return total

    with torch.no_grad():
        before = [likelihood(row) for row in range(2)]
        moved(weights)
        ratios = [likelihood(row) - before[row] for row in range(2)]
        draw = npo.draw(0, torch.Generator().manual_seed(0), 2)
        found = npo.loss("forget", draw)
    assert max(abs(ratio) for ratio in ratios) > 0.05
    terms = [-2 / 0.5 * math.log(1 / (1 + math.exp(0.5 * ratio))) for ratio in ratios]
    assert float(found) == pytest.approx(sum(terms) / 2, rel=1e-4)


def test_as_beta_goes_to_zero_the_gradient_becomes_that_of_ascent(root):
    gaps = []
    for beta in (1.0, 0.1, 0.001):
        model, npo, weights, _ = setting(root, beta=beta)
        moved(weights, 0.2)
        draw = npo.draw(0, torch.Generator().manual_seed(0), 2)
        batch = draw["forget"]
        ascent = gradient(model.log_likelihood(model.predict(batch), batch).mean(), weights)
        found = gradient(npo.loss("forget", draw), weights)
        gaps.append(float((found - ascent).norm() / ascent.norm()))
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 1e-2


def test_far_below_the_reference_an_answer_is_left_alone(root):
    _, npo, weights, _ = setting(root, beta=1.0)
    draw = npo.draw(0, torch.Generator().manual_seed(0), 2)
    near = gradient(npo.loss("forget", draw), weights).norm()
    draw["reference"] = draw["reference"] + 50.0
    far = gradient(npo.loss("forget", draw), weights).norm()
    assert float(far) < 1e-6 * float(near)


def test_variants_are_the_other_codes_formulas(root):
    model, npo, weights, data = setting(root, beta=0.3, variant="batch_mean")
    reference = npo.reference.clone()
    moved(weights)
    draw = npo.draw(0, torch.Generator().manual_seed(0), 2)
    batch = draw["forget"]
    logits = model.predict(batch)
    labels = batch.labels[:, 1:]
    mean = torch.nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), labels, ignore_index=-100)
    original = -reference.sum() / data.forget.rows.counts().sum()
    expected = -(2 / 0.3) * torch.nn.functional.logsigmoid(0.3 * (mean - original))
    assert float(npo.loss("forget", draw)) == pytest.approx(float(expected), rel=1e-5)

    model, npo, weights, _ = setting(root, beta=0.3, variant="raw_logit")
    start = model.predict(batch).detach()
    moved(weights)
    draw = npo.draw(0, torch.Generator().manual_seed(0), 2)
    order = torch.argsort(draw["picked"])
    logits = model.predict(draw["forget"])
    expected = -(2 / 0.3) * torch.nn.functional.logsigmoid(0.3 * (start[order] - logits)[:]).mean()
    assert logits.shape == start.shape
    assert float(npo.loss("forget", draw)) == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("retain", ["nll", "kl"])
def test_npo_with_sam_and_projection_erases_and_opens_with_transformers(root, tmp_path, kind, retain):
    model = LanguageBackend.open(root / kind, device="cpu")
    request = ErasureRequest(forget=root / "forget.jsonl", retain_file=root / "retain.jsonl")
    data = prepare(model, request, seed=0)

    def likelihoods(of: LanguageBackend) -> tuple[float, float]:
        with torch.no_grad():
            return tuple(-float(part.loss(of, part.rows)) for part in (data.forget, data.retain))

    before = likelihoods(model)
    config = TrainConfig(steps=30, batch=2, learning_rate=3e-3, clip=1.0)
    loop = Loop(
        model,
        NPO(NPO.Options(beta=0.1, retain=retain), request),
        data,
        Weights(select(model, "full")),
        config,
        surgery=Project(),
        smoother=Sam(0.01),
        log=tmp_path / "log.jsonl",
        show_progress=False,
    )
    loop.run()
    after = likelihoods(model)
    assert after[0] < before[0] - 0.5
    assert after[1] > before[1] - 0.2
    assert {"conflict", "cosine"} == set(loop.records[-1]["surgery"])
    model.save(tmp_path / "out")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    for name, tensor in again.named_parameters():
        assert torch.equal(tensor, model.tensors()[name])
    assert likelihoods(LanguageBackend.open(tmp_path / "out", device="cpu")) == after
    loop.weights.restore()
    assert likelihoods(model) == before
