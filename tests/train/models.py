"""A small backend of a plain torch module, for tests of what knows no model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from oubliette.backends.layers import own
from oubliette.train.objective import BaseObjective
from oubliette.train.roles import Draw, Role


class Mlp(nn.Module):
    """Two linear layers; no dropout, no norm, so that closed forms are easy."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.first = nn.Linear(5, 7, dtype=dtype)
        self.second = nn.Linear(7, 3, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(x)))


class MlpBackend:
    """What the Backend protocol asks for, around `Mlp`."""

    kind = "mlp"
    source = "a test"
    world = None
    device = torch.device("cpu")

    def __init__(self, seed: int = 0, dtype: torch.dtype = torch.float32) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.net = Mlp(dtype)

    def tensors(self) -> dict[str, nn.Parameter]:
        return {f"net.{name}": tensor for name, tensor in own(dict(self.net.named_parameters())).items()}

    def text_facing(self) -> list[str]:
        return ["net.second.weight"]

    def groups(self) -> dict[str, list[str]]:
        return {
            "text-facing": self.text_facing(),
            "cross-attention": ["net.second.weight", "net.second.bias"],
            "denoiser": list(self.tensors()),
        }

    def modules(self) -> dict[str, nn.Module]:
        return {"net": self.net}

    def fingerprint(self) -> str:
        return "test"

    def save(self, folder: object, **_: object) -> None:
        raise AssertionError("not saved in these tests")


class TwoTasks(BaseObjective):
    """Regression on a retain set, and away from a forget set."""

    def __init__(self, items: int = 12) -> None:
        rng = torch.Generator().manual_seed(7)
        self.x = {role: torch.randn(items, 5, generator=rng) for role in ("forget", "retain")}
        self.y = {role: torch.randn(items, 3, generator=rng) for role in ("forget", "retain")}

    def setup(self, model: MlpBackend, data: object, weights: object, seed: int) -> None:
        self.model, self.weights = model, weights

    def roles(self, step: int) -> dict[str, Role]:
        return {"forget": Role("forget"), "retain": Role("retain")}

    def draw(self, step: int, rng: torch.Generator, batch: int) -> Draw:
        return Draw(index=torch.randint(len(self.x["forget"]), (batch,), generator=rng))

    def loss(self, role: str, draw: Draw) -> Tensor:
        index = draw["index"]
        error = (self.model.net(self.x[role][index]) - self.y[role][index]).square().mean()
        return -error if role == "forget" else error


class Attacked(TwoTasks):
    """The same with what an attacker would minimise, on half as many items."""

    def roles(self, step: int) -> dict[str, Role]:
        return {**super().roles(step), "relearn": Role("inner", batch=0.5)}

    def draw(self, step: int, rng: torch.Generator, batch: int) -> Draw:
        draw = super().draw(step, rng, batch)
        count = self.roles(step)["relearn"].items(batch)
        draw["attacked"] = torch.randint(len(self.x["forget"]), (count,), generator=rng)
        return draw

    def loss(self, role: str, draw: Draw) -> Tensor:
        if role == "relearn":
            return -super().loss("forget", Draw(index=draw["attacked"]))
        return super().loss(role, draw)
