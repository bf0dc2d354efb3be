"""A script to be launched in two processes: masks under DistributedDataParallel and FSDP2."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from guard.enforcing import FROZEN, HashedMask, network, values
from oubliette.core.errors import UserError
from oubliette.guard.enforce.enforce import enforce

RANK = int(os.environ["RANK"])


def fit(model: nn.Module, optimizer: Any, accelerator: Accelerator | None, steps: int = 4) -> None:
    """Each process sees other inputs; gradients are clipped, so that frozen ones would count."""
    rng = torch.Generator().manual_seed(RANK)
    for _ in range(steps):
        loss = (model(torch.randn(4, 6, generator=rng)) - 1).square().mean()
        if accelerator is None:
            loss.backward()
        else:
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        optimizer.zero_grad()


def adamw(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.1)


def told(action: Callable[[], Any]) -> str:
    """The error that an action ends in."""
    try:
        action()
    except UserError as error:
        return f"{type(error).__name__}: {error}"
    return ""


def before_prepare() -> tuple[nn.Module, dict[str, Any]]:
    accelerator, model = Accelerator(cpu=True), network()
    with enforce(model, HashedMask(model), every=2) as handle:
        wrapped, optimizer = accelerator.prepare(model, adamw(model.parameters()))
        handle.check(optimizer)
        fit(wrapped, optimizer, accelerator)
    return model, {"wrapped": type(wrapped).__name__, "dropped": handle.dropped}


def after_prepare() -> tuple[nn.Module, dict[str, Any]]:
    accelerator, model = Accelerator(cpu=True), network()
    wrapped, optimizer = accelerator.prepare(model, adamw(model.parameters()))
    with enforce(wrapped, HashedMask(model)) as handle:
        handle.check(optimizer)
        fit(wrapped, optimizer, accelerator)
    return model, {"dropped": handle.dropped, "flags": [p.requires_grad for p in model.parameters()]}


def one_process_leaks() -> str:
    accelerator, model = Accelerator(cpu=True), network()

    def run() -> None:
        with enforce(model, HashedMask(model)):
            wrapped, optimizer = accelerator.prepare(model, adamw(model.parameters()))
            fit(wrapped, optimizer, accelerator, 1)
            if RANK == 1:
                model[0].bias.data[0] += 1e-6

    return told(run)


def sharded(first: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """FSDP2: frozen before the model is sharded (`first`), or after."""
    model = network()
    mask, mesh = HashedMask(model), init_device_mesh("cpu", (2,))
    if not first:
        fully_shard(model[2], mesh=mesh)
        fully_shard(model, mesh=mesh)
    with enforce(model, mask, every=2) as handle:
        if first:
            fully_shard(model[2], mesh=mesh)
            fully_shard(model, mesh=mesh)
        optimizer = adamw(model.parameters())
        handle.check(optimizer)
        fit(model, optimizer, None)
    assert isinstance(model[0].weight, DTensor)
    facts = {"flags": [p.requires_grad for p in model.parameters()], "dropped": handle.dropped}
    return {name: p.detach().full_tensor() for name, p in model.named_parameters()}, facts


def shard_leaks(restore: bool) -> tuple[str, dict[str, int], Tensor]:
    model = network()
    mask = HashedMask(model)
    fully_shard(model, mesh=init_device_mesh("cpu", (2,)))
    handle = enforce(model, mask, restore=restore)

    def run() -> None:
        with handle:
            if RANK == 0:  # the other process's piece is as it was
                model[0].weight.to_local().data += 1.0

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        error = told(run)
    return error, handle.restored, model[0].weight.detach().full_tensor()


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    heavy = {"diffusers", "peft", "transformers"} & set(sys.modules)
    published = values(network())
    first, first_facts = before_prepare()
    second, second_facts = after_prepare()
    facts: dict[str, Any] = {"before prepare": first_facts, "after prepare": second_facts}
    facts["heavy"] = sorted(heavy)
    for name, model in (("before prepare", first), ("after prepare", second)):
        facts[name]["frozen"] = all(torch.equal(values(model)[key], published[key]) for key in FROZEN)
        facts[name]["moved"] = not torch.equal(model[2].weight, published["2.weight"])
    facts["same"] = all(torch.equal(values(first)[key], values(second)[key]) for key in published)
    facts["leak"] = one_process_leaks()
    for name, order in (("before sharding", True), ("after sharding", False)):
        whole, facts[name] = sharded(order)
        facts[name]["frozen"] = all(torch.equal(whole[key], published[key]) for key in FROZEN)
        facts[name]["moved"] = not torch.equal(whole["2.weight"], published["2.weight"])
    facts["shard leak"], _, _ = shard_leaks(restore=False)
    error, facts["restored"], back = shard_leaks(restore=True)
    facts["restoring"] = error
    facts["back"] = torch.equal(back, published["0.weight"])
    (folder / f"rank{RANK}.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    torch.distributed.destroy_process_group()
