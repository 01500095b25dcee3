"""What happens is told to whoever watches: by the door, by the pipeline, and to many."""

from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.errors import (
    JournalUnavailable,
    PeerFailure,
    Permanent,
    PossiblyBilled,
    Transient,
)
from chatgpt_source.http.server import Problem
from chatgpt_source.prompt import Arrival, State
from chatgpt_source.telemetry.observer import (
    AskOutcome,
    DeliveryOutcome,
    Observer,
    Observers,
    RefusalReason,
)
from tests.door import DoorTestCase
from tests.journal.common import ANSWER, NOON, prompt
from tests.pipeline.test_pipeline import PipelineTestCase

METHODS = [name for name in vars(Observer) if not name.startswith("_")]


def arguments(name: str) -> dict[str, Any]:
    return {each: each for each in getattr(Observer, name).__code__.co_varnames[1:]}


class Recorder(Observer):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []

    def __getattribute__(self, name: str) -> Any:
        if name in METHODS:
            return lambda *said, **named: self.told.append((name, said[0] if said else named))
        return super().__getattribute__(name)

    def names(self) -> list[str]:
        return [name for name, _ in self.told]

    def of(self, name: str) -> list[Any]:
        return [said for told, said in self.told if told == name]

    def refusals(self) -> list[RefusalReason]:
        return [said["reason"] for said in self.of("refused")]


class OutcomeTests(SynchronousTestCase):
    def test_of_every_class(self) -> None:
        for error, asked, sent in (
            (None, "answered", "delivered"),
            (Transient("x"), "again", "again"),
            (PeerFailure("x"), "hold", "hold"),
            (Permanent("x"), "failed", "failed"),
            (PossiblyBilled("x"), "maybe_billed", "again"),
        ):
            self.assertEqual(AskOutcome.of(error).value, asked)
            self.assertEqual(DeliveryOutcome.of(error).value, sent)


class WatchersTests(SynchronousTestCase):
    def test_all_are_told_all(self) -> None:
        recorders = Recorder(), Recorder()
        observers = Observers(recorders[0])
        observers.add(recorders[1])
        expected = [(name, arguments(name)) for name in METHODS]
        for name, said in expected:
            getattr(observers, name)(**said)
        for recorder in recorders:
            self.assertEqual(recorder.told, expected)

    def test_one_that_raises_disturbs_nobody(self) -> None:
        class Broken(Observer):
            def repeated(self) -> None:
                raise ZeroDivisionError("a secret")

        recorder = Recorder()
        with capturedLogs() as events:
            Observers(Broken(), recorder).repeated()
        self.assertEqual(recorder.names(), ["repeated"])
        (event,) = events
        self.assertEqual((event["log_level"], event["kind"]), (LogLevel.error, "ZeroDivisionError"))
        self.assertNotIn("secret", str(event))

    def test_a_mere_watcher_does_nothing(self) -> None:
        for name in METHODS:
            getattr(Observer(), name)(**arguments(name))


class DoorTests(DoorTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.recorder = Recorder()
        self.intake = attrs.evolve(self.intake, observer=self.recorder)
        self.site.handler = self.intake.answer
        self.site.refused = self.intake.refused

    def test_accepted_and_repeated(self) -> None:
        first = self.post(Idempotency_Key="k").json["id"]
        self.post(Idempotency_Key="k")
        expected = [
            (
                "accepted",
                {
                    "prompt_id": first,
                    "size": 13,
                    "seconds": 0.0,
                    "arrival": Arrival.TEXT,
                    "target": "target",
                    "waits": False,
                },
            ),
            ("repeated", {}),
        ]
        self.assertEqual(self.recorder.told, expected)

    def test_refused(self) -> None:
        self.post(Idempotency_Key="k")
        self.post(b"another", Idempotency_Key="k")
        self.post(b" ")
        self.post(b"\xff")
        self.post(vanus_source="no reference")
        self.post(content_type="text/plain; charset=utf-7")
        self.post(b"x" * 1001)
        expected = [
            RefusalReason.KEY_REUSED,
            *[RefusalReason.INVALID] * 3,
            RefusalReason.CHARSET,
            RefusalReason.TOO_LARGE,
        ]
        self.assertEqual(self.recorder.refusals(), expected)

    def test_refused_before_the_bodys_end(self) -> None:
        head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\nExpect: 100-continue\r\n\r\n"
        self.channel.dataReceived(head)
        self.assertEqual(self.recorder.refusals(), [RefusalReason.TOO_LARGE])

    def test_refused_for_its_head(self) -> None:
        self.site.admits = lambda _: Problem(401, "no")
        self.post()
        self.request("GET", "/prompts/x")
        self.site.admits = lambda _: Problem(503, "too many large bodies")
        self.post()
        self.assertEqual(self.recorder.refusals(), [RefusalReason.UNAUTHORIZED, RefusalReason.BUSY])

    def test_refused_for_now(self) -> None:
        for _ in range(4):
            self.post()
        self.assertEqual(self.recorder.refusals(), [RefusalReason.QUOTA])
        self.clock.advance(86400)
        self.connect()
        self.site.handler = attrs.evolve(
            self.intake, config=attrs.evolve(self.config, max_backlog=1)
        ).answer
        self.post()
        self.site.handler = self.intake.answer
        Deferred.fromCoroutine(self.pipeline.drain())
        self.post()
        self.opened.connection.close()
        self.post()
        expected = [
            RefusalReason.QUOTA,
            RefusalReason.BACKLOG,
            RefusalReason.DRAINING,
            RefusalReason.JOURNAL,
        ]
        self.assertEqual(self.recorder.refusals(), expected)

    def test_what_is_no_prompt_is_not_refused_one(self) -> None:
        self.request("GET")
        self.request("POST", "/elsewhere")
        self.request("GET", "/healthz", b"x" * 1001)
        self.assertEqual(self.recorder.told, [])


class PipelineTests(PipelineTestCase):
    def begin(self, **changes: Any) -> None:
        self.observer = self.recorder = Recorder()
        super().begin(**changes)

    def test_the_way_of_a_prompt(self) -> None:
        self.pass_time(0.1)
        self.accept(prompt("p1"))
        self.clock.advance(1)  # before the pipeline looks
        self.pipeline.redriven()
        self.clock.advance(1)
        self.model.answer()
        self.clock.advance(2)
        self.target.answer()
        self.assertEqual(self.recorder.names(), ["asked", "sent"])
        (asked,), (sent,) = self.recorder.of("asked"), self.recorder.of("sent")
        self.assertEqual(
            (asked.id, asked.ask.total, asked.outcome, asked.seconds),
            ("p1", 1, AskOutcome.ANSWERED, 1.0),
        )
        self.assertAlmostEqual(asked.waited, 1.0)
        self.assertEqual((asked.answer, asked.error), (ANSWER, None))
        self.assertEqual((sent.outcome, sent.seconds), (DeliveryOutcome.DELIVERED, 2.0))
        self.assertEqual((asked.state, sent.state), (State.ANSWERED, State.DELIVERED))
        self.assertAlmostEqual(sent.date - sent.accepted, 4.1, places=3)

    def test_a_delivery_from_the_journal_knows_the_acceptance(self) -> None:
        self.post("p1", "p2", "p3")
        self.clock.advance(5)
        for _ in range(3):
            self.model.answer()
        self.clock.advance(5)
        for _ in range(3):
            self.target.answer()
        accepted = [ended.accepted for _, ended in self.recorder.told]
        self.assertEqual(accepted, [NOON] * 6)

    def test_calls_that_fail(self) -> None:
        self.post("p1")
        errors = [
            Transient("the model answered 500", status=500),
            PossiblyBilled("no answer in time"),
        ]
        for error in errors:
            self.model.answer(error)
            self.pass_time(2.1)
        self.model.answer(Permanent("the model answered 400", status=400))
        asked = self.recorder.of("asked")
        self.assertEqual([each.error for each in asked[:2]], errors)
        self.assertEqual(
            [(each.ask.total, each.outcome.value, each.state) for each in asked],
            [(1, "again", None), (2, "maybe_billed", None), (3, "failed", State.FAILED)],
        )
        self.assertEqual([each.waited for each in asked], [0.0, None, None])
        self.assertEqual([each.wait for each in asked], [0.5, 1.0, None])
        self.assertEqual(asked[-1].reason, "the model answered 400")

    def test_deliveries_that_fail(self) -> None:
        self.post("p1")
        self.model.answer()
        self.target.answer(PeerFailure("the target answered 410", status=410))
        self.pass_time(30.1)
        self.target.answer(Permanent("the target answered 400", status=400))
        sent = self.recorder.of("sent")
        self.assertEqual(
            [(each.delivery.attempt, each.outcome.value, each.held) for each in sent],
            [(1, "hold", True), (2, "failed", False)],
        )
        self.assertEqual(sent[-1].state, State.FAILED)

    def test_what_is_not_on_disk_is_not_told(self) -> None:
        def fail(*_: Any, **__: Any) -> None:
            raise JournalUnavailable("full", retry_after=1)

        self.post("p1")
        self.patch(self.journal, "ask_ended", fail)
        self.model.answer()
        self.assertEqual(self.recorder.names(), [])


class DeadLetterTests(PipelineTestCase):
    config = attrs.evolve(PipelineTestCase.config, dead_letter="http://letters")

    def test_dead_letters(self) -> None:
        self.pipeline.end()
        self.observer = recorder = Recorder()
        self.begin()
        self.post("p1")
        self.model.answer(Permanent("the model answered 400", status=400))
        self.dead_letters.answer(Transient("it answered 500", status=500))
        self.pass_time(2.1)
        self.dead_letters.answer()
        sent = recorder.of("sent")
        self.assertEqual(
            [(each.is_dead_letter, each.delivery.attempt, each.outcome.value) for each in sent],
            [(True, 1, "again"), (True, 2, "delivered")],
        )
        self.assertEqual([each.state for each in sent], [None, None])
