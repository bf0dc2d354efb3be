"""UnlearnCanvas: figures by brute force, the grid drawn, folders in both layouts, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import ToyExtractor
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tiny_judges import clip_folder

from oubliette.core.errors import UserError
from oubliette.data.concept import Concept
from oubliette.eval.pictures import fid as fid_module
from oubliette.eval.protocols.canvas import PROMPT, SEEDS, Canvas, canvas, canvas_figures, pair_judges
from oubliette.eval.protocols.canvas_folder import canvas_of_folder, read_answers
from oubliette.eval.sample_store import SampleStore
from oubliette.eval.statistics import Rate

STYLES, OBJECTS = ["flat", "neon", "Seed Images"], ["car", "truck", "boat"]
NEON, CAR = Concept("neon", "picture", "style"), Concept("car", "object")


class GridModel:
    """Writes what it was asked for into the first pixel: object in red, style in green; 255 if forgotten."""

    world = None
    sampler = "toy"
    source = "grid"

    def __init__(self, forgot: Sequence[str] = ()) -> None:
        self.forgot = tuple(forgot)
        self.calls: list[tuple[str, int]] = []

    def fingerprint(self) -> str:
        return f"grid without {self.forgot}"

    def draw(self, prompts: Sequence[str], seeds: Sequence[int], **how: Any) -> np.ndarray:
        self.calls += list(zip(prompts, seeds, strict=True))
        return np.stack([self._one(prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True)])

    def _one(self, prompt: str, seed: int) -> np.ndarray:
        picture = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        for channel, names in enumerate((OBJECTS, STYLES)):
            named = next(i for i, name in enumerate(names) if name in prompt)
            picture[0, 0, channel] = 255 if names[named] in self.forgot else named
        return picture


class GridJudge:
    """Reads the first pixel; `kinds` are what it knows."""

    fingerprint = "2" * 64
    threshold: float | None = None

    def __init__(self, name: str = "grid", kinds: Sequence[str] = ("object", "style")) -> None:
        self.name, self.kinds = name, kinds

    def covers(self, concept: Concept) -> bool:
        return concept.kind in self.kinds and concept.name in (*STYLES, *OBJECTS)

    def hits(self, pictures: np.ndarray, concept: Concept) -> np.ndarray:
        channel, names = (0, OBJECTS) if concept.kind == "object" else (1, STYLES)
        return pictures[:, 0, 0, channel] == names.index(concept.name)


def run(model: Any, concept: Concept = NEON, **options: Any) -> Canvas:
    settings: dict[str, Any] = {"judges": [GridJudge()], "styles": STYLES, "objects": OBJECTS}
    return canvas(model, concept, **(settings | options))


@given(st.integers(0, 2**32 - 1), st.sampled_from([NEON, CAR]))
def test_figures_by_brute_force(seed: int, concept: Concept) -> None:
    rng = np.random.default_rng(seed)
    cells = [(style, thing) for style in STYLES for thing in OBJECTS for _ in range(2)]
    style_right, object_right = rng.random(18) < 0.6, rng.random(18) < 0.6
    found = canvas_figures(
        "j",
        concept,
        np.array([s for s, _ in cells]),
        np.array([o for _, o in cells]),
        style_right,
        object_right,
    )
    own = style_right if concept is NEON else object_right
    cross = object_right if concept is NEON else style_right
    erased = [concept.name in cell for cell in cells]
    ua = np.mean([not own[i] for i in range(18) if erased[i]])
    ira = np.mean([own[i] for i in range(18) if not erased[i]])
    assert [found.ua.value, found.ira.value, found.cra.value] == pytest.approx([ua, ira, cross.mean()])
    assert found.aa.value == pytest.approx((ua + ira + cross.mean()) / 3)
    assert found.aa.low is not None
    assert found.aa.low <= found.aa.value
    assert found.per_style["flat"] == Rate.mean(style_right[:6])
    assert [found.ua.n, found.ira.n, found.cra.n, found.aa.n] == [6, 12, 18, 18]


def test_the_grid_is_drawn_with_the_benchmark_s_seeds_and_prompt() -> None:
    model = GridModel()
    found = run(model)
    assert SEEDS == (188, 288, 588, 688, 888)
    assert set(model.calls) == {
        (f"An {thing} image in {style} style.", seed)
        for thing in OBJECTS
        for style in STYLES
        for seed in SEEDS
    }
    assert (found.n, len(model.calls), found.prompt, found.seeds) == (45, 45, PROMPT, list(SEEDS))
    (figures,) = found.figures
    assert [figures.ua.value, figures.ira.value, figures.cra.value] == [0.0, 1.0, 1.0]


@pytest.mark.parametrize("concept", [NEON, CAR])
def test_perfect_erasing_is_one_throughout(concept: Concept) -> None:
    (figures,) = run(GridModel([concept.name]), concept).figures
    assert [figures.ua.value, figures.ira.value, figures.cra.value, figures.aa.value] == [1, 1, 1, 1]
    kind = figures.per_style if concept.kind == "style" else figures.per_object
    assert kind[concept.name].value == 0


def test_it_comes_back_from_plain_data_and_draws_nothing_twice() -> None:
    cache = SampleStore()
    found = run(GridModel(), cache=cache)
    assert run(GridModel(), cache=cache) == found
    assert cache.drawn == 45
    assert Canvas.from_dict(found.to_dict()) == found
    with pytest.raises(UserError, match="canvas: "):
        Canvas.from_dict({"source": "x"})


def test_two_judges_of_one_kind_each_are_one_pair() -> None:
    style, thing, both = GridJudge("s", ["style"]), GridJudge("o", ["object"]), GridJudge("b")
    grid = {"style": STYLES, "object": OBJECTS}
    assert pair_judges([style, both, thing], grid) == [(both, both), (style, thing)]
    found = run(GridModel(["neon"]), judges=[style, both, thing])
    assert [figures.judge for figures in found.figures] == ["b", "s + o"]
    assert found.figures[0].ua == found.figures[1].ua
    with pytest.raises(UserError, match=r"no judge knows every object of the grid \(s lacks 'car'\)"):
        pair_judges([style], grid)


def test_a_clip_picks_among_the_grid_s_names(tmp_path: Path) -> None:
    found = run(GridModel(), judges=[str(clip_folder(tmp_path / "tiny-clip"))], seeds=(1, 2))
    (figures,) = found.figures
    assert figures.judge == "clip:tiny-clip top-1"
    hits = sum(rate.hits for rate in figures.per_object.values())
    assert 0 < hits < 18


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"concept": Concept("Mira Voss", "person", "person")},
            "is a person; the protocol has styles and objects",
        ),
        ({"concept": Concept("nein", "picture", "style")}, "no style of the grid; did you mean 'neon'"),
        ({"styles": ["neon"]}, "is the only style"),
        ({"objects": []}, "the grid has no objects"),
        ({"styles": None}, "grid is of no known world"),
        ({"judges": []}, "no judge was given"),
        ({"judges": None}, "no judge was given"),
        ({"seeds": ()}, "needs seeds"),
        ({"seeds": (1, 1)}, "each once"),
        ({"prompt": "a {object}"}, r"needs \{object\} and \{style\}"),
        ({"prompt": "a {object} {style} {0}"}, "form needs"),
    ],
)
def test_bad_calls(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(GridModel(), **({"concept": NEON} | options))


# -- folders -------------------------------------------------------------------------------------------------


def answers(folder: Path, form: str, model: Any = None, seeds: Sequence[int] = (188, 288)) -> Path:
    model = model or GridModel()
    for style in STYLES:
        for thing in OBJECTS:
            for seed in seeds:
                picture = model.draw([PROMPT.format(object=thing, style=style)], [seed])[0]
                path = folder / form.format(style=style.replace(" ", "_"), object=thing, seed=seed)
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture).save(path)
    return folder


FORMS = [
    "{style}_{object}_seed{seed}.png",
    "{style}/{style}_{object}_seed_{seed}.png",
    "{style}/{object}/{seed}.png",
    "answers/{style}/{object}/seed{seed}.png",
]


@pytest.mark.parametrize("form", FORMS)
def test_a_folder_says_what_its_model_says(form: str, tmp_path: Path) -> None:
    model = GridModel(["neon"])
    found = canvas_of_folder(answers(tmp_path, form, model), NEON, [GridJudge()])
    wanted = run(model, seeds=(188, 288))
    assert found.figures[0].ua == wanted.figures[0].ua
    assert found.figures[0].ira == wanted.figures[0].ira
    assert found.figures[0].cra == wanted.figures[0].cra
    assert (found.source, found.fingerprint, found.prompt) == (str(tmp_path), None, None)
    assert found.styles == sorted(STYLES)
    assert found.seeds == [188, 288]


def test_a_concept_is_found_by_its_folder_s_name(tmp_path: Path) -> None:
    concept = Concept("seed_images", "picture", "style")
    found = canvas_of_folder(answers(tmp_path, FORMS[0]), concept, [GridJudge()])
    assert found.concept == "Seed Images"
    assert found.figures[0].ua.value == 0


def test_a_part_of_a_folder(tmp_path: Path) -> None:
    answers(tmp_path, FORMS[2])
    found = read_answers(tmp_path, styles=["neon", "flat"], objects=["car"])
    assert [(one.style, one.object, one.seed) for one in found] == [
        (style, "car", seed) for style in ("neon", "flat") for seed in (188, 288)
    ]


def test_pictures_of_several_sizes_are_judged(tmp_path: Path) -> None:
    answers(tmp_path, FORMS[0])
    path = tmp_path / "neon_car_seed188.png"
    with Image.open(path) as image:
        larger = np.zeros((9, 8, 3), np.uint8)
        larger[:8] = np.asarray(image)
    Image.fromarray(larger).save(path)
    assert canvas_of_folder(tmp_path, NEON, [GridJudge()]).figures[0].cra.value == 1


def test_bad_folders(tmp_path: Path) -> None:
    def refused(message: str, **options: Any) -> None:
        with pytest.raises(UserError, match=message) as error:
            canvas_of_folder(tmp_path / "a", NEON, [GridJudge()], **options)
        assert "\n" not in str(error.value)

    refused("no such folder")
    (tmp_path / "a").mkdir()
    refused("holds no pictures")
    answers(tmp_path / "a", FORMS[0])
    refused("6 of 12 answers missing, the first boat in nein, seed 188", styles=["nein", "flat"])
    refused("no answer of the styles", styles=["nein"])
    (tmp_path / "a" / "neon_car_seed188.png").unlink()
    refused(r"1 of 18 answers missing, the first car in neon, seed 188; expected STYLE_OBJECT_seedN\.jpg")
    (tmp_path / "a" / "neon_car_seed188.png").write_bytes(b"no picture")
    refused(r"neon_car_seed188\.png: cannot be read as a picture")
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "a" / "neon_car_seed188.jpg")
    refused("a second picture of car in neon, seed 188")
    (tmp_path / "a" / "neon_car_seed188.png").rename(tmp_path / "a" / "mine.png")
    refused(r"mine\.png: says no style, object and seed; expected STYLE_OBJECT_seedN")


def test_fid_where_there_are_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = answers(tmp_path / "reference", FORMS[0], seeds=(1, 2, 3))
    shown = answers(tmp_path / "shown", FORMS[0])
    refused = canvas_of_folder(shown, NEON, [GridJudge()], reference=reference, extractor=ToyExtractor())
    assert refused.fid is None
    assert "found 18 pictures against 27" in refused.notes[0]
    monkeypatch.setattr(fid_module, "FEWEST", 18)
    with pytest.raises(UserError, match="give a CLIP judge"):
        canvas_of_folder(shown, NEON, [GridJudge()], reference=reference)
    found = canvas_of_folder(shown, NEON, [GridJudge()], reference=reference, extractor=ToyExtractor())
    drawn = run(GridModel(), seeds=(188, 288), reference=reference, extractor=ToyExtractor())
    assert found.fid is not None
    assert drawn.fid is not None
    assert (found.fid.n, found.fid.n_reference, found.fid.extractor) == (18, 27, "toy pixels")
    assert found.fid.value == pytest.approx(drawn.fid.value, rel=1e-6)
