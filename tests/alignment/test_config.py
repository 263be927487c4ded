"""A round's frozen settings."""

from __future__ import annotations

import pytest

from alignment.config import RoundConfig


def test_a_round_of_an_earlier_version_can_be_finished() -> None:
    """`critic_confidence` was in every config.json before routing took its place."""
    row = RoundConfig(round_id="r").to_json() | {"critic_confidence": 0.8}
    assert RoundConfig.from_json(row) == RoundConfig(round_id="r")


def test_an_unknown_setting_is_named() -> None:
    with pytest.raises(ValueError, match="config has no setting budgett"):
        RoundConfig.from_json({"round_id": "r", "budgett": 3})
