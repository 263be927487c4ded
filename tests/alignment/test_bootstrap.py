"""Resampling: blocks of weights are the same draws as lists of indices."""

from __future__ import annotations

import numpy as np
import pytest

from alignment.metrics import bootstrap
from alignment.metrics.bootstrap import percentile_interval, resample_weights, resamples


@pytest.mark.parametrize("clusters", [None, ["a", "b", "a", "c", "c", "c", "d"]])
@pytest.mark.parametrize("cells", [4_000_000, 15])
def test_weights_count_the_indices(monkeypatch: pytest.MonkeyPatch, clusters: list[str] | None, cells: int) -> None:
    monkeypatch.setattr(bootstrap, "CELLS", cells)
    blocks = list(resample_weights(7, seed=3, draws=20, clusters=clusters))
    indices = resamples(7, seed=3, draws=20, clusters=clusters)
    counted = np.stack([np.bincount(drawn, minlength=7) for drawn in indices], axis=1)
    assert np.array_equal(np.concatenate(blocks, axis=1), counted)
    assert len(blocks) == (1 if cells > 15 else 10)


def test_a_name_for_every_item() -> None:
    with pytest.raises(ValueError, match="2 cluster names for 3 items"):
        next(resample_weights(3, seed=0, clusters=["a", "b"]))


def test_undefined_draws_are_left_out_up_to_a_half() -> None:
    values = np.array([1.0, 2.0, 3.0, float("nan")])
    interval = percentile_interval(values)
    assert interval is not None and 1.0 < interval.low < interval.high < 3.0
    assert percentile_interval(np.array([1.0, float("nan"), float("nan")])) is None
    assert percentile_interval(np.array([])) is None
