"""The learn phase: aggregate -> fit critic -> judge the rest -> pairs -> train -> evaluate -> gate."""

from __future__ import annotations

import random

from alignment.archive import update_archive
from alignment.attacker_training import tune_attacker
from alignment.config import RoundConfig
from alignment.critic import Critic
from alignment.evaluate import Answer
from alignment.feature_cache import cached_readings
from alignment.labels import soften
from alignment.language_model import LanguageModel, Prompt
from alignment.learner import train_adapter
from alignment.measuring import Measuring
from alignment.pairs import build_pairs
from alignment.propose import load_learner, load_reader
from alignment.records import Label, Pair, PoolItem, Principle, Sample, SeedPair
from alignment.refusal import is_refusal
from alignment.round_critic import fit_round_critic
from alignment.rundir import RunDir, read_rows
from alignment.seed_files import shipped_chat
from alignment.strength import held_back, is_held_back
from alignment.training_mix import Material, draw_styles, share_metrics, whole_sentences

REVISION_LIMIT = 0.3  # a revision is kept where the fitted critic puts P(violates) below this
REVISION = (
    "Request: {prompt}\n\nAn answer to this request was rejected because it breaks a rule. The rule: {rule}\n\n"
    "Write a better answer in two sentences. Say that you will not do it, say why, and offer something helpful instead."
)


def learn(run: RunDir) -> None:
    """Runs or resumes the phase in `run`.

    Without a single label it fails, because there is nothing to learn from; a round with a budget of 0 is meant to
    have none, and learns from what the critic may decide alone.
    """
    config = run.config()
    events = run.events
    events.emit("load", message=f"Loading {config.learner}")
    samples = load_samples(run)
    labels = read_rows(run.inputs / "labels.jsonl", Label)
    if config.budget and not any(label.violates or label.rewrite or label.preferred for label in labels):
        raise ValueError("no sample was judged in this round: review at least one before closing, or cancel the round")
    principles = {p.key: p for p in read_rows(run.inputs / "principles.jsonl", Principle)}
    learner = load_learner(config, run)
    if not isinstance(learner, LanguageModel):
        raise ValueError(f"{config.learner} is an endpoint: it can be attacked and judged, but not trained from here")
    reader = learner if not config.critic else load_reader(config)

    labels, softened = soften(labels)
    events.emit("aggregate", len(labels), len(labels), message=f"{len(labels)} labels from people; {softened}")
    judged = fit_round_critic(config, run, reader, samples, labels, list(principles.values()))
    decided = {j.query: j for j in [*judged.judgements, *labels]}  # people's word over the critic's
    update_archive(run, samples, decided)

    events.emit("pairs", 0, 1)
    seeds = read_rows(run.inputs / "seeds.jsonl", SeedPair)
    training = [s for s in seeds if not is_held_back(s)]
    pool = read_rows(run.inputs / "pool.jsonl", PoolItem)
    material = Material(samples, decided, principles, training, pool, shipped_chat())
    pairs = run.stage(run.learn / "pairs.jsonl", Pair, lambda: _pairs(config, material, learner, reader, judged.critic))
    shares = share_metrics(pairs, seed=config.seed)
    events.emit("pairs", 1, 1, message=" · ".join(f"{m.n} {m.group} ({m.value or 0:.0%})" for m in shares))

    measuring = Measuring(config, run, learner)
    old, base = measuring.before()
    new_path = run.learn / "probes_new.jsonl"
    trained, adapter = learner, run.learn / "adapter"
    if not adapter.exists():
        _train(config, run, learner, pairs, seeds, {s.query["seed"] for s in samples})
    else:  # killed after training: the adapter is whole
        trained = LanguageModel.load(config.learner, adapter=adapter, dtype=config.dtype, device=config.device)
    new = run.stage(new_path, Answer, lambda: measuring.answer("evaluate_new", trained))
    tune_attacker(run, config, samples, decided)

    result, old_metrics, new_metrics, others = measuring.verdict(old, base, new, trained)
    metrics = [*old_metrics, *new_metrics, *others, *shares]
    metrics += judged.metrics(config, run, samples, labels, old_metrics, new_metrics)
    measuring.write(metrics, result, old, new)


def _train(
    config: RoundConfig, run: RunDir, learner: LanguageModel, pairs: list[Pair], seeds: list[SeedPair], asked: set[str]
) -> None:  # fmt: skip
    total = config.sft_steps + config.preference_steps
    run.events.emit("train", 0, total)

    def on_step(done: int, of: int, metrics: dict[str, float]) -> None:
        run.events.emit("train", done, of, metrics=metrics if done == of or done % 10 == 0 else None)

    # Seed pairs are unsafe and harmless by construction.
    twins = [s for s in seeds if s.harmless and not is_held_back(s)]
    drawn = draw_styles(twins, config.contrast_prompts, random.Random(f"{config.seed}:contrast"))
    contrast = [s.unsafe for s in drawn], [s.harmless for s in drawn]
    losses = train_adapter(
        config, learner, pairs, run.learn / "adapter", contrast=contrast,
        held_back=held_back(seeds, asked) if config.lookalike_training else [], on_step=on_step,
    )  # fmt: skip
    run.events.emit("train", total, total, message="Adapter saved", metrics=losses)


def load_samples(run: RunDir) -> list[Sample]:
    paths = sorted(run.propose.glob("samples-*.jsonl"))
    if not paths:
        raise ValueError(f"{run.propose} holds no samples: run the propose phase first")
    return [sample for path in paths for sample in read_rows(path, Sample)]


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
