"""The table of benchmarks: its rows say truly whether they hold, and the usual way does what ours does."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from project import head

from benchmarks import timing, usual
from benchmarks.__main__ import line
from benchmarks.rows import PAPER_STRONG, PAPER_VIEWS
from benchmarks.timing import Row, alternate, paired
from benchmarks.vectors import SHIFT, shifted
from stages.images.store import Meta
from stages.images.strong import OPERATIONS


def test_a_row_holds_at_its_target_or_beyond():
    assert Row("a", 1, 2, 2.0, 2.0, "s").holds
    assert not Row("a", 1, 1.9, 1.9, 2.0, "s").holds
    assert Row("a", 1, 1, 1.0, 1.1, "s", at_most=True).holds
    assert not Row("a", 1, 1.2, 1.2, 1.1, "s", at_most=True).holds
    assert Row("a", 1, 1, 0.5, None, "s").holds
    assert "missed" in line(Row("a", 1, 1.9, 1.9, 2.0, "s"))


def test_ratios_are_medians_of_rounds(monkeypatch):
    numbers = iter([1.0, 10.0, 2.0, 10.0, 4.0, 80.0])
    assert alternate(lambda: next(numbers), lambda: next(numbers)) == (2.0, 10.0, 10.0)
    # Seconds of each step by turns, after one of each that only warms up: ours twice, four and six times as long.
    clock = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])
    took = iter([100.0, 100.0, 1.0, 2.0, 1.0, 4.0, 2.0, 12.0])

    def step():
        clock[0] += next(took)

    assert paired(step, step, rounds=3) == (1.0, 4.0, 4.0)


def test_rates_count_units_per_second(monkeypatch):
    monkeypatch.setattr(timing, "WARM_UP", 0.0)
    clock = iter(np.arange(0.0, 100.0, 0.5))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    assert timing.rate(lambda: None, units=10, seconds=2.0) == pytest.approx(10 * 3 / 2.0, rel=0.4)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_usual_way_gives_normalised_views_of_the_same_shape(channels):
    meta = Meta("x", 32, channels, [0.5] * channels, [0.25] * channels, "")
    images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, channels), dtype=np.uint8)
    views = [usual.simclr_views(PAPER_VIEWS, meta), usual.Strong(PAPER_STRONG, meta)]
    if channels == 1:
        views = views[1:] * 2  # torchvision has neither saturation nor hue for one channel
    a, b = usual.Samples(images, views, np.tile(np.arange(8)[::-1, None], (1, 3)))[2]
    assert a.shape == b.shape == (channels, 32, 32)
    assert -2 <= a.min() < a.max() <= 2


def test_the_usual_way_has_as_many_operations_as_ours():
    assert len(usual.OPERATIONS) == len(OPERATIONS) == 14


def test_shifted_images_are_real_ones_moved(tmp_path):
    images = np.random.default_rng(0).integers(1, 256, (5, 9, 9, 1), dtype=np.uint8)
    made = shifted(tmp_path / "x.npy", images, 23)
    np.testing.assert_array_equal(made[:5], images)
    inner = slice(SHIFT, 9 - SHIFT)
    for row in range(5, 23):
        matches = [
            np.array_equal(made[row, inner, inner], np.roll(images[row % 5], (y, x), (0, 1))[inner, inner])
            for y in range(-SHIFT, SHIFT + 1)
            for x in range(-SHIFT, SHIFT + 1)
        ]
        assert any(matches)
    assert not np.array_equal(made[5], made[10])


def test_channels_first_is_the_same_network():
    from stages.networks.encoder import Encoder, Input

    torch.manual_seed(0)
    encoder = Encoder("tiny", 8, Input(16, 3, [0.5] * 3, [0.25] * 3)).eval()
    images = torch.randn(4, 3, 16, 16)
    expected = encoder(images)
    torch.testing.assert_close(usual.channels_first(encoder)(images), expected, rtol=1e-4, atol=1e-5)
    weight = encoder.backbone.body[2].body[0][0].weight
    assert weight.is_contiguous()


def test_the_committed_table_is_one_of_this_form():
    rows = json.loads((head() / "reports/benchmarks.json").read_text())
    assert len(rows) >= 14
    for row in rows:
        made = Row(**row)
        if made.target is None or "purity" in made.row:
            continue
        expected = made.usual / made.ours if made.unit in ("s", "MB") else made.ours / made.usual
        if made.at_most:
            expected = made.ours / made.usual
        assert made.ratio == pytest.approx(expected, rel=0.35), "a median of ratios lies near the ratio of medians"
        assert made.holds or made.note, f"{made.row} misses its figure: the note has to say why"


def test_all_copies_of_the_committed_piles_were_found():
    table = pd.read_csv(head() / "reports/duplicates.csv")
    piles = table[table.kind != "still"]
    assert (piles.found == piles.copies * piles.piles).all()
    assert (piles.groups == piles.piles).all()
    assert {12, 40, 1000} <= set(piles.copies)
