"""Forms of the round pages; the admin uses the same ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms

from oversight.models import ContinuousRun

# RoundConfig fields that a launch may change: (name, label, help, step). The rest belongs to the experiment.
# The first ones are the schedule's: each stands beside the reason that the plan gives.
PLANNED = (
    ("budget", "Samples for people", "The review closes itself when all are decided.", 1),
    ("beta", "Beta", "KL strength: higher stays closer to the model before.", "any"),
)
MAIN = (
    ("attacks", "Attacks", "Unsafe queries, written from the seeds.", 1),
    ("lookalikes", "Harmless look-alikes", "So that refusing everything is seen.", 1),
    ("competence", "Competence tasks", "Checked by program.", 1),
)
MORE = (
    ("audit_share", "Audit share", "Part of the budget that is drawn at random, 0 to 1.", 0.05),
    ("sft_steps", "Supervised steps", "", 1),
    ("preference_steps", "Preference steps", "", 1),
    ("learning_rate", "Learning rate", "", "any"),
    ("tolerance", "Tolerance", "How far the other objective may fall, 0 to 1.", 0.01),
    ("seed", "Random seed", "", 1),
)
MOST = {"budget": 5000, "attacks": 20000, "lookalikes": 20000, "competence": 20000, "sft_steps": 20000, "beta": 100,
        "preference_steps": 20000, "audit_share": 1, "tolerance": 1, "learning_rate": 1, "seed": 2**31 - 1}  # fmt: skip
OBJECTIVES = ("conformity", "competence", "joint")


class LevelsField(forms.CharField):
    """Difficulty levels as people write them, "1, 2, 3", to a sorted list."""

    def clean(self, value: Any) -> list[int] | None:
        parts = str(value or "").replace(",", " ").split()
        if not parts:
            return None  # the field is optional: empty keeps the plan
        if not all(part in ("1", "2", "3", "4", "5") for part in parts):
            raise forms.ValidationError("Levels are whole numbers from 1 to 5, as in: 1, 2, 3.")
        return sorted({int(part) for part in parts})


class LaunchForm(forms.Form):
    """What differs from the planned settings in the next round; an empty field keeps the setting.

    `reasons` say why the plan sets a field as it does.
    """

    def __init__(self, *args: Any, defaults: dict[str, Any], reasons: Mapping[str, str] | None = None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.defaults = {name: list(value) if isinstance(value, tuple) else value for name, value in defaults.items()}
        self.reasons = reasons or {}
        self.fields["objective"] = forms.ChoiceField(
            label="Objective", required=False, choices=[(name, name) for name in OBJECTIVES],
            initial=defaults.get("objective"),
        )  # fmt: skip
        for name, label in (("levels", "Task levels"), ("attack_levels", "Attack levels")):
            self.fields[name] = LevelsField(
                label=label, help_text="From 1, the easiest, to 5.", required=False, max_length=40,
                initial=", ".join(map(str, defaults.get(name) or ())),
            )  # fmt: skip
        for name, label, words, step in (*PLANNED, *MAIN, *MORE):
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
    def planned(self) -> list[tuple[forms.BoundField, str]]:
        """The schedule's fields, each with the plan's reason."""
        names = ("objective", "levels", "attack_levels", *(name for name, *_ in PLANNED))
        return [(self[name], self.reasons.get(name, "")) for name in names]

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
            if value not in (None, "") and value != self.defaults.get(name)
        }


class ContinuousForm(forms.ModelForm):  # type: ignore[type-arg]
    """The budget of continuous mode, and its rules of progress."""

    class Meta:
        model = ContinuousRun
        fields = ("rounds", "reviews", "minutes", "patience", "window", "least_gain")
        labels = {
            "rounds": "Rounds", "reviews": "Reviews", "minutes": "Minutes of machine time",
            "patience": "Stop after so many rollbacks", "window": "Rounds to compare",
            "least_gain": "Least gain of hypervolume",
        }  # fmt: skip
        help_texts = {
            "rounds": "In total, the one that is open included.",
            "reviews": "Judgements of people, in total.",
            "minutes": "Both phases, in total.",
            "patience": "In a row; 0 never stops for it.",
            "window": "0 never stops for it.",
            "least_gain": "Over those rounds, 0 to 1.",
        }
