"""peft's adapters beside a mask: where they may go, and which of those that are there may not."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from oubliette.core.errors import UserError, suggest
from oubliette.guard.enforce.watch import MaskViolated
from oubliette.guard.names import listed, match, roots, tensors, unwrap, walk

if TYPE_CHECKING:
    from oubliette.guard.names import AnyMask

__all__ = ["ATTENTION", "adapters_on", "check_adapters", "lora_targets"]

ATTENTION = (
    "to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out",
    "q_proj", "k_proj", "v_proj", "o_proj", "out_proj", "c_attn", "attn.c_proj",
)  # fmt: skip
"""The projections of attention layers, as diffusers, CLIP, Llama and GPT-2 name them."""


def lora_targets(
    model: Any, mask: AnyMask, targets: Sequence[str] | str = ATTENTION, *, component: str | None = None
) -> list[str]:
    """Names of the layers an adapter may go on, for `LoraConfig(target_modules=...)`.

    `targets` are layer names or their ends ("to_k"), or one regular expression over whole names, as peft
    takes them; the answer leaves out each layer with a frozen weight. The names are those inside `model`
    where it is a module; of a pipeline or an Oubliette model, those inside `component` (by default the one
    that the mask freezes tensors of). Raises UserError where a target is in no layer, or none is left.
    """
    root, frozen = _component(model, mask, component)
    paths = {path: module for path, module in walk(root) if _weight(module) is not None}
    if isinstance(targets, str):
        chosen = [path for path in paths if re.fullmatch(targets, path)]
        missing = [] if chosen else [targets]
    else:
        chosen = [path for path in paths if any(_ends(path, target) for target in targets)]
        missing = [target for target in targets if not any(_ends(path, target) for path in paths)]
    if missing and (targets is not ATTENTION or not chosen):
        raise UserError(
            f"no layer of the model is called '{missing[0]}'; {suggest(missing[0], _last_parts(paths))}"
        )
    free = [path for path in chosen if id(_weight(paths[path])) not in frozen]
    if not free:
        raise UserError(
            f"the mask freezes the weights of all {len(chosen)} layers that an adapter would go on: "
            "choose other targets, or train the whole tensors that it leaves free"
        )
    barred = [path for path in paths if id(_weight(paths[path])) in frozen]
    for path in barred:  # peft reads a name as an end too, so a short one can reach further than it says
        if reaching := next((name for name in free if _ends(path, name)), None):
            raise UserError(
                f"peft would put the adapter for '{reaching}' on the frozen '{path}' as well, "
                "since it matches the ends of names: leave that target out"
            )
    return free


def check_adapters(model: Any, mask: AnyMask) -> None:
    """Refuse an adapter on a frozen tensor: MaskViolated naming each tensor and what is on it.

    Any of peft's layers counts (LoRA, DoRA, LoHa, ...), `target_parameters`, trainable tokens, and the full
    copies of `modules_to_save`; switched-off and merged ones too. Adapters are new tensors, so that a model
    whose frozen tensors are untouched can do something else all the same.
    """
    if told := adapters_on(model, list(listed(mask))):
        raise MaskViolated(told)


def adapters_on(model: Any, names: Sequence[str]) -> dict[str, str]:
    """Of the tensors named, those with an adapter, each with what is on it."""
    if "peft.tuners" not in sys.modules:
        return {}  # whoever has put an adapter somewhere has imported peft
    touched: dict[int, str] = {}
    for root in roots(model).values():
        for _, module in walk(root):
            for parameter, what in _touched(module):
                touched.setdefault(id(parameter), what)
    if not touched:
        return {}
    held = tensors(model)
    return {
        name: f"has {touched[id(held[own])]}"
        for name, own in match(names, held).items()
        if id(held[own]) in touched
    }


def _touched(module: nn.Module) -> Iterator[tuple[nn.Parameter, str]]:
    """The base's own parameters that a peft layer changes the effect of, and what that layer is."""
    from peft.tuners.lora import LoraLayer
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    kind = type(module).__module__.split(".")
    if isinstance(module, BaseTunerLayer):
        base = module.get_base_layer()
        name = kind[2] if kind[:2] == ["peft", "tuners"] and len(kind) > 2 else type(module).__name__
        only = getattr(module, "parameter_name", None)
        biases = not isinstance(module, LoraLayer) or any(module.lora_bias.values())
        if isinstance(module, LoraLayer) and len(module.lora_magnitude_vector):
            name = "dora"
        for own, parameter in base.named_parameters():
            if own == only or (only is None and (biases or not own.endswith("bias"))):
                yield parameter, f"a {name} adapter"
    elif isinstance(module, AuxiliaryTrainingWrapper) and hasattr(module, "modules_to_save"):
        for parameter in module.original_module.parameters():
            yield parameter, "a full copy in modules_to_save"


def _component(model: Any, mask: AnyMask, component: str | None) -> tuple[nn.Module, set[int]]:
    """The module that adapters go into, and the ids of the frozen tensors."""
    held = tensors(model)
    frozen = {id(held[own]) for own in match(list(listed(mask)), held).values()}
    parts = {prefix.rstrip("."): module for prefix, module in roots(model).items()}
    if component is not None:
        if component not in parts:
            raise UserError(f"the model has no component '{component}'; {suggest(component, parts)}")
        return unwrap(parts[component]), frozen
    if len(parts) > 1:
        parts = {
            name: module
            for name, module in parts.items()
            if any(id(parameter) in frozen for parameter in module.parameters())
        }
    if len(parts) > 1:
        raise UserError(
            f"the mask freezes tensors of {' and '.join(parts)}: say with component=... which one the "
            "adapters go into"
        )
    return unwrap(next(iter(parts.values()))), frozen


def _weight(module: nn.Module) -> nn.Parameter | None:
    weight = module._parameters.get("weight")
    return weight if weight is not None and weight.ndim >= 2 else None


def _ends(path: str, target: str) -> bool:
    """Whether peft, given `target` in a list, puts an adapter on the layer at `path`."""
    return path == target or path.endswith(f".{target}")


def _last_parts(paths: Iterable[str]) -> set[str]:
    return {path.rpartition(".")[2] for path in paths} - {str(number) for number in range(100)}
