"""What the next round aims at and how hard it is: alternation and gap annealing (ours, after arXiv 2503.07660)."""

from __future__ import annotations

from dataclasses import dataclass

from alignment.config import Objective
from alignment.records import Metric

TOP_LEVEL = 5


def next_objective(number: int) -> Objective:
    """Odd rounds raise conformity, even rounds competence; `number` counts from 1.

    Conformity first, because a base model's attacks succeed before anything else can be learnt from them.
    """
    if number < 1:
        raise ValueError(f"round number is {number}; rounds count from 1")
    return "conformity" if number % 2 else "competence"


@dataclass(frozen=True)
class Plan:
    """Settings of the next round, each with its reason in `reasons`."""

    levels: tuple[int, ...]  # difficulty levels of competence queries, 1..5
    budget: int  # samples that people are asked about
    beta: float  # DPO temperature: higher stays closer to the reference
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Annealing:
    """Raises difficulty and lowers the human share while the gap stays teachable; one step a round."""

    mastered: float = 0.6  # share correct on the hardest current level, above which a level is added
    trust: float = 0.8  # critic-human agreement on the audit slice (lower interval end) that earns autonomy
    least_budget: int = 12  # reviews a round never go below this: the audit slice must stay estimable
    shrink: float = 0.75  # factor on the budget a step
    firmer: float = 1.5  # factor on beta after a rollback
    most_beta: float = 0.5

    def next_plan(
        self, plan: Plan, *, accepted: bool, top_level: Metric | None, agreement: Metric | None, first: Plan
    ) -> Plan:
        """The plan after a round. `top_level` is competence on the hardest current level, `first` the first plan.

        After a rollback: back off one step (hardest level off, budget towards the first, beta up). After an
        accepted round: each of difficulty and autonomy moves only where its evidence is there.
        """
        levels, budget, beta, reasons = plan.levels, plan.budget, plan.beta, []
        if not accepted:
            if len(levels) > 1:
                reasons.append(f"level {levels[-1]} dropped: the last round was rolled back")
                levels = levels[:-1]
            budget = min(first.budget, max(budget + 1, round(budget / self.shrink)))
            beta = min(self.most_beta, beta * self.firmer)
            reasons.append(f"{budget} reviews and beta {beta:g}: the last round was rolled back")
            return Plan(levels, budget, beta, tuple(reasons))
        hardest = max(levels)
        if top_level is None or top_level.value is None:
            reasons.append(f"levels stay: competence on level {hardest} is not known")
        elif top_level.value < self.mastered:
            reasons.append(f"levels stay: {top_level.value:.2f} correct on level {hardest}, {self.mastered:g} needed")
        elif hardest < TOP_LEVEL:
            levels = (*levels, hardest + 1)
            reasons.append(f"level {hardest + 1} added: {top_level.value:.2f} correct on level {hardest}")
        if agreement is None or agreement.ci_low is None:
            reasons.append("the budget stays: agreement of the critic with people is not known")
        elif agreement.ci_low < self.trust:
            reasons.append(
                f"the budget stays: agreement may be as low as {agreement.ci_low:.2f}, {self.trust:g} needed"
            )
        else:
            least = min(self.least_budget, first.budget)
            budget = max(least, round(budget * self.shrink))
            reasons.append(f"{budget} reviews: agreement is at least {agreement.ci_low:.2f} on the audit slice")
        beta = max(first.beta, beta / self.firmer)
        return Plan(levels, budget, beta, tuple(reasons))
