"""The layers of a mask's model by the names that adapter files may give them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from oubliette.guard.canonical import own_name

__all__ = ["Targets"]

# kohya-ss names a layer by its component and its path with "_" for ".".
_KOHYA = re.compile(r"^(lora_(?:unet|te|te1|te2|transformer)|lycoris)_")
_KOHYA_HEADS = {
    "lora_unet": ("unet", "transformer"),
    "lora_te": ("text_encoder",),
    "lora_te1": ("text_encoder",),
}
_KOHYA_HEADS |= {"lora_te2": ("text_encoder_2",), "lora_transformer": ("transformer",), "lycoris": ("unet",)}
_COMPONENTS = ("unet", "transformer", "text_encoder", "text_encoder_2", "text_encoder_3", "vae")


class Targets:
    """The model's layers by the names that adapter files may give them."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = {own_name(name): name for name in names}
        self.components = list(dict.fromkeys(name.partition(".")[0] for name in self.names))
        self._inside: dict[str, list[str]] = {}
        self._flat: dict[tuple[str, str], list[str]] = {}
        for own in self.names:
            module = own.rpartition(".")[0]
            self._inside.setdefault(module, []).append(own)
            component, _, rest = module.partition(".")
            self._flat.setdefault((component, rest.replace(".", "_")), []).append(own)

    def of_layer(self, layer: str) -> list[str]:
        """Full names of the tensors right inside a layer that an adapter file names; [] where there is none.

        An adapter of one bare component that two components could have (two text encoders) means both.
        """
        kohya = _KOHYA.match(layer)
        if kohya is not None:
            flat = layer[kohya.end() :].removeprefix("text_model_")
            found = [self._flat.get((head, flat), []) for head in _KOHYA_HEADS[kohya[1]]]
        else:
            prefixes = ["", *(f"{component}." for component in self.components)]
            found = [self._inside.get(own_name(prefix + own_name(layer)), []) for prefix in prefixes]
        return [self.names[own] for names in found for own in names]

    def of_copy(self, key: str) -> list[str]:
        """Full names of the tensors that a full copy's key can mean."""
        prefixes = ["", *(f"{component}." for component in self.components)]
        found = [own_name(prefix + own_name(key)) for prefix in prefixes]
        return [self.names[own] for own in dict.fromkeys(found) if own in self.names]

    def elsewhere(self, name: str, kind: str) -> bool:
        """Whether a name that fits nothing lies in a component of a pipeline that has no candidates."""
        kohya = _KOHYA.match(name)
        heads = _KOHYA_HEADS[kohya[1]] if kohya else (own_name(name).partition(".")[0],)
        return kind == "diffusion" and all(
            head in _COMPONENTS and head not in self.components for head in heads
        )
