"""Run folders: where they lie, how they travel, and the inputs that a phase starts from.

Under a plain path (the default) a run folder is used in place. Under a URL with a scheme (s3://...)
a phase works on a local copy: pulled before, pushed after, so that any machine can take a round up.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import fsspec
from django.conf import settings
from django.utils.crypto import salted_hmac

from alignment import records
from alignment.archive import carry_over
from alignment.config import RoundConfig
from alignment.rundir import RunDir, read_rows, write_rows
from oversight.models import Checkpoint, Label, Review, Round, TrainedOn
from oversight.selectors.starts import find_start

log = logging.getLogger(__name__)


def run_folder(round: Round) -> RunDir:
    """The local folder of a round: its only one, or the copy of a remote one."""
    root = settings.VAR_DIR / "runs-cache" if is_remote() else Path(settings.RUNS_URL)
    return RunDir(root.absolute() / str(round.pk))


def is_remote() -> bool:
    return "://" in settings.RUNS_URL


def pull(folder: RunDir) -> None:
    """Brings the local copy up to date; nothing to do where the folder is used in place."""
    if is_remote():
        _download(folder.path.name, folder.path)


def push(folder: RunDir) -> None:
    """Sends what the remote folder lacks; nothing to do where the folder is used in place."""
    if not is_remote():
        return
    system, root = fsspec.url_to_fs(settings.RUNS_URL)
    there = _listing(system, f"{root}/{folder.path.name}")
    for path in sorted(folder.path.rglob("*")):
        name = path.relative_to(folder.path).as_posix()
        if not path.is_file() or path.name.endswith(".part"):
            continue
        # A file of the same size may differ (labels, manifest): only large, immutable ones are skipped.
        if there.get(name) == path.stat().st_size and path.stat().st_size > 1_000_000:
            continue
        target = f"{root}/{folder.path.name}/{name}"
        system.makedirs(target.rpartition("/")[0], exist_ok=True)
        system.put_file(str(path), target)


def _download(name: str, target: Path) -> None:
    system, root = fsspec.url_to_fs(settings.RUNS_URL)
    for relative, size in _listing(system, f"{root}/{name}").items():
        local = target / relative
        here = local.stat().st_size if local.exists() else -1
        # Stage files never change once written; the log only grows, so the longer one is the newer.
        if here == size or (local.name == "events.jsonl" and here > size):
            continue
        local.parent.mkdir(parents=True, exist_ok=True)
        partial = local.with_name(f".{local.name}.part")
        system.get_file(f"{root}/{name}/{relative}", str(partial))
        partial.replace(local)


def _listing(system: Any, base: str) -> dict[str, int]:
    """Relative name -> bytes of every file under `base`; empty where there is no such folder."""
    system.invalidate_cache()
    try:
        found: dict[str, Any] = system.find(base, detail=True)
    except FileNotFoundError:
        return {}
    start = len(system._strip_protocol(base)) + 1
    return {path[start:]: int(info["size"]) for path, info in found.items()}


def write_inputs(round: Round, folder: RunDir) -> None:
    """config.json and inputs/ of the phase that starts now; a retry keeps what the first attempt started from."""
    config = RoundConfig.from_json(round.config)
    folder.create(config)
    if round.phase == Round.Phase.LEARN:
        if not (folder.inputs / "labels.jsonl").exists():
            _refresh_pool(round, folder)
        folder.stage(folder.inputs / "labels.jsonl", records.Label, lambda: labels(round))
        _note_training(round, folder)
        return
    folder.stage(folder.inputs / "principles.jsonl", records.Principle, lambda: principles(round))
    folder.stage(folder.inputs / "seeds.jsonl", records.SeedPair, lambda: seeds(round))
    folder.stage(folder.inputs / "pool.jsonl", records.PoolItem, lambda: pool(round))
    if config.learner_adapter and not (folder.path / config.learner_adapter).exists():
        _copy_adapter(round, folder.path / config.learner_adapter)
    _carry_attacker(round, folder)


def _carry_attacker(round: Round, folder: RunDir) -> None:
    """What the attacker found and learnt up to the newest round before this one, unless attacks are written already."""
    before = Round.objects.filter(
        experiment_id=round.experiment_id, number__lt=round.number, status=Round.Status.DONE
    ).order_by("-number").first()  # fmt: skip
    if before is None or (folder.propose / "attacks-000.jsonl").exists():
        return
    earlier = run_folder(before)
    pull(earlier)
    carry_over(earlier, folder)


def _refresh_pool(round: Round, folder: RunDir) -> None:
    """A label of an earlier round that was withdrawn while people reviewed this one must not train any more."""
    now, path = pool(round), folder.inputs / "pool.jsonl"
    if path.exists() and read_rows(path, records.PoolItem) != now:
        write_rows(path, now)


def _note_training(round: Round, folder: RunDir) -> None:
    """Which labels the learn phase was given: its own round's and, through the pool, those of earlier ones."""
    given = {row.query for row in read_rows(folder.inputs / "labels.jsonl", records.Label)}
    earlier = Label.objects.filter(
        sample__experiment_id=round.experiment_id, sample__round__number__lt=round.number
    ).values_list("sample_id", flat=True)
    rows = [TrainedOn(round=round, sample_id=pk) for pk in {*map(UUID, given), *earlier}]
    TrainedOn.objects.bulk_create(rows, ignore_conflicts=True, batch_size=500)


def _copy_adapter(round: Round, target: Path) -> None:
    checkpoint = find_start(round)
    if checkpoint is None:
        raise ValueError("the round was to start from a checkpoint, but there is none any more; launch a new one")
    source = pull_checkpoint(checkpoint).path.parent / checkpoint.path
    partial = target.with_name(f".{target.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(source, partial)
    partial.replace(target)


def pull_checkpoint(checkpoint: Checkpoint) -> RunDir:
    """The run folder with the checkpoint in it and what made it, checked against its SHA-256. ValueError says why not.

    Under a remote URL only the checkpoint and config.json are brought here.
    """
    folder = run_folder(checkpoint.round)
    source = folder.path.parent / checkpoint.path
    if is_remote():
        _download(checkpoint.path, source)
        if not (folder.path / "config.json").exists():
            system, root = fsspec.url_to_fs(settings.RUNS_URL)
            system.get_file(f"{root}/{folder.path.name}/config.json", str(folder.path / "config.json"))
    if not source.is_dir():
        raise ValueError(f"the checkpoint {source} of round {checkpoint.round.number} is missing; restore its folder")
    found = digest_folder(source)
    if found != checkpoint.sha256:
        raise ValueError(f"the checkpoint {source} was changed: its SHA-256 is {found}, not {checkpoint.sha256}")
    return folder


def merged_folder(checkpoint: Checkpoint) -> RunDir:
    """Where a checkpoint's merged model lies, beside the run folders, so that no phase has to carry it."""
    return RunDir(run_folder(checkpoint.round).path.with_name(f"merged-{checkpoint.pk}"))


def digest_folder(folder: Path) -> str:
    """SHA-256 over the names and contents of a folder's files, in order of their names."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def principles(round: Round) -> list[records.Principle]:
    return [
        records.Principle(
            key=p.key, kind=cast(Any, p.kind), title=p.title, text=p.text, guidance=p.guidance, fine=p.fine,
            category=p.category or None, safe_answers=list(p.safe_answers),
        )
        for p in round.experiment.constitution.principles.all()
    ]  # fmt: skip


def seeds(round: Round) -> list[records.SeedPair]:
    return [
        records.SeedPair(
            id=s.key, category=s.category, principle=s.principle, style=s.style, level=s.level,
            unsafe=s.unsafe, harmless=s.harmless,
        )
        for s in round.experiment.seeds.order_by("key")
    ]  # fmt: skip


def labels(round: Round) -> list[records.Label]:
    """The approved results of the round's own samples; response indices become response ids."""
    rows = []
    for label in Label.objects.filter(sample__round=round).select_related("sample").prefetch_related("sample__reviews"):
        ids = [response["id"] for response in label.sample.responses]
        judgements = [review for review in label.sample.reviews.all() if str(review.pk) in label.evidence]
        blind = _list_blind(list(label.sample.reviews.all()))
        said = {ids[i]: [(r, v) for r in blind if (v := r.says_violates(i)) is not None] for i in range(len(ids))}
        said = {key: own for key, own in said.items() if len(own) > 1}
        rows.append(
            records.Label(
                query=str(label.sample_id),
                violates={ids[int(index)]: float(p) for index, p in label.violates.items()},
                principles=list(label.principles),
                preferred=None if label.preferred is None else ids[label.preferred],
                rewrite=label.rewrite or None,
                rewrite_of=None if label.rewrite_of is None else ids[label.rewrite_of],
                reviews=max(1, len(judgements)),
                votes={key: [vote for _, vote in own] for key, own in said.items()},
                raters={key: [_pseudonym(round, r.reviewer_id) for r, _ in own] for key, own in said.items()},
                decided=label.how == Label.How.ADJUDICATED,
                audit=label.sample.audit,
            )
        )
    return sorted(rows, key=lambda row: row.query)


def _pseudonym(round: Round, user_id: int) -> str:
    """The same for a person throughout an experiment; only who has the secret key can tell who it is."""
    return salted_hmac("oversight.rater", f"{round.experiment_id}:{user_id}").hexdigest()[:12]


def _list_blind(reviews: list[Review]) -> list[Review]:
    """What people said before they saw the critic's verdict, those who were overruled too: agreement is among them."""
    taken_back = {r.supersedes_id for r in reviews if r.action in (Review.Action.UNDO, Review.Action.WITHDRAW)}
    ordinary = [r for r in reviews if r.purpose == Review.Purpose.REVIEW and r.pk not in taken_back]
    return [r for r in ordinary if not r.saw_critic]


def pool(round: Round) -> list[records.PoolItem]:
    """Every answer that people judged in an earlier round of the experiment."""
    earlier = Label.objects.filter(
        sample__round__experiment_id=round.experiment_id, sample__round__number__lt=round.number
    ).select_related("sample__query", "sample__round")
    return [
        records.PoolItem(
            prompt=label.sample.query.text,
            response=label.sample.responses[int(index)]["text"],
            violates=float(p),
            kind=cast(records.QueryKind, label.sample.query.kind),
            category=label.sample.query.category,
            principle=label.sample.query.principle,
            audit=label.sample.audit,
            rewrite=label.rewrite or None,
            round=label.sample.round.number,
            propensity=label.sample.propensity if label.sample.flag_reason else 0.0,
        )
        for label in earlier.order_by("sample__round__number", "sample_id")
        for index, p in sorted(label.violates.items())
    ]
