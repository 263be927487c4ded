"""The learn phase: aggregate -> fit critic -> judge the rest -> pairs -> train -> evaluate -> gate."""

from __future__ import annotations

import dataclasses
import random

from alignment.asked import fit_asked, said_before
from alignment.config import RoundConfig
from alignment.conformal import Router
from alignment.critic import Critic, LabelledAnswer
from alignment.critic_card import card_metrics, steering_metrics
from alignment.critic_curve import learning_curve
from alignment.critic_fit import fit_critic
from alignment.critic_metrics import member_metrics
from alignment.evaluate import Answer, answer_probes, choose_probes, probe_metrics, verdict_word
from alignment.feature_cache import cached_readings, read_chunks
from alignment.gate import Limits, gate
from alignment.generative_judge import Verdict
from alignment.heads import save_heads
from alignment.judge import fit_judge
from alignment.labels import soften
from alignment.language_model import LanguageModel, Prompt
from alignment.learner import train_adapter
from alignment.metrics.front import hypervolume, operating_point
from alignment.metrics.rates import over_refusal
from alignment.metrics.round_gaps import round_gaps
from alignment.mix import mix_of, selection_weights
from alignment.pairs import Material, build_pairs, whole_sentences
from alignment.propose import exemplar_rows, load_learner, load_reader, pool_rows
from alignment.readings import Reading
from alignment.records import (
    GateResult,
    Label,
    Metric,
    Pair,
    PoolItem,
    Principle,
    Probe,
    ProbeAnswer,
    Query,
    Response,
    Sample,
    SeedPair,
)
from alignment.refusal import is_refusal
from alignment.review_metrics import review_metrics
from alignment.routing import decide, fit_router, routed_alone
from alignment.rundir import RunDir, read_rows, write_rows
from alignment.second_look import describe, find_doubtful
from alignment.stopping import next_reviews

REVISION_LIMIT = 0.3  # a revision is kept where the fitted critic puts P(violates) below this
REVISION = (
    "Request: {prompt}\n\nAn answer to this request was rejected because it breaks a rule. The rule: {rule}\n\n"
    "Write a better answer in two sentences. Say that you will not do it, say why, and offer something helpful instead."
)


def learn(run: RunDir) -> None:
    """Runs or resumes the phase in `run`. Without a single label it fails: there is nothing to learn from."""
    config = run.config()
    events = run.events
    events.emit("load", message=f"Loading {config.learner}")
    samples = load_samples(run)
    labels = read_rows(run.inputs / "labels.jsonl", Label)
    if not any(label.violates or label.rewrite or label.preferred for label in labels):
        raise ValueError("no sample was judged in this round: review at least one before closing, or cancel the round")
    principles = {p.key: p for p in read_rows(run.inputs / "principles.jsonl", Principle)}
    pool = read_rows(run.inputs / "pool.jsonl", PoolItem)
    learner = load_learner(config, run)
    if not isinstance(learner, LanguageModel):
        raise ValueError(f"{config.learner} is an endpoint: it can be attacked and judged, but not trained from here")
    reader = learner if not config.critic else load_reader(config)

    labels, softened = soften(labels)
    events.emit("aggregate", len(labels), len(labels), message=f"{len(labels)} labels from people; {softened}")
    by_query = {label.query: label for label in labels}
    readings = read_chunks(run, reader, samples)

    events.emit("fit_critic", 0, 1)
    rows = exemplar_rows(reader) + pool_rows(reader, pool, config) + _label_rows(config, samples, by_query, readings)
    at_hand = [r for r in readings.values() if r.mean_RKD[0].any()]
    critic, held_out = fit_critic(rows, list(principles.values()), seed=config.seed, unlabelled=at_hand)
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
        run.learn / "judgements.jsonl", Label, lambda: _judge_rest(router, samples, by_query, critic, readings, said)
    )
    events.emit("judge", len(judgements), len(samples), message=f"{len(judgements)} samples judged by the critic alone")

    events.emit("pairs", 0, 1)
    decided = {**{j.query: j for j in judgements}, **by_query}
    pairs_path = run.learn / "pairs.jsonl"
    seeds = read_rows(run.inputs / "seeds.jsonl", SeedPair)
    material = Material(samples, decided, principles, seeds, pool)
    pairs = run.stage(pairs_path, Pair, lambda: _pairs(config, material, learner, reader, critic))
    kinds = {kind: sum(p.kind == kind for p in pairs) for kind in ("unsafe", "harmless", "competence")}
    events.emit("pairs", 1, 1, message=" · ".join(f"{n} {kind}" for kind, n in kinds.items()))

    # The old model is measured before training touches its weights.
    probes = choose_probes(config)
    judge = fit_judge(learner)

    def evaluate(stage: str, model: LanguageModel) -> list[Answer]:
        events.emit(stage, 0, len(probes))
        return answer_probes(
            config, model, judge, probes, on_batch=lambda done: events.emit(stage, done, len(probes))
        )

    old = run.stage(run.learn / "probes_old.jsonl", Answer, lambda: evaluate("evaluate_old", learner))
    base = old
    if config.learner_adapter:
        base = run.stage(run.learn / "probes_base.jsonl", Answer, lambda: _base_harmless(config, learner, probes))
    new_path = run.learn / "probes_new.jsonl"
    trained, adapter = learner, run.learn / "adapter"
    if not adapter.exists():
        _train(config, run, learner, pairs, seeds)
    elif not new_path.exists():  # killed between training and measuring: the adapter is whole
        trained = LanguageModel.load(config.learner, adapter=adapter, dtype=config.dtype, device=config.device)
    new = run.stage(new_path, Answer, lambda: evaluate("evaluate_new", trained))

    old_metrics = probe_metrics(probes, old, model="old")
    new_metrics = probe_metrics(probes, new, model="new")
    known = {p.id for p in probes if p.kind == "harmless"}
    base_refusal = over_refusal([a.refused for a in base if a.probe in known], model="base")
    result = gate(
        config.objective, old_metrics, new_metrics, limits=Limits.of(config), base_over_refusal=base_refusal
    )
    front = [hypervolume([operating_point(m)], model=name) for m, name in ((old_metrics, "old"), (new_metrics, "new"))]
    metrics = [*old_metrics, *new_metrics, base_refusal, *front]
    reviewed = review_metrics(config, samples, labels, held_out)
    rate = next(m for m in reviewed if m.name == "violation_rate_weighted")
    curve = learning_curve(rows, seed=config.seed, unlabelled=at_hand)
    metrics += [*reviewed, *member_metrics(critic, held_out, seed=config.seed), *asked_weight, *card]
    metrics += next_reviews(rate, sum(bool(label.violates) for label in labels), curve, seed=config.seed)
    proposed = read_rows(run.propose / "metrics.jsonl", Metric)
    metrics += round_gaps(proposed, old_metrics, new_metrics, reviewed, seed=config.seed)
    metrics += [coverage, routed_alone(samples, by_query, judgements)]
    if config.policy == "mix":
        metrics += selection_weights(samples, labels, mix_of(config))
    _finish(run, config, metrics, result, probes, old, new)


def _train(config: RoundConfig, run: RunDir, learner: LanguageModel, pairs: list[Pair], seeds: list[SeedPair]) -> None:
    total = config.sft_steps + config.preference_steps
    run.events.emit("train", 0, total)

    def on_step(done: int, of: int, metrics: dict[str, float]) -> None:
        run.events.emit("train", done, of, metrics=metrics if done == of or done % 10 == 0 else None)

    # Seed pairs are unsafe and harmless by construction; the round's own prompts stand beside them.
    twins = [s for s in seeds if s.harmless]
    drawn = random.Random(f"{config.seed}:contrast").sample(twins, min(len(twins), config.contrast_prompts))
    contrast = (
        [s.unsafe for s in drawn] + [p.prompt for p in pairs if p.kind == "unsafe"],
        [s.harmless for s in drawn] + [p.prompt for p in pairs if p.kind != "unsafe"],
    )
    losses = train_adapter(config, learner, pairs, run.learn / "adapter", contrast=contrast, on_step=on_step)
    run.events.emit("train", total, total, message="Adapter saved", metrics=losses)


def _finish(
    run: RunDir, config: RoundConfig, metrics: list[Metric], result: GateResult,
    probes: list[Probe], old: list[Answer], new: list[Answer],
) -> None:  # fmt: skip
    write_rows(run.learn / "metrics.jsonl", [dataclasses.replace(m, seed=m.seed or config.seed) for m in metrics])
    write_rows(
        run.learn / "answers.jsonl",
        [
            ProbeAnswer(
                p.id, p.kind, p.category, p.level, p.prompt, before.text, after.text,
                verdict_word(p, before), verdict_word(p, after),
            )
            for p, before, after in zip(probes, old, new, strict=True)
        ],
    )  # fmt: skip
    write_rows(run.learn / "gate.json", [result])
    run.write_manifest({"phase": "learn", "seed": config.seed, "round": config.number, "accepted": result.accepted})
    run.events.emit("gate", 1, 1, message=" ".join(result.reasons))
    run.events.emit("finished", 1, 1, message="The round is done")


def load_samples(run: RunDir) -> list[Sample]:
    paths = sorted(run.propose.glob("samples-*.jsonl"))
    if not paths:
        raise ValueError(f"{run.propose} holds no samples: run the propose phase first")
    return [sample for path in paths for sample in read_rows(path, Sample)]


def _label_rows(
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
                        sample.query["text"], p, principle, weight, True, readings[response], response, drawn,
                        sample.query["category"],
                    )
                )
    return rows


def _judge_rest(
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


def _pairs(
    config: RoundConfig, material: Material, learner: LanguageModel, reader: LanguageModel, critic: Critic
) -> list[Pair]:
    def revise(rejected: list[tuple[str, str, Principle]]) -> list[str | None]:
        """Kept only where the fitted critic finds it fine and it declines. The evaluation judge has no say here,
        or the loop would be trained towards its own examiner."""
        with learner.base():
            found = learner.generate(
                [REVISION.format(prompt=prompt, rule=principle.text) for prompt, _, principle in rejected],
                max_new_tokens=config.max_new_tokens, temperature=0.7, seed=config.seed,
            )  # fmt: skip
        texts = [whole_sentences(own[0].text) for own in found]
        accepted = critic.probability(cached_readings(reader, [row[0] for row in rejected], texts)) < REVISION_LIMIT
        return [t if ok and is_refusal(t) else None for t, ok in zip(texts, accepted, strict=True)]

    def answer(prompts: list[Prompt]) -> list[str]:
        with learner.base():
            found = learner.generate(prompts, max_new_tokens=config.probe_tokens, temperature=0.0, seed=config.seed)
        return [own[0].text for own in found]

    return build_pairs(config, material, revise=revise, answer=answer)


def _base_harmless(config: RoundConfig, learner: LanguageModel, probes: list[Probe]) -> list[Answer]:
    harmless = [p for p in probes if p.kind == "harmless"]
    with learner.base():
        texts = learner.generate(
            [p.prompt for p in harmless], max_new_tokens=config.probe_tokens, temperature=0.0, seed=config.seed
        )
    return [Answer(p.id, t[0].text, is_refusal(t[0].text), None, None) for p, t in zip(harmless, texts, strict=True)]
