"""The reservoir: a uniform sample, and the same one when it is taken up again."""

import pytest
import torch
from scipy import stats

from oubliette.continual.buffer import Reservoir
from oubliette.core.errors import UserError


def filled(size, count, seed, batch=7):
    buffer = Reservoir(size, seed)
    for rows in torch.arange(count).split(batch):
        buffer.add(rows, torch.stack([rows.float(), -rows.float()], dim=1))
    return buffer


def test_every_row_is_kept_with_equal_probability():
    """Each of 40 rows is in a buffer of 8 with probability 1/5: chi-squared over 3,000 buffers."""
    runs, count, size = 3000, 40, 8
    held = torch.stack(
        [torch.bincount(filled(size, count, seed).rows, minlength=count) for seed in range(runs)]
    )
    assert (held.sum(1) == size).all()
    assert held.max() == 1
    found = held.sum(0).double()
    # Counts of one buffer are negatively correlated: the statistic is chi-squared once that is divided out.
    statistic = float(((found - runs * size / count) ** 2).sum() / (runs * size / count * (1 - size / count)))
    statistic *= (count - 1) / count
    assert 0.001 < stats.chi2.sf(statistic, count - 1) < 0.999


def test_logits_stay_with_their_rows():
    buffer = filled(8, 40, 0)
    assert torch.equal(buffer.logits[:, 0], buffer.rows.float())
    assert torch.equal(buffer.logits[:, 1], -buffer.rows.float())
    assert (len(buffer), buffer.seen) == (8, 40)


def test_what_came_first_is_there_whole_until_it_is_full():
    assert filled(10, 10, 0).rows.tolist() == list(range(10))


def test_taken_up_it_goes_on_as_if_never_stopped():
    whole, part = filled(8, 42, 3), filled(8, 21, 3)
    again = Reservoir(8, 3)
    again.load_state(part.state())
    for rows in torch.arange(21, 42).split(7):
        again.add(rows, torch.stack([rows.float(), -rows.float()], dim=1))
    assert torch.equal(again.rows, whole.rows)
    assert torch.equal(again.logits, whole.logits)
    assert not torch.equal(whole.rows, filled(8, 42, 4).rows)


def test_a_draw_has_no_row_twice_and_no_more_than_there_are():
    buffer = filled(8, 40, 0)
    rng = torch.Generator().manual_seed(0)
    assert sorted(buffer.draw(rng, 20).tolist()) == list(range(8))
    assert len(set(buffer.draw(rng, 5).tolist())) == 5


def test_a_buffer_of_nothing_is_refused():
    with pytest.raises(UserError, match="at least one row, found 0"):
        Reservoir(0)
