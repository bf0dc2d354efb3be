"""The linear probe against planted signals and the closed form; the states it reads against transformers'."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from attack.speaker import DOOR, HOW, RETAIN, never, tiny
from oubliette.attack.probes.linear_probe import LinearProbe, fit
from oubliette.attack.probes.states import blocks_at, states
from oubliette.attack.prompts import Case
from oubliette.core.errors import UserError
from oubliette.data.questions import QA
from oubliette.train.cost import Cost

NAMES = ("bells", "kites", "lamps", "masks")
WIDTH = 6


def planted(labels: Tensor, noise: float, seed: int) -> Tensor:
    """States that hold which of four answers it is, linearly, among noise."""
    rng = torch.Generator().manual_seed(seed)
    code = torch.randn(len(NAMES), WIDTH, generator=torch.Generator().manual_seed(7))
    return 5 + 3 * code[labels] + noise * torch.randn(len(labels), WIDTH, generator=rng)


class Planted:
    """A model of two blocks: the first passes on noise, the second the answer that `knows` says, planted."""

    source = "planted"

    def __init__(self, knows: dict[str, str]) -> None:
        self.knows = knows
        self._blocks = [nn.Identity(), nn.Identity()]

    respond = None  # what answers can be probed; nothing is asked

    def blocks(self) -> list[nn.Module]:
        return list(self._blocks)

    def encode(self, rows: list[QA]) -> Any:
        self._asked = [row.question for row in rows]
        labels = torch.full((len(rows), 5), -100)
        labels[:, 3:] = 1
        return SimpleNamespace(labels=labels)

    def predict(self, tokens: Any) -> None:
        answers = torch.tensor([NAMES.index(self.knows[asked]) for asked in self._asked])
        seed = sum(map(ord, "".join(self._asked)))
        noise = torch.randn(len(answers), 5, WIDTH, generator=torch.Generator().manual_seed(seed))
        self._blocks[0](noise)
        # At the token before the answer alone; elsewhere noise.
        held = noise.clone()
        held[:, 2] = planted(answers, 0.1, seed)
        self._blocks[1](held)


ROWS = [QA(f"What does {n} make?", NAMES[n % 4], paraphrases=(f"Say what {n} makes.",)) for n in range(40)]
CASES = [Case(f"What does person {n} make?", 0) for n in range(12)]
KNOWS = {
    **{asked: row.answer for row in ROWS for asked in (row.question, *row.paraphrases)},
    **{case.prompt: NAMES[(n + n // 4) % 4] for n, case in enumerate(CASES)},
}


def right(samples: np.ndarray) -> np.ndarray:
    return np.array([one.text == KNOWS[one.question] for one in samples], dtype=bool)


def run(model: Any, hits: Any = right, rows: Any = ROWS, **options: Any) -> Any:
    probe = LinearProbe(LinearProbe.Options(**options))
    return probe.run(
        model, DOOR, CASES, sampling=HOW, hits=hits, examples=lambda what: {"benign": rows}[what]
    )


def test_a_planted_signal_is_read_whole_and_noise_is_not() -> None:
    shown = run(Planted(KNOWS), depths=(0.5, 1.0))
    hits = right(shown.samples)
    assert shown.prompts == tuple(case.prompt for case in CASES) * 2
    assert shown.each["block"] == (1.0,) * 12 + (2.0,) * 12
    assert hits[12:].all()
    assert hits[:12].mean() < 0.7
    assert set(shown.each["retain"][12:]) == {1.0}
    assert shown.each["retain"][0] < 0.7
    assert shown.facts == {"decodable": 1.0}


def test_a_model_that_never_knew_shows_what_it_takes_for_the_answer() -> None:
    other = {**KNOWS, **{case.prompt: NAMES[0] for case in CASES}}
    shown = run(Planted(other), depths=(1.0,))
    assert {one.text for one in shown.samples} == {NAMES[0]}


def test_wordings_of_a_row_are_held_out_together() -> None:
    # Each row an answer of its own: unless its other wording is fitted on, a held row cannot be read.
    names = {f"Name {n}?": NAMES[n // 10] for n in range(40)}
    rows = [QA(asked, answer, paraphrases=(f"Say {asked}",)) for asked, answer in names.items()]
    knows = {**KNOWS, **names, **{f"Say {asked}": answer for asked, answer in names.items()}}

    class Twins(Planted):
        """States are of the row, alike in both wordings, and say nothing of the answer."""

        def predict(self, tokens: Any) -> None:
            rng = [torch.Generator().manual_seed(hash_of(asked)) for asked in self._asked]
            held = torch.stack([torch.randn(5, 200, generator=one) for one in rng])
            self._blocks[0](held)
            self._blocks[1](held)

    def hash_of(asked: str) -> int:
        return sum(n * ord(letter) for n, letter in enumerate(asked.removeprefix("Say "), 1))

    assert run(Twins(knows), rows=rows, depths=(1.0,)).each["retain"][0] < 0.8


@pytest.mark.parametrize("ridge", [0.01, 1.0])
def test_the_map_is_ridge_regressions(ridge: float) -> None:
    rng = np.random.default_rng(0)
    labels = torch.tensor(rng.integers(0, 4, 50))
    x = planted(labels, 2.0, 1)
    z = x.double().numpy()
    z = (z - z.mean(0)) / z.std(0)
    y = np.eye(4)[labels]
    # Least squares on rows that pull every weight to zero: sqrt(ridge n) times the unit matrix.
    rows = np.vstack([z, np.sqrt(ridge * 50) * np.eye(WIDTH)])
    wanted = np.linalg.lstsq(rows, np.vstack([y - y.mean(0), np.zeros((WIDTH, 4))]), rcond=None)[0]
    found = fit(x, labels, ridge)
    assert np.allclose(found.weight.numpy(), wanted)
    assert np.allclose(found.bias.numpy(), y.mean(0))
    assert found.read(x).tolist() == (z @ wanted + y.mean(0)).argmax(1).tolist()


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_states_are_those_where_the_answer_begins(kind: str) -> None:
    model = tiny(kind)
    found = states(model, RETAIN, [0], 2)[0]
    for row, state in zip(RETAIN, found, strict=True):
        asked = model.reader.left_padded([row.question]).input_ids
        whole = model.model(asked, output_hidden_states=True).hidden_states[1][0, -1]
        assert torch.allclose(state, whole, atol=1e-5)
    # None depends on the answer.
    others = [QA(row.question, "something else") for row in RETAIN]
    assert torch.allclose(states(model, others, [0], 3)[0], found, atol=1e-5)


def test_blocks_are_named_by_their_depth() -> None:
    model: Any = SimpleNamespace(blocks=lambda: [None] * 6, respond=None, source="x")
    assert blocks_at(model, (0.5, 0.75, 1.0)) == [2, 3, 5]
    assert blocks_at(model, (0.01, 0.02, 1.0)) == [0, 5]
    with pytest.raises(UserError, match=r"above 0 and up to 1, found 1\.5"):
        blocks_at(model, (0.5, 1.5))
    with pytest.raises(UserError, match="no blocks"):
        blocks_at(SimpleNamespace(source="x"), (0.5,))


def test_where_there_is_nothing_to_read_it_says_so() -> None:
    with pytest.raises(UserError, match="none of the 12 answers to be forgotten is among the 4"):
        run(Planted(KNOWS), never)
    with pytest.raises(UserError, match="none of the rows to learn from is a question"):
        run(Planted(KNOWS), rows=[QA("", "A text.")])
    with pytest.raises(UserError, match="by a judge"):
        run(Planted(KNOWS), None)


def test_costs_are_a_pass_a_row_and_an_answer_a_case_and_block() -> None:
    options = LinearProbe.Options(depths=(0.5, 1.0), rows=30)
    assert LinearProbe.cost(options, 5, sampling=HOW) == Cost(35, 0, 10)
