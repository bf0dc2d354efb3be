"""The two sides' batches: mixtures, paired noise, halves."""

from __future__ import annotations

import pytest
import torch

from attack.attacked import diffusion
from guard.learning import Plain, answers, cars, dogs, talk
from oubliette.core.errors import UserError
from oubliette.guard.learn.draws import Mixture, OneOf, as_sets, halved, paired, rng_for, rows_of, seed_for


@pytest.fixture(scope="module")
def model():
    return diffusion()


def test_pairs_share_their_noise(model):
    bare = paired([cars(model, 4)], [Plain(dogs(model, 6))], 2, 0, "a", 1)
    other = paired([Plain(cars(model, 6))], [Plain(dogs(model, 6))], 2, 0, "a", 1)  # as many rows: one stream
    liked = paired([cars(model, 4)], [dogs(model, 6)], 2, 0, "a", 1)
    for pair in (other, liked):
        assert torch.equal(pair[0].batch.noise, pair[1].batch.noise)
        assert torch.equal(pair[0].batch.t, pair[1].batch.t)
        assert pair[0].batch.captions != pair[1].batch.captions
    assert not torch.equal(bare[0].batch.noise, bare[1].batch.noise)  # no way to pair these
    again = paired([cars(model, 6)], [dogs(model, 6)], 2, 0, "a", 1)
    assert torch.equal(again[1].batch.noise, other[1].batch.noise)
    elsewhere = paired([cars(model, 6)], [dogs(model, 6)], 2, 0, "a", 2)
    assert not torch.equal(elsewhere[1].batch.noise, other[1].batch.noise)


def test_a_mixture_is_the_mean_over_rows(model):
    sets = [[cars(model)], [dogs(model)]]
    mixture = Mixture(sets)
    sizes = set()
    for step in range(6):
        batch = mixture.draw(rng_for(0, step), 3)
        assert sum(count for count, _ in batch) == 3
        sizes.add(tuple(count for count, _ in batch))
        with torch.no_grad():
            expected = sum(count * float(picked.loss(model)) for count, picked in batch) / 3
            assert float(mixture.loss(model, batch)) == pytest.approx(expected, rel=1e-6)
    assert sizes == {(2, 1), (1, 2)}  # the odd row goes to either side
    assert [len(mixture.draw(rng_for(1, step), 1)) for step in range(4)] == [1] * 4


def test_one_of_several_sets(model):
    sets = [cars(model), dogs(model)]
    chosen = {id(OneOf(sets).draw(rng_for(0, step), 1).data) for step in range(20)}
    assert chosen == {id(data) for data in sets}


def test_halves_are_disjoint_and_whole(model):
    data = dogs(model, 6)
    found = halved([data], 3)
    assert found is not None
    (first,), (second,) = found
    assert len(first) == len(second) == 3
    assert sorted((*first.captions, *second.captions)) == sorted(data.captions)
    again = halved([data], 3)
    assert again[0][0].captions == first.captions
    assert halved([data, Plain(cars(model))], 3) is None


def test_counting_and_reading_sets(model):
    assert rows_of([cars(model), dogs(model)]) == 10

    class Endless:
        def draw(self, rng, count):
            return None

        def loss(self, model, batch):
            return None

    assert rows_of([cars(model), Endless()]) is None
    one = cars(model)
    assert as_sets(one, "illegal") == [one] == as_sets((one,), "illegal")
    with pytest.raises(UserError, match="no innocent data"):
        as_sets([], "innocent")
    with pytest.raises(UserError, match="found str"):
        as_sets(["a folder"], "illegal")


def test_language_sides_mix():
    model = talk()
    mixture = Mixture([[side] for side in answers(model)])
    assert torch.isfinite(mixture.loss(model, mixture.draw(rng_for(0), 4)).detach())


def test_seeds_are_apart():
    seeds = [seed_for(seed, *key) for seed in (0, 1) for key in (("a",), ("a", 1), ("b", 1))]
    assert len(set(seeds)) == 6
    assert all(2**31 < seed < 2**56 for seed in seeds)
