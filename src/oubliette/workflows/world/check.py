"""The bars the embedded models must meet, measured: `oubliette world check`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from oubliette.core.errors import UserError
from oubliette.world import batch as B
from oubliette.world import facts
from oubliette.world.captions import evaluation_prompts, labelled_prompts
from oubliette.world.oracle import Oracle, load

HELD_OUT = 900_000_007
NAMES = tuple(name for name, _, _ in facts.DEFAULT_CONCEPTS)


def bar(name: str, value: float, bound: float | None, n: int, *, below: bool = False) -> dict[str, Any]:
    """A measured bar; without a bound it is reported only, and passed."""
    passed = bound is None or (value <= bound if below else value >= bound)
    return {
        "name": name,
        "value": round(value, 4),
        "bound": bound,
        "below": below,
        "n": n,
        "passed": bool(passed),
    }


def _agree(found: np.ndarray, wanted: list[str]) -> float:
    return float(np.mean(found == np.array(wanted))) if len(wanted) else float("nan")


def _oracle_bars(oracle: Oracle, vae: Any, n: int, seed: int) -> list[dict[str, Any]]:
    scenes = B.scenes(B.Pool.everything(), n, HELD_OUT + seed)
    pictures = B.pictures(scenes)
    rebuilt = []
    with torch.no_grad():
        for start in range(0, n, 100):
            x = vae.decode(vae.encode(B.to_tensor(pictures[start : start + 100])).latent_dist.mean).sample
            rebuilt.append(((x.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy())
    rows: list[dict[str, Any]] = []
    for label, shown, bounds in (
        (
            "oracle on held-out pictures",
            pictures,
            {"object": 0.99, "style": 0.99, "person": 0.99, "colour": 0.95},
        ),
        ("oracle on VAE reconstructions", np.concatenate(rebuilt), dict.fromkeys(B.HEADS, 0.97)),
    ):
        found = oracle.predict(shown)
        for head, bound in bounds.items():
            rows.append(
                bar(f"{label}: {head}", _agree(found[head], [s.labels()[head] for s in scenes]), bound, n)
            )
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (200, 64, 64, 3)).astype(np.uint8)
    rows.append(
        bar(
            "oracle calls noise none: object",
            float(np.mean(oracle.predict(noise)["object"] == "none")),
            0.99,
            200,
        )
    )
    return rows


def _clip_bars(n: int, seed: int) -> list[dict[str, Any]]:
    import open_clip
    from PIL import Image

    from oubliette.world import embedded

    name = f"local-dir:{embedded.path('nano-clip')}"
    model, _, prepare = open_clip.create_model_and_transforms(name)
    tokenizer = open_clip.get_tokenizer(name)
    model.eval()
    scenes = B.scenes(B.Pool.everything(), n, HELD_OUT + 1 + seed)
    pictures = torch.stack([prepare(Image.fromarray(p)) for p in B.pictures(scenes)])
    rows = []
    with torch.no_grad():
        seen = torch.nn.functional.normalize(model.encode_image(pictures), dim=-1)
        for head, template, bound in (
            ("object", "a picture of a {}", 0.95),
            ("style", "a picture in {} style", 0.95),
            ("person", "a portrait of {}", 0.90),
        ):
            classes = facts.all_names(head)
            chosen = [i for i, s in enumerate(scenes) if s.labels()[head] != "none"]
            texts = model.encode_text(
                tokenizer([template.format(facts.TABLES[head][c].words[0]) for c in classes])
            )
            best = (seen[chosen] @ torch.nn.functional.normalize(texts, dim=-1).T).argmax(1).numpy()
            rows.append(
                bar(
                    f"nano-clip zero-shot: {head}",
                    _agree(np.array(classes)[best], [scenes[i].labels()[head] for i in chosen]),
                    bound,
                    len(chosen),
                )
            )
    return rows


def follow(
    oracle: Oracle,
    draw: Callable[[list[str], list[int]], np.ndarray],
    n: int,
    seed: int,
    *,
    without: tuple[str, ...] = (),
) -> dict[str, tuple[float, int]]:
    """How often pictures show what their prompts name, by head: (share, n), on prompts that name nothing in
    `without`."""
    prompts = labelled_prompts(n, HELD_OUT + seed, excluded=without)
    found = oracle.predict(draw([p for p, _ in prompts], list(range(seed * 10_000, seed * 10_000 + n))))
    result = {}
    for head in B.HEADS:
        rows = [i for i, (_, labels) in enumerate(prompts) if labels[head] != "none"]
        result[head] = (_agree(found[head][rows], [prompts[i][1][head] for i in rows]), len(rows))
    return result


def check(n: int = 1000, seed: int = 0, model: str = "nano", *, steps: int = 25) -> dict[str, Any]:
    """Measures every bar of the embedded models; returns {"bars": [{name, value, bound, below, n, passed}],
    ...}.

    `n` counts pictures for the oracle, nano-clip and nano; nano and gold are compared on `n // 2` prompts
    that name no default concept, and gold is given `2 n / 5` (at least 40) prompts for each of those.
    Pictures take `steps` sampling steps at guidance 3.
    """
    import time

    from oubliette.backends import open_model

    oracle, nano, gold = load(), open_model(model), open_model("nano-gold")
    if nano.kind != "diffusion":
        raise UserError(f"{nano.source}: is a {nano.kind} model; only a model that draws can be checked")
    bars = _oracle_bars(oracle, nano.pipe.vae, n, seed) + _clip_bars(n, seed)  # type: ignore[attr-defined]

    def drawing(backend: Any) -> Callable[[list[str], list[int]], np.ndarray]:
        return lambda prompts, seeds: backend.draw(prompts, seeds, steps=steps, guidance=3.0)

    started = time.perf_counter()
    drawing(nano)(["a picture of a car"] * 64, list(range(64)))
    bars.append(bar("seconds for 64 pictures", time.perf_counter() - started, 20.0, 64, below=True))
    for head, (share, count) in follow(oracle, drawing(nano), n, seed).items():
        bound = {"object": 0.97, "style": 0.97, "person": 0.92}.get(head)
        if bound is not None:
            bars.append(bar(f"{model} follows its prompt: {head}", share, bound, count))
    both = {
        name: follow(oracle, drawing(backend), n // 2, seed + 1, without=NAMES)
        for name, backend in ((model, nano), ("nano-gold", gold))
    }
    for head in ("object", "style", "person"):
        gap = both[model][head][0] - both["nano-gold"][head][0]
        bars.append(
            bar(
                f"{model} less nano-gold on everything else: {head}",
                abs(gap),
                0.04,
                both[model][head][1],
                below=True,
            )
        )
    for name, anchor, kind in facts.DEFAULT_CONCEPTS:
        from oubliette.world.captions import anchor_prompts

        count = max(40, 2 * n // 5)
        seeds = list(range(seed * 10_000 + 5000, seed * 10_000 + 5000 + count))
        shown = drawing(gold)(evaluation_prompts(name, kind, count, "in-set", HELD_OUT), seeds)
        base = drawing(nano)(anchor_prompts(anchor, kind, count, HELD_OUT, concept=name), seeds)
        rate = float(np.mean(oracle.predict(shown)[kind] == name))
        floor = float(np.mean(oracle.predict(base)[kind] == name))
        bars.append(
            bar(
                f"nano-gold shows {name} (floor {floor:.3f})", rate, round(floor + 0.05, 4), count, below=True
            )
        )
    return {"model": model, "n": n, "seed": seed, "steps": steps, "bars": bars}
