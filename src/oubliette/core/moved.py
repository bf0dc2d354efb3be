"""Where modules and names of before are now: old imports work for one release, with a DeprecationWarning."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

__all__ = ["MODULES", "NAMES", "install"]

_HOUSE = "oubliette."
_ROOMS = """
core: errors registry validation manifest writing described=source_docs face=lazy_exports kept=run_folder
unfinished=run_folder eval.reading=json_io train.progress data: sheet=picture_sheet world.training.labelled
workflows.world.training.labelled train: pace=timing
backends.files: backends.adapters .changes .delta .lora_form .opening .stored .truncation train:
train.low_rank=adapters train.tasks: data.answering .denoising eval: eval.order=control_order .painter=sampler
.scenery=surroundings eval.pictures: .agreement=clip_agreement .classifier_judge .clip .clip_judge .cmmd
.fid .fidelity .observe
.oracle_judge .reference=fid_reference .unfinished=kept .zero_shot eval.protocols: .canvas .canvas_folder
.cer .class_protocol=classes .harmonic protocol_rows=rows eval.text: eval.likelihood audit:
audit.bench=context .drive=attack_runner .exhibits=samples .gauge=leakage_meter .known=read_suite
.novel=novel_reference .parts=attack_cache .setting=setup .showing=untrained guard.enforce: guard.adapters
.callback .watch guard.learn: .budget .candidates .difference .draws .mixing .problem .slopes .spill
.stability .user guard.verify: .adapter_file .adapter_targets .checkpoint .lowrank=low_rank .tensor_file
.verification workflows: audit.run=audit .single=attack checking=check compose demo estimate job=erase
listing measuring=evaluate protocols sample guarding=guard workflows.continual: stream=requests
stream_result=result stream_run=run stream_stages=stages workflows.guard: guarding.apply .learn .look=show
.measure .sources .user workflows.world: embedded_world=draw world.check .training workflows.world.training:
world.training.all .artefacts .class_captions .clip .latents .oracle .picture_trainer .pictures
.run .ship .unet .vae
"""
_RENAMED = """
attack.scenes.Painter=SceneSampler audit.bench.Bench=AuditContext .Driver=AttackRunner .Stand=NovelReference
audit.drive.Attacks=PictureAttackRunner audit.dry.estimate=workflows.audit: audit.gauge.Gauge=LeakageMeter
.Look=Measurement audit.novel.make_stand=make_reference audit.parts.Part=AttackRun .Parts=AttackCache
audit.result.Excess=LeakageGap .Sooner=RelearningAdvantage audit.setting.Setting=workflows.audit_setup:
.cache_folder=workflows.audit_setup: .make_bench=make_context .set_up=workflows.audit_setup:
audit.suite.build_suite=audit.read_suite: .read_suite=audit.read_suite: .suite_names=audit.read_suite:
.suite_text=audit.read_suite: bench.cells.check_subjects=bench.subjects: checking.Before=OriginalView
erase.diffusion.closed.toward=uce_factor erase.diffusion.turns.in_turn=batch_pairs
erase.result.Held=Reversible .OnTop=AttachedEdit eval.evaluate.plan_for=eval.pictures.evaluator:
eval.painter.Painter=CachedSampler .Sampling=eval.pictures.sampling:
eval.pictures.PictureCache=eval.sample_store:SampleStore .decode_png=data.png: .encode_png=data.png:
.is_whole_png=data.png: eval.scenery.BROADER=world.facts: face.give_face=export_lazily
guard.enforce.Enforcement=guard.enforce.enforce: guard.learn.Cut=guard.learn.learn:
.Learned=guard.learn.learn: guard.mixing.Mixed=MixedWeights guard.spill.Spilled=DiskTensors
guarding.user.Course=TrainingCurve .Lent=AdapterDonor pace.Pace=PassTiming .pace_of=time_passes
report.build.make_grids=eval.grids: report.data.Grid=eval.grids: .Line=eval.grids: .Picture=eval.grids:
stream_stages.FromBase=workflows.continual.carried:StreamEdit
world.training.oracle.rubbish=noise_images .wear=augment
train.low_rank.LowRank=train.adapters:Adapters
"""
#: Files that became rooms, with a function of the same name: `from oubliette.guard.learn import learn`.
_CALLED = {f"{_HOUSE}guard.{name}.{name}": name for name in ("enforce", "learn", "verify")}


def _entries(table: str) -> Iterator[tuple[str, str, str]]:
    """Room ("core:"), old name, "=" what it is now; a dot in front: in the same module as the one before."""
    base = room = ""
    for entry in table.split():
        old, _, now = entry.partition("=")
        if old.endswith(":"):
            room = old[:-1]
        else:
            old = base * old.startswith(".") + old
            base = old.rpartition(".")[0]
            yield room, old, now


MODULES: dict[str, str] = {
    _HOUSE + old: f"{_HOUSE}{room}.{now or old.rpartition('.')[2]}" for room, old, now in _entries(_ROOMS)
}
"""Every module that moved, by its old full name."""


def _names() -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for _, old, now in _entries(_RENAMED):
        module, _, name = (_HOUSE + old).rpartition(".")
        place, colon, other = now.rpartition(":")
        home = _HOUSE + place if colon else MODULES.get(module, module)
        found.setdefault(module, {})[name] = f"{home}:{other or name}"
    return found


NAMES: dict[str, dict[str, str]] = _names()
"""Names that moved by themselves or are called otherwise: old module, old name, "module:name" of now."""


def _lookup(module: str) -> Callable[[str], Any]:
    """`__getattr__` of an old module: names that moved by themselves, then those of the module of now."""

    def find(name: str) -> Any:
        if name in NAMES.get(module, ()):
            place, now = NAMES[module][name].split(":")
            if module not in MODULES:  # else it was said when the module was imported
                warnings.warn(f"{module}.{name} is now {place}.{now}", DeprecationWarning, stacklevel=2)
            return vars(sys.modules[module]).setdefault(name, getattr(import_module(place), now))
        if module not in MODULES or (name.startswith("__") and name != "__all__"):
            raise AttributeError(f"module '{module}' has no attribute '{name}'")
        return getattr(import_module(MODULES[module]), name)

    return find


class _Alias:
    """Loads an old name as a module that looks everything up in the one of now."""

    def create_module(self, spec: ModuleSpec) -> None: ...

    def exec_module(self, module: ModuleType) -> None:
        old = module.__name__
        if not hasattr(module, "__path__"):  # a room of before is only gone through
            warnings.warn(f"{old} is now {MODULES[old]}", DeprecationWarning, stacklevel=2)
        module.__doc__ = import_module(MODULES[old]).__doc__
        vars(module)["__getattr__"] = _lookup(old)


class _Callable(ModuleType):
    """A module that, called, is the function it is named after."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        return getattr(self, _CALLED[self.__name__])(*args, **options)


class _Finder:
    """Finds old modules, and gives those that stay the names they had."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: Any = None) -> ModuleSpec | None:
        if name in MODULES:
            room = name in {old.rpartition(".")[0] for old in MODULES}
            return ModuleSpec(name, _Alias(), is_package=room)  # type: ignore[arg-type]
        here = name in NAMES or name in _CALLED
        spec = PathFinder.find_spec(name, path, target) if here else None
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def and_then(module: ModuleType) -> None:
                execute(module)
                if name in _CALLED:
                    module.__class__ = _Callable
                vars(module).setdefault("__getattr__", _lookup(name))

            vars(spec.loader)["exec_module"] = and_then
        return spec


def install() -> None:
    """Have Python look for old names here."""
    sys.meta_path.insert(0, _Finder())
