"""Competence tasks whose answers a program checks: arithmetic, format following, short reasoning; levels 1 to 5.

- `task`: the row `Task`, and which split a task belongs to
- `arithmetic`, `formats`, `reasoning`: one family a file, each `make(rng, level) -> Task`
- `checkers`: `check(task, text)`, robust to prose around an answer
- `generate`: `generate(seed=..., level=..., n=..., split=...)`

The tasks are ours. Train and probe splits are disjoint by a hash of what a task asks (its operands or
words, not its wording), so no probe can be met in training in other words.
"""

from alignment.tasks.checkers import check
from alignment.tasks.generate import FAMILIES, LEVELS, generate
from alignment.tasks.task import Split, Task, split_of

__all__ = ["FAMILIES", "LEVELS", "Split", "Task", "check", "generate", "split_of"]
