"""A stand-in for the embedded models: random weights in the embedded layout, made on the spot."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

import tiny
from eval.tiny_judges import clip_folder
from oubliette.core.manifest import write_manifest


def install(folder: Path, pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put random nano, nano-gold, nano-clip and nano-oracle into `folder` and have the package find them."""
    from safetensors.torch import save_file

    from oubliette.world import batch, embedded
    from oubliette.world.oracle import OracleNet

    shutil.copytree(pipeline, folder / "nano")
    write_manifest(folder / "nano", {"world": "picture"})
    tiny.pipeline(seed=3).unet.save_pretrained(str(folder / "nano-gold" / "unet"))
    clip_folder(folder / "nano-clip")
    classes = {head: batch.classes(head) for head in batch.HEADS}
    torch.manual_seed(0)
    net = OracleNet({head: len(names) for head, names in classes.items()})
    (folder / "nano-oracle").mkdir()
    save_file(
        {k: v.contiguous() for k, v in net.state_dict().items()},
        folder / "nano-oracle" / "model.safetensors",
    )
    (folder / "nano-oracle" / "oracle.json").write_text(json.dumps({"classes": classes, "side": 64}))
    monkeypatch.setattr(embedded, "WEIGHTS", folder)
