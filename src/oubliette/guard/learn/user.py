"""The simulated user: plain supervised training on the shared loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from oubliette.core.errors import UserError
from oubliette.core.run_folder import checkpointed
from oubliette.guard.learn.difference import Difference
from oubliette.guard.learn.draws import Mixture, seed_for
from oubliette.train.checkpoint import has_checkpoint, read_checkpoint, write_checkpoint
from oubliette.train.config import TrainConfig
from oubliette.train.finetune import FineTune, SupervisedData
from oubliette.train.loop import Loop
from oubliette.train.weights import Weights

if TYPE_CHECKING:
    from torch import Tensor, nn

    from oubliette.backends.base import Backend
    from oubliette.guard.learn.candidates import Candidates
    from oubliette.guard.learn.mixing import MixedWeights
    from oubliette.guard.learn.problem import Problem
    from oubliette.guard.learn.spill import DiskTensors

__all__ = ["User", "relearn"]


def relearn(
    model: Backend,
    candidates: Candidates,
    base: DiskTensors,
    sides: Sequence[Sequence[SupervisedData]],
    config: TrainConfig,
    *,
    seed: int,
    dtype: str,
    keep: Path | None = None,
    show_progress: bool = False,
) -> tuple[Difference, list[float]]:
    """Make theta_ft on the spot, on all sides' data together, and keep the difference alone; its losses too.

    The model holds theta_pre again after it, every bit, from `base`. This costs what fine-tuning costs: of
    fp32 weights four copies (weights, gradients, two moments), 13.8 GB for an SD 1.5 UNet.
    `keep` is a folder for checkpoints and for the difference, from which the same call goes on.
    """
    named = candidates.of_model(model)
    place = None if keep is None else keep / "difference"
    if place is not None and has_checkpoint(place):
        tensors, facts = read_checkpoint(place)
        return Difference({name: tensors[name].to(own.device) for name, own in named.items()}), facts[
            "losses"
        ]
    try:
        loop = _loop(model, named, Mixture(sides), config, seed_for(seed, "relearn"), show_progress, keep)
        loop.run()
        losses = [float(record["loss"]["fit"]) for record in loop.records]
        del loop
        made = Difference.since(model, candidates, base, dtype)
        if place is not None:
            write_checkpoint(place, made.tensors, {"losses": losses})
        return made, losses
    finally:
        base.restore(named)


class User:
    """An AdamW user at work on theta_ft through the mask, under the hard mask of the time they began.

    A step of Adam does not depend on the factor (1 - m_i) that the mask puts before the gradient (but for its
    epsilon), so the loop trains the mixed weights, and what they moved by is what theta_ft moves by; the
    next mixture gives the model (1 - m_i) of it. Frozen tensors do not move.
    """

    def __init__(
        self,
        problem: Problem,
        config: TrainConfig,
        sides: Sequence[Sequence[SupervisedData]],
        frozen: set[str],
        seed: int,
    ) -> None:
        named = {name: tensor for name, tensor in problem.parameters.items() if name not in frozen}
        narrow = [name for name, tensor in named.items() if tensor.dtype.itemsize < 4]
        if narrow:
            # The loop keeps fp32 copies of 16-bit weights, which would not see them mixed anew.
            raise UserError(
                f"guard: {narrow[0]} is {str(named[narrow[0]].dtype).removeprefix('torch.')}; the learner's "
                "user needs fp32 weights: open the model in float32, or set user_steps=0"
            )
        self._names = list(named)
        self._loop = _loop(problem.model, named, Mixture(sides), config, seed, False)

    def advance(self, count: int, mixed: MixedWeights, mask: Tensor) -> float:
        """`count` updates from theta(mask), which the model holds; the loss of the last of them."""
        losses = self._loop.advance(count)
        mixed.moved(mask, self._names)
        return losses["fit"]


def _loop(
    model: Backend,
    named: Mapping[str, nn.Parameter],
    data: Mixture,
    config: TrainConfig,
    seed: int,
    show_progress: bool,
    keep: Path | None = None,
) -> Loop:
    weights = Weights(named)
    checkpoint = None if keep is None else keep / "checkpoint"
    loop = Loop(
        model,
        FineTune(),
        data,
        weights,
        config if keep is None else checkpointed(config),
        seed=seed,
        log=None if keep is None else keep / "log.jsonl",
        checkpoint=checkpoint,
        show_progress=show_progress,
    )
    # theta_pre lies in the scratch file: the loop's own copy of it is not needed once the loop stands.
    weights.original.clear()
    if checkpoint is not None and has_checkpoint(checkpoint):
        loop.load_checkpoint()
    return loop
