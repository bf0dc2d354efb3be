"""Erasing: methods and nothing else; they take a model and a request, and never evaluate.

Imports recipe, train and what lies below; never attack, eval or guard.
Begin at `run.py`, then a short method: `diffusion/esd.py`, `language/npo.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from oubliette.core.registry import Registry

if TYPE_CHECKING:
    from oubliette.erase.policy import Policy

METHODS: Registry[Any] = Registry(
    "method",
    {
        "uce": "oubliette.erase.diffusion.uce:UCE",
        "rece": "oubliette.erase.diffusion.rece:RECE",
        "speed": "oubliette.erase.diffusion.speed:SPEED",
        "mace": "oubliette.erase.diffusion.mace:MACE",
        "sld": "oubliette.erase.diffusion.sld:SLD",
        "safree": "oubliette.erase.diffusion.safree:SAFREE",
        "adavd": "oubliette.erase.diffusion.adavd:AdaVD",
        "ablation": "oubliette.erase.diffusion.ablation:Ablation",
        "esd": "oubliette.erase.diffusion.esd:ESD",
        "doco": "oubliette.erase.diffusion.doco:DoCo",
        "salun": "oubliette.erase.diffusion.salun:SalUn",
        "erasediff": "oubliette.erase.diffusion.erasediff:EraseDiff",
        "fmn": "oubliette.erase.diffusion.fmn:ForgetMeNot",
        "advunlearn": "oubliette.erase.diffusion.advunlearn:AdvUnlearn",
        "spm": "oubliette.erase.diffusion.spm:SPM",
        "receler": "oubliette.erase.diffusion.receler:Receler",
        "stereo": "oubliette.erase.diffusion.stereo:Stereo",
        "hirm": "oubliette.erase.diffusion.hirm:HiRM",
        "npo": "oubliette.erase.language.npo:NPO",
        "graddiff": "oubliette.erase.language.graddiff:GradDiff",
        "npo-irm": "oubliette.erase.language.irm:NPOIRM",
        "random-labels": "oubliette.erase.language.random_labels:RandomLabels",
        "simnpo": "oubliette.erase.language.simnpo:SimNPO",
        "wga": "oubliette.erase.language.weighted:WGA",
        "satimp": "oubliette.erase.language.weighted:SatImp",
        "undial": "oubliette.erase.language.distilled:Undial",
        "ceu": "oubliette.erase.language.distilled:CEU",
        "pdu": "oubliette.erase.language.pdu:PDU",
        "task-vector": "oubliette.erase.language.task_vector:TaskVector",
        "me": "oubliette.erase.language.entropy:MaximumEntropy",
        "idk": "oubliette.erase.language.refusals:IDK",
        "dpo": "oubliette.erase.language.refusals:DPO",
        "altpo": "oubliette.erase.language.altpo:AltPO",
        "idk-ap": "oubliette.erase.language.refusals:IDKAP",
        "rmu": "oubliette.erase.language.rmu:RMU",
        "rmu-lat": "oubliette.erase.language.rmu_lat:RMULAT",
        "rr": "oubliette.erase.language.rr:RR",
        "mrp": "oubliette.erase.language.mrp:MRP",
        "elm": "oubliette.erase.language.elm:ELM",
        "tar": "oubliette.erase.language.tar:TAR",
    },
)
"""Every method: a class with `name`, `backend`, `solution` (trained, solved, attached), `paper`, `Options`,
built from `(options, request)`, and `sources`, the names of files that it reads beside the forget and the
retain set, with what each holds. A trained one is an `oubliette.train.objective.Objective`; a solved one has
`solve(model, data, scope) -> Iterator[Edit]`; an attached one has `attachment(model, data, scope)`, an
`oubliette.backends.attachment.Attachment`; where that has parameters to train, the method says `trains` and
is an Objective too, or has one as `objective`."""

POLICIES: Registry[type[Policy]] = Registry(
    "policy",
    {
        "fixed": "oubliette.erase.policies.fixed:Fixed",
        "fit": "oubliette.erase.policies.fit:FIT",
    },
)
"""What decides, request by request, what a stream runs (`oubliette.erase.policy.Policy`)."""

PREPARERS: Registry[Callable[..., Any]] = Registry(
    "data preparer",
    {
        "diffusion": "oubliette.erase.prepare:prepare",
        "language": "oubliette.erase.language.prepare:prepare",
    },
)
"""What turns a request into a method's data, by the backend's kind: `prepare(model, request, *, seed,
cache)`.
"""

ELEMENTS: Registry[Any] = Registry(
    "element mask",
    {
        "saliency": "oubliette.erase.diffusion.saliency:Saliency",
        "random": "oubliette.erase.diffusion.saliency:RandomElements",
    },
)
"""What chooses elements within a scope's tensors (a recipe's `scope.elements`): built from its options, with
`masks(model, data, named, seed)`, a boolean tensor of each named parameter's shape, and `passes(pictures)`,
what that takes.
"""
