"""What the loop promises every smoother and every surgery, and they it."""

import pytest
import torch

import tiny_erasure
import tiny_language
from oubliette.backends.language import LanguageBackend
from oubliette.core.errors import UserError
from oubliette.erase.diffusion.doco import DoCo
from oubliette.erase.language.npo import NPO
from oubliette.erase.language.prepare import prepare
from oubliette.erase.request import ErasureRequest
from oubliette.recipe import build_recipe
from oubliette.train import SMOOTHERS, SURGERIES
from oubliette.train.config import TrainConfig
from oubliette.train.loop import Loop
from oubliette.train.roles import Role
from oubliette.train.scope import select
from oubliette.train.smoothing import Cr, Gp, NoSmoother, Passes, Refresh, Rs, Sam, StableUN, Wa
from oubliette.train.surgery import PCGrad, Priority, Project, TorchJD
from oubliette.train.weights import Weights
from oubliette.workflows.estimate import estimate

from .landscape import INNER, ROLES, Tilted, flat, gradients_of
from .models import MlpBackend, TwoTasks

CONFIG = TrainConfig(steps=6, batch=4, learning_rate=1e-2)
PARTS = {
    "sam": {"smoother": lambda: Sam(0.1)},
    "rs": {"smoother": lambda: Rs(0.05)},
    "gp": {"smoother": lambda: Gp(0.1)},
    "gp by differences": {"smoother": lambda: Gp(0.1, "finite_diff")},
    "cr": {"smoother": lambda: Cr(0.1)},
    "cr by differences": {"smoother": lambda: Cr(0.1, variant="finite_diff")},
    "wa": {"smoother": lambda: Wa(2, 2)},
    "stableun sap": {"smoother": lambda: StableUN("sap", 0.1, 1e-2)},
    "stableun gpn": {"smoother": lambda: StableUN("gpn", 0.05, 1e-2, draws=2)},
    "stableun gap": {"smoother": lambda: StableUN("gap", 0.1, 1e-2)},
    "stableun hws": {"smoother": lambda: StableUN("hws", inner_learning_rate=1e-2, count="halves")},
    "refresh": {"smoother": lambda: Refresh(delta=0.05, on="forget", cap=10.0)},
    "refresh retain": {"smoother": lambda: Refresh("paper", 2, gamma=0.01, noise=0.1)},
    "priority": {"surgery": Priority},
    "pcgrad": {"surgery": PCGrad},
}
SMOOTHED = [name for name, parts in PARTS.items() if "smoother" in parts]
every = pytest.mark.parametrize("name", PARTS)
smoothed = pytest.mark.parametrize("name", SMOOTHED)


class FourRoles(TwoTasks):
    """Two forget and two retain losses, so that an order matters, and what an attacker would minimise."""

    def roles(self, step):
        plain = super().roles(step)
        again = {f"{name} again": role for name, role in plain.items()}
        return {**plain, **again, "relearn": Role("inner")}

    def loss(self, role, draw):
        if role == "relearn":
            return -super().loss("forget", draw)
        first = role.removesuffix(" again")
        loss = super().loss(first, draw)
        return loss if first == role else loss + 0.3 * self.model.net.second.weight.square().sum()


def loop_of(name, objective=None, config=CONFIG, **options):
    model = MlpBackend()
    parts = {kind: make() for kind, make in PARTS[name].items()}
    return Loop(
        model,
        objective or FourRoles(),
        None,
        Weights(model.tensors()),
        config,
        show_progress=False,
        seed=3,
        **{**parts, **options},
    )


@every
def test_a_resumed_run_ends_in_the_bits_of_one_never_stopped(name, tmp_path):
    whole = loop_of(name)
    whole.run()
    part = loop_of(name, checkpoint=tmp_path)
    part.advance(3)
    part.save_checkpoint()
    again = loop_of(name, checkpoint=tmp_path)
    again.load_checkpoint()
    again.run()
    pairs = zip(whole.weights.parameters, again.weights.parameters, strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@every
def test_accumulation_equals_one_big_batch(name):
    class InTurn(FourRoles):
        def draw(self, step, rng, batch):
            start = getattr(self, "start", 0)
            self.start = (start + batch) % 12
            draw = super().draw(step, rng, batch)
            draw["index"] = torch.arange(start, start + batch)
            return draw

    ends = []
    for batch, accumulation in ((6, 1), (2, 3)):
        config = CONFIG.model_copy(update={"batch": batch, "accumulation": accumulation})
        loop = loop_of(name, InTurn(), config)
        loop.run()
        ends.append(flat(loop.weights.parameters))
    torch.testing.assert_close(*ends, atol=2e-5, rtol=1e-4)


@smoothed
def test_weights_keep_their_bits_and_passes_are_those_that_are_announced(name, monkeypatch):
    bowl = Tilted()
    weights = Weights(bowl.named)
    before = flat(weights.parameters).clone()
    counts = {"forwards": 0, "backwards": 0}
    loss, grad = bowl.loss, torch.autograd.grad

    def counted(kind, function):
        def call(*arguments, **options):
            counts[kind] += 1
            return function(*arguments, **options)

        return call

    bowl.loss = counted("forwards", loss)
    monkeypatch.setattr(torch.autograd, "grad", counted("backwards", grad))
    smoother = PARTS[name]["smoother"]()
    found = smoother.gradients(gradients_of(bowl, weights), weights, ROLES)
    assert torch.equal(flat(weights.parameters), before)
    assert list(found) == list(ROLES)
    forget = sum(role.kind == "forget" for role in ROLES.values())
    retain = len(ROLES) - forget
    more = smoother.extra_passes
    inner = len(INNER) * more.inner
    assert counts == {
        "forwards": len(ROLES) + forget * more.forwards + retain * more.retain_forwards + inner,
        "backwards": len(ROLES) + forget * more.backwards + retain * more.retain_backwards + inner,
    }


def test_without_strength_nothing_is_announced():
    for smoother in (
        NoSmoother(),
        Sam(0),
        Rs(0),
        Gp(0),
        Cr(0),
        Wa(),
        StableUN("sap", 0.1, 0, 0),
        Refresh(J=0),
    ):
        assert smoother.extra_passes == Passes(0, 0)


@smoothed
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_it_works_under_autocast(name, precision):
    loop = loop_of(name, config=CONFIG.model_copy(update={"precision": precision}))
    loop.run()
    assert all(torch.isfinite(parameter).all() for parameter in loop.weights.parameters)


@smoothed
def test_without_a_forget_role_all_is_plain(name):
    if name == "refresh retain":
        pytest.skip("it is of the retain role")

    class RetainOnly(TwoTasks):
        def roles(self, step):
            return {"retain": super().roles(step)["retain"]}

    losses = [loop_of(name, RetainOnly()).advance(3)]
    losses.append(loop_of(name, RetainOnly(), smoother=NoSmoother()).advance(3))
    assert losses[0] == losses[1]


@smoothed
def test_the_logged_loss_and_what_a_discriminator_sees_are_those_at_the_weights(name):
    """DoCo's discriminator learns from the prediction of its role's first evaluation; attention and a
    discriminator are differentiated twice.
    """
    if name == "stableun gap":
        pytest.skip("DoCo says nothing of an attacker's loss")
    options = {"warm_up": 0, "depth": 1}
    ends = []
    for smoother in (None, PARTS[name]["smoother"]()):
        loop = tiny_erasure.loop(DoCo, options=options, smoother=smoother, surgery=Project())
        losses = loop.advance(1)
        ends.append((losses, flat(list(loop.objective.discriminators.parameters()))))
    assert ends[0][0] == ends[1][0]
    assert torch.equal(ends[0][1], ends[1][1])
    assert all(torch.isfinite(parameter).all() for parameter in loop.weights.parameters)


@pytest.fixture(scope="module")
def language(tmp_path_factory):
    root = tmp_path_factory.mktemp("language")
    tiny_language.save(root / "llama", "llama")
    tiny_language.write_rows(root / "forget.jsonl", tiny_language.FORGET)
    tiny_language.write_rows(root / "retain.jsonl", tiny_language.RETAIN)
    return root


@every
def test_a_language_model_takes_each_of_them(name, language):
    model = LanguageBackend.open(language / "llama", device="cpu")
    request = ErasureRequest(forget=language / "forget.jsonl", retain_file=language / "retain.jsonl")
    config = TrainConfig(steps=3, batch=2, learning_rate=1e-3, clip=1.0)
    parts = {kind: make() for kind, make in PARTS[name].items()}
    data = prepare(model, request, seed=0)
    weights = Weights(select(model, "full"))
    loop = Loop(model, NPO(NPO.Options(), request), data, weights, config, show_progress=False, **parts)
    loop.run()
    assert any(delta.any() for delta in weights.delta().values())
    assert all(torch.isfinite(parameter).all() for parameter in weights.parameters)


def test_torchjd_in_the_loop_and_its_options_tell_runs_apart(tmp_path):
    pytest.importorskip("quadprog", reason="UPGrad's solver, of the extra 'surgery'")
    roles = {"pref_vector": [1, 2, 3, 4]}

    def build(options, name="UPGrad"):
        return loop_of("pcgrad", surgery=TorchJD(name, options), checkpoint=tmp_path)

    loop = build(roles)
    loop.advance(3)
    loop.save_checkpoint()
    again = build(roles)
    again.load_checkpoint()
    for run in (loop, again):
        run.advance(3)
    assert torch.equal(flat(loop.weights.parameters), flat(again.weights.parameters))
    assert set(loop.records[0]["surgery"]) == {"agreement"}
    with pytest.raises(UserError, match=r"options was .*pref_vector"):
        build({}).load_checkpoint()
    drawn = build({}, "Random")
    drawn.advance(2)
    drawn.save_checkpoint()
    resumed = build({}, "Random")
    resumed.load_checkpoint()
    for run in (drawn, resumed):
        run.advance(2)
    assert torch.equal(flat(drawn.weights.parameters), flat(resumed.weights.parameters))


def test_the_estimate_counts_the_passes_that_a_smoother_says_it_takes():
    """Three steps of two items, one forget role, no retain role: six times what a step takes for one."""
    model = tiny_erasure.backend()

    def passes(smoother):
        raw = {"method": "ablation", "scope": "xattn-kv", "train": {"steps": 3, "batch": 2}}
        found = estimate(model, build_recipe({**raw, "smoother": smoother}))
        return found["forwards"], found["backwards"]

    plain = passes("none")
    assert plain[1] == 6
    for name in SMOOTHERS:
        more = SMOOTHERS.build(name).extra_passes
        forwards = more.forwards + more.draws + more.inner  # a draw has a frozen pass for its target
        assert passes(name) == (plain[0] + 6 * forwards, plain[1] + 6 * (more.backwards + more.inner))


def test_each_is_listed_with_a_sentence():
    from oubliette.workflows.listing import listing

    for what, registry in (("smoothers", SMOOTHERS), ("surgeries", SURGERIES)):
        found = listing(what)
        assert set(found) == set(registry.names())
        assert all(text.endswith(".") and len(text) > 20 for text in found.values()), found
    assert {"rs", "gp", "cr", "wa"} <= set(SMOOTHERS.names())
    assert {"pcgrad", "priority", "torchjd"} <= set(SURGERIES.names())
