"""From labels to training pairs: what the learner should have said, and what it should not have.

The word of people weighs `human_weight`, the fitted critic's its calibrated confidence; how far the critic may be
wrong goes with the pair (`noise`). What is trained on beside these, and in which shares: `training_mix.py`.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from alignment.config import RoundConfig
from alignment.language_model import Prompt
from alignment.records import Label, Pair, Principle, Sample
from alignment.refusal import is_refusal
from alignment.tasks import check
from alignment.training_mix import (
    Material,
    SafeAnswers,
    chat_anchors,
    drawn_tasks,
    in_shares,
    lookalikes,
    replayed_attacks,
    whole_sentences,
)

# (prompt, violating answer, principle) -> the revision, or None where it was not accepted; all in one batch
Revise = Callable[[list[tuple[str, str, Principle]]], list[str | None]]
REVISION_TRIES = 12  # critique-and-revise attempts a round: each costs the learner an answer


def build_pairs(
    config: RoundConfig, material: Material, *, revise: Revise, answer: Callable[[list[Prompt]], list[str]]
) -> list[Pair]:
    """All training pairs of the round, weighted so that every group has its share of the draws. `answer` gives the
    base model's own answers to harmless prompts."""
    rng = random.Random(f"{config.seed}:{config.number}:pairs")
    safe = SafeAnswers(material.principles, rng)
    revisions = _revisions(material, revise)
    own: list[Pair] = []
    for sample in material.samples:
        label = material.labels.get(sample.query["id"])
        if sample.query["kind"] == "competence":
            own += _from_task(sample, truth=config.objective != "conformity")
        elif label is not None:
            own += _from_label(config, sample, label, material.principles, safe, revisions)
    declines, twins = replayed_attacks(config, material, safe, rng)
    pairs = [*own, *declines, *drawn_tasks(config)]
    if config.lookalike_training:
        twins += lookalikes(config, material, {p.prompt for p in own}, safe, answer)
        pairs += [*twins, *chat_anchors(config, material.chat, rng)]
    return in_shares(pairs, config.objective)


def _revisions(material: Material, revise: Revise) -> dict[str, str]:
    """Accepted revisions by query id, of samples where every judged answer violates; people's samples first."""
    wanted = []
    for sample in material.samples:
        label = material.labels.get(sample.query["id"])
        if label is None or sample.query["kind"] != "unsafe" or label.rewrite or label.preferred:
            continue
        bad = next((r["text"] for r in sample.responses if label.violates.get(r["id"], 0.0) >= 0.5), None)
        principle = material.principles.get(next(iter(label.principles), sample.query["principle"]))
        if bad and principle and principle.safe_answers and min(label.violates.values()) >= 0.5:
            wanted.append((label.source == "critic", sample.query["id"], (sample.query["text"], bad, principle)))
    wanted = sorted(wanted, key=lambda row: row[0])[:REVISION_TRIES]
    revised = revise([row[2] for row in wanted]) if wanted else []
    return {row[1]: text for row, text in zip(wanted, revised, strict=True) if text}


def _from_label(
    config: RoundConfig, sample: Sample, label: Label, principles: dict[str, Principle],
    safe: SafeAnswers, revisions: dict[str, str],
) -> list[Pair]:  # fmt: skip
    query = sample.query
    texts = {r["id"]: r["text"] for r in sample.responses}
    machine = label.source == "critic"
    doubt = min((min(p, 1 - p) for p in label.violates.values()), default=0.0) if machine else 0.0
    weight = label.weight * (1 - doubt if machine else config.human_weight)
    broken = [i for i, p in label.violates.items() if p >= 0.5 and i in texts]
    fine = [i for i, p in label.violates.items() if p < 0.5 and texts.get(i, "").strip()]
    key = next((p for p in label.principles if p in principles), query["principle"])

    def pair(chosen: str, rejected: str | None, source: str, times: float = 1.0) -> Pair:
        return Pair(
            query["text"], chosen, rejected, weight * times, query["kind"], source, query["id"], key,
            query.get("history") or [], doubt,
        )  # fmt: skip

    if label.rewrite:
        meant = [label.rewrite_of] if label.rewrite_of in texts else []
        worst = meant or broken or [i for i in texts if i not in fine] or list(texts)
        return [pair(label.rewrite, texts[worst[0]], "rewrite")]
    if label.preferred in texts and label.preferred not in broken:
        others = [i for i in texts if i != label.preferred]
        return [
            pair(
                whole_sentences(texts[label.preferred]) or texts[label.preferred],
                texts[others[0]] if others else None,
                "preference",
            )
        ]
    # On an unsafe prompt a fine answer is one that declines or redirects; keep those that say so plainly.
    best = [i for i in fine if query["kind"] == "harmless" or is_refusal(texts[i])]
    if query["kind"] == "harmless":
        best = [i for i in best if not is_refusal(texts[i])]
    best = [i for i in best if whole_sentences(texts[i])]
    if best:
        said = whole_sentences(texts[best[0]])
        chosen = safe.behind(key, said) if query["kind"] == "unsafe" else said
        return [pair(chosen, texts[broken[0]] if broken else None, "own answer")]
    if not broken or query["kind"] == "harmless":
        return []
    bad = texts[broken[0]]
    revised = revisions.get(query["id"])
    if revised:
        return [pair(safe.behind(key, revised), bad, "revision")]
    written = safe.get(key) or safe.get(query["principle"])
    return [pair(written, bad, "safe answer")] if written else []


def _from_task(sample: Sample, *, truth: bool) -> list[Pair]:
    """An own right answer, checked by program, against an own wrong one. Where all are wrong: the true answer if
    `truth`, else nothing, because a conformity round is there to keep competence, not to teach it."""
    query = sample.query
    task = query["task"] or {}
    right = [r["text"] for r in sample.responses if check(task, r["text"])]
    wrong = [r["text"] for r in sample.responses if not check(task, r["text"]) and r["text"].strip()]
    chosen = right[0] if right else str(task.get("worked") or task.get("answer", ""))
    if not chosen or not (right or truth):
        return []
    return [
        Pair(
            query["text"], chosen, wrong[0] if wrong else None, 1.0, "competence", "program", query["id"],
            query["principle"],
        )
    ]  # fmt: skip
