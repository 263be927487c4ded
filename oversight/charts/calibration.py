"""What the critic says against what people say."""

from __future__ import annotations

from oversight.charts.chart import Chart
from oversight.charts.words import cells_of, note_of, value_of
from oversight.drawing import draw_calibration
from oversight.selectors.metrics import Metrics, percent

CALIBRATION_METRICS = ("calibration", "calibration_predicted", "critic_ece")


def build_calibration(metrics: Metrics) -> Chart:
    key, title = "calibration", "Calibration of the critic"
    question = "When the critic says 70%, is it a violation seven times in ten? On the diagonal it is."
    rounds = metrics.rounds("calibration")
    columns = ["round", "bin", "critic says", "people say", "95% interval", "n", "note"]
    if not rounds:
        return Chart(key, title, question, columns, reason=metrics.missing("calibration"))
    number = rounds[-1]
    table, values, reasons = [], [], []
    for group in metrics.groups("calibration"):
        observed = metrics.get("calibration", number, group)
        predicted = metrics.get("calibration_predicted", number, group)
        if observed is None:
            continue
        reasons.append(observed.reason)
        said = predicted.value if predicted else None
        low = int(group) / 10 if group.isdigit() else 0.0
        table.append([str(number), f"{low:.1f} to {low + 0.1:.1f}", percent(said) or "–", *cells_of(observed, percent),
                      note_of(observed)])  # fmt: skip
        if observed.value is not None and said is not None:
            values.append({"said": said, "round": number, **value_of(observed)})
    if not values:
        reason = next((why for why in reasons if why), "no judged answer had a critic's score")
        return Chart(key, title, question, columns, table, reason=reason)
    error = metrics.get("critic_ece", number)
    ece = f" Expected calibration error {error.value:.2f}." if error and error.value is not None else ""
    summary = f"Round {number}, {len(values)} bins.{ece}"
    return Chart(
        key, title, question, columns, table, summary, "", values, lambda c, t, w: draw_calibration(c.values, t, w)
    )
