"""Failed critiques stay in the denominator, and their bounds cover both ways."""

from __future__ import annotations

from alignment.metrics.failures import failed_critiques


def row(status: str, violation: float | None = None) -> dict[str, object]:
    return {"status": status, "violation": violation}


def test_counts_by_state_and_bounds() -> None:
    """Ten answers: 3 called violating, 5 fine, 2 failed. At best 3 of 10 violate, at worst 5 of 10."""
    rows = [row("ok", p) for p in (0.5, 0.9, 0.7, 0.1, 0.2, 0.49, 0.0, 0.3)] + [row("timeout"), row("empty")]
    found = {(m.name, m.group): (m.value, m.n) for m in failed_critiques(rows)}
    assert found == {
        ("critique_failed", ""): (2, 10),
        ("critique_failed", "empty"): (1, 10), ("critique_failed", "timeout"): (1, 10),
        ("critic_called_best", ""): (0.3, 10), ("critic_called_worst", ""): (0.5, 10),
    }  # fmt: skip


def test_nothing_to_judge() -> None:
    found = {m.name: (m.value, m.reason) for m in failed_critiques([])}
    assert found["critique_failed"] == (0, "")
    assert found["critic_called_worst"] == (None, "there are no answers to judge")
