"""Erasing from a real language model, on TOFU and on facts it knows: fetched weights, one core, one seed.

    python benchmarks/real_lm.py --model SmolLM2-135M-Instruct.Q4_1.gguf --tofu TOFU --out runs/real-lm
    python benchmarks/real_lm.py --model FOLDER --out runs/real-lm --parts knowledge

Part `tofu`: the model is fine-tuned on TOFU's forget01 and some retain pairs, its twin on the retain pairs
alone. Erasers are given all of forget01; half of it is asked, the other half is shown to whoever relearns.
Part `knowledge`: capitals that the model knows as it comes; every model knows them, so there is no gold.
Every cell (a model made, a model asked) is kept in --out, so that a killed run goes on where it was. Tables
go to stdout as markdown, those of the cells that are done to --out.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from oubliette.core.errors import UserError
from oubliette.core.manifest import write_json
from oubliette.core.writing import write_bytes
from oubliette.data.questions import QA, read_questions
from oubliette.eval.text.subject import chosen_rows
from real_lm_cells import METHODS, Cells
from real_lm_facts import facts
from real_lm_tables import AGAIN, KNOWLEDGE, RELEARNED, TOFU, Column, metrics_of, table

TAUGHT, TWIN, AFTER = "taught", "twin", ", relearned"
#: Seconds on one core: a row trained on (bf16), a row scored, a question answered.
TRAINED, SCORED, ANSWERED = 0.55, 0.2, 0.55
#: A step's passes as rows trained on, for each forget row: a retain row, NPO's reference, SAM's second.
PASSES = {"graddiff": 2.0, "npo": 2.2, "npo+sam": 3.4, "simnpo": 2.0, "rmu": 1.4}
FORGOTTEN = 10


def tofu(cells: Cells) -> str:
    """Part `tofu`: its tables."""
    asked = cells.asked
    forget = read_questions(asked.tofu / "forget01_perturbed.jsonl")
    kept = _some(cells, "retain_perturbed", asked.pairs)
    # Authors come in blocks of twenty: of every second row some of each are asked, and some shown.
    sets = {
        "forget": forget[0::2][: asked.items],
        "retain": kept[: asked.items],
        "real authors": _some(cells, "real_authors_perturbed", asked.items),
        "world facts": _some(cells, "world_facts_perturbed", asked.items),
        "holdout": _some(cells, "holdout01", asked.items),
    }
    few, shown = {"forget": sets["forget"]}, forget[1::2][: asked.items]
    files = cells.written("forget", forget), cells.written("retain", kept)
    models = {
        "base": cells.base(),
        TAUGHT: cells.taught(TAUGHT, [*forget, *kept]),
        TWIN: cells.taught(TWIN, kept),
    }
    for name, folder in models.items():
        cells.look(name, folder, sets, metrics_of(TOFU))
    cells.relearn(TWIN + AFTER, models[TWIN], shown, few, metrics_of(RELEARNED))
    for method in asked.methods:
        models[method] = cells.erased(method, method, models[TAUGHT], *files)
        cells.look(method, models[method], sets, metrics_of(TOFU))
        cells.relearn(method + AFTER, models[method], shown, few, metrics_of(RELEARNED))
        _tables(cells, "tofu", list(models), (TOFU, RELEARNED), TWIN)
    return _tables(cells, "tofu", list(models), (TOFU, RELEARNED), TWIN)


def knowledge(cells: Cells) -> str:
    """Part `knowledge`: its tables."""
    base = cells.base()
    place = cells.out / "data" / "known.json"
    if not place.exists():
        cells.look("known", base, facts(), ["open_qa"])
        found = json.loads(cells.cell("known").read_text("utf-8"))["items"]["open_qa"]
        write_json(place, {name: one["values"] for name, one in found.items()})
    told = json.loads(place.read_text("utf-8"))
    known = {
        name: [row for row, right in zip(rows, told[name], strict=True) if right]
        for name, rows in facts().items()
    }
    gone, kept = known["capitals"][:FORGOTTEN], known["capitals"][FORGOTTEN:]
    if not kept or not known["others"]:
        raise UserError(
            f"{cells.asked.model}: gives {len(gone)} of {len(facts()['capitals'])} capitals rightly; "
            f"expected more than {FORGOTTEN}"
        )
    sets = {"forget": gone[0::2], "retain": kept, "same countries": known["others"]}
    few = {"forget": sets["forget"]}
    files = cells.written("capitals", gone), cells.written("kept", [*kept, *known["others"][0::2]])
    models = {"knows": base}
    cells.look("knows", base, sets, metrics_of(KNOWLEDGE))
    for method in ("graddiff", "npo"):
        name = f"{method}, capitals"
        models[name] = cells.erased(name, method, base, *files)
        cells.look(name, models[name], sets, metrics_of(KNOWLEDGE))
        cells.relearn(name + AFTER, models[name], gone[1::2], few, metrics_of(AGAIN))
    return _tables(cells, "knowledge", list(models), (KNOWLEDGE, AGAIN), None)


def _some(cells: Cells, name: str, count: int) -> list[QA]:
    return chosen_rows(read_questions(cells.asked.tofu / f"{name}.jsonl"), count, cells.asked.seed)


def _tables(
    cells: Cells, part: str, names: Sequence[str], columns: Sequence[Sequence[Column]], gold: str | None
) -> str:
    """What is known of the models, and of them relearned; kept in --out too."""
    folder = cells.out / "cells"
    later = [name + AFTER for name in names]
    first = table(folder, names, columns[0], gold)
    text = f"{first}\n{table(folder, later, columns[1], gold and gold + AFTER)}"
    write_bytes(cells.out / f"{part}.md", text.encode())
    return text


def minutes(asked: argparse.Namespace) -> float:
    """The planned minutes of part `tofu` on one core."""
    taught = asked.epochs * (40 + 2 * asked.pairs) * TRAINED
    erased = sum(PASSES.get(name, 2.0) for name in asked.methods) * asked.steps * asked.batch * TRAINED
    states, again = 3 + len(asked.methods), 1 + len(asked.methods)
    forget = 7 * SCORED + ANSWERED
    every = 2 * forget + 2 * (2 * SCORED + ANSWERED) + SCORED
    looked = asked.items * (states * every + again * (forget + 3 * TRAINED))
    return (taught + erased + looked) / 60 + 1.0 + 0.2 * (states + again)


def parse(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True, help="a GGUF file or a folder")
    parser.add_argument("--tofu", type=Path, default=Path("../shared/data/tofu"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--parts", nargs="+", choices=["tofu", "knowledge"], default=["tofu"])
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument(
        "--items", type=int, default=20, help="rows asked of each set, at most 20 of forget01"
    )
    parser.add_argument("--pairs", type=int, default=160, help="retain pairs")
    parser.add_argument("--epochs", type=int, default=5, help="of the fine-tuning")
    parser.add_argument(
        "--steps", type=int, default=25, help="of an eraser: 25 of 8 are five epochs of forget01"
    )
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument(
        "--rate", type=float, default=2e-4, help="of the fine-tuning; of it follow the others"
    )
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(given)
    if not asked.model.exists():
        raise UserError(f"--model {asked.model}: no such file or folder")
    if "tofu" in asked.parts and not (asked.tofu / "forget01_perturbed.jsonl").is_file():
        raise UserError(f"--tofu {asked.tofu}: holds no forget01_perturbed.jsonl; expected TOFU's JSON lines")
    return asked


def main(given: Sequence[str] | None = None) -> None:
    """Run the parts and print their tables."""
    asked = parse(given)
    cells = Cells(asked)
    if "tofu" in asked.parts:
        cells.say(f"planned on one core of its own: {minutes(asked):.0f} min")
    for part in asked.parts:
        print({"tofu": tofu, "knowledge": knowledge}[part](cells))
    cells.say("done")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(f"real_lm: {error}", file=sys.stderr)
        raise SystemExit(2) from None
