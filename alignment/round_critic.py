"""The learn phase's critic: fitted on people's labels, put to the test, and let decide what it can be trusted on."""

from __future__ import annotations

from dataclasses import dataclass

from alignment.asked import fit_asked, said_before
from alignment.config import RoundConfig
from alignment.conformal import Router
from alignment.critic import Critic, HeldOut, LabelledAnswer
from alignment.critic_card import card_metrics, steering_metrics
from alignment.critic_curve import learning_curve
from alignment.critic_fit import fit_critic
from alignment.critic_metrics import member_metrics
from alignment.feature_cache import read_chunks
from alignment.generative_judge import Verdict
from alignment.heads import save_heads
from alignment.language_model import LanguageModel
from alignment.metrics.round_gaps import round_gaps
from alignment.mix import mix_of, selection_weights
from alignment.propose import exemplar_rows, pool_rows
from alignment.readings import Reading
from alignment.records import Label, Metric, PoolItem, Principle, Query, Response, Sample
from alignment.review_metrics import review_metrics
from alignment.routing import decide, fit_router, routed_alone
from alignment.rundir import RunDir, read_rows, write_rows
from alignment.second_look import describe, find_doubtful
from alignment.stopping import next_reviews


@dataclass(frozen=True)
class RoundCritic:
    """The fitted critic, what it was fitted on, and what it decided alone (`judgements`)."""

    critic: Critic
    held_out: HeldOut
    rows: list[LabelledAnswer]
    at_hand: list[Reading]
    judgements: list[Label]
    card: list[Metric]  # of the fit, of the steering test, and of the router

    def metrics(
        self, config: RoundConfig, run: RunDir, samples: list[Sample], labels: list[Label], old: list[Metric],
        new: list[Metric],
    ) -> list[Metric]:  # fmt: skip
        """Everything that the reviews of the round say of critic, selection and gaps. `labels` are people's."""
        by_query = {label.query: label for label in labels}
        reviewed = review_metrics(config, samples, labels, self.held_out)
        rate = next(m for m in reviewed if m.name == "violation_rate_weighted")
        curve = learning_curve(self.rows, seed=config.seed, unlabelled=self.at_hand)
        found = [*reviewed, *member_metrics(self.critic, self.held_out, seed=config.seed), *self.card]
        found += next_reviews(rate, sum(bool(label.violates) for label in labels), curve, seed=config.seed)
        proposed = read_rows(run.propose / "metrics.jsonl", Metric)
        found += round_gaps(proposed, old, new, reviewed, seed=config.seed)
        found.append(routed_alone(samples, by_query, self.judgements))
        if config.policy == "mix":
            found += selection_weights(samples, labels, mix_of(config))
        return found


def fit_round_critic(
    config: RoundConfig, run: RunDir, reader: LanguageModel, samples: list[Sample], labels: list[Label],
    principles: list[Principle],
) -> RoundCritic:  # fmt: skip
    """Fits the critic on the exemplars, the pool and this round's `labels`, and judges the unreviewed samples."""
    events = run.events
    by_query = {label.query: label for label in labels}
    pool = read_rows(run.inputs / "pool.jsonl", PoolItem)
    readings = read_chunks(run, reader, samples)
    events.emit("fit_critic", 0, 1)
    rows = exemplar_rows(reader) + pool_rows(reader, pool, config) + label_rows(config, samples, by_query, readings)
    at_hand = [r for r in readings.values() if r.mean_RKD[0].any()]
    critic, held_out = fit_critic(rows, principles, seed=config.seed, unlabelled=at_hand)
    said = said_before(samples)
    critic, held_out, asked_weight = fit_asked(critic, held_out, rows, said, config.asked_weight)
    people = sum(r.human for r in rows)
    save_heads(
        run.learn / "critic", {**critic.members, **{f"principle/{k}": h for k, h in critic.principles.items()}},
        {"slope": critic.slope, "offset": critic.offset, "weights": critic.weights,
         "asked_weight": critic.asked_weight, "asked_spread": critic.asked_spread,
         "human_answers": people, "answers": len(rows)},
    )  # fmt: skip
    events.emit("fit_critic", 1, 1, message=f"Critic fitted on {len(rows)} answers, {people} judged by people")
    doubtful = find_doubtful(held_out, by_query)
    write_rows(run.learn / "second_look.jsonl", doubtful)
    events.emit("second_look", len(doubtful), people, message=describe(doubtful, people))

    events.emit("steering", 0, 1)
    card = card_metrics(rows, held_out) + steering_metrics(
        critic, reader, samples, by_query, answers=config.steering_answers, seed=config.seed
    )
    events.emit("steering", 1, 1)

    router, coverage = fit_router(rows, held_out, config.risk_alpha, seed=config.seed)
    judgements = run.stage(
        run.learn / "judgements.jsonl",
        Label,
        lambda: judge_rest(router, samples, by_query, critic, readings, said) if config.critic_labels else [],
    )
    events.emit("judge", len(judgements), len(samples), message=f"{len(judgements)} samples judged by the critic alone")
    return RoundCritic(critic, held_out, rows, at_hand, judgements, [*asked_weight, *card, coverage])


def label_rows(
    config: RoundConfig, samples: list[Sample], labels: dict[str, Label], readings: dict[str, Reading]
) -> list[LabelledAnswer]:
    rows = []
    for sample in samples:
        label = labels.get(sample.query["id"])
        for response, p in (label.violates if label else {}).items():
            if label and response in readings:
                principle = next(iter(label.principles), sample.query["principle"])
                weight = config.human_weight * label.weight
                drawn = sample.propensity if sample.flag else 0.0
                rows.append(
                    LabelledAnswer(
                        sample.query["text"],
                        p,
                        principle,
                        weight,
                        True,
                        readings[response],
                        response,
                        drawn,
                        sample.query["category"],
                    )
                )
    return rows


def judge_rest(
    router: Router, samples: list[Sample], labels: dict[str, Label], critic: Critic, readings: dict[str, Reading],
    said: dict[str, Verdict],
) -> list[Label]:  # fmt: skip
    """The fitted critic's own labels for unreviewed samples, only of answers that the router lets it decide alone."""
    judged = []
    for sample in samples:
        if sample.query["id"] in labels or sample.query["kind"] == "competence":
            continue
        query = Query.from_json(sample.query)
        responses = [Response.from_json(r) for r in sample.responses]
        critiques = critic.critique(
            [query] * len(responses), responses, [readings[r.id] for r in responses],
            asked=[said.get(r.id) for r in responses],
        )  # fmt: skip
        verdicts = decide(router, [c.violation for c in critiques], sample.propensity)
        sure = {
            c.response: c.violation
            for c, verdict in zip(critiques, verdicts, strict=True)
            if verdict is not None and c.violation is not None
        }
        if sure:
            principles = sorted({c.principle for c in critiques if (c.violation or 0) >= 0.5})
            judged.append(Label(query.id, sure, principles, source="critic"))
    return judged
