"""The model card of a mask: the Hub's header, and in plain words what a mask is and is not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from oubliette.core.numbers import percent
from oubliette.guard.hub import is_repo
from oubliette.guard.show import share_text, summary

if TYPE_CHECKING:
    from oubliette.guard.mask import Mask

__all__ = ["BYPASSES", "card_text"]

LIBRARY = "oubliette"
TAG = "freeze-mask"

#: What a mask does not stop (`methods/guard.md` 5.5).
BYPASSES = (
    "The mask is ignored, and all weights are trained.",
    "Adapters (LoRA, DoRA, LoHa and their kin) on frozen layers: new parameters, whose frozen neighbours "
    "stay as they are to the bit while the function changes.",
    "A new token's embedding (textual inversion), which touches no weight of the network.",
    "Training of components that were no candidates, such as the text encoder or the VAE.",
    "Side networks: ControlNet, IP-Adapter, extra blocks.",
    "Trainable neighbours that make up for a frozen tensor.",
    "The weights' difference to an ancestor that knew the concept, or an adapter trained on that ancestor, "
    "added without any training.",
    "Merging with another model, or distilling one.",
    "Very long training, or a very high learning rate, on what is not frozen.",
)


def card_text(mask: Mask, *, licence: str | None = None) -> str:
    """The card as markdown with a YAML header: `library_name`, `base_model` (of a Hub model), tags,
    `licence`.

    `licence` is a Hub licence id, the publisher's to say; without one the header names none.
    """
    from huggingface_hub import ModelCard, ModelCardData

    data = ModelCardData(
        library_name=LIBRARY,
        base_model=mask.base.source if is_repo(mask.base.source) else None,
        license=licence,
        tags=[TAG, "safety", f"{mask.base.kind}-model"],
    )
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{_body(mask)}"))


def _body(mask: Mask) -> str:
    base, budget = mask.base, mask.budget
    at = f" at commit `{base.revision}`" if base.revision else ""
    asked = "" if budget.share is None else f" Asked for: {percent(budget.share, '.3g')} of the {budget.of}."
    return f"""# Freeze mask for {base.source}

{len(mask.frozen)} tensors of `{base.source}`{at} that fine-tuning is to leave exactly as they are: \
{share_text(budget)} of the {len(mask.candidates)} tensors that could have been frozen.{asked}

`guard.json` names them, with shape, dtype and SHA-256 of each in its stored, float32, float16 and bfloat16 \
form. Its last line is the digest of all bytes before it, now `{mask.digest()}`.

## What it is
- It binds whoever trains through a platform that enforces it and verifies what comes back.
- A platform can check a result without the base model: the digests are enough.

## What it is not
- It does not bind open weights in a hostile hand: nothing in the weights knows of the mask.
- It is no proof that the concept is gone. "Respected" says that frozen tensors did not move, nothing else.
- It is no secret: a published mask also tells an attacker where the concept lives.

It does not stop:

{chr(10).join(f"{place}. {text}" for place, text in enumerate(BYPASSES, 1))}

So what a mask buys is a higher cost under a stated budget and a stated kind of training, not prevention.

## Where
| block | frozen parameters | of | frozen tensors |
| --- | --- | --- | --- |
{_rows(mask)}

## How it was learned
{_facts(mask.learned, "Nothing was recorded.")}

## What it was measured to do
{_facts(mask.measured, "Nothing was measured: whether it slows relearning of the concept is not known.")}

## Use
```python
from oubliette import guard

with guard.enforce(model, "this-folder"):
    ...  # train
print(guard.verify("this-folder", "the-result").word)
```
"""


def _rows(mask: Mask) -> str:
    return "\n".join(
        f"| `{part.name}` | {part.frozen_parameters:,} ({percent(part.parameter_share)}) "
        f"| {part.parameters:,} | {part.frozen_tensors} of {part.tensors} |"
        for part in summary(mask).blocks
    )


def _facts(facts: Mapping[str, Any], otherwise: str) -> str:
    if not facts:
        return otherwise
    lines = []
    for key, value in facts.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        # A fact is shown as it is and in one line: it can begin no heading, table or HTML of its own.
        flat = " ".join(text.split()).replace("`", "'")
        lines.append(f"- {' '.join(str(key).split())}: `{flat if len(flat) <= 300 else flat[:297] + '...'}`")
    return "\n".join(lines)
