"""A start whose journal takes time to open: what it does, in which thread, and what it says."""

import json
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.errors import JournalError, JournalInUse
from chatgpt_source.http.server import Problem
from chatgpt_source.intake.starting import PATIENCE, TRY_EVERY, Starting

OPENED = object()
WORK = "changing the journal's schema from 2 to 7"


@define
class FakeEngine:
    """A journal in a file.

    Attributes:
        work: What takes long.
        used: How often another daemon uses it.
        is_stopped: What the last `open` was given.
    """

    work: str | None = None
    used: int = 0
    is_stopped: Callable[[], bool] = field(default=lambda: False)
    is_remote = False
    location = "/journal.sqlite"

    def long_work(self) -> str | None:
        if self.work is not None:
            self._require_free()
        return self.work

    def open(self, is_stopped: Callable[[], bool] = lambda: False) -> Any:
        self.is_stopped = is_stopped
        self._require_free()
        return OPENED

    def _require_free(self) -> None:
        if self.used:
            self.used -= 1
            raise JournalInUse("in use")


class StartingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.engine = FakeEngine()
        self.given: list[tuple[Callable[[], Any], Deferred[Any]]] = []
        self.starting = Starting(self.engine, self.clock, self.in_thread)  # type: ignore[arg-type]

    def in_thread(self, run: Callable[[], Any]) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self.given.append((run, done))
        return done

    def open(self) -> Deferred[Any]:
        return Deferred.fromCoroutine(self.starting.open())

    def work(self) -> None:
        """Let the thread do what it was given."""
        run, done = self.given.pop()
        try:
            done.callback(run())
        except JournalError:
            done.errback()

    def ask(self, path: str, method: bytes = b"GET") -> tuple[int, Any]:
        request = Mock(method=method, route=lambda: path)
        self.successResultOf(Deferred.fromCoroutine(self.starting.answer(request)))
        ((status, body), _) = request.answer.call_args
        return status, json.loads(body)

    def reason(self) -> str:
        status, body = self.ask("/readyz")
        self.assertEqual((status, body["status"]), (503, "not ready"))
        return str(body["checks"]["journal"])

    def test_a_quick_one_is_at_once(self) -> None:
        self.assertIs(self.successResultOf(self.open()), OPENED)
        self.assertEqual(self.given, [])
        self.successResultOf(self.starting.stop())

    def test_long_work_is_done_in_the_thread_while_probes_are_answered(self) -> None:
        self.engine.work = WORK
        with capturedLogs() as logged:
            opening = self.open()
            self.assertNoResult(opening)
            self.assertEqual(self.ask("/healthz"), (200, {"status": "ok"}))
            self.assertEqual(self.reason(), f"starting: {WORK}")
            self.clock.advance(24)
            self.work()
        self.assertIs(self.successResultOf(opening), OPENED)
        begun, ended = (formatEvent(event) for event in logged)
        self.assertEqual(begun, f"{WORK}: no prompts are accepted until that is done")
        self.assertEqual(ended, f"{WORK} took 24.0 s")
        self.assertEqual(self.reason(), "starting: taking up what is unfinished in the journal")

    def test_prompts_are_refused_meanwhile(self) -> None:
        self.engine.work = WORK
        self.open()
        request = Mock(method=b"POST", route=lambda: "/")
        refusal = self.failureResultOf(
            Deferred.fromCoroutine(self.starting.answer(request)), Problem
        ).value
        self.assertEqual((refusal.status, refusal.word), (503, "starting"))
        self.assertEqual(refusal.detail, f"starting: {WORK}; try later")
        self.assertGreater(int(refusal.headers["Retry-After"]), 0)

    def test_work_that_fails(self) -> None:
        self.engine.work = WORK
        opening = self.open()
        _, done = self.given.pop()
        done.errback(JournalError("no room"))
        self.failureResultOf(opening, JournalError)
        self.successResultOf(self.starting.stop())

    def test_another_daemon_is_waited_for_first(self) -> None:
        self.engine.work, self.engine.used = WORK, 2
        opening = self.open()
        self.clock.advance(TRY_EVERY)
        self.assertEqual(self.reason(), "starting: waiting for the daemon that uses the journal")
        self.assertEqual(self.given, [])
        self.clock.advance(TRY_EVERY)
        self.assertEqual(self.reason(), f"starting: {WORK}")
        self.work()
        self.assertIs(self.successResultOf(opening), OPENED)

    def test_another_daemon_is_quicker(self) -> None:
        self.engine.work = WORK
        opening = self.open()
        self.engine.used = 1
        self.work()
        self.assertEqual(self.reason(), "starting: waiting for the daemon that uses the journal")
        self.clock.advance(TRY_EVERY)
        self.work()
        self.assertIs(self.successResultOf(opening), OPENED)

    def test_another_daemon_stays(self) -> None:
        self.engine.used = 10**6
        opening = self.open()
        self.clock.pump([TRY_EVERY] * int(PATIENCE / TRY_EVERY))
        self.failureResultOf(opening, JournalInUse)

    def test_a_stop_waits_for_the_thread(self) -> None:
        self.engine.work = WORK
        opening = self.open()
        opening.cancel()
        self.failureResultOf(opening, CancelledError)
        stopped = self.starting.stop()
        self.assertNoResult(stopped)
        self.work()
        self.assertTrue(self.engine.is_stopped())
        self.successResultOf(stopped)
