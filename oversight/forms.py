"""Forms of the round pages; the admin uses the same ones."""

from __future__ import annotations

from typing import Any

from django import forms

# RoundConfig fields that a launch may change: (name, label, help, step). The rest belongs to the experiment.
MAIN = (
    ("budget", "Samples for people", "The review closes itself when all are decided.", 1),
    ("attacks", "Attacks", "Unsafe queries, written from the seeds.", 1),
    ("lookalikes", "Harmless look-alikes", "So that refusing everything is seen.", 1),
    ("competence", "Competence tasks", "Checked by program, levels 1 to 5.", 1),
)
MORE = (
    ("audit_share", "Audit share", "Part of the budget that is drawn at random, 0 to 1.", 0.05),
    ("sft_steps", "Supervised steps", "", 1),
    ("preference_steps", "Preference steps", "", 1),
    ("learning_rate", "Learning rate", "", "any"),
    ("tolerance", "Tolerance", "How far the other objective may fall, 0 to 1.", 0.01),
    ("seed", "Random seed", "", 1),
)
MOST = {"budget": 5000, "attacks": 20000, "lookalikes": 20000, "competence": 20000, "sft_steps": 20000,
        "preference_steps": 20000, "audit_share": 1, "tolerance": 1, "learning_rate": 1, "seed": 2**31 - 1}  # fmt: skip


class LaunchForm(forms.Form):
    """What differs from the experiment's settings in the next round; an empty field keeps the setting."""

    def __init__(self, *args: Any, defaults: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.defaults = defaults
        for name, label, words, step in (*MAIN, *MORE):
            kind = forms.IntegerField if step == 1 else forms.FloatField
            self.fields[name] = kind(
                label=label,
                help_text=words,
                required=False,
                min_value=0,
                max_value=MOST[name],
                initial=defaults.get(name),
                widget=forms.NumberInput(attrs={"step": step, "inputmode": "numeric" if step == 1 else "decimal"}),
            )

    @property
    def main(self) -> list[forms.BoundField]:
        return [self[name] for name, *_ in MAIN]

    @property
    def more(self) -> list[forms.BoundField]:
        return [self[name] for name, *_ in MORE]

    def overrides(self) -> dict[str, Any]:
        """Only what differs; of a form that was not sent or is wrong, what of it can be used."""
        if not self.is_bound:
            return {}
        self.is_valid()
        return {
            name: value
            for name, value in self.cleaned_data.items()
            if value is not None and value != self.defaults.get(name)
        }
