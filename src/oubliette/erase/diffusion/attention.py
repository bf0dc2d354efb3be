"""What the cross-attention looks at: probabilities over the prompt's tokens, with their graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from oubliette.backends.base import Backend
from oubliette.core.errors import UserError

if TYPE_CHECKING:
    from oubliette.backends.diffusion import DiffusionBackend

__all__ = ["Attended", "attention_layers", "find_tokens", "token_map", "token_positions", "watching"]

#: Places already found, by tokenizer: a trainer asks for those of the same prompts in every step.
_PLACES: WeakKeyDictionary[Any, dict[tuple[str, str], list[int]]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Attended:
    """One cross-attention layer's probabilities (B, heads, pixels, tokens) in one forward pass."""

    layer: str
    probabilities: Tensor

    @property
    def side(self) -> int:
        """The side of the square of pixels the layer sees."""
        return round(self.probabilities.shape[2] ** 0.5)


def attention_layers(model: Backend, names: Sequence[str] | None = None) -> dict[str, nn.Module]:
    """The layers that own these text-facing weights (all of the model's by default), by their names.

    UserError where there are none, or where a layer is not attention of queries against text alone.
    """
    found: dict[str, nn.Module] = {}
    for name in model.text_facing() if names is None else names:
        component, path = name.split(".", 1)
        layer = path.rsplit(".", 2)[0]
        found[f"{component}.{layer}"] = model.modules()[component].get_submodule(layer)
    for name, module in found.items():
        if not all(hasattr(module, part) for part in ("to_q", "to_k", "get_attention_scores")):
            raise UserError(
                f"{model.source}: '{name}' is no cross-attention with queries and keys of its own, so its "
                "maps cannot be read; supported are UNets (Stable Diffusion 1.x, 2.x, XL)"
            )
    if not found:
        raise UserError(f"{model.source}: has no cross-attention whose maps could be read")
    return found


@contextmanager
def watching(layers: Mapping[str, nn.Module]) -> Iterator[list[Attended]]:
    """While open, collect what each of the layers attends to, one entry a layer and forward pass.

    The probabilities are formed beside the network's own fused attention, from the same queries and keys: the
    network's output keeps its bits, and the graph runs back to both. `layers` is from `attention_layers`.
    """
    seen: list[Attended] = []

    def look(name: str) -> Any:
        def hook(module: Any, inputs: tuple[Any, ...], options: dict[str, Any]) -> None:
            hidden = inputs[0] if inputs else options["hidden_states"]
            text = options.get("encoder_hidden_states", inputs[1] if len(inputs) > 1 else None)
            query, key = module.to_q(hidden), module.to_k(text)
            scores = module.get_attention_scores(
                module.head_to_batch_dim(query), module.head_to_batch_dim(key)
            )
            seen.append(Attended(name, scores.unflatten(0, (len(hidden), -1))))

        return hook

    handles = [
        module.register_forward_pre_hook(look(name), with_kwargs=True) for name, module in layers.items()
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def token_map(seen: Sequence[Attended], tokens: Sequence[Sequence[int]], side: int) -> Tensor:
    """Where each picture's tokens are looked for: maps (B, side, side), the mean over heads, tokens, layers.

    `tokens` gives each picture's token positions; a layer's map is brought to `side` bilinearly.
    """
    maps = []
    for each in seen:
        mean = each.probabilities.mean(dim=1)
        rows = torch.stack([mean[index][:, list(chosen)].mean(dim=1) for index, chosen in enumerate(tokens)])
        square = rows.unflatten(1, (each.side, -1)).unsqueeze(1)
        maps.append(
            nn.functional.interpolate(square, size=(side, side), mode="bilinear", align_corners=False)
        )
    return torch.cat(maps, dim=1).mean(dim=1)


def token_positions(
    model: DiffusionBackend, prompts: Sequence[str], words: Sequence[Sequence[str]]
) -> list[list[int]]:
    """Where in each prompt's tokens any of its words stand (a concept's name and its other words), the start
    token at 0.

    UserError for a prompt that holds none of its words, or only beyond what the text encoder reads.
    """
    found = []
    for prompt, texts in zip(prompts, words, strict=True):
        places = {place for text in texts for place in find_tokens(model, prompt, text)}
        if not places:
            raise UserError(
                f"prompt {prompt!r} does not hold the tokens of {' or '.join(map(repr, texts))}; its "
                "attention has no place"
            )
        found.append(sorted(places))
    return found


def find_tokens(model: DiffusionBackend, prompt: str, text: str) -> list[int]:
    """The positions of a text's tokens among those the text encoder reads of a prompt; [] without them."""
    tokenizer = model.tokenizers[0]
    known = _PLACES.setdefault(tokenizer, {})
    if (prompt, text) not in known:
        ids = tokenizer(prompt, truncation=True, max_length=tokenizer.model_max_length).input_ids
        own = tokenizer(text, add_special_tokens=False).input_ids
        starts = [at for at in range(len(ids) - len(own) + 1) if own and ids[at : at + len(own)] == own]
        known[prompt, text] = [at + offset for at in starts for offset in range(len(own))]
    return known[prompt, text]
