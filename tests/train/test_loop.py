import ast
import json
from pathlib import Path

import pytest
import torch
from torch import nn

import oubliette.train
from oubliette.core.errors import UserError
from oubliette.train.config import TrainConfig
from oubliette.train.finetune import FineTune
from oubliette.train.freeze import apply_freeze
from oubliette.train.loop import Loop, NonFiniteLoss
from oubliette.train.optimizer import load_optimizer_state, optimizer_state
from oubliette.train.roles import Draw, Role
from oubliette.train.scope import select
from oubliette.train.smoothing import Sam
from oubliette.train.surgery import DocoRef, Project
from oubliette.train.weights import Weights

from .models import MlpBackend, TwoTasks

CONFIG = TrainConfig(steps=8, batch=4, learning_rate=1e-2, schedule="cosine", warm_up=2)


def loop_of(objective, config=CONFIG, *, model=None, named=None, **options) -> Loop:
    model = model or MlpBackend()
    weights = Weights(named or model.tensors())
    return Loop(model, objective, None, weights, config, show_progress=False, **options)


def bits(model: MlpBackend) -> dict[str, bytes]:
    return {
        name: tensor.detach().view(torch.uint8).numpy().tobytes() for name, tensor in model.tensors().items()
    }


class WithDiscriminator(TwoTasks):
    """A helper tells the model's predictions from the teacher's; the model tries to pass for the teacher."""

    def __init__(self, warm_up: int = 2) -> None:
        super().__init__()
        self.warm_up = warm_up

    def setup(self, model, data, weights, seed):
        super().setup(model, data, weights, seed)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.judge = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        self.optimizer = torch.optim.Adam(self.judge.parameters(), lr=1e-2, betas=(0.5, 0.999))

    def roles(self, step):
        judge = Role("helper", parameters=tuple(self.judge.parameters()), optimizer=self.optimizer)
        return {"judge": judge} if step < self.warm_up else {**super().roles(step), "judge": judge}

    def loss(self, role, draw):
        if role == "retain":
            return super().loss(role, draw)
        x = self.x["forget"][draw["index"]]
        if role == "forget":
            made = self.model.net(x)
            draw.cache.setdefault("made", made.detach())
            return nn.functional.softplus(self.judge(made)).mean()
        if "made" not in draw.cache:
            with torch.no_grad():
                draw.cache["made"] = self.model.net(x)
        with torch.no_grad(), self.weights.originals():
            real = self.model.net(x)
        sides = self.judge(draw.cache["made"]), self.judge(real)
        return nn.functional.softplus(-sides[0]).mean() + nn.functional.softplus(sides[1]).mean()

    def state(self):
        judge = {f"judge.{name}": tensor for name, tensor in self.judge.state_dict().items()}
        return judge | optimizer_state(self.optimizer, "judge_optimizer.")

    def load_state(self, state):
        prefix = "judge."
        self.judge.load_state_dict(
            {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
        )
        load_optimizer_state(self.optimizer, state, "judge_optimizer.")


def test_an_update_is_what_plain_torch_does():
    model, by_hand = MlpBackend(), MlpBackend()
    task = TwoTasks()
    loop_of(task, model=model).run()

    from oubliette.train.gradients import micro_batch_rng

    hand = TwoTasks()
    hand.setup(by_hand, None, None, 0)
    optimizer = torch.optim.AdamW(by_hand.net.parameters(), lr=1e-2, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.SequentialLR(
        optimizer,
        [
            torch.optim.lr_scheduler.LinearLR(optimizer, 0.5, 1.0, 1),
            torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 6),
        ],
        [2],
    )
    for step in range(8):
        draw = hand.draw(step, micro_batch_rng(0, step, 0), 4)
        (hand.loss("forget", draw) + hand.loss("retain", draw)).backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    for name, tensor in model.tensors().items():
        assert torch.allclose(tensor, by_hand.tensors()[name], atol=1e-6), name


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_same_seed_gives_the_same_bits_and_another_does_not(precision):
    found = []
    for seed in (3, 3, 4):
        loop = loop_of(TwoTasks(), CONFIG.model_copy(update={"precision": precision}), seed=seed)
        loop.run()
        found.append(bits(loop.model))
    assert found[0] == found[1]
    assert found[0] != found[2]


@pytest.mark.parametrize("smoother", [None, Sam(0.1)])
def test_accumulation_equals_one_big_batch(smoother):
    class InTurn(TwoTasks):
        """Hands out the items in order, so that three batches of two are one of six."""

        def draw(self, step, rng, batch):
            start = getattr(self, "start", 0)
            self.start = (start + batch) % 12
            return Draw(index=torch.arange(start, start + batch))

    big, small = MlpBackend(), MlpBackend()
    for model, batch, accumulation in ((big, 6, 1), (small, 2, 3)):
        config = TrainConfig(steps=4, batch=batch, accumulation=accumulation, learning_rate=1e-2)
        loop_of(InTurn(), config, model=model, surgery=Project(), smoother=smoother).run()
    for name, tensor in big.tensors().items():
        assert torch.allclose(tensor, small.tensors()[name], atol=1e-5), name


def test_sam_with_rho_zero_ends_in_the_base_methods_bits():
    plain, sam, other = MlpBackend(), MlpBackend(), MlpBackend()
    loop_of(TwoTasks(), model=plain).run()
    loop_of(TwoTasks(), model=sam, smoother=Sam(0.0)).run()
    loop_of(TwoTasks(), model=other, smoother=Sam(0.5)).run()
    assert bits(plain) == bits(sam)
    assert bits(plain) != bits(other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("stop", [1, 5])
def test_a_resumed_run_ends_in_the_bits_of_an_uninterrupted_one(tmp_path, dtype, stop):
    def build(folder):
        objective = WithDiscriminator() if dtype == torch.float32 else TwoTasks()
        if dtype != torch.float32:
            objective.x = {k: v.to(dtype) for k, v in objective.x.items()}
            objective.y = {k: v.to(dtype) for k, v in objective.y.items()}
        return loop_of(
            objective,
            CONFIG.model_copy(update={"accumulation": 2}),
            model=MlpBackend(dtype=dtype),
            surgery=Project(),
            smoother=Sam(0.05),
            seed=11,
            log=folder / "log.jsonl",
            checkpoint=folder / "checkpoint",
        )

    whole = build(tmp_path / "whole")
    whole.run()
    part = build(tmp_path / "part")
    part.advance(stop)
    part.save_checkpoint()
    part.advance(2)  # lost: the process is killed after its checkpoint
    again = build(tmp_path / "part")
    again.load_checkpoint()
    assert again.step == stop
    again.run()
    assert bits(again.model) == bits(whole.model)
    state, expected = again.objective.state(), whole.objective.state()
    assert sorted(state) == sorted(expected)
    assert all(torch.equal(state[name], expected[name]) for name in state)

    def logged(folder):
        lines = (folder / "log.jsonl").read_text().splitlines()
        return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]

    assert logged(tmp_path / "part") == logged(tmp_path / "whole")
    assert [record["step"] for record in logged(tmp_path / "part")] == list(range(1, 9))


def test_another_runs_checkpoint_is_refused(tmp_path):
    loop = loop_of(TwoTasks(), checkpoint=tmp_path)
    loop.advance(1)
    loop.save_checkpoint()
    faster = CONFIG.model_copy(update={"learning_rate": 0.5})
    with pytest.raises(UserError, match=r"learning_rate was 0\.01, here it is 0\.5"):
        loop_of(TwoTasks(), faster, checkpoint=tmp_path).load_checkpoint()
    with pytest.raises(UserError, match="base was"):
        loop_of(TwoTasks(), model=MlpBackend(seed=1), checkpoint=tmp_path).load_checkpoint()
    with pytest.raises(UserError, match="type was NoSmoother, here it is Sam"):
        loop_of(TwoTasks(), smoother=Sam(0.1), checkpoint=tmp_path).load_checkpoint()
    loop_of(TwoTasks(), CONFIG.model_copy(update={"log_every": 3}), checkpoint=tmp_path).load_checkpoint()


def test_the_helper_is_not_touched_by_the_models_update_nor_the_model_by_the_helpers():
    objective = WithDiscriminator(warm_up=1)
    loop = loop_of(objective)
    before_model = bits(loop.model)
    loop.advance(1)
    assert bits(loop.model) == before_model

    def judge():
        return {name: tensor.clone() for name, tensor in objective.judge.named_parameters()}

    warm = judge()
    objective.roles = lambda step: TwoTasks.roles(objective, step)  # the helper sits this one out
    loop.advance(1)
    assert bits(loop.model) != before_model
    assert all(torch.equal(tensor, warm[name]) for name, tensor in judge().items())
    assert all(p.grad is None for p in objective.judge.parameters())
    assert all(p.grad is None for p in loop.model.net.parameters())


def test_the_helpers_step_does_not_depend_on_the_models_learning_rate():
    """Both are updated from predictions made before either moved."""
    judges = []
    for rate in (1e-3, 1e-1):
        objective = WithDiscriminator(warm_up=0)
        loop_of(objective, CONFIG.model_copy(update={"learning_rate": rate})).advance(1)
        judges.append(torch.cat([p.detach().flatten() for p in objective.judge.parameters()]))
    assert torch.equal(*judges)


@pytest.mark.parametrize("kind", ["loss", "gradient"])
def test_a_non_finite_loss_stops_the_run_and_moves_nothing(kind):
    class Breaks(WithDiscriminator):
        def loss(self, role, draw):
            loss = super().loss(role, draw)
            if role == "retain" and draw["step"] == 5:
                return loss * float("nan") if kind == "loss" else torch.sqrt(loss * 0)
            return loss

        def draw(self, step, rng, batch):
            draw = super().draw(step, rng, batch)
            draw["step"] = step
            return draw

    objective = Breaks()
    loop = loop_of(objective, smoother=Sam(0.1))
    loop.advance(5)
    weights = bits(loop.model)
    judge = {name: tensor.clone() for name, tensor in objective.judge.named_parameters()}
    with pytest.raises(NonFiniteLoss, match=f"step 6: the {kind} of role 'retain' is not finite") as caught:
        loop.run()
    assert (caught.value.role, caught.value.step) == ("retain", 6)
    assert loop.step == 5
    assert bits(loop.model) == weights
    assert all(torch.equal(tensor, judge[name]) for name, tensor in objective.judge.named_parameters())


def test_frozen_tensors_and_masked_elements_keep_their_bits():
    model = MlpBackend()
    before = bits(model)
    named = apply_freeze(select(model, "full"), ["net.first.weight"], known=model.tensors())
    mask = torch.zeros(3, 7, dtype=torch.bool)
    mask[1] = True
    start = model.net.second.weight.detach().clone()
    weights = Weights(named, element_masks={"net.second.weight": mask})
    config = CONFIG.model_copy(update={"weight_decay": 0.5})
    Loop(model, TwoTasks(), None, weights, config, smoother=Sam(0.1), show_progress=False).run()
    after = bits(model)
    assert [name for name in after if after[name] == before[name]] == ["net.first.weight"]
    assert torch.equal(model.net.second.weight[[0, 2]], start[[0, 2]])
    assert not torch.equal(model.net.second.weight[1], start[1])


def test_flags_of_the_models_parameters_come_back():
    model = MlpBackend()
    model.net.first.bias.requires_grad_(False)
    named = {name: p for name, p in model.tensors().items() if name == "net.second.weight"}
    seen = []

    class Looks(TwoTasks):
        def loss(self, role, draw):
            seen.append([name for name, p in model.tensors().items() if p.requires_grad])
            return super().loss(role, draw)

    loop_of(Looks(), model=model, named=named).advance(1)
    assert seen == [["net.second.weight"]] * 2
    assert [p.requires_grad for p in model.net.parameters()] == [True, False, True, True]


def test_a_loss_that_reaches_no_tensor_in_scope_is_refused():
    class Detached(TwoTasks):
        def loss(self, role, draw):
            return super().loss(role, draw).detach() if role == "forget" else super().loss(role, draw)

    with pytest.raises(UserError, match="'forget' reaches none of the 4 tensors in scope"):
        loop_of(Detached()).run()


def test_clips_bound_what_they_say():
    free = loop_of(TwoTasks(), surgery=Project())
    free.advance(1)
    norms = free.records[0]["norm"]
    assert norms["forget"] > 0.01
    seen = {}

    class Watched(Project):
        def combine(self, grads, roles):
            seen.update(
                {name: float(torch.stack(torch._foreach_norm(g)).norm()) for name, g in grads.items()}
            )
            return super().combine(grads, roles)

    config = CONFIG.model_copy(update={"clip_roles": 0.01, "clip": 0.001, "optimizer": "sgd", "warm_up": 0})
    clipped = loop_of(TwoTasks(), config.model_copy(update={"weight_decay": 0.0}), surgery=Watched())
    clipped.advance(1)
    assert seen == {"forget": pytest.approx(0.01, rel=1e-4), "retain": pytest.approx(0.01, rel=1e-4)}
    assert clipped.records[0]["norm"]["forget"] == norms["forget"]
    moved = torch.cat([delta.flatten() for delta in clipped.weights.delta().values()]).norm()
    assert float(moved) == pytest.approx(0.001 * 1e-2, rel=1e-2)


def test_the_retain_weight_is_the_configs_and_zero_leaves_a_constraint():
    weighed = {}

    class Watched(Project):
        def combine(self, grads, roles):
            weighed.update({name: role.weight for name, role in roles.items()})
            return super().combine(grads, roles)

    loop_of(TwoTasks(), CONFIG.model_copy(update={"retain_weight": 0.0}), surgery=Watched()).advance(1)
    assert weighed == {"forget": 1.0, "retain": 0.0}
    summed = loop_of(TwoTasks(), CONFIG.model_copy(update={"retain_weight": 0.0}))
    assert list(summed.advance(1)) == ["forget"]  # the plain sum has no use for it: not evaluated


def test_small_updates_of_bf16_weights_are_collected_not_lost():
    class Pull(TwoTasks):
        def roles(self, step):
            return {"pull": Role("retain")}

        def loss(self, role, draw):
            return -self.model.net.second.bias.sum()

    model = MlpBackend(dtype=torch.bfloat16)
    with torch.no_grad():
        model.net.second.bias.fill_(1.0)  # bf16 spacing above 1 is 2**-7
    config = TrainConfig(steps=100, learning_rate=1e-3, optimizer="adam", weight_decay=0)
    loop = loop_of(Pull(), config, model=model, named={"bias": model.net.second.bias})
    loop.run()
    assert model.net.second.bias.dtype == torch.bfloat16
    assert torch.allclose(model.net.second.bias.float(), torch.full((3,), 1.1), atol=2**-7)


def test_the_teacher_sees_the_original_weights_under_autocast():
    """Autocast's weight cache would hand the teacher the student's casts."""

    class Distil(TwoTasks):
        def roles(self, step):
            return {"distil": Role("retain")}

        def loss(self, role, draw):
            x = self.x["forget"][draw["index"]]
            student = self.model.net(x)
            with torch.no_grad(), self.weights.originals():
                teacher = self.model.net(x)
            return (student - teacher).float().square().mean()

    objective = Distil()
    loop = loop_of(objective, CONFIG.model_copy(update={"precision": "bf16"}))
    with torch.no_grad():
        loop.model.net.second.bias.add_(1.0)
    assert loop.advance(1)["distil"] == pytest.approx(1.0, abs=0.05)


def test_fp16_finds_a_scale_that_fits():
    class Large(TwoTasks):
        def roles(self, step):
            return {"large": Role("retain")}

        def loss(self, role, draw):
            return super().loss("retain", draw).float() * 100

    config = CONFIG.model_copy(update={"precision": "fp16", "clip_roles": 1.0})
    loop = loop_of(Large(), config)
    loop.run()
    assert loop._scale.value < 2.0**16
    assert all(torch.isfinite(p).all() for p in loop.model.net.parameters())


def test_log_and_callback(tmp_path):
    calls = []
    loop = loop_of(
        WithDiscriminator(),
        CONFIG.model_copy(update={"log_every": 3}),
        surgery=DocoRef(),
        log=tmp_path / "deep" / "log.jsonl",
        callback=lambda step, loop: calls.append((step, loop.step)),
        callback_every=4,
    )
    loop.run()
    assert calls == [(4, 4), (8, 8)]
    records = [json.loads(line) for line in (tmp_path / "deep" / "log.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [3, 6, 8]
    assert records == loop.records
    assert set(records[0]["loss"]) == {"forget", "retain", "judge"}
    assert set(records[0]["norm"]) == {"forget", "retain", "judge", "update"}
    assert set(records[0]["surgery"]) == {"conflict", "cosine"}
    assert records[2]["learning_rate"] < records[1]["learning_rate"]


def test_checkpoints_are_written_as_the_config_says(tmp_path):
    loop = loop_of(TwoTasks(), CONFIG.model_copy(update={"checkpoint_every": 3}), checkpoint=tmp_path)
    loop.run()
    again = loop_of(TwoTasks(), checkpoint=tmp_path)
    again.load_checkpoint()
    assert again.step == 6
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.safetensors"]


def test_finetune_minimises_the_datas_own_loss():
    class Items:
        def __init__(self):
            self.task = TwoTasks()

        def draw(self, rng, count):
            return self.task.draw(0, rng, count)

        def loss(self, model, batch):
            self.task.model = model
            return self.task.loss("retain", batch)

    model = MlpBackend()
    config = TrainConfig(steps=30, batch=12, learning_rate=1e-2)
    loop = Loop(model, FineTune(), Items(), Weights(model.tensors()), config, show_progress=False)
    loop.run()
    assert loop.records[-1]["loss"]["fit"] < 0.7 * loop.records[0]["loss"]["fit"]


def test_train_names_no_method_and_no_kind_of_model():
    """No string that is a method's or a model kind's name appears in the code of this room."""
    from oubliette.erase import METHODS

    banned = {*METHODS.names(), "diffusion", "language"}
    for path in Path(oubliette.train.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert node.value not in banned, f"{path.name}: {node.value!r}"
