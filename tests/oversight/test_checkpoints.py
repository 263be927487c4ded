"""Checkpoints: the card, the downloads as a stream, and the merged model made by a child process."""

from __future__ import annotations

import io
import json
import shutil
import sys
import uuid
import zipfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from alignment.model_card import Lineage
from alignment.rundir import RunDir
from oversight import downloads, merging, runfiles, tasks, workers
from oversight.models import AuditEvent, Checkpoint, Merge, MetricPoint
from oversight.services import merges
from oversight.services.round_rows import RoundRefused
from tests.factories import make_round, make_user
from tests.oversight.test_starts import make_checkpoint

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]
For = Callable[..., Client]


@pytest.fixture(params=["folder", "url"])
def runs(request: pytest.FixtureRequest, tmp_path: Path, settings: Any) -> Path:
    """Where run folders lie: a plain path, or a URL with a local copy."""
    remote = tmp_path / "runs"
    remote.mkdir()
    settings.RUNS_URL = str(remote) if request.param == "folder" else f"file://{remote}"
    settings.VAR_DIR = tmp_path / "var"
    return remote


@pytest.fixture
def checkpoint(runs: Path) -> Checkpoint:
    round = make_round(status="done", phase="learn", config={"learner": "/models/SmolLM2", "seed": 3})
    adapter = runs / str(round.pk) / "learn" / "adapter"
    adapter.mkdir(parents=True)
    (runs / str(round.pk) / "config.json").write_text("{}")
    (adapter / "adapter_model.safetensors").write_bytes(b"weights" * 300_000)
    (adapter / "adapter_config.json").write_text('{"r": 4}')
    (adapter / "README.md").write_text("of the library")
    lineage = Lineage(1, str(round.pk), "conformity", 3, "SmolLM2", "base", True, ["Accepted."], labels=7, reviewers=2)
    made = make_checkpoint(round, card=lineage.to_json(), reasons=["Accepted: every check passed."])
    Checkpoint.objects.filter(pk=made.pk).update(sha256=runfiles.digest_folder(adapter))
    for model, value in (("old", 0.5), ("new", 0.25)):
        MetricPoint.objects.create(
            round=round, name="attack_success", model=model, value=value, ci_low=value - 0.1, ci_high=value + 0.1, n=60
        )
    return Checkpoint.objects.get(pk=made.pk)


@pytest.fixture(autouse=True)
def machines(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    asked: list[tuple[str, int]] = []
    monkeypatch.setattr(workers, "listening", lambda queue: [f"{queue}@here"])
    monkeypatch.setattr(tasks.run_merge, "delay", lambda *values: asked.append(values))
    return asked


def unzip(answer: Any) -> zipfile.ZipFile:
    assert answer.status_code == 200, answer.status_code
    return zipfile.ZipFile(io.BytesIO(b"".join(answer)))


def test_the_card_on_its_page(checkpoint: Checkpoint, client_for: For) -> None:
    page = client_for("reviewer").get(f"/checkpoints/{checkpoint.pk}/").content.decode()
    for words in ("7 samples", "by 2 people", "0.40 to 0.60", "Accepted: every check passed.", checkpoint.sha256):
        assert words in page, words
    assert "/adapter.zip" not in page and "Merge into" not in page
    page = client_for("researcher").get(f"/checkpoints/{checkpoint.pk}/").content.decode()
    assert "/adapter.zip" in page and "Merge into" in page
    Checkpoint.objects.update(card={})
    assert "kept no record" in client_for("reviewer").get(f"/checkpoints/{checkpoint.pk}/").content.decode()


def test_the_chain_of_parents(client_for: For) -> None:
    first = make_checkpoint(make_round(status="done"))
    second = make_checkpoint(make_round(experiment=first.experiment, status="done"), parent=first)
    third = make_checkpoint(make_round(experiment=first.experiment, status="done"), parent=second)
    page = client_for("reviewer").get(f"/checkpoints/{third.pk}/").content.decode()
    links = [page.index(f"/checkpoints/{parent.pk}/") for parent in (second, first)]
    assert links == sorted(links) and page.index("the base model") > links[-1]


def test_the_adapter_as_a_zip(checkpoint: Checkpoint, client_for: For) -> None:
    answer = client_for("lead").get(f"/checkpoints/{checkpoint.pk}/adapter.zip")
    found = unzip(answer)
    assert found.testzip() is None
    assert set(found.namelist()) == {"README.md", "adapter_model.safetensors", "adapter_config.json"}
    assert found.read("adapter_model.safetensors") == b"weights" * 300_000
    card = found.read("README.md").decode()
    assert card.startswith("---\n") and "| attack success, by judge | 0.50 (0.40 to 0.60) | 0.25" in card
    assert "/models/" not in card
    assert answer.headers["Content-Disposition"] == 'attachment; filename="round-1-adapter.zip"'
    assert AuditEvent.objects.get(action="checkpoint.download").detail == {"kind": "adapter"}


def test_who_may_download(checkpoint: Checkpoint, client_for: For, client: Client) -> None:
    address = f"/checkpoints/{checkpoint.pk}/adapter.zip"
    assert client.get(address).status_code == 302
    assert client_for("reviewer").get(address).status_code == 403
    assert client_for("lead").get(f"/checkpoints/{checkpoint.pk}/merged.zip").status_code == 404
    assert client_for("lead").get(f"/checkpoints/{uuid.uuid4()}/adapter.zip").status_code == 404
    critic = make_checkpoint(checkpoint.round, role="critic")
    assert client_for("lead").get(f"/checkpoints/{critic.pk}/adapter.zip").status_code == 404


def test_a_zip_is_never_whole_in_memory(checkpoint: Checkpoint, client_for: For) -> None:
    made: list[int] = []

    def pieces() -> Iterator[bytes]:
        for number in range(50):
            made.append(number)
            yield b"x" * 100_000

    whole, ahead = b"", 0
    for piece in downloads.write_zip([("big", pieces())]):
        whole += piece
        ahead = max(ahead, len(made) * 100_000 - len(whole))
    assert zipfile.ZipFile(io.BytesIO(whole)).read("big") == b"x" * 5_000_000
    assert ahead <= 200_000
    # An asynchronous iterator would be read whole where pages run as WSGI.
    assert not client_for("lead").get(f"/checkpoints/{checkpoint.pk}/adapter.zip").is_async


def child(code: str) -> Callable[..., list[str]]:
    """Stands in for the export command; OUT is the folder to make, CARD the model card's file."""

    def command(run_dir: Path, out: Path, card: Path) -> list[str]:
        return [sys.executable, "-c", f"import json, pathlib, sys\nOUT, CARD = {str(out)!r}, {str(card)!r}\n{code}"]

    return command


GOOD = """
print("a library says something")
print(json.dumps({"done": 1, "total": 3, "words": "merging"}), flush=True)
pathlib.Path(OUT).mkdir(parents=True)
pathlib.Path(OUT, "model.safetensors").write_bytes(b"merged")
pathlib.Path(OUT, "README.md").write_text(pathlib.Path(CARD).read_text())
"""


def test_a_merge_from_the_button_to_the_download(
    checkpoint: Checkpoint, client_for: For, machines: list[Any], monkeypatch: pytest.MonkeyPatch, runs: Path
) -> None:
    monkeypatch.setattr(merging, "export_command", child(GOOD))
    client = client_for("researcher")
    assert client.post(f"/checkpoints/{checkpoint.pk}/merge/").status_code == 302
    merge = Merge.objects.get()
    assert machines == [(str(merge.pk), 1)] and merge.state == "queued"
    asked = {"HX-Target": "checkpoint-merge"}
    assert "every 2s" in client.get(f"/checkpoints/{checkpoint.pk}/", headers=asked).content.decode()
    merging.run_merge(merge.pk, 1)
    merge.refresh_from_db()
    assert (merge.state, merge.reason, merge.done, merge.total) == ("done", "", 1, 3)
    assert merge.size > 6 and len(merge.sha256) == 64
    assert (runs / f"merged-{checkpoint.pk}" / "model.safetensors").read_bytes() == b"merged"
    page = client.get(f"/checkpoints/{checkpoint.pk}/", headers=asked).content.decode()
    assert merge.sha256 in page and "merged.zip" in page and "every 2s" not in page
    found = unzip(client.get(f"/checkpoints/{checkpoint.pk}/merged.zip"))
    assert set(found.namelist()) == {"README.md", "model.safetensors"}
    assert "library_name: transformers" in found.read("README.md").decode()
    with pytest.raises(RoundRefused, match="merged already"):
        merges.ask_merge(checkpoint=checkpoint, user=make_user("researcher"))
    shutil.rmtree(runs / f"merged-{checkpoint.pk}")
    page = client.get(f"/checkpoints/{checkpoint.pk}/", headers=asked).content.decode()
    assert "files were deleted" in page and "Try again" in page
    assert client.get(f"/checkpoints/{checkpoint.pk}/merged.zip").status_code == 404
    client.post(f"/checkpoints/{checkpoint.pk}/merge/")
    assert Merge.objects.get().state == "queued"


def test_a_failed_merge_says_why_and_can_be_tried_again(
    checkpoint: Checkpoint, client_for: For, monkeypatch: pytest.MonkeyPatch
) -> None:
    rosa = make_user("researcher")
    merge = merges.ask_merge(checkpoint=checkpoint, user=rosa)
    monkeypatch.setattr(merging, "export_command", child("sys.exit('error: no room for <b>weights</b>')"))
    merging.run_merge(merge.pk, 1)
    page = client_for(rosa).get(f"/checkpoints/{checkpoint.pk}/").content.decode()
    assert "no room for &lt;b&gt;weights" in page and "Try again" in page
    again = merges.ask_merge(checkpoint=checkpoint, user=rosa)
    assert (again.pk, again.attempt, again.reason) == (merge.pk, 2, "")
    merging.run_merge(merge.pk, 1)  # the old message comes late
    assert Merge.objects.get().state == "queued"
    monkeypatch.setattr(merging, "export_command", child(GOOD))
    merging.run_merge(merge.pk, 2)
    assert Merge.objects.get().state == "done"


def test_a_checkpoint_that_was_changed_is_not_merged(checkpoint: Checkpoint) -> None:
    Checkpoint.objects.update(sha256="f" * 64)
    merge = merges.ask_merge(checkpoint=checkpoint, user=make_user("researcher"))
    merging.run_merge(merge.pk, 1)
    assert "was changed" in Merge.objects.get().reason


def test_a_lost_worker(checkpoint: Checkpoint, client_for: For, settings: Any) -> None:
    rosa = make_user("researcher")
    merge = merges.ask_merge(checkpoint=checkpoint, user=rosa)
    assert merges.start_merge(merge.pk, 1) is not None and merges.start_merge(merge.pk, 1) is None
    with pytest.raises(RoundRefused, match="being merged now"):
        merges.ask_merge(checkpoint=checkpoint, user=rosa)
    Merge.objects.update(moved_at=timezone.now() - timedelta(seconds=settings.LOST_AFTER_SECONDS + 1))
    page = client_for(rosa).get(f"/checkpoints/{checkpoint.pk}/").content.decode()
    assert "its worker is gone" in page and "Try again" in page
    assert merges.ask_merge(checkpoint=checkpoint, user=rosa).attempt == 2
    assert not merges.note_step(merge.pk, 1, done=1, total=3, words="late")
    assert not merges.finish_merge(merge.pk, 1, sha256="x")


def test_no_worker_and_no_critic(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    critic = make_checkpoint(checkpoint.round, role="critic")
    with pytest.raises(RoundRefused, match="Only a learner's"):
        merges.ask_merge(checkpoint=critic, user=make_user("researcher"))
    monkeypatch.setattr(workers, "listening", lambda queue: [])
    with pytest.raises(RoundRefused, match="No worker is listening"):
        merges.ask_merge(checkpoint=checkpoint, user=make_user("researcher"))


def test_the_steps_among_other_lines(tmp_path: Path) -> None:
    output = tmp_path / "output"
    output.write_text('{"done": 1, "total": 3, "words": "a"}\nnoise\n{"done": 2, "total": 3, "words": "b"}\n{half\n')
    assert merging._read_step(output) == (2, 3, "b")
    output.write_text(json.dumps({"done": "x"}))
    assert merging._read_step(output) is None


def test_the_run_folder_of_a_phase_does_not_carry_it(checkpoint: Checkpoint) -> None:
    assert runfiles.merged_folder(checkpoint).path.parent == runfiles.run_folder(checkpoint.round).path.parent
    assert isinstance(runfiles.merged_folder(checkpoint), RunDir)
