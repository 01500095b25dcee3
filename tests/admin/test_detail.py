"""A prompt's own page: its state, its calls, what is known of it, and what can be done."""

from typing import Any

import attrs

from chatgpt_source.admin.detail import back, detail
from chatgpt_source.admin.view import Picked, Query
from chatgpt_source.health.trouble import Level, Trouble, judged
from chatgpt_source.journal import DeadLetter, Detail, Pause
from chatgpt_source.journal.attempts import Attempt, Kind
from chatgpt_source.prompt import State, Tier
from tests.admin.test_page import DELIVERED, FAILED, SHOWN, PageTestCase, Reader, record
from tests.journal.common import NOON

ID = "f" * 36


def call(number: int, kind: Kind = Kind.ASK, **known: Any) -> Attempt:
    parts = {"outcome": "again", "status": 503, "error": "the model answered 503"}
    at = NOON - 50 + number + 0.25
    return Attempt(kind, number, "model", at, 0.42, **{**parts, **known})


class DetailTests(PageTestCase):
    now_shown = SHOWN

    def shown(self, known: Detail | None, **more: Any) -> dict[str, Reader]:
        picked = Picked(Query(prompt=ID), detail=known, **more)
        return {name: self.read(tag) for name, tag in detail(self.now_shown, picked).items()}

    def text(self, known: Detail | None, name: str, **more: Any) -> str:
        return " ".join(self.shown(known, **more)[name].text.split())

    def buttons(self, known: Detail) -> list[str | None]:
        return [each.get("data-post") for each in self.shown(known)["prompt"].all("button")][1:]

    def test_a_failed_prompt_says_when_and_why(self) -> None:
        told = self.text(Detail(FAILED), "prompt")
        self.assertIn(f"{ID}Copy the id", told)
        self.assertIn("failed 12:59, 58 s ago", told)
        self.assertIn("The model answered 400: check model", told)
        marks = self.shown(Detail(FAILED))["prompt"].elements[0][1]
        self.assertEqual(marks["data-title"], "ffffffff failed")
        self.assertIn("Failed at 12:59:02", self.text(Detail(FAILED), "steps"))

    def test_a_prompt_that_waits_says_why_its_last_call_failed(self) -> None:
        waits = record(ID, State.ACCEPTED, error="the model answered 503")
        told = self.text(Detail(waits), "prompt")
        self.assertIn("accepted 12:59, 1 min ago", told)
        self.assertNotIn("accepted accepted", told)
        self.assertIn("The last call failed: the model answered 503", told)

    def test_what_can_be_done_in_each_state(self) -> None:
        path = f"api/prompts/{ID}"
        self.assertEqual(self.buttons(Detail(FAILED)), [f"{path}/redrive", f"{path}/purge"])
        for state in (State.ACCEPTED, State.SUBMITTED):
            self.assertEqual(self.buttons(Detail(record(ID, state))), [f"{path}/cancel"])
        for state in (State.ANSWERED, State.DELIVERED, State.CANCELLED):
            self.assertEqual(self.buttons(Detail(record(ID, state))), [])

    def test_every_call_the_latest_first(self) -> None:
        calls = [call(1), call(2, outcome="failed", status=400, request_id="req_1")]
        read = self.shown(Detail(attrs.evolve(FAILED, asks=2), calls))["attempts"]
        self.assertIn("12:59:12.250ask 2modelfailed4000.42 s", read.text)
        self.assertIn("12:59:11.250ask 1modeltransient failure5030.42 s", read.text)
        self.assertIn("the model answered 503 req_1", read.text)
        self.assertLess(read.text.index("ask 2"), read.text.index("ask 1"))
        self.assertNotIn("not listed", read.text)

    def test_calls_that_are_only_counted(self) -> None:
        known = Detail(attrs.evolve(FAILED, asks=25), [call(1), call(25)])
        self.assertIn("23 further calls are not listed.", self.text(known, "attempts"))
        letter = DeadLetter("failed", 2)
        known = Detail(FAILED, [call(1), call(2, Kind.DEAD_LETTER)], dead_letter=letter)
        self.assertIn("1 further call is not listed.", self.text(known, "attempts"))

    def test_a_call_under_way(self) -> None:
        told = self.text(Detail(record(ID, State.ACCEPTED, asks=1)), "attempts")
        self.assertEqual(told, "A call is under way.")
        waits = record(ID, State.ACCEPTED, asks=0, next_attempt=NOON + 60)
        told = self.text(Detail(waits), "attempts")
        self.assertEqual(told, "There was no call for it yet.")

    def test_the_next_call_and_the_deadline(self) -> None:
        waits = record(ID, State.ACCEPTED, next_attempt=NOON + 12.5)
        known = Detail(waits, [call(1)], deadline=NOON + 600)
        told = self.text(known, "facts")
        self.assertIn("Next callin 12 s, at 13:00:12.500", told)
        self.assertIn("Deadline13:10, in 10 min", told)
        due = attrs.evolve(waits, next_attempt=NOON - 1)
        self.assertIn("Next calldue now", self.text(Detail(due), "facts"))
        soon = attrs.evolve(waits, next_attempt=NOON + 0.9)  # what is due is read a little later
        self.assertIn("Next calldue now", self.text(Detail(soon), "facts"))
        self.assertIn("1 ask so farDelivered", self.text(Detail(soon), "steps"))

    def test_one_in_a_batch_may_not_be_at_the_provider_yet(self) -> None:
        submitted = record(ID, State.SUBMITTED)
        for tier, told in ((Tier.BATCH, "In a batch"), (Tier.FLEX, "The provider works on it")):
            self.assertIn(told, self.text(Detail(submitted, tier=tier), "steps"))

    def test_what_a_call_waits_for_that_is_due(self) -> None:
        held = Trouble("openai", Level.RED, "the model answered 401", holds=True)
        refused = attrs.evolve(held, check="target.billing")
        asking = {"asking": Pause("asking", "alice", NOON)}
        billing = {"target.billing": Pause("target.billing", "alice", NOON)}
        accepted = record(ID, State.ACCEPTED, next_attempt=NOON, target="billing")
        answered = record(ID, State.ANSWERED, next_attempt=NOON, target="billing")
        model, target = "the model to answer again", "the target billing to answer again"
        paused = "the end of the pause"
        for known, troubles, pauses, waits in (
            (Detail(accepted), [held], {}, model),
            (Detail(accepted, tier=Tier.FLEX), [held], {}, None),
            (Detail(accepted), [attrs.evolve(held, holds=False)], {}, None),
            (Detail(accepted), [refused], billing, None),
            (Detail(accepted), [held], asking, paused),
            (Detail(answered), [held], asking, None),
            (Detail(answered), [refused], {}, target),
            (Detail(answered), [], billing, paused),
            (Detail(attrs.evolve(accepted, next_attempt=None)), [held], asking, None),
        ):
            judgement = judged(troubles)
            self.now_shown = attrs.evolve(SHOWN, judgement=judgement, pauses=pauses)
            facts, steps = self.text(known, "facts"), self.text(known, "steps")
            self.assertEqual("waits for" in facts + steps, waits is not None, known)
            if waits is not None:
                self.assertIn(f"Next callwaits for {waits}", facts)
                self.assertIn(f"so far; it waits for {waits}Delivered", steps)

    def test_what_is_known_of_an_answer(self) -> None:
        known = Detail(
            attrs.evolve(DELIVERED, request_id="req_77", target="billing"),
            source="a-source",
            type="a-type",
            tier=Tier.FLEX,
            batch=3,
            submitted="resp_1",
            answered_by="model.flex",
            input_tokens=1812,
            output_tokens=240,
            ask_seconds=0.42,
            sent_seconds=0.2,
            sent_status=204,
            kept_until=NOON + 60,
        )
        told = self.text(known, "facts")
        for each in (
            "Request idreq_77 Copy the request id",
            "Answered bymodel.flex",
            "Submitted asresp_1",
            "The answer took0.42 s",
            "Tokens1,812 in, 240 out",
            "Targetbilling",
            "The delivery took0.20 s, HTTP status 204",
            "Event sourcea-source",
            "Event typea-type",
            "Tierflex",
            "Batch3",
            "Answer kept until13:01, in 1 min",
        ):
            self.assertIn(each, told)

    def test_its_dead_letter(self) -> None:
        letter = DeadLetter("waiting", 2, "the target answered 503", NOON + 8)
        told = self.text(Detail(FAILED, dead_letter=letter), "facts")
        self.assertIn(
            "Dead letterwaiting, 2 calls: the target answered 503; the next is due at 13:00:08.000",
            told,
        )
        told = self.text(Detail(FAILED, dead_letter=DeadLetter("delivered", 1)), "facts")
        self.assertIn("Dead letterdelivered, 1 call", told)

    def test_none_with_this_id(self) -> None:
        self.assertIn("No prompt has this id", self.text(None, "prompt"))
        told = self.text(None, "prompt", readable=False)
        self.assertIn("The journal can't be read now.", told)

    def test_the_way_back(self) -> None:
        def link(query: Query) -> tuple[str, str | None]:
            read = self.read(back(Picked(query)))
            return read.text, read.all("a")[0]["href"]

        self.assertEqual(link(Query(prompt="x")), ("All prompts", "?#row-x"))
        failed = Query(State.FAILED, "the reason", prompt="x")
        self.assertEqual(link(failed), ("Failed prompts", "?state=failed&reason=the+reason#row-x"))
        self.assertEqual(link(Query(find="0", prompt="x")), ("The prompts found", "?q=0#row-x"))
        self.assertEqual(link(Query(tried="x", prompt="x")), ("Try a prompt", "?tried=x#try"))
