"""Do people give up their own judgement for the critic's? (Definition ours.)

Counted are the answers that a person judged blind, before the critic's verdict was shown, and that the
critic (cut at 0.5) judged the other way. The person *switched* where their standing judgement says what
the critic says. `automation_bias` = switched / contradicted.

Switching to a critic that is right is learning, not bias. So of the switches, `misled` = the critic was
wrong / decided. A switch is decided by a lead's adjudication or by the gold label, never by a label that
the switched judgement itself made; the undecided ones are counted apart. Both shares carry Wilson's
interval; two answers to one query are taken as independent, which narrows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from alignment.judgements import Bias, Judgement, Switch
from alignment.metrics.rates import wilson
from alignment.metrics.result import measured, not_computable
from alignment.records import Metric


def automation_bias(judgements: Sequence[Judgement], *, group: str = "") -> Bias:
    """Both shares over all the judgements passed. No contradicted verdict, or no decided switch: no value."""
    contradicted = sum(1 for judgement in judgements for _ in contradictions(judgement))
    switches = list_switches(judgements)
    decided = [switch.critic_was_wrong for switch in switches if switch.critic_was_wrong is not None]
    return Bias(
        switched=_share(
            "automation_bias", len(switches), contradicted, group, "the critic contradicted no blind judgement"
        ),
        misled=_share(
            "misled",
            sum(decided),
            len(decided),
            group,
            f"no lead has decided any of the {len(switches)} switches" if switches else "nobody switched to the critic",
        ),
        undecided=len(switches) - len(decided),
    )


def contradictions(judgement: Judgement) -> Iterator[int]:
    """The answers whose blind verdict the critic contradicts."""
    if judgement.blind:
        for answer, said in judgement.first.items():
            if judgement.critic.get(answer, said) != said:
                yield answer


def list_switches(judgements: Iterable[Judgement]) -> list[Switch]:
    """Every blind verdict that gave way to the critic's, in the order of the judgements."""
    switches = []
    for judgement in judgements:
        for answer in contradictions(judgement):
            critic = judgement.critic[answer]
            if judgement.standing.get(answer) == critic:
                truth = judgement.decided.get(answer, judgement.expected.get(answer))
                switches.append(Switch(judgement.sample, answer, critic, None if truth is None else truth != critic))
    return switches


def _share(name: str, hits: int, n: int, group: str, why: str) -> Metric:
    if n == 0:
        return not_computable(name, why, group=group)
    return measured(name, hits / n, wilson(hits, n), n, group=group)
