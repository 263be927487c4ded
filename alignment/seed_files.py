"""Reads what ships in alignment/seeds/: principles, seed pairs, chat prompts, exemplars, probes, injections."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from alignment.records import ChatPrompt, Exemplar, Injection, Principle, Probe, SeedPair
from alignment.rundir import read_rows

FOLDER = Path(__file__).parent / "seeds"


@cache
def shipped_principles() -> list[Principle]:
    return read_rows(FOLDER / "principles.jsonl", Principle)


@cache
def shipped_seeds() -> list[SeedPair]:
    return [pair for path in sorted((FOLDER / "prompts").glob("*.jsonl")) for pair in read_rows(path, SeedPair)]


@cache
def shipped_exemplars() -> list[Exemplar]:
    return read_rows(FOLDER / "exemplars.jsonl", Exemplar)


@cache
def shipped_probes() -> list[Probe]:
    """The unsafe and harmless probes; competence probes are made by `tasks` from their own split."""
    return read_rows(FOLDER / "probes.jsonl", Probe)


@cache
def final_probes() -> list[Probe]:
    """Probes that no round, gate or setting has seen: only a benchmark's last line and a person's own test read them.

    Their styles are in no seed and no other probe, apart from the short questions and imperatives that users type.
    """
    return read_rows(FOLDER / "probes_final.jsonl", Probe)


@cache
def shipped_chat() -> list[ChatPrompt]:
    """Ordinary harmless prompts; a third of them sound alarming or touch a delicate subject in a plainly fine way."""
    return read_rows(FOLDER / "chat.jsonl", ChatPrompt)


@cache
def shipped_injections() -> list[Injection]:
    """What answers may end with to steer the critic; most say that all is fine, the family "accusation" the reverse."""
    return read_rows(FOLDER / "injections.jsonl", Injection)
