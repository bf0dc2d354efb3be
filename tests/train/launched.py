"""A script to be launched in several processes: trains the test model and writes what it ended in."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch
from safetensors.torch import save_file

from oubliette.train.adapters import Adapters, layers_in
from oubliette.train.config import TrainConfig
from oubliette.train.loop import Loop
from oubliette.train.smoothing import Sam, StableUN
from oubliette.train.surgery import Project
from oubliette.train.weights import Weights
from train.models import Attacked, MlpBackend

SMOOTHERS = {"sam": Sam(0.1), "stableun": StableUN("gap", 0.1, 1e-2, draws=2)}


def train(folder: Path, smoother: str = "sam", adapters: bool = False) -> Loop:
    """Six steps of four micro-batches, whoever evaluates them."""
    torch.set_num_threads(1)
    model = MlpBackend()
    if adapters:
        weights: Weights = Adapters(model, layers_in(model, model.tensors()), rank=2)
    else:
        weights = Weights(model.tensors())
    config = TrainConfig(steps=6, batch=3, accumulation=4, learning_rate=1e-2, checkpoint_every=6)
    loop = Loop(
        model,
        Attacked(),
        None,
        weights,
        config,
        surgery=Project(),
        smoother=SMOOTHERS[smoother],
        seed=5,
        log=folder / "log.jsonl",
        checkpoint=folder / "checkpoint",
        show_progress=False,
    )
    loop.run()
    weights.settled()
    return loop


if __name__ == "__main__":
    out = Path(sys.argv[1])
    for name in SMOOTHERS:
        loop = train(out / name, name, "adapters" in sys.argv)
        rank = int(os.environ["RANK"])
        weights = {name: tensor.detach() for name, tensor in loop.model.tensors().items()}
        save_file(weights, out / name / f"rank{rank}.safetensors")
