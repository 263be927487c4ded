"""Tasks are deterministic, their splits disjoint, and their checkers forgive prose but not wrong answers."""

from __future__ import annotations

import re

import pytest

from alignment.tasks import LEVELS, Task, check, generate, split_of


def task(checker: str, answer: str, given: tuple[str, ...] = (), options: tuple[str, ...] = ()) -> dict[str, object]:
    return Task("?", answer, checker, 1, "x", "k", list(given), list(options)).to_json()  # type: ignore[arg-type]


@pytest.mark.parametrize("level", LEVELS)
def test_splits_are_disjoint_in_key_and_prompt_across_seeds(level: int) -> None:
    train = [t for seed in range(5) for t in generate(seed, level, 60, "train")]
    probe = [t for seed in range(5) for t in generate(seed, level, 30, "probe")]
    assert not {t.prompt for t in train} & {t.prompt for t in probe}
    assert not {t.key for t in train} & {t.key for t in probe}
    assert {split_of(t.key) for t in train} == {"train"}
    assert {t.level for t in train + probe} == {level}


def test_the_key_says_all_that_is_asked() -> None:
    # Equal keys must mean equal answers, or the split would not separate the tasks; an opposite has two directions.
    for level in LEVELS:
        answers: dict[str, str] = {}
        for seed in range(8):
            for made in generate(seed, level, 60, "train"):
                if "opposite" not in made.key:
                    assert answers.setdefault(made.key, made.answer) == made.answer


def test_the_same_arguments_give_the_same_tasks_each_once() -> None:
    assert generate(7, 3, 40, "train") == generate(7, 3, 40, "train")
    assert generate(7, 3, 40, "train") != generate(8, 3, 40, "train")
    assert len({t.key for t in generate(7, 3, 40, "train")}) == 40
    assert {t.family for t in generate(7, 3, 6, "train")} == {"arithmetic", "format", "reasoning"}
    assert generate(0, 1, 0, "train") == []


@pytest.mark.parametrize("level", LEVELS)
def test_what_is_learnt_from_is_a_right_answer(level: int) -> None:
    for made in [*generate(2, level, 120, "train"), *generate(2, level, 50, "probe")]:
        assert check(made.to_json(), made.example), made


def test_where_a_level_has_fewer_tasks_than_asked_all_are_given_if_that_is_wanted() -> None:
    with pytest.raises(ValueError, match=r"only \d+ tasks of level 1 exist in train, 5000 were asked for"):
        generate(0, 1, 5000, "train")
    found = generate(0, 1, 5000, "train", fewer=True)
    assert 100 < len(found) == len({t.key for t in found}) < 5000


def test_arithmetic_answers_are_right() -> None:
    for level in LEVELS:
        for made in generate(2, level, 60, "train"):
            if made.family == "arithmetic":
                sums = re.search(r"[(\d][\d+\-x() ]*\d", made.prompt)
                assert sums is not None
                assert eval(sums.group().replace("x", "*")) == int(made.answer)  # noqa: S307


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="level is 6"):
        generate(0, 6, 1, "train")
    with pytest.raises(ValueError, match="split is 'test'"):
        generate(0, 1, 1, "test")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="were asked for"):
        generate(0, 1, 100_000, "probe")


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("12", True),
        ("The answer is 12.", True),
        ("7 + 5 = 12", True),
        ("The sum of 7 and 5 is **12**.", True),
        ("12. To get this we add 7 and 5.", True),
        ("The total is 7 + 5 = 12.", True),
        ("First 7 + 3 = 10, then 10 + 2 = 12.", True),
        ("To calculate 7 + 5, add the two numbers, which gives us 12. So, 7 + 5 = 12. Then 1", True),
        ("Twelve is 12.0", True),
        ("13", False),
        ("The answer is 13, not 12? The answer is 13", False),
        ("7 + 5 = 75", False),
        ("7 + 5", False),
        ("112", False),
        ("I don't know.", False),
        ("", False),
    ],
)
def test_number_checker(text: str, right: bool) -> None:
    assert check(task("number", "12", ("7", "5")), text) is right


def test_numbers_may_be_negative_or_have_separators() -> None:
    assert check(task("number", "-8"), "It comes to -8.")
    assert check(task("number", "85782", ("986", "87")), "986 x 87 = 85,782")
    assert check(task("number", "5", ("12", "7")), "12-7 leaves 5")


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("Ben is older.", True),
        ("The answer is: Ben", True),
        ("Ann", False),
        ("Ann is older than Ben.", False),
        ("?", False),
    ],
)
def test_choice_among_given_names(text: str, right: bool) -> None:
    assert check(task("choice", "Ben", ("Ann", "Ben"), ("Ann", "Ben")), text) is right


def test_choice_passes_over_an_echo_of_the_question() -> None:
    day = task("choice", "Thursday", ("Monday",), ("Monday", "Tuesday", "Wednesday", "Thursday"))
    assert check(day, "If today is Monday, it will be Thursday.")
    assert not check(day, "Today is Monday.")


def test_format_checkers_are_strict_where_the_task_is() -> None:
    assert check(task("word", "yes"), ' "Yes." ')
    assert not check(task("word", "yes"), "Yes, of course.")
    assert check(task("mentions", "river"), "The River runs fast.")
    assert not check(task("mentions", "river"), "river")
    assert check(task("contains", "RIVER"), "Here it is: RIVER.")
    assert not check(task("contains", "RIVER"), "River")
    assert check(task("contains", "c-b-a"), "The words are c-b-a")
    assert not check(task("contains", "c-b-a"), "d-c-b-a")


def test_list_checkers_count_distinct_entries() -> None:
    assert check(task("count", "3"), "Here you are: red, dark green, and blue.")
    assert not check(task("count", "3"), "red, red, red")
    assert not check(task("count", "3"), "red, green, blue, pink")
    assert check(task("numbered", "2"), "Sure:\n1. oak\n2. elm")
    assert check(task("numbered", "2"), "1. oak\n2. elm\n\nHere it is again:\n1. oak\n2. elm")
    assert not check(task("numbered", "2"), "1. oak\n2. oak")


def test_json_checker_finds_the_object_in_prose() -> None:
    assert check(task("json", '{"a": 1, "bb": 2}'), 'Here: ```json\n{"bb": 2, "a": 1}\n```')
    assert not check(task("json", '{"a": 1}'), '{"a": "1"}')
    assert not check(task("json", '{"a": 1}'), "{a: 1}")


def test_every_task_accepts_its_own_answer_where_the_answer_is_text() -> None:
    for level in LEVELS:
        for made in generate(3, level, 60, "train"):
            if made.checker in ("number", "choice", "word", "contains", "json"):
                assert check(made.to_json(), made.answer), made
