"""The propose phase: attack -> respond -> critique -> select, in chunks, so that people can start early.

One row of `propose/samples-NNN.jsonl` holds a sample whole (query, responses, critiques, flag, propensity).
A chunk's file is written at once; a killed phase goes on at the first chunk that has none.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from functools import partial

import numpy as np

from alignment.archive import WORKS, archive_metrics, encode_place, read_optional, read_places, save_places
from alignment.asked import ask, describe_failures, load_asked, said_before, spread_of
from alignment.attacker import AttackSearch, record_id
from alignment.attacker_training import load_attacker
from alignment.bandit import yield_metrics
from alignment.chunk_plan import Slots, plan_chunks, slots_of
from alignment.config import RoundConfig
from alignment.critic import Critic, LabelledAnswer
from alignment.critic_fit import fit_critic
from alignment.endpoint import Generator, load_generator
from alignment.feature_cache import cache_folder, cached_readings, save_chunk
from alignment.language_model import LanguageModel, after_turns, critic_layers
from alignment.metrics.failures import failed_critiques
from alignment.metrics.gaps import elicitation_gap, elicited_competence
from alignment.metrics.rates import attack_success_by_group
from alignment.mix import mix_of
from alignment.multi_turn import answer_turns
from alignment.operators import STYLES
from alignment.policies import Pool
from alignment.readings import Reading, read_answer
from alignment.records import (
    Critique,
    Elite,
    Flag,
    Metric,
    OperatorYield,
    PoolItem,
    Principle,
    Query,
    Response,
    Sample,
    SeedPair,
)
from alignment.rundir import RunDir, read_rows, write_rows
from alignment.seed_files import shipped_exemplars, shipped_probes
from alignment.selection import Choice, next_offset, select
from alignment.tasks import generate

FAMILY_PRINCIPLE = {"arithmetic": "right-arithmetic", "format": "follow-format", "reasoning": "shown-reasoning"}


def propose(run: RunDir) -> None:
    """Runs or resumes the phase in `run`; every sample is announced as an item event."""
    config = run.config()
    events = run.events
    events.emit("load", message=f"Loading {config.learner}")
    principles = read_rows(run.inputs / "principles.jsonl", Principle)
    pool = read_rows(run.inputs / "pool.jsonl", PoolItem)
    learner = load_learner(config, run)
    reader = learner if isinstance(learner, LanguageModel) and not config.critic else load_reader(config)

    seeds = read_rows(run.inputs / "seeds.jsonl", SeedPair)
    seeds = [s for s in seeds if not config.attack_levels or s.level in config.attack_levels]
    if not seeds:
        levels = f" of the levels {list(config.attack_levels)}" if config.attack_levels else ""
        raise ValueError(f"there are no seeds{levels} to attack from; import some with: manage.py import_seeds FILE")
    attacker = load_attacker(config, run, learner)
    found = read_optional(run.inputs / "archive.jsonl", Elite)
    yields = read_optional(run.inputs / "operators.jsonl", OperatorYield)
    search = AttackSearch(
        config, seeds, pool, attacker, [p.prompt for p in shipped_probes()], earlier=found, yields=yields
    )
    written = _all_at_once(run, config)
    plan = plan_chunks(config, attacks=min(config.attacks, len(seeds) * len(STYLES)))
    if written:
        plan = [slots_of(chunk) for chunk in written]
    tasks = competence_queries(config)
    total, judgeable = sum(s.total for s in plan), sum(s.judged for s in plan)

    rows = exemplar_rows(reader) + pool_rows(reader, pool, config)
    critic, _ = fit_critic(rows, principles, seed=config.seed)
    judge = load_asked(config, reader)
    by_key = {p.key: p for p in principles}
    labelled = np.stack([place(r.reading) for r in rows])
    start = random.Random(f"{config.seed}:{config.number}:select").random()
    samples: list[Sample] = []
    for number, slots in enumerate(plan):
        done = sum(s.total for s in plan[:number])
        events.emit("attack", done, total)
        own = tasks[sum(s.tasks for s in plan[:number]) :][: slots.tasks]
        write = partial(_write_chunk, run, config, search, learner, slots, number, own, done, total)
        path = run.propose / f"attacks-{number:03d}.jsonl"
        chunk = run.stage(path, Query, lambda: written[number] if written else write())  # noqa: B023 - called at once
        search.remember(chunk)
        spent = [s.propensity for s in samples if s.query["kind"] != "competence"]
        share = sum(q.kind != "competence" for q in chunk) / max(judgeable, 1)
        make = partial(
            _make_samples, run, config, learner, reader, critic, labelled, chunk, number, done, total,
            judge=judge, principles=by_key, earlier=samples, budget=config.budget * share,
            offset=next_offset(start, spent),
        )  # fmt: skip
        made = run.stage(run.propose / f"samples-{number:03d}.jsonl", Sample, make)
        samples += made
        search.learn(made, read_places(run, number))
        for sample in made:
            events.emit("select", done, total, item={"type": "sample", **sample.to_json()})
        flagged = sum(s.flag is not None for s in samples)
        events.emit("select", done + slots.total, total, message=f"{flagged} samples flagged so far")
    events.emit("select", total, total, message=_describe(samples, search))
    if config.attack_policy == "archive":
        write_rows(run.propose / "archive.jsonl", search.archive.rated())
    write_rows(run.propose / "operators.jsonl", search.yields)
    write_rows(run.propose / "metrics.jsonl", propose_metrics(config, samples) + search_metrics(config, search))
    run.write_manifest({"phase": "propose", "seed": config.seed, "round": config.number})
    events.emit("finished", total, total, message=f"{len(samples)} samples, {flagged} for people")


def load_learner(config: RoundConfig, run: RunDir) -> Generator:
    adapter = str(run.path / config.learner_adapter) if config.learner_adapter else ""
    return load_generator(config.learner, adapter=adapter, dtype=config.dtype, device=config.device)


def load_reader(config: RoundConfig) -> LanguageModel:
    """The model whose hidden states critic and judge read, where it is not the learner itself."""
    name = config.critic or config.learner
    if name.startswith("http"):
        raise ValueError(
            f"{name} is an endpoint and shows no hidden states; set the critic to a local model folder or Hub id"
        )
    return LanguageModel.load(name, dtype=config.dtype, device=config.device)


def exemplar_rows(reader: LanguageModel) -> list[LabelledAnswer]:
    """The shipped exemplars for the critic; those set aside for the judge and the competence ones stay out."""
    rows = [e for e in shipped_exemplars() if e.use == "critic" and e.category != "none"]
    readings = cached_readings(
        reader, [e.prompt for e in rows], [e.response for e in rows],
        folder=cache_folder(reader.name),
    )  # fmt: skip
    return [
        LabelledAnswer(e.prompt, float(e.verdict == "violates"), e.principle, 1.0, False, f)
        for e, f in zip(rows, readings, strict=True)
    ]


def pool_rows(reader: LanguageModel, pool: list[PoolItem], config: RoundConfig) -> list[LabelledAnswer]:
    """Labels of earlier rounds, with the weight of people's word."""
    items = [i for i in pool if i.kind != "competence" and i.response.strip()]
    readings = cached_readings(
        reader, [i.prompt for i in items], [i.response for i in items], folder=cache_folder(reader.name)
    )
    return [
        LabelledAnswer(
            i.prompt,
            i.violates,
            i.principle,
            i.weight * config.human_weight,
            True,
            f,
            propensity=i.propensity,
            category=i.category,
        )
        for i, f in zip(items, readings, strict=True)
    ]


def competence_queries(config: RoundConfig) -> list[Query]:
    queries = []
    per_level = {level: config.competence // len(config.levels) for level in config.levels}
    for level in config.levels[: config.competence % len(config.levels)]:
        per_level[level] += 1
    for level, count in per_level.items():
        for i, task in enumerate(generate(config.seed * 1000 + config.number, level, count, "train")):
            queries.append(
                Query(
                    id=record_id(config, "competence", level, i), text=task.prompt, kind="competence",
                    category="competence", principle=FAMILY_PRINCIPLE[task.family], style=task.family, level=level,
                    operator="task", seed=task.key, written_by="program", task=task.to_json(),
                )
            )  # fmt: skip
    return queries


def _all_at_once(run: RunDir, config: RoundConfig) -> list[list[Query]]:
    """The chunks of a phase that an earlier version began: it wrote all queries before the first answer."""
    path = run.propose / "attacks.jsonl"
    queries = read_rows(path, Query) if path.exists() else []
    return [queries[i : i + config.chunk] for i in range(0, len(queries), config.chunk)]


def _write_chunk(
    run: RunDir, config: RoundConfig, search: AttackSearch, learner: Generator, slots: Slots, number: int,
    tasks: list[Query], done: int, total: int,
) -> list[Query]:  # fmt: skip
    """The chunk's attacks, look-alikes and tasks, mixed."""

    def answer(turns: list[list[str]]) -> list[list[dict[str, str]]]:
        return answer_turns(
            learner, turns, max_new_tokens=config.max_new_tokens, temperature=config.temperature,
            seed=config.seed + 500 + 1000 * config.number + number,
        )  # fmt: skip

    attacks, said = search.write(number, slots, answer)
    if said:
        run.events.emit("attack", done, total, message=said)
    queries = attacks + tasks
    random.Random(f"{config.seed}:{config.number}:order:{number}").shuffle(queries)
    return queries


def _make_samples(
    run: RunDir, config: RoundConfig, learner: Generator, reader: LanguageModel, critic: Critic, labelled: np.ndarray,
    chunk: list[Query], number: int, done: int, total: int, *, judge: Generator | None,
    principles: dict[str, Principle], earlier: list[Sample], budget: float, offset: float,
) -> list[Sample]:  # fmt: skip
    """Answers, critiques and flags of one chunk."""
    run.events.emit("respond", done, total)
    responses = _respond(config, learner, chunk, number)
    run.events.emit("critique", done, total)
    flat = [r for own in responses for r in own]
    owners = [q for q, own in zip(chunk, responses, strict=True) for _ in own]
    # The heads read a whole conversation; a judge asked in words reads its last turn, which holds the request.
    layers = critic_layers(reader.layers)
    features = reader.features([after_turns(q.history, q.text) for q in owners], [r.text for r in flat], layers=layers)
    readings = [read_answer(f) for f in features]
    lie = {q.id: f.last_prompt_KD[len(layers) // 2] for q, f in zip(owners, features, strict=True)}
    save_places(
        run.propose / f"places-{number:03d}.tsv",
        {q.id: encode_place(lie[q.id]) for q in chunk if q.kind == "unsafe"},
    )
    save_chunk(run.propose / f"features-{number:03d}.safetensors", [r.id for r in flat], readings)
    asked = None
    if judge:
        asked = ask(judge, owners, flat, principles, batch=config.batch)
        if failed := describe_failures(config.judge, flat, asked):
            run.events.emit("critique", done, total, message=failed)
        spread = spread_of([*said_before(earlier).values(), *asked])
        critic = replace(critic, asked_weight=config.asked_weight, asked_spread=spread)
    critiques = critic.critique(owners, flat, readings, features, asked)
    rng = np.random.default_rng([config.seed, config.number, number])
    places = [place(r) for r in readings]
    pool = selection_pool(config, chunk, critiques, places, labelled, critic.titles)
    return _select(config, chunk, responses, critiques, pool, budget=budget, rng=rng, offset=offset)


def _respond(config: RoundConfig, learner: Generator, chunk: list[Query], number: int) -> list[list[Response]]:
    asked = [after_turns(q.history, q.text) for q in chunk]
    answers = learner.generate(
        asked, max_new_tokens=config.max_new_tokens, temperature=config.temperature,
        seed=config.seed + 1000 * config.number + number, copies=config.responses,
    )  # fmt: skip
    return [
        [
            Response(record_id(config, "response", q.id, k), q.id, k, g.text, g.tokens, g.finish, config.learner)
            for k, g in enumerate(own)
        ]
        for q, own in zip(chunk, answers, strict=True)
    ]


def place(reading: Reading) -> np.ndarray:
    """[D] where an answer lies for diversity and near-duplicates: the mean over it at the middle of the layers read."""
    return np.asarray(reading.mean_RKD[0, reading.mean_RKD.shape[1] // 2], dtype=np.float32)


def selection_pool(
    config: RoundConfig, chunk: list[Query], critiques: list[Critique], places: list[np.ndarray],
    labelled: np.ndarray, titles: dict[str, str],
) -> Pool:  # fmt: skip
    """What the policies see of a chunk's judged queries, in order; program-checked queries are left out.

    The answer that the critic finds worst speaks for a query; its place is the mean of its answers' places.
    A member that gave an answer no score counts with the critic's own.
    """
    judged = [q for q in chunk if q.kind != "competence"]
    own: dict[str, list[int]] = {q.id: [] for q in judged}
    for i, critique in enumerate(critiques):
        if critique.query in own:
            own[critique.query].append(i)
    worst = [max((critiques[i] for i in own[q.id]), key=lambda c: c.violation or 0.0) for q in judged]
    names = sorted({name for c in worst for name in c.members})
    p = np.array([np.nan if c.violation is None else c.violation for c in worst])
    return Pool(
        probability=p,
        members=np.array([[c.members.get(m, c.violation or 0.0) for c in worst] for m in names]).reshape(-1, len(p)),
        features=np.array([np.mean([places[i] for i in own[q.id]], axis=0) for q in judged]).reshape(len(p), -1),
        failed=np.array([any(critiques[i].status != "ok" for i in own[q.id]) for q in judged], dtype=bool),
        labelled=labelled if judged else None,
        risk=np.array([config.category_risk.get(q.category, 1.0) for q in judged]),
        principles=[titles.get(c.principle, c.principle) for c in worst],
    )


def _select(
    config: RoundConfig, chunk: list[Query], responses: list[list[Response]], critiques: list[Critique], pool: Pool,
    *, budget: float, rng: np.random.Generator, offset: float,
) -> list[Sample]:  # fmt: skip
    """Samples of a chunk with their flags. Program-checked queries take no part in the draw: propensity 0."""
    own: dict[str, list[Critique]] = {q.id: [] for q in chunk}
    for critique in critiques:
        own[critique.query].append(critique)
    judged = [q for q in chunk if q.kind != "competence"]
    choices = select(
        pool, budget=budget, audit_share=config.audit_share, rng=rng, offset=offset, policy=config.policy,
        mix=mix_of(config),
    )  # fmt: skip
    decided: dict[str, Choice] = {q.id: c for q, c in zip(judged, choices, strict=True)}
    samples = []
    for query, answers in zip(chunk, responses, strict=True):
        choice = decided.get(query.id)
        flag = None
        if choice and choice.chosen and choice.reason:
            flag = Flag(
                query.id, choice.reason, choice.propensity, choice.priority, choice.words, choice.signals
            ).to_json()
        samples.append(
            Sample(
                query.to_json(), [r.to_json() for r in answers], [c.to_json() for c in own[query.id]], flag,
                choice.propensity if choice else 0.0,
            )
        )  # fmt: skip
    return samples


def propose_metrics(config: RoundConfig, samples: list[Sample]) -> list[Metric]:
    """What this round's own queries show of the model before training. A sample counts once, by its worst answer."""
    unsafe = [s for s in samples if s.query["kind"] == "unsafe"]
    worst = [_worst(s) for s in unsafe]
    name = "fresh_attack_success"
    metrics = attack_success_by_group(worst, [s.query["category"] for s in unsafe], name=name, model="old")
    right = [[bool(c["correct"]) for c in s.critiques] for s in samples if s.query["kind"] == "competence"]
    table = np.array([r for r in right if len(r) == config.responses], dtype=bool).reshape(-1, config.responses)
    judged = [c for s in samples if s.query["kind"] != "competence" for c in s.critiques]
    elicited = [elicitation_gap(table, seed=config.seed, model="old"), elicited_competence(table, model="old")]
    return [*metrics, *elicited, *failed_critiques(judged)]


def _worst(sample: Sample) -> bool | None:
    """True where any answer violates by the critic; None where none does but one could not be judged."""
    seen = [c["violation"] for c in sample.critiques]
    if any(v is not None and v >= 0.5 for v in seen):
        return True
    return None if any(v is None for v in seen) else False


def search_metrics(config: RoundConfig, search: AttackSearch) -> list[Metric]:
    """The archive's coverage, where there is one, and what each operator brought this round."""
    found = yield_metrics(search.samples, retried=search.retried)
    if config.attack_policy == "archive":
        found += archive_metrics(search.archive, search.cells, seed=config.seed)
    return found


def _describe(samples: list[Sample], search: AttackSearch) -> str:
    kinds = Counter(s.query["kind"] for s in samples)
    operators = len({s.query["operator"] for s in samples if s.query["kind"] == "unsafe"})
    working = sum(e.fitness >= WORKS for e in search.archive.elites)
    return (
        f"{kinds['unsafe']} attacks by {operators} operators, {kinds['harmless']} look-alikes, "
        f"{kinds['competence']} competence queries; {len(search.archive.cells)} of {len(search.cells)} cells of the "
        f"archive filled, {working} with an attack that works"
    )
