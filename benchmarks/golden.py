"""What the package gives today, in one file to compare with: a refactor that only moves code changes nothing.

    python benchmarks/golden.py record                   # writes tests/golden.json
    python benchmarks/golden.py compare                  # exit code 0 where all is equal, 1 with what differs
    python benchmarks/golden.py compare --only help lora # some parts alone
    python benchmarks/golden.py compare --work DIR       # keeps what the commands wrote, to look into

Everything goes through `oubliette.cli:main`, the one name that stays where it is. Small facts are recorded as
they are, tensors, pages and pictures as digests; what is no result (seconds, dates, versions) is left out by
its key. Bits depend on the processor and on torch: record on the machine you compare on.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import re
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden.json"
MADE_ON = "(made on)"

# Set before torch is loaded: one thread sums in one order; nothing is fetched; a help is as wide everywhere.
SURROUNDINGS = {
    **{"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
    **{"COLUMNS": "100", "NO_COLOR": "1", "HF_HUB_OFFLINE": "1"},
}

VOLATILE = {"created", "seconds", "times", "versions"}
TEXTS = {".csv", ".md", ".txt", ".yaml"}
LINE, LONG = 110, 160
SHOWN = 40

SUITE = """
name: golden
about: every kind of row, as small as it goes
seeds: 1
points: 2
pictures: 4
kept: 4
steps: 5
guidance: 3.0
limits: {leakage: 0.10, kept: 0.90, destroyed: 0.50, level: 0.50, sooner: 2.0}
rows:
- {row: evaluation, n: 4, each: 1, near_n: 2}
- {row: prompts, attack: paraphrase, cases: 2}
- {row: relearn, attack: F2, budget: {steps: 2}, nano: {steps: 2}}
- {row: relearn, attack: T1, budget: {steps: 2}, nano: {steps: 2}}
- {row: benign, attack: B1, budget: {steps: 2}, nano: {steps: 2}}
- {row: probe, probe: inpaint, cases: 2}
- {row: probe, probe: detach, cases: 2}
"""

Facts = dict[str, Any]

# A mask's digest covers the date within: wherever it is told, what is written down is whose it is.
MASKS: dict[str, str] = {}


# --- what is written down of a value, a text, a file -------------------------------------------------------


def digest(data: bytes | str) -> str:
    """The first 16 hexadecimal digits of SHA-256."""
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()[:16]


def steady(value: Any) -> Any:
    """A JSON value without what differs from run to run."""
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if k not in VOLATILE and not k.startswith("seconds_")}
        return {k: steady(v) for k, v in kept.items()}
    if isinstance(value, list):
        return [steady(v) for v in value]
    return steady_text(value) if isinstance(value, str) else value


def steady_text(text: str) -> str:
    """A text without dates, durations, this package's version and digests of what holds a date."""
    for sum_, mask in MASKS.items():
        text = text.replace(sum_, mask)
    text = re.sub(r"(\bseconds_\w+: )`[\d.e-]+`", r"\1TIME", text)
    text = re.sub(r'"versions": \{[^}]*\}', "VERSIONS", text)
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:]+(\+00:00|Z)?", "DATE", text)
    text = re.sub(r"\b[\d.]+ (s|min|h)\b( \d\d s\b)?", "TIME", text)
    if re.search(r"\bseconds( \|)?$", text, flags=re.MULTILINE):  # a table whose last column they are
        text = re.sub(r"\s+\d+( \|)?$", r" TIME\1", text, flags=re.MULTILINE)
    return re.sub(r"\boubliette \d+\.\d+\.\d+\S*?\b", "oubliette VERSION", text)


def compact(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def leaves(value: Any, at: str, depth: int = 99) -> Iterator[tuple[str, Any]]:
    """A steady value as short leaves: what fits a line is one; long texts and deeper values are digests."""
    if isinstance(value, str) and len(value) > LONG:
        yield at, f"{len(value)} characters {digest(value)}"
    elif not isinstance(value, (dict, list)) or not value or len(compact(value)) <= LINE:
        yield at, value
    elif depth == 0 or (isinstance(value, list) and not any(isinstance(v, (dict, list)) for v in value)):
        yield at, f"{len(value)} values {digest(compact(value))}"
    else:
        items = value.items() if isinstance(value, dict) else ((f"{i:03}", v) for i, v in enumerate(value))
        for key, inner in items:
            yield from leaves(inner, f"{at}.{key}", depth - 1)


def of_tensors(path: Path) -> Iterator[tuple[str, str]]:
    """Every tensor's dtype, shape and digest, read without the package or torch."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    for name, about in json.loads(data[8 : 8 + length]).items():
        if name == "__metadata__":
            yield from leaves(steady(about), "(metadata)")
            continue
        start, end = about["data_offsets"]
        shape = "x".join(map(str, about["shape"]))
        yield name, f"{about['dtype']} {shape} {digest(data[8 + length + start : 8 + length + end])}"


def of_rows(path: Path) -> Iterator[tuple[str, str]]:
    """A column's values over all rows of a JSONL file, as one digest."""
    rows = [steady(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    for key in sorted({key for row in rows for key in row}):
        yield key, f"{len(rows)} rows {digest(compact([row.get(key) for row in rows]))}"


def of_page(path: Path) -> Iterator[tuple[str, str]]:
    """A page's parts, cut before each heading, so that one sees which changed."""
    parts = re.split(r"(?=<h2)", steady_text(path.read_text(encoding="utf-8")))
    for number, part in enumerate(parts):
        heading = re.match(r"<h2[^>]*>(.*?)</h2>", part, re.DOTALL) if number else None
        title = re.sub(r"<[^>]*>|\s+", " ", heading[1]).strip() if heading else "above"
        yield f"{number:02} {title}", f"{len(part)} characters {digest(part)}"


def of_file(path: Path) -> Iterator[tuple[str, Any]]:
    """What is written down of one file: pairs of a place in it (or nothing) and a fact."""
    kind = path.suffix
    if kind == ".json" and path.name in (
        "tokenizer.json",
        "report.json",
    ):  # pictures, and a vocabulary, inside
        depth = 2 if path.name == "report.json" else 1
        yield from leaves(steady(json.loads(path.read_text(encoding="utf-8"))), "", depth)
    elif kind == ".json":
        yield from leaves(steady(json.loads(path.read_text(encoding="utf-8"))), "")
    elif kind == ".safetensors":
        yield from of_tensors(path)
    elif kind == ".jsonl":
        yield from of_rows(path)
    elif kind == ".html":
        yield from of_page(path)
    elif kind in TEXTS:
        yield "", digest(steady_text(path.read_text(encoding="utf-8")))
    else:
        yield "", digest(path.read_bytes())


# --- running commands ----------------------------------------------------------------------------------


class Part:
    """Where a part's commands run and what is written down of them."""

    def __init__(self, name: str, facts: Facts) -> None:
        self.name, self.facts = name, facts

    def put(self, place: str, fact: Any) -> None:
        self.facts[f"{self.name}/{place}"] = fact

    def command(self, label: str, *arguments: str, out: str = "") -> str:
        """Run `oubliette`; write down its exit code, what it printed, and what it wrote to `out`."""
        from oubliette.cli import main

        printed, said = io.StringIO(), io.StringIO()
        typed, sys.argv = sys.argv, ["oubliette", *arguments]  # pages say what was typed
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(said):
            try:
                code: Any = main([*arguments])
            except SystemExit as stop:
                code = stop.code
            finally:
                sys.argv = typed
        text = printed.getvalue()
        for mask in Path(out).rglob("guard.json") if out else ():
            MASKS[json.loads(mask.read_text(encoding="utf-8"))["digest"]] = f"(digest of {mask})"
        if code not in (0, 1, 3):
            print(f"{label}: exit code {code}: {said.getvalue().strip()[-300:]}", file=sys.stderr)
        self.put(f"{label} exit", code)
        try:
            for place, fact in leaves(steady(json.loads(text)), ""):
                self.put(f"{label} printed:{place.lstrip('.')}", fact)
        except ValueError:
            self.put(f"{label} printed", digest(steady_text(text)))
        if out:
            self.files(label, Path(out))
        return text

    def files(self, label: str, out: Path) -> None:
        for path in sorted(out.rglob("*")) if out.is_dir() else [out]:
            if path.is_file():
                within = path.relative_to(out) if out.is_dir() else path.name
                for place, fact in of_file(path):
                    self.put(f"{label} {within}:{place.lstrip('.')}", fact)


def car(method: str, out: str, *more: str) -> list[str]:
    return ["erase", "--model", "nano", "--concept", "car", "--method", method, "--out", out, *more]


def helps(part: Part) -> None:
    """The help of every command, found by following the list of commands in the helps themselves."""
    left: list[list[str]] = [[]]
    while left:
        path = left.pop(0)
        text = part.command(" ".join(path) or "(top)", *path, "--help")
        listed = re.search(r"^Commands:\n((?:  .*\n)+)", text, re.MULTILINE)
        names = re.findall(r"^  (\S+)", listed[1], re.MULTILINE) if listed else []
        left += [[*path, name] for name in names]


def listings(part: Part) -> None:
    """Every listing, and every recipe of the package in full."""
    kinds = json.loads(part.command("all", "ls", "--json"))
    for kind in kinds:
        part.command(kind, "ls", kind, "--json")
    for name in kinds["recipes"]:
        part.command(f"recipe {name}", "validate", name, "--json")


def solved(part: Part) -> None:
    """A closed form, saved in full."""
    part.command("uce", *car("uce", "uce", "--check", "off"), out="uce")
    part.command("dry", *car("uce", "dry", "--dry-run", "--json"))


def trained(part: Part) -> None:
    """Trained erasers, saved as what changed; one of them checked, with its page."""
    doco = ["--steps", "3", "--set", "method.warm_up=1", "--set", "data.pictures=8", "--set", "train.batch=4"]
    fast = ["--set", "data.picture_steps=4", "--save", "delta", "--save-dtype", "float32"]
    part.command("esd-x", *car("esd-x", "esd-x", "--steps", "2", "--check", "off", *fast), out="esd-x")
    part.command("doco", *car("doco", "doco", *doco, *fast, "--check", "off"), out="doco")


def lora(part: Part) -> None:
    """A closed form saved as adapters."""
    part.command("uce", *car("uce", "lora", "--check", "off", "--save", "lora"), out="lora")


def attached(part: Part) -> None:
    """Guards at sampling time, and what one draws."""
    for method in ("sld", "safree"):
        part.command(method, *car(method, method, "--check", "off"), out=method)
    prompts = ["--prompt", "a picture of a car", "--prompt", "a cat", "--n", "2", "--steps", "5"]
    part.command("sample", "sample", "--model", "sld", *prompts, "--out", "sld.png", "--json", out="sld.png")


def language(part: Part) -> None:
    """A tiny language model, made by the tests' own module: two methods, two forms, an answer."""
    sys.path.insert(0, str(ROOT / "tests"))
    import tiny_language as tiny

    base = tiny.save(Path("language"), "llama")
    rows = [
        *("--forget", str(tiny.write_rows(Path("forget.jsonl"), tiny.FORGET))),
        *("--retain", str(tiny.write_rows(Path("retain.jsonl"), tiny.RETAIN))),
    ]
    part.files("base", base)
    for method, form in (("npo", "full"), ("graddiff", "delta")):
        made = ["erase", "--model", "language", *rows, "--method", method, "--steps", "3", "--save", form]
        part.command(method, *made, "--out", f"language-{method}", out=f"language-{method}")
    asked = ["--prompt", tiny.FORGET[0][0], "--tokens", "8", "--json"]
    part.command("sample", "sample", "--model", "language-npo", *asked)


def stream(part: Part) -> None:
    """Two requests, one after the other."""
    Path("requests.yaml").write_text("- concept: car\n- concept: Mira Voss\n", encoding="utf-8")
    made = ["erase", "--model", "nano", "--stream", "requests.yaml", "--method", "uce", "--save", "delta"]
    part.command("uce", *made, "--check", "off", "--out", "stream", out="stream")


def measured(part: Part) -> None:
    """An evaluation with a control, its samples and page; two of the field's protocols."""
    ran = ["--n", "4", "--steps", "4", "--control", "gold", "--out", "eval"]
    part.command("eval", "eval", "--model", eraser(), *ran, out="eval")
    few = ["--n", "2", "--steps", "4", "--out", "harmonic.json"]
    part.command("harmonic", "protocol", "harmonic", "--model", eraser(), *few, out="harmonic.json")
    few = ["--each", "1", "--steps", "4", "--out", "cer.json"]
    part.command("cer", "protocol", "cer", "--model", eraser(), *few, out="cer.json")


def audited(part: Part) -> None:
    """An audit with every kind of row, its samples and page; one attack by itself."""
    Path("suite.yaml").write_text(SUITE, encoding="utf-8")
    ran = ["--suite", "suite.yaml", "--cache", "cache", "--out", "audit"]
    part.command("audit", "audit", "--model", eraser(), *ran, out="audit")
    few = ["--set", "steps=2", "--points", "2", "--pictures", "2", "--kept", "2", "--sampling-steps", "4"]
    ran = ["--attack", "L1", *few, "--cache", "cache", "--out", "relearn"]
    part.command("relearn", "attack", "relearn", "--model", eraser(), *ran, out="relearn")


def guarded(part: Part) -> None:
    """A mask learned, shown, cut, trained under and verified, one way and the other."""
    sides = ["--illegal", "Bram Ostrow", "--innocent", "bicycle"]
    few = ["--pictures", "8", "--user", "steps=2", "--no-stability", "--set", "batches=4", "--scope", "xattn"]
    part.command("learn", "guard", "learn", "--model", "nano", *sides, *few, "--out", "mask", out="mask")
    part.command("show", "guard", "show", "mask", "--json")
    cut = ["--mask", "mask", "--model", "nano", "--budget", "0.5", "--out", "cut"]
    part.command("cut", "guard", "cut", *cut, out="cut")
    ran = [
        "--model",
        "nano",
        "--data",
        "bicycle",
        "--set",
        "steps=2",
        "--set",
        "pictures=8",
        "--save",
        "delta",
    ]
    part.command("apply", "guard", "apply", "--mask", "mask", *ran, "--out", "tuned", out="tuned")
    part.command("verify", "guard", "verify", "--mask", "mask", "--tuned", "tuned", "--json")
    part.command("violated", "guard", "verify", "--mask", "mask", "--tuned", eraser(), "--json")


def eraser() -> str:
    """The folder of the solved erasure, made if that part was not run."""
    if not Path("uce").exists():
        Part("", {}).command("uce", *car("uce", "uce", "--check", "off"))
    return "uce"


PARTS: dict[str, Callable[[Part], None]] = {
    "help": helps,
    "listings": listings,
    "solved": solved,
    "trained": trained,
    "lora": lora,
    "attached": attached,
    "language": language,
    "stream": stream,
    "measured": measured,
    "audited": audited,
    "guarded": guarded,
}


def collect(names: list[str], work: Path) -> Facts:
    """Run these parts in an empty folder; a fact a place."""
    facts: Facts = {}
    MASKS.clear()
    os.environ.update(SURROUNDINGS, XDG_CACHE_HOME=str(work / "home"))
    before = Path.cwd()
    os.chdir(work)  # paths are relative, so that none of this machine's is written down
    try:
        for name in names:
            began, count = time.monotonic(), len(facts)
            PARTS[name](Part(name, facts))
            seconds = time.monotonic() - began
            print(f"{name}: {len(facts) - count} facts, {seconds:.0f} s", file=sys.stderr)
    finally:
        os.chdir(before)
    return facts


# --- recording and comparing -------------------------------------------------------------------------------


def machine() -> dict[str, str]:
    """What bits depend on beside the code."""
    import platform

    import torch

    processor = torch.backends.cpu.get_cpu_capability()
    return {"python": platform.python_version(), "torch": torch.__version__, "processor": processor}


def write(facts: Facts, path: Path) -> None:
    """Sorted, a line a fact, so that a diff reads well."""
    lines = ",\n".join(f"{json.dumps(k, ensure_ascii=False)}: {compact(facts[k])}" for k in sorted(facts))
    path.write_text("{\n" + lines + "\n}\n", encoding="utf-8")


def differences(recorded: Facts, found: Facts) -> list[str]:
    """A line a place where the two are not the same."""
    lines = []
    for place in sorted(recorded.keys() | found.keys()):
        if place not in found:
            lines.append(f"- {place}: {compact(recorded[place])}")
        elif place not in recorded:
            lines.append(f"+ {place}: {compact(found[place])}")
        elif compact(recorded[place]) != compact(found[place]):
            lines.append(f"! {place}: {compact(recorded[place])} -> {compact(found[place])}")
    return lines


def show(lines: list[str], every: bool) -> None:
    counts: dict[str, int] = {}
    for line in lines:
        command = line[2:].split(":")[0].split(" ")
        label = " ".join(command[:2])
        counts[label] = counts.get(label, 0) + 1
    for line in lines if every else lines[:SHOWN]:
        print(line[:300])
    if not every and len(lines) > SHOWN:
        print(f"... and {len(lines) - SHOWN} more (--all lists them)")
    print(f"{len(lines)} facts differ:")
    for label, count in counts.items():
        print(f"  {label}: {count}")


def main(arguments: list[str] | None = None) -> int:
    """Record or compare; 0 done or equal, 1 different, 2 nothing to compare with."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["record", "compare"])
    parser.add_argument("--only", nargs="+", choices=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--golden", type=Path, default=GOLDEN, help="the file; by default tests/golden.json")
    parser.add_argument("--work", type=Path, help="new folder for what the commands write, kept")
    parser.add_argument("--all", action="store_true", help="list every difference, not the first alone")
    given = parser.parse_args(arguments)
    golden = given.golden.resolve()
    if given.what == "compare" and not golden.exists():
        print(f"{golden.name}: not there; record it first", file=sys.stderr)
        return 2
    recorded: Facts = json.loads(golden.read_text(encoding="utf-8")) if golden.exists() else {}
    made_on = recorded.pop(MADE_ON, None)
    names = given.only or list(PARTS)
    if given.work:
        given.work.mkdir(parents=True)
        found = collect(names, given.work.resolve())
    else:
        with tempfile.TemporaryDirectory(prefix="golden-") as work:
            found = collect(names, Path(work))

    def asked(place: str) -> bool:
        return not given.only or place.split("/")[0] in names

    if given.what == "record":
        others = {place: fact for place, fact in recorded.items() if not asked(place)}
        write({MADE_ON: machine(), **others, **found}, golden)
        print(f"{golden.name}: {len(others) + len(found)} facts")
        return 0
    lines = differences({place: fact for place, fact in recorded.items() if asked(place)}, found)
    if not lines:
        print(f"equal: {len(found)} facts")
        return 0
    show(lines, given.all)
    if made_on != machine():
        print(f"recorded on {compact(made_on)}, compared on {compact(machine())}: that alone moves bits")
    return 1


if __name__ == "__main__":
    sys.exit(main())
