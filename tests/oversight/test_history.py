"""One's own judgements: which are shown, what became of them, page by page, at a fixed cost."""

from __future__ import annotations

import re
import uuid
from datetime import timedelta

import pytest
from django.utils import timezone

from oversight.models import Review
from oversight.selectors.history import list_own_reviews
from tests.factories import make_review, make_round, make_sample, make_user
from tests.hostile import HOSTILE


def text(answer):
    return " ".join(answer.content.decode().split())


def rows(answer):
    return re.findall(r"<li>.*?</li>", text(answer).partition('class="judged"')[2])


@pytest.mark.parametrize("role", ["reviewer", "lead", "researcher", "operator"])
def test_each_role_has_a_history_of_its_own(role, client_for):
    make_review(sample=make_sample(prompt="of somebody else"), reviewer=make_user())
    html = text(client_for(role).get("/review/history/"))
    assert "You have not judged anything yet" in html
    assert "of somebody else" not in html


def test_it_is_in_the_menu_and_on_the_workbench(page):
    make_sample()
    assert text(page.get("/review/")).count('href="/review/history/"') == 2


def test_newest_first_with_what_became_of_each(page, ada):
    round_ = make_round()
    lead = make_user("lead")

    def judge(prompt, **fields):
        return make_review(sample=make_sample(round=round_, prompt=prompt), reviewer=ada, **fields)

    plain = judge("plain one", action="violates", violations={"0": []}, note="because")
    judge("skipped one", action="skip", skip_reason="expertise")
    undone = judge("undone one")
    make_review(sample=undone.sample, reviewer=ada, action="undo", supersedes=undone)
    old = judge("revised one", action="approve")
    make_review(sample=old.sample, reviewer=ada, action="both_bad", supersedes=old, saw_critic=True)
    gone = judge("withdrawn one")
    make_review(sample=gone.sample, reviewer=lead, action="withdraw", supersedes=gone)
    judge("known one", purpose="gold")
    judge("late one", held_lease=False)
    found = {
        re.search(r"(\w+ one)", row)[1] + row.count("Both violate") * "*": row
        for row in rows(page.get("/review/history/"))
    }
    assert list(found) == [
        "late one", "known one", "withdrawn one", "revised one*", "revised one", "undone one",
        "skipped one", "plain one",
    ]  # fmt: skip
    assert "withdrawn by a lead" in found["withdrawn one"]
    assert ">revised</span>" in found["revised one"] and ">revised</span>" not in found["revised one*"]
    assert "after the critic" in found["revised one*"]
    assert "taken back" in found["undone one"]
    assert "outside my expertise" in found["skipped one"]
    assert "known answer" in found["known one"]
    assert "late: an extra judgement" in found["late one"]
    assert "A violates" in found["plain one"] and "Note: because" in found["plain one"]
    assert f'href="/samples/{plain.sample_id}/"' in found["plain one"]
    revisable = {name for name, row in found.items() if "/review/revise/" in row}
    assert revisable == {"plain one", "revised one*", "late one"}


@pytest.mark.parametrize("status", ["learning", "done", "failed", "cancelled"])
def test_a_closed_round_is_not_revised(status, page, ada):
    make_review(sample=make_sample(round=make_round(status=status)), reviewer=ada)
    assert "/review/revise/" not in text(page.get("/review/history/"))


def test_page_by_page_nothing_is_skipped_or_shown_twice(ada):
    sample, at = make_sample(), timezone.now()
    made = [make_review(sample=sample, reviewer=ada, action="skip") for _ in range(7)]
    Review.objects.filter(pk__in=[review.pk for review in made[:5]]).update(created_at=at - timedelta(hours=1))
    seen, after = [], ""
    for _ in range(4):
        page = list_own_reviews(ada, after=after, size=2)
        seen += [row.review.pk for row in page.rows]
        after = page.next
    assert sorted(seen) == sorted(review.pk for review in made)
    assert not after


def test_filtered_by_round(page, ada):
    first = make_review(sample=make_sample(prompt="early", round=make_round(status="done")), reviewer=ada)
    make_review(sample=make_sample(prompt="recent", round=make_round()), reviewer=ada)
    html = text(page.get("/review/history/", {"round": str(first.sample.round_id)}))
    assert "early" in html and "recent" not in html
    for bad in ("nonsense", str(uuid.uuid4())):
        assert "recent" in text(page.get("/review/history/", {"round": bad}))


@pytest.mark.parametrize("after", ["nonsense", "e30=", "WzEsMl0=", "☃"])
def test_a_cursor_that_nobody_made_starts_at_the_beginning(after, page, ada):
    make_review(sample=make_sample(prompt="here"), reviewer=ada)
    assert "here" in text(page.get("/review/history/", {"after": after}))


def test_as_many_queries_however_long_it_is(page, ada, django_assert_num_queries):
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    make_review(sample=make_sample(), reviewer=ada)
    with CaptureQueriesContext(connection) as few:
        page.get("/review/history/")
    for _ in range(40):
        make_review(sample=make_sample(), reviewer=ada)
    with django_assert_num_queries(len(few)):
        page.get("/review/history/")


def test_hostile_texts_stay_texts(page, ada):
    for _, words in HOSTILE:
        if "\x00" not in words:
            make_review(sample=make_sample(prompt=words), reviewer=ada, note=words[:500])
    html = page.get("/review/history/").content.decode()
    assert "<script>alert" not in html and "<img" not in html


def test_blurred_categories_show_no_prompt(page, ada):
    ada.blurred = ["privacy"]
    ada.save()
    make_review(sample=make_sample(prompt="not to be read"), reviewer=ada)
    html = text(page.get("/review/history/"))
    assert "not to be read" not in html
    assert "A sample about privacy" in html
