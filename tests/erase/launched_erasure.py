"""One short DoCo run under a launcher; each process prints the fingerprint it ends in, one saves."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch

import tiny_erasure
from oubliette.erase.run import erase
from oubliette.recipe import build_recipe

FACTS = {
    "method": {"name": "doco", "warm_up": 1},
    "scope": "xattn-kv",
    "concepts": [{"name": "car", "anchor": "object"}],
    "data": {"prompts": 8, "pictures": 40, "picture_steps": 2},
    "train": {"steps": 3, "batch": 2, "accumulation": 2, "learning_rate": 1e-3},
}


def main(cache: str, out: str) -> str:
    """Erase with the cache folder, save, and give the fingerprint."""
    torch.set_num_threads(1)
    model = tiny_erasure.backend()
    result = erase(model, build_recipe(FACTS), show_progress=False, cache=cache)
    result.save(out)
    return model.fingerprint()


if __name__ == "__main__":
    print(main(*sys.argv[1:]), flush=True)
