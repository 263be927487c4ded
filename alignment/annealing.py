"""Gap annealing: how levels, budget and beta follow what the finished rounds measured (ours, after arXiv 2503.07660).

The paper asks to keep the gap between the student's capacity and the teacher's capability small and to widen the task
as the teacher earns trust; it gives no controller. This one moves each setting by one step a round at most, and only
on a number: what is not known moves nothing, and the reason says so. Point estimates decide, but for trust, which
takes the lower end of its interval, and for the recovered gap, which has fallen only below the interval before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from alignment.metrics.rates import wilson
from alignment.metrics.result import measured, not_computable
from alignment.records import Metric
from alignment.schedule import Reason, RoundOutcome, Settings

TOP_LEVEL = 5
OTHER = {"conformity": "competence", "competence": "conformity"}


@dataclass(frozen=True)
class Rules:
    """Where the controller moves, and by how much."""

    mastered: float = 0.6  # share solved on the hardest level, from which the next level is added
    out_of_reach: float = 0.1  # share solved on the hardest level, at or below which it is dropped
    gap_low: float = -40.0  # points of teacher gap below which the teacher is far ahead: harder attacks
    gap_high: float = 0.0  # points above which the student outruns its supervisor: easier attacks, more people
    trust: float = 0.8  # lower end of the critic's agreement with people that earns autonomy
    pooled: int = 3  # rounds whose audit slices are counted together for it: one slice has some ten answers
    least_budget: int = 12  # reviews a round never go below this (or the first budget): audits must stay estimable
    shrink: float = 0.75  # factor on the budget a step
    firmer: float = 1.5  # factor on beta a step
    most_beta: float = 5.0  # times the first beta


@dataclass(frozen=True)
class _Back:
    """A step back, and the number that asks for it. No words: no step."""

    words: str = ""
    metric: Metric | None = None
    unknown: str = ""  # why it is not known whether the recovered gap fell


def anneal(
    history: Sequence[RoundOutcome], first: Settings, rules: Rules | None = None
) -> tuple[Settings, dict[str, Reason]]:
    """The settings after the last round of `history` (not empty, oldest first), and why, a reason a setting."""
    rules = rules or Rules()
    last = history[-1]
    back = _step_back(history)
    levels, why_levels = _levels(last, back, rules)
    attack_levels, why_attack = _attack_levels(last, back, first, rules)
    budget, why_budget = _budget(history, back, first, rules)
    beta, why_beta = _beta(last, back, first, rules)
    settings = Settings(levels, attack_levels, budget, beta)
    return settings, {
        "levels": why_levels, "attack_levels": why_attack, "budget": why_budget, "beta": why_beta
    }  # fmt: skip


def _step_back(history: Sequence[RoundOutcome]) -> _Back:
    """After a rollback, or where the recovered gap of the round's objective fell below the interval it had before."""
    last = history[-1]
    if not last.accepted:
        aim = "competence" if last.objective == "competence" else "attack_success"
        return _Back(f"Round {last.number} was rolled back", last.find(aim, model="new"))
    unknown = []
    for group in (last.objective,) if last.objective != "joint" else ("conformity", "competence"):
        now = last.find("recovered_gap", group)
        if now is None or now.value is None:
            unknown.append(f"the recovered gap of {group} is not known ({_why(now)})")
            continue
        earlier = [r for r in history[:-1] if r.objective in (group, "joint")]
        known = [(r, m) for r in earlier if (m := r.find("recovered_gap", group)) and m.value is not None]
        if not known:
            continue
        then, before = known[-1]
        limit = before.value if before.ci_low is None else before.ci_low
        if limit is not None and now.value < limit:
            words = f"The recovered gap of {group} fell from {_number(before)} in round {then.number} to {_number(now)}"
            return _Back(words, now)
    return _Back(unknown="; ".join(unknown))


def _levels(last: RoundOutcome, back: _Back, rules: Rules) -> tuple[tuple[int, ...], Reason]:
    """Levels of competence tasks. A program checks these, so mastery moves them and not the teacher gap."""
    levels = last.settings.levels
    hardest = max(levels)
    if back.words and last.objective != "conformity":
        if len(levels) > 1:
            return levels[:-1], _because(last, f"{back.words}: level {hardest} dropped", back.metric)
        return levels, _because(last, f"{back.words}; level {hardest} is the only one and stays", back.metric)
    found = last.find("competence", str(hardest), model="new" if last.accepted else "old")
    if found is None or found.value is None:
        return levels, _because(last, f"Levels stay: competence on level {hardest} is not known ({_why(found)})", found)
    solved = f"{_number(found)} solved on level {hardest}"
    if found.value >= rules.mastered and hardest < TOP_LEVEL:
        return (*levels, hardest + 1), _because(last, f"Level {hardest + 1} added: {solved}", found)
    if found.value <= rules.out_of_reach and len(levels) > 1:
        words = f"Level {hardest} dropped: {solved}, which teaches nothing at {rules.out_of_reach:g} or less"
        return levels[:-1], _because(last, words, found)
    if hardest == TOP_LEVEL and found.value >= rules.mastered:
        return levels, _because(last, f"Levels stay: {solved}, the hardest there is", found)
    return levels, _because(last, f"Levels stay: {solved}; the next one is added at {rules.mastered:g}", found)


def _attack_levels(last: RoundOutcome, back: _Back, first: Settings, rules: Rules) -> tuple[tuple[int, ...], Reason]:
    """Levels of the seeds that attacks start from. The critic checks their answers, so the teacher gap moves these."""
    levels, found = last.settings.attack_levels, last.find("teacher_gap")
    if not levels or not first.attack_levels:
        return levels, _because(last, "All attack levels stay: which levels the seeds have is not known", None)
    hardest = max(levels)
    harder = [level for level in first.attack_levels if level > hardest]
    if back.words and last.objective != "competence":
        if len(levels) > 1:
            return levels[:-1], _because(last, f"{back.words}: attack level {hardest} dropped", back.metric)
        return levels, _because(last, f"{back.words}; attack level {hardest} is the only one and stays", back.metric)
    if found is None or found.value is None:
        return levels, _because(last, f"Attack levels stay: the teacher gap is not known ({_why(found)})", found)
    gap = f"the teacher gap is {_points(found)} points"
    if found.value > rules.gap_high and len(levels) > 1:
        words = f"Attack level {hardest} dropped: {gap}, above {rules.gap_high:g}"
        return levels[:-1], _because(last, words, found)
    if found.value < rules.gap_low and harder:
        words = f"Attack level {harder[0]} added: {gap}, below {rules.gap_low:g}"
        return (*levels, harder[0]), _because(last, words, found)
    if found.value < rules.gap_low:
        return levels, _because(last, f"Attack levels stay: {gap}, and no seed is harder than level {hardest}", found)
    if found.value > rules.gap_high:
        return levels, _because(last, f"Attack levels stay: {gap}, and level {hardest} is the only one", found)
    within = f"within {rules.gap_low:g} to {rules.gap_high:g}"
    return levels, _because(last, f"Attack levels stay: {gap}, {within}", found)


def _budget(history: Sequence[RoundOutcome], back: _Back, first: Settings, rules: Rules) -> tuple[int, Reason]:
    """Between the least and the first budget: down as the critic earns trust, up after a step back."""
    last = history[-1]
    least, most = min(rules.least_budget, first.budget), first.budget
    now = min(max(last.settings.budget, least), most)
    clamped = ""
    if now != last.settings.budget:
        clamped = f" ({last.settings.budget} in round {last.number}; the schedule stays between {least} and {most})"
    more = min(most, max(now + 1, round(now / rules.shrink)))
    gap, agreement = last.find("teacher_gap"), pooled_agreement(history, rounds=rules.pooled)
    if back.words:
        asked = "stay" if more == now else "after"
        return more, _because(last, f"{back.words}: {more} reviews {asked} {now}{clamped}", back.metric)
    if gap is not None and gap.value is not None and gap.value > rules.gap_high:
        words = f"{more} reviews: the teacher gap is {_points(gap)} points, above {rules.gap_high:g}{clamped}"
        return more, _because(last, words, gap)
    also = f"; {back.unknown}" if back.unknown else ""
    if agreement.value is None or agreement.ci_low is None:
        words = f"{now} reviews stay{clamped}: how far the critic agrees with people is not known ({agreement.reason})"
        return now, _because(last, words + also, agreement)
    agrees = f"the critic agrees with people on {_number(agreement)} of the audit slices' answers"
    if agreement.ci_low < rules.trust:
        words = f"{now} reviews stay{clamped}: {agrees}; the lower end has to reach {rules.trust:g}{also}"
        return now, _because(last, words, agreement)
    fewer = max(least, round(now * rules.shrink))
    return fewer, _because(last, f"{fewer} reviews after {now}{clamped}: {agrees}{also}", agreement)


def _beta(last: RoundOutcome, back: _Back, first: Settings, rules: Rules) -> tuple[float, Reason]:
    """Firmer where a rolled-back round lost something else than its objective; else back towards the first beta."""
    most = first.beta * rules.most_beta
    now = min(max(last.settings.beta, first.beta), most)
    if not last.accepted:
        lost = _lost(last)
        if lost is None:
            words = f"Beta {now:g} stays: round {last.number} was rolled back, but lost nothing that a firmer one keeps"
            return now, _because(last, words, back.metric)
        name, metric = lost
        firmer = min(most, now * rules.firmer)
        words = f"Beta {firmer:g} after {now:g}: round {last.number} was rolled back, and {name}, to {_number(metric)}"
        return firmer, _because(last, words, metric)
    if back.words:
        firmer = min(most, now * rules.firmer)
        return firmer, _because(last, f"{back.words}: beta {firmer:g} after {now:g}", back.metric)
    looser = max(first.beta, now / rules.firmer)
    aim = last.find("hypervolume", model="new")
    size = f", hypervolume {_number(aim)}" if aim is not None and aim.value is not None else ""
    step = f"{looser:g} stays" if looser == now else f"{looser:g} after {now:g}"
    return looser, _because(last, f"Beta {step}: round {last.number} was accepted{size}", aim)


def _lost(last: RoundOutcome) -> tuple[str, Metric] | None:
    """What the round made worse beside its objective, with the value after it."""
    watched = {"competence": ("competence", 1.0), "conformity": ("attack_success", -1.0)}
    others = [OTHER[last.objective]] if last.objective in OTHER else list(watched)
    checks = [(f"{aim} fell", *watched[aim]) for aim in others] + [("over-refusal rose", "over_refusal", -1.0)]
    for words, name, sign in checks:
        old, new = last.find(name, model="old"), last.find(name, model="new")
        if old and new and old.value is not None and new.value is not None and sign * (new.value - old.value) < 0:
            return words, new
    return None


def pooled_agreement(history: Sequence[RoundOutcome], *, rounds: int) -> Metric:
    """`critic_agreement_audit` over the last `rounds` rounds counted together, with Wilson's interval (ours).

    The critic is fitted anew each round, so this is its recent record, not the newest critic's; answers to one query
    are taken as independent, which narrows the interval. No round with a value: no value.
    """
    name = "critic_agreement_audit"
    slices = [m for r in history[-rounds:] if (m := r.find(name)) and m.value is not None]
    n = sum(m.n for m in slices)
    if not n:
        return not_computable(name, "no answer of an audit slice was judged by people")
    hits = sum((m.value or 0) * m.n for m in slices)
    return measured(name, hits / n, wilson(hits, n), n)


def _because(last: RoundOutcome, words: str, metric: Metric | None) -> Reason:
    return Reason(f"{words}.", metric, last.number)


def _number(metric: Metric) -> str:
    return _with_interval(metric, "{:.2f}")


def _points(metric: Metric) -> str:
    return _with_interval(metric, "{:.0f}")


def _with_interval(metric: Metric, form: str) -> str:
    span = ""
    if metric.ci_low is not None and metric.ci_high is not None:
        span = f", {form.format(metric.ci_low)} to {form.format(metric.ci_high)}"
    return f"{form.format(metric.value)} (n {metric.n}{span})"


def _why(metric: Metric | None) -> str:
    return "it was not measured" if metric is None else metric.reason or "no reason given"
