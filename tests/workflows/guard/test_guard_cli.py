"""`oubliette guard`: a publisher's and a platform's whole way on tiny models, and refusals in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import tiny_language
import tiny_world
from oubliette.cli import main
from oubliette.guard.mask import read_mask

LEARN = ["--user", "steps=2", "--user", "batch=2", "--pictures", "4", "--set", "batches=1", "--no-stability"]
SHORT = ["--set", "steps=2", "--set", "batch=2", "--set", "pictures=3"]


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    """A working folder with a mask of the stand-in for nano."""
    folder = tmp_path_factory.mktemp("guard")
    with pytest.MonkeyPatch.context() as patch:
        tiny_world.install(tmp_path_factory.mktemp("weights"), tiny_folder, patch)
        patch.chdir(folder)
        sides = ["--illegal", "Bram Ostrow", "--innocent", "bicycle"]
        assert main(["guard", "learn", "--model", "nano", *sides, "--out", "mask", *LEARN]) == 0
    return folder


@pytest.fixture
def here(
    there: Path, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path:
    tiny_world.install(tmp_path_factory.mktemp("weights"), tiny_folder, monkeypatch)
    monkeypatch.chdir(there)
    return there


def test_help_loads_nothing_heavy() -> None:
    for command in ("guard", "guard learn", "guard verify"):
        code = (
            f"import sys; from oubliette.cli import main; code = main({command.split()} + ['--help']); "
            "heavy = {'torch', 'diffusers', 'transformers', 'numpy', 'matplotlib'} & set(sys.modules); "
            "print(sorted(heavy), file=sys.stderr); sys.exit(code)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stderr.strip() == "[]"


def test_a_mask_is_learned_and_shown(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert {path.name for path in Path("mask").iterdir()} == {
        "guard.json",
        "scores.safetensors",
        "README.md",
        "where.png",
    }
    mask = read_mask("mask")
    assert mask.budget.share == 0.3
    assert mask.budget.parameter_share <= 0.3
    assert mask.learned["data"]["illegal"][0]["name"] == "Bram Ostrow"
    assert main(["guard", "show", "mask"]) == 0
    printed = capsys.readouterr().out
    assert "learned   saliency; seed 0; illegal: Bram Ostrow (4); innocent: bicycle (4)" in printed
    assert "unet.mid_block" in printed
    assert main(["guard", "show", "mask", "--json", "--picture", "where-too.png"]) == 0
    assert json.loads(capsys.readouterr().out)["whole"]["frozen_tensors"] == len(mask.frozen)
    assert Path("where-too.png").read_bytes().startswith(b"\x89PNG")


def test_another_budget_is_cut_without_learning(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cut = ["guard", "cut", "--mask", "mask", "--model", "nano", "--budget", "0.6", "--out", "mask-60"]
    assert main(cut) == 0
    more, before = read_mask("mask-60"), read_mask("mask")
    assert before.budget.parameter_share < more.budget.parameter_share <= 0.6
    assert more.scores == before.scores
    assert main(cut) == 2  # the folder is there
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["full", "dreambooth"])
def test_a_model_is_tuned_under_a_mask_and_checked(
    here: Path, mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = f"tuned-{mode}"
    tune = ["guard", "apply", "--mask", "mask", "--model", "nano", "--data", "bicycle", "--mode", mode]
    assert main([*tune, "--out", out, *SHORT]) == 0
    assert "mask             respected" in capsys.readouterr().out
    assert main(["guard", "verify", "--mask", "mask", "--tuned", out]) == 0
    assert "mask: respected" in capsys.readouterr().out

    file = Path(out) / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    name = next(iter(read_mask("mask").names)).removeprefix("unet.")
    tensors[name] = tensors[name].clone()
    tensors[name].view(-1)[0] += 1
    save_file(tensors, file, metadata={"format": "pt"})
    assert main(["guard", "verify", "--mask", "mask", "--tuned", out]) == 1
    printed = capsys.readouterr().out
    assert "mask: violated" in printed
    assert f"unet.{name}" in printed


def test_adapters_leave_frozen_layers_out_and_open_in_diffusers(
    here: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from diffusers import StableDiffusionPipeline

    tune = ["guard", "apply", "--mask", "mask", "--model", "nano", "--data", "bicycle", "--mode", "lora"]
    assert main([*tune, "--out", "lora", "--json", *SHORT]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["verification"]["word"] == "respected"
    keys = load_file("lora/pytorch_lora_weights.safetensors")
    layers = {key.rpartition(".lora_")[0] for key in keys}
    assert len(layers) == facts["trained"]
    assert not {f"{layer}.weight" for layer in layers} & set(read_mask("mask").names)
    pipe = StableDiffusionPipeline.from_pretrained(tiny_folder)
    pipe.load_lora_weights("lora")
    added = {name for name, _ in pipe.unet.named_parameters() if "lora_" in name}
    assert len(added) == 2 * len(layers)
    assert main(["guard", "verify", "--mask", "mask", "--tuned", "lora"]) == 0


def test_an_adapter_scales_as_it_was_trained(here: Path, tiny_folder: Path) -> None:
    """What diffusers makes of the file is what the run's own merged weights were."""
    from diffusers import StableDiffusionPipeline

    from oubliette.backends import open_model
    from oubliette.train.tuning.budget import Budget
    from oubliette.train.tuning.tune import tune
    from oubliette.workflows.guard.sources import open_source, read_source

    model = open_model("nano")
    data = open_source(model, read_source("bicycle"), count=3).data
    budget = Budget(steps=2, batch=2, learning_rate=1e-1, rank=2, alpha=6.0)
    done = tune(model, data, "lora", budget, values=True, delta=True)
    Path("scaled").mkdir()
    model.save_adapters(Path("scaled"), done.values, rank=2, alpha=6.0)
    pipe = StableDiffusionPipeline.from_pretrained(tiny_folder)
    before = {name: p.detach().clone() for name, p in pipe.unet.named_parameters()}
    pipe.load_lora_weights("scaled")
    pipe.fuse_lora()
    pipe.unload_lora_weights()
    name, delta = max(done.delta.items(), key=lambda item: float(item[1].abs().max()))
    key = name.removeprefix("unet.")
    now = dict(pipe.unet.named_parameters())[key]
    assert float(delta.abs().max()) > 1e-4
    torch.testing.assert_close(now.detach() - before[key], delta, rtol=1e-3, atol=1e-6)


def test_a_language_model_goes_the_same_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny_language.save(tmp_path / "model", "llama")
    illegal = tiny_language.write_rows(tmp_path / "illegal.jsonl", tiny_language.FORGET)
    innocent = tiny_language.write_rows(tmp_path / "innocent.jsonl", tiny_language.RETAIN)
    sides = ["--illegal", str(illegal), "--innocent", str(innocent)]
    mask, tuned, lora = (str(tmp_path / name) for name in ("mask", "tuned", "lora"))
    learn = ["guard", "learn", "--model", str(model), *sides, "--out", mask, *LEARN]
    assert main([*learn, "--budget", "0.1"]) == 0
    tune = ["guard", "apply", "--mask", mask, "--model", str(model), "--data", str(innocent)]
    small = ["--set", "steps=2", "--set", "batch=2", "--set", "accumulation=1", "--set", "learning_rate=1e-2"]
    assert main([*tune, "--out", tuned, *small]) == 0
    assert main([*tune, "--mode", "lora", "--out", lora, *small]) == 0
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    opened = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model), lora)
    own = load_file(Path(lora) / "adapter_model.safetensors")
    held = dict(opened.named_parameters())
    for name, tensor in own.items():
        key = name.replace(".lora_A.", ".lora_A.default.").replace(".lora_B.", ".lora_B.default.")
        assert torch.equal(held[key], tensor)


SIDES = ["--model", "nano", "--illegal", "Bram Ostrow", "--innocent", "bicycle", "--out", "x"]
TUNE = ["--mask", "mask", "--model", "nano", "--data", "bicycle", "--out", "x"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["learn", *SIDES, "--illegal", "no-such"], "has no 'no-such'"),
        (["learn", *SIDES, "--innocent", "a=no/where"], "no such folder"),
        (["learn", *SIDES, "--budget", "1.5"], "lies between 0 and 1"),
        (["learn", *SIDES, "--learner", "salience"], "did you mean 'saliency'"),
        (["learn", *SIDES, "--set", "batchs=1"], "did you mean 'batches'"),
        (["learn", *SIDES, "--user", "step=1"], "did you mean 'steps'"),
        (["apply", *TUNE, "--model", "nano-gold"], "is not the base of this mask"),
        (["apply", *TUNE, "--mode", "ful"], "did you mean 'full'"),
        (["apply", *TUNE, "--set", "steps=0"], "'steps'"),
        (["apply", *TUNE, "--data", "elephant"], "has no 'elephant'"),
        (["verify", "--mask", "mask"], "name what is to be checked"),
        (["verify", "--mask", "nowhere", "--tuned", "mask"], "nowhere"),
        (["show", "nowhere"], "no such folder, and not a Hub id"),
        (["publish", "mask", "--repo", "nobody", "--dry-run"], "expected owner/name"),
        (["convert", "mask/README.md", "--model", "nano", "--out", "x"], "README.md"),
        (["cut", "--mask", "mask", "--model", "nano-gold", "--out", "x"], "is not the base of this mask"),
    ],
)
def test_refusals_are_one_line_and_leave_nothing(
    here: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["guard", *arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert words in error
    assert not Path("x").exists()


def test_a_vector_of_freeze_as_guard_is_converted(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from oubliette.backends import open_model
    from oubliette.train.scope import network

    names = network(open_model("nano"))
    Path("vector").write_text("".join(f"{index % 2:.3e}\n" for index in range(len(names))))
    assert main(["guard", "convert", "vector", "--model", "nano", "--out", "converted"]) == 0
    assert read_mask("converted").names == names[1::2]
    assert "converted from FreezeAsGuard text vector vector" in capsys.readouterr().out


def test_small_steps_on_a_16_bit_base_are_kept_where_asked(tmp_path: Path) -> None:
    from oubliette.backends import open_model
    from oubliette.backends.files.changes import RoundingWarning
    from oubliette.guard.mask import Mask

    base = tiny_language.save(tmp_path / "base", "llama", dtype=torch.bfloat16)
    rows = tiny_language.write_rows(tmp_path / "r.jsonl", tiny_language.RETAIN)
    model = open_model(base, device="cpu")
    Mask.make(model, list(model.tensors())[:2]).write(tmp_path / "mask")
    tune = ["guard", "apply", "--mask", str(tmp_path / "mask"), "--model", str(base), "--data", str(rows)]
    small = [
        "--set",
        "steps=2",
        "--set",
        "batch=2",
        "--set",
        "accumulation=1",
        "--set",
        "learning_rate=1e-12",
    ]
    with pytest.warns(RoundingWarning, match="the whole update"):
        assert main([*tune, *small, "--out", str(tmp_path / "lost")]) == 3
    assert main([*tune, *small, "--out", str(tmp_path / "kept"), "--save-dtype", "float32"]) == 0
    assert open_model(tmp_path / "kept", device="cpu").fingerprint() != model.fingerprint()
    assert main([*tune, *small, "--out", str(tmp_path / "x"), "--save-dtype", "float3"]) == 2


def interrupt_at(patch: pytest.MonkeyPatch, step: int) -> None:
    from oubliette.train.loop import Loop

    update = Loop._update

    def cut(loop: Loop) -> dict[str, float]:
        if loop.step == step:
            raise KeyboardInterrupt
        return update(loop)

    patch.setattr(Loop, "_update", cut)


def test_learning_that_was_cut_short_goes_on(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    learn = ["guard", "learn", "--model", "nano", "--illegal", "Bram Ostrow", "--innocent", "bicycle", *LEARN]
    learn[learn.index("steps=2")] = "steps=4"
    assert main([*learn, "--out", "learn-whole", "--resume"]) == 0
    assert "nothing to resume; the run starts" in capsys.readouterr().err
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, 2)
        assert main([*learn, "--out", "learn-cut"]) == 130
    assert "the same command with --resume goes on" in capsys.readouterr().err
    assert main([*learn, "--out", "learn-cut"]) == 2
    assert main([*learn, "--out", "learn-cut", "--resume", "--seed", "5"]) == 2
    assert "seed was 0, here it is 5" in capsys.readouterr().err
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, 0)  # what was done is not done again
        assert main([*learn, "--out", "learn-cut", "--resume"]) == 0
    one, other = read_mask("learn-cut"), read_mask("learn-whole")
    assert one.scores == other.scores
    assert one.learned["user_losses"] == other.learned["user_losses"]
    assert not Path("learn-cut.unfinished").exists()


def test_a_pass_of_the_learner_is_kept(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from oubliette.guard.learners.saliency import Saliency

    learn = ["guard", "learn", "--model", "nano", "--illegal", "Bram Ostrow", "--innocent", "bicycle"]
    learn += [option for option in LEARN if option != "--no-stability"]
    assert main([*learn, "--out", "pass-whole"]) == 0
    calls: list[int] = []
    original = Saliency.learn

    def counted(*arguments: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Saliency, "learn", counted)
    assert main([*learn, "--out", "pass-cut"]) == 130
    assert main([*learn, "--out", "pass-cut", "--resume"]) == 0
    assert len(calls) == 4  # the whole, a half cut short, and both halves
    one, other = read_mask("pass-cut"), read_mask("pass-whole")
    assert one.scores == other.scores
    assert one.learned["stability"] == other.learned["stability"]


@pytest.mark.parametrize("mode", ["full", "lora"])
def test_tuning_that_was_cut_short_goes_on(here: Path, mode: str, capsys: pytest.CaptureFixture[str]) -> None:
    tune = ["guard", "apply", "--mask", "mask", "--model", "nano", "--data", "bicycle", "--mode", mode]
    tune += ["--set", "steps=4", *SHORT[2:]]
    assert main([*tune, "--out", f"{mode}-whole"]) == 0
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, 2)
        assert main([*tune, "--out", f"{mode}-cut"]) == 130
    assert main([*tune, "--out", f"{mode}-cut", "--resume", "--seed", "1"]) == 2
    assert "budget.seed was 0, here it is 1" in capsys.readouterr().err
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, 0)
        assert main([*tune, "--out", f"{mode}-cut", "--resume"]) == 0
    files = {"lora": "pytorch_lora_weights.safetensors", "full": "unet/diffusion_pytorch_model.safetensors"}
    name = files[mode]
    one, other = load_file(f"{mode}-cut/{name}"), load_file(f"{mode}-whole/{name}")
    assert all(torch.equal(one[key], other[key]) for key in other)
