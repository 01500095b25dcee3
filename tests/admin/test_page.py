"""The page: its fragments, what hostile text becomes in them, and what a browser is told."""

import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from typing import Any
from zoneinfo import ZoneInfo

import attrs
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.admin import fragments, past
from chatgpt_source.admin.daemon import Daemon
from chatgpt_source.admin.page import HEADERS, document, render
from chatgpt_source.admin.ranges import LATEST, RANGES
from chatgpt_source.admin.view import PAGE, Picked, Query, Shown, read_query
from chatgpt_source.config import Config
from chatgpt_source.health.trouble import Level, Trouble, judged
from chatgpt_source.journal import Detail, FailureGroup, Pause, Record
from chatgpt_source.journal.attempts import Attempt, Kind
from chatgpt_source.prompt import State
from tests.admin.test_ranges import past_of
from tests.door import CONFIG
from tests.journal.common import NOON

HOSTILE = "</script><img src=x onerror=alert(1)>\"'&`"
SHOWN = Shown(
    now=NOON,
    started=NOON - 600,
    zone=ZoneInfo("Europe/Berlin"),
    used=20,
    limit=100,
    midnight=NOON + 11 * 3600,
    prompts={
        State.ACCEPTED: 2,
        State.SUBMITTED: 5,
        State.ANSWERED: 1,
        State.DELIVERED: 1234,
        State.FAILED: 3,
        State.CANCELLED: 4,
    },
    oldest=NOON - 125,
    judgement=judged([]),
)
VOID = {"meta", "link", "img", "br", "input"}


def record(name: str, state: State, **known: Any) -> Record:
    parts: dict[str, Any] = {
        "accepted": NOON - 60,
        "answered": None,
        "ended": None,
        "asks": 1,
        "deliveries": 0,
        "error": None,
    }
    return Record(name, state, **{**parts, **known})


DELIVERED = record("d" * 36, State.DELIVERED, answered=NOON - 58, ended=NOON - 57, deliveries=1)
FAILED = record(
    "f" * 36,
    State.FAILED,
    ended=NOON - 58,
    error="the model answered 400: check `model`",
    position=7,
)
PICKED = Picked(Query(), [DELIVERED, FAILED], more=False)


class Reader(HTMLParser):
    """The elements of a document, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & {*self.open}:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


class PageTestCase(SynchronousTestCase):
    def page(self, shown: Shown = SHOWN, picked: Picked = PICKED, config: Config = CONFIG) -> str:
        parts = past.section(past_of(LATEST)).items()
        drawn = {name: self.html(draw()) for name, draw in parts}
        made = Deferred.fromCoroutine(document(config, shown, picked, drawn))
        return self.successResultOf(made).decode()

    def html(self, tag: Any) -> str:
        return self.successResultOf(Deferred.fromCoroutine(render(tag)))

    def read(self, tag: Any) -> Reader:
        return Reader(self.html(tag))

    def text(self, tag: Any) -> str:
        return " ".join(self.read(tag).text.split())


class DocumentTests(PageTestCase):
    def test_one_document_that_is_whole(self) -> None:
        page = Reader(self.page())
        self.assertEqual(page.open, [])
        ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
        self.assertEqual(len(ids), len(set(ids)))
        for each in (*fragments.shared(SHOWN), *fragments.own(SHOWN, PICKED), *past.PARTS):
            self.assertIn(each, ids)

    def test_the_page_of_one_prompt_is_whole(self) -> None:
        for known in (Detail(FAILED), None):
            picked = Picked(Query(prompt=FAILED.id), detail=known)
            page = Reader(self.page(picked=picked))
            self.assertEqual(page.open, [])
            ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
            self.assertEqual(len(ids), len(set(ids)))
            for each in (*fragments.everywhere(SHOWN), *fragments.own(SHOWN, picked)):
                self.assertIn(each, ids)

    def test_the_title(self) -> None:
        def title(picked: Picked) -> str:
            return self.page(picked=picked).partition("<title>")[2].partition("</title>")[0]

        self.assertEqual(title(PICKED), "✓ All is well – ChatGPT Source")
        picked = Picked(Query(prompt=FAILED.id), detail=Detail(FAILED))
        self.assertEqual(title(picked), "ffffffff failed – ✓ All is well – ChatGPT Source")
        picked = attrs.evolve(picked, detail=None)
        self.assertEqual(title(picked), "ffffffff unknown – ✓ All is well – ChatGPT Source")

    def test_what_is_urgent_stands_first(self) -> None:
        ids = [attributes.get("id") for _, attributes in Reader(self.page()).elements]
        order = ["health", "failures", "quota", "states", "traffic", "q", "listing", "text"]
        places = [ids.index(each) for each in [*order, "controls"]]
        self.assertEqual(places, sorted(places))

    def test_who_and_where(self) -> None:
        text = " ".join(
            Reader(self.page(attrs.evolve(SHOWN, daemon=Daemon("prompts-0")))).text.split()
        )
        self.assertIn("runs on prompts-0", text)
        self.assertEqual(text.count("Europe/Berlin"), 1)

    def test_the_policy_allows_what_is_in_it_and_nothing_else(self) -> None:
        page = self.page()
        policy = dict(
            part.strip().split(" ", 1) for part in HEADERS["Content-Security-Policy"].split(";")
        )
        for name in ("style", "script"):
            found = re.findall(f"<{name}>(.*?)</{name}>", page, re.DOTALL)
            self.assertEqual(len(found), 1)
            self.assertGreater(len(found[0]), 1000)
            digest = b64encode(sha256(found[0].encode()).digest()).decode()
            self.assertEqual(policy[f"{name}-src"], f"'sha256-{digest}'")
        self.assertEqual(policy["default-src"], "'none'")
        self.assertEqual(policy["connect-src"], "'self'")
        for name in ("frame-ancestors", "base-uri"):
            self.assertEqual(policy[name], "'none'")
        self.assertEqual(policy["form-action"], "'self'")  # the search works without the script

    def test_nothing_the_policy_forbids(self) -> None:
        for _, attributes in Reader(self.page()).elements:
            self.assertNotIn("style", attributes)
            self.assertNotIn("src", attributes)
            self.assertEqual([name for name in attributes if name.startswith("on")], [])

    def test_hostile_texts_are_texts(self) -> None:
        bad = record(HOSTILE, State.FAILED, error=HOSTILE)
        shown = attrs.evolve(
            SHOWN,
            judgement=judged([Trouble("x", Level.RED, HOSTILE)]),
            groups=[FailureGroup(HOSTILE, 3, NOON, NOON)],
            pauses={"intake": Pause("intake", HOSTILE, NOON)},
        )
        config = attrs.evolve(CONFIG, model=HOSTILE, target=f"http://{HOSTILE}")
        query = Query(State.FAILED, HOSTILE, HOSTILE, 9, HOSTILE)
        call = Attempt(Kind.ASK, 1, HOSTILE, NOON, 1, HOSTILE, 400, HOSTILE, HOSTILE)
        known = Detail(attrs.evolve(bad, request_id=HOSTILE), [call], HOSTILE, HOSTILE)
        for picked in (
            Picked(query, [bad], more=True, tried=bad),
            Picked(Query(prompt=HOSTILE), detail=known),
            Picked(Query(prompt=HOSTILE)),
        ):
            read = Reader(self.page(shown, picked, config))
            self.assertEqual(read.open, [])
            self.assertEqual(read.all("img"), [])
            self.assertEqual(len(read.all("script")), 1)
            for _, attributes in read.elements:
                self.assertNotIn("onerror", attributes)
            self.assertIn(HOSTILE.replace("`", ""), read.text)

    def test_without_the_script(self) -> None:
        read = Reader(self.page(picked=attrs.evolve(PICKED, more=True)))
        links = {a.get("id"): a["href"] for a in read.all("a")}
        self.assertEqual(links["filter-failed"], "?state=failed#prompts")
        self.assertEqual(links["older"], "?before=7#prompts")
        self.assertEqual(links[f"show-{FAILED.id}"], f"?prompt={FAILED.id}")
        self.assertEqual(links["tile-failed"], "?state=failed#prompts")
        self.assertEqual(read.all("form")[0]["method"], "get")
        self.assertIn("q", [field["name"] for field in read.all("input")])


class QueryTests(SynchronousTestCase):
    def test_read(self) -> None:
        parts = {b"state": b"accepted", b"q": b" 0eff ", b"before": b"12", b"tried": b"an-id"}
        query = read_query({name: [value] for name, value in parts.items()})
        self.assertEqual(query, Query(State.ACCEPTED, None, "0eff", 12, "an-id"))
        self.assertEqual(read_query({b"prompt": [b"an-id"]}), Query(prompt="an-id"))
        self.assertEqual(read_query({b"range": [b"7d"]}), Query(range=RANGES["7d"]))

    def test_who_picks_a_reason_picks_failures(self) -> None:
        query = read_query({b"state": [b"accepted"], b"reason": [b"the model answered 400"]})
        self.assertEqual(query, Query(State.FAILED, "the model answered 400"))

    def test_what_makes_no_sense_is_left_out(self) -> None:
        for bad in (b"", b"\xff", b"-1", "²".encode(), b"9" * 30):
            parts = {name: [bad] for name in (b"state", b"before", b"range")}
            query = read_query({**parts, b"prompt": [b""], b"q": [b" "]})
            self.assertEqual(query, Query())

    def test_a_long_id_is_cut(self) -> None:
        self.assertEqual(len(read_query({b"prompt": [b"x" * 9999]}).prompt or ""), 100)

    def test_links(self) -> None:
        query = Query(State.FAILED, "no", "a&b", 12)
        self.assertEqual(query.link(), "?state=failed&reason=no&q=a%26b&before=12")
        self.assertEqual(query.link(state=None, reason=None, before=None), "?q=a%26b")
        self.assertEqual(Query().link(), "?")
        self.assertEqual(Query().link(range=RANGES["24h"]), "?range=24h")
        self.assertEqual(Query(range=RANGES["24h"]).link(range=LATEST), "?")


class QuotaTests(PageTestCase):
    def told(self, used: int) -> str:
        return self.text(fragments.quota(attrs.evolve(SHOWN, used=used)))

    def test_used_left_and_midnight(self) -> None:
        self.assertEqual(
            self.told(20),
            "80left20 of 100 prompts used todayA new day begins in 11 h, at midnight.",
        )

    def test_what_a_try_costs(self) -> None:
        for used, told in ((98, "2 are left."), (99, "1 is left."), (100, "none is left.")):
            shown = attrs.evolve(SHOWN, used=used)
            self.assertTrue(self.text(fragments.cost(shown)).endswith(f"prompts; {told}"), told)

    def test_in_words_when_little_is_left(self) -> None:
        self.assertNotIn("Nearly used up", self.told(79))
        self.assertIn("Nearly used up", self.told(80))
        self.assertIn("0left100 of 100 prompts used todayUsed up", self.told(100))

    def test_more_used_than_the_limit_that_was_lowered(self) -> None:
        self.assertIn("0left150 of 100", self.told(150))


class StatesTests(PageTestCase):
    def test_counts_and_the_oldest(self) -> None:
        told = self.text(fragments.states(SHOWN))
        self.assertIn("Accepted 2 to be asked", told)
        self.assertIn("Delivered 1,234 done", told)
        self.assertIn("Cancelled 4 by their callers", told)
        self.assertIn("8 prompts not finished; the oldest was accepted 2 min ago.", told)

    def test_half_the_price(self) -> None:
        self.assertNotIn("Half price", self.text(fragments.states(SHOWN)))
        told = self.text(fragments.states(attrs.evolve(SHOWN, cheap=7)))
        self.assertIn("Half price 7 answers in the last hour", told)

    def test_nothing_waits(self) -> None:
        shown = attrs.evolve(SHOWN, prompts=dict.fromkeys(State, 0), oldest=None)
        self.assertIn("Nothing waits.", self.text(fragments.states(shown)))


class ListingTests(PageTestCase):
    def own(self, picked: Picked, name: str) -> Reader:
        return self.read(fragments.own(SHOWN, picked)[name])

    def test_rows(self) -> None:
        read = self.own(PICKED, "listing")
        self.assertEqual(len(read.all("tr")), 3)
        self.assertIn("dddddddddelivered12:59, 1 min agoin 3.0 s1 ask, 1 delivery", read.text)
        self.assertIn("failed12:59, 1 min ago12:59, 58 s ago1 ask", read.text)
        self.assertIn("the model answered 400: check model", read.text)
        (button,) = read.all("button")
        self.assertEqual(button["data-post"], f"api/prompts/{FAILED.id}/redrive")
        self.assertIn(
            {"title": FAILED.id}.items(), [{"title": a["title"]}.items() for a in read.all("a")]
        )

    def test_nothing(self) -> None:
        def told(query: Query, **more: Any) -> str:
            return self.own(Picked(query, [], more=False, **more), "listing").text

        self.assertEqual(told(Query()), "No prompt has come yet.")
        self.assertEqual(told(Query(State.FAILED)), "No prompt is failed.")
        self.assertEqual(told(Query(before=3)), "There are no older prompts.")
        self.assertIn("for this reason", told(Query(State.FAILED, "the model answered 400")))
        self.assertIn("No prompt has an id that begins so", told(Query(find="0eff")))
        self.assertEqual(told(Query(), readable=False), "The journal can't be read now.")

    def test_the_filter_says_which(self) -> None:
        links = self.own(Picked(Query(State.FAILED), [], more=False), "filter").all("a")
        self.assertEqual([a["id"] for a in links if "aria-current" in a], ["filter-failed"])
        links = self.own(Picked(Query(), [], more=False), "filter").all("a")
        self.assertEqual([a["id"] for a in links if "aria-current" in a], ["filter-all"])

    def test_pages(self) -> None:
        def links(picked: Picked) -> list[str | None]:
            return [a["id"] for a in self.own(picked, "pages").all("a")]

        self.assertEqual(links(PICKED), [])
        self.assertEqual(links(attrs.evolve(PICKED, more=True)), ["older"])
        older = attrs.evolve(PICKED, query=Query(before=30))
        self.assertEqual(links(older), ["latest"])
        self.assertEqual(PAGE, 25)

    def test_what_picks_them_can_be_taken_away(self) -> None:
        self.assertEqual(self.own(PICKED, "chips").all("a"), [])
        query = Query(State.FAILED, "the model answered 400")
        read = self.own(Picked(query), "chips")
        self.assertIn("Failed: the model answered 400", read.text)
        self.assertEqual(read.all("a")[0]["href"], "?state=failed#prompts")
        read = self.own(Picked(Query(find="0eff")), "chips")
        self.assertEqual(read.all("a")[0]["href"], "?#prompts")


class WayTests(PageTestCase):
    def told(self, known: Record | None) -> str:
        picked = Picked(Query(tried="p" * 36), tried=known)
        return self.text(fragments.own(SHOWN, picked)["way"])

    def test_asked(self) -> None:
        told = self.told(record("p" * 36, State.ACCEPTED, asks=2, error="the model answered 500"))
        self.assertIn("Accepted at 12:59:00", told)
        self.assertIn("Asking the model for 1 min; 2 asks so far", told)
        self.assertIn("The model answered 500", told)
        self.assertIn("Delivered not yet", told)
        self.assertIn("Prompt pppppppp is accepted.", told)

    def test_submitted(self) -> None:
        told = self.told(record("p" * 36, State.SUBMITTED, asks=1))
        self.assertIn("The provider works on it for 1 min; 1 ask so far", told)
        self.assertIn("Delivered not yet", told)

    def test_answered(self) -> None:
        told = self.told(record("p" * 36, State.ANSWERED, answered=NOON - 58, deliveries=1))
        self.assertIn("Answered at 12:59:02, after 2.0 s and 1 ask", told)
        self.assertIn("Delivering the event for 58 s; 1 delivery so far", told)

    def test_delivered(self) -> None:
        told = self.told(DELIVERED)
        self.assertIn("Delivered at 12:59:03, after 3.0 s and 1 delivery", told)

    def test_failed_unanswered(self) -> None:
        told = self.told(FAILED)
        self.assertIn("Failed at 12:59:02, 58 s ago, after 1 ask", told)
        self.assertIn("The model answered 400: check model", told)

    def test_failed_undelivered(self) -> None:
        known = record("p", State.FAILED, answered=NOON - 58, deliveries=3, error="the target")
        self.assertIn("Failed after 3 deliveries", self.told(known))

    def test_cancelled(self) -> None:
        told = self.told(record("p" * 36, State.CANCELLED, ended=NOON - 57))
        self.assertIn("Cancelled at 12:59:03, 57 s ago, after 1 ask", told)
        self.assertNotIn("not yet", told)

    def test_to_a_named_target(self) -> None:
        waits = attrs.evolve(record("p", State.ANSWERED, answered=NOON - 58), target="billing")
        self.assertIn("Delivering the event to the target billing for 58 s", self.told(waits))
        done = attrs.evolve(DELIVERED, target="billing")
        self.assertIn("after 3.0 s and 1 delivery to the target billing", self.told(done))

    def test_without_a_target(self) -> None:
        done = attrs.evolve(DELIVERED, target="none", deliveries=0)
        told = self.told(done)
        self.assertIn("Finished at 12:59:03, after 3.0 s; its answer is for its caller alone", told)
        self.assertNotIn("Deliver", told)

    def test_none_and_unknown(self) -> None:
        self.assertIn("No prompt has this id", self.told(None))
        told = self.text(fragments.own(SHOWN, PICKED)["way"])
        self.assertIn("is shown here", told)
