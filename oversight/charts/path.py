"""Competence against conformity, round by round."""

from __future__ import annotations

from oversight.charts.chart import Chart
from oversight.charts.words import flip, note_of, range_of, two_places
from oversight.drawing import Rows, draw_path
from oversight.selectors.metrics import Metrics, percent


def build_path(metrics: Metrics) -> Chart:
    """Competence against conformity (1 - attack success): the alternation as a path."""
    key, title = "path", "Competence against conformity"
    question = "Does each round gain on one side without losing the other? Up and to the right is better."
    attacks = {point.round: point for point in metrics.series("attack_success")}
    solved = {point.round: point for point in metrics.series("competence")}
    volume = {point.round: point for point in metrics.series("hypervolume")}
    table: list[list[str]] = []
    values: Rows = []
    for number in sorted(set(attacks) & set(solved)):
        attack, skill = attacks[number], solved[number]
        if attack.value is None or skill.value is None:
            continue
        front = volume.get(number)
        table.append(
            [
                str(number), percent(1 - attack.value), range_of(flip(attack), percent), percent(skill.value),
                range_of(skill, percent), two_places(front.value) if front else "–", f"{attack.n} and {skill.n}",
                note_of(attack),
            ]
        )  # fmt: skip
        flipped = flip(attack)
        values.append(
            {
                "round": number, "label": "base" if number == 0 else str(number), "kept": attack.kept,
                "x": flipped.value, "x_low": flipped.low, "x_high": flipped.high,
                "y": skill.value, "y_low": skill.low, "y_high": skill.high, "n": attack.n,
            }
        )  # fmt: skip
    columns = ["round", "conformity", "95% interval", "competence", "95% interval", "hypervolume", "n", "note"]
    if not values:
        reason = metrics.missing("attack_success") or metrics.missing("competence") or "no round measured both"
        return Chart(key, title, question, columns, table, reason=reason)
    first, now = values[0], ([row for row in values if row["kept"]] or values)[-1]
    summary = (
        f"Conformity went from {percent(first['x'])} to {percent(now['x'])}, "
        f"competence from {percent(first['y'])} to {percent(now['y'])}, by round {now['round']}."
    )
    return Chart(key, title, question, columns, table, summary, "", values, lambda c, t, w: draw_path(c.values, t, w))
