"""The streams of events: few, of bounded memory, and never in the way."""

import json
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.admin import stream
from chatgpt_source.admin.stream import Fragments, Streams
from chatgpt_source.admin.view import Query, read_query
from chatgpt_source.http.server import BoundedRequest, BoundedSite

GET = b"GET /api/events%s HTTP/1.1\r\nHost: %s\r\n\r\n"


class Transport(StringTransport):
    """A connection that can be aborted."""

    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True


class Viewer:
    """A browser at the other end of a stream."""

    def __init__(self, site: BoundedSite, query: bytes = b"", host: bytes = b"x") -> None:
        self.transport = Transport()
        self.channel = cast(Protocol, site.buildProtocol(None))
        self.channel.makeConnection(self.transport)
        self.channel.dataReceived(GET % (query, host))

    @property
    def status(self) -> int:
        return int(self.transport.value().split()[1])

    @property
    def events(self) -> list[dict[str, str]]:
        lines = self.transport.value().replace(b"\r\n", b"\n").split(b"\n")
        return [json.loads(line[6:]) for line in lines if line.startswith(b"data: ")]

    @property
    def changes(self) -> list[dict[str, str]]:
        """The events that are more than signs of life."""
        return [event for event in self.events if event]

    def hang_up(self) -> None:
        self.channel.connectionLost(Failure(ConnectionResetError()))


class StreamsTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_800_000_000)
        self.content: dict[str, str] = {"a": "1", "b": "1"}
        self.rounds: list[AbstractSet[Query]] = []
        self.takes: Deferred[None] | None = None
        self.streams = Streams(cast(Any, self.clock), self.render)
        self.site = BoundedSite(cast(Any, self.clock), self.answer, 1000)
        self.viewers: list[Viewer] = []
        self.addCleanup(self.end)

    def end(self) -> None:
        self.streams.close()
        for viewer in self.viewers:
            viewer.hang_up()

    async def answer(self, request: BoundedRequest) -> None:
        self.streams.open(request, read_query(request.args))

    async def render(self, queries: AbstractSet[Query]) -> Mapping[Query, Fragments]:
        self.rounds.append(queries)
        if self.takes is not None:
            await self.takes
        return {q: {**self.content, "q": str(q.state and q.state.value)} for q in queries}

    def view(self, query: bytes = b"") -> Viewer:
        viewer = Viewer(self.site, query)
        self.viewers.append(viewer)
        return viewer

    def pass_time(self, seconds: float) -> None:
        self.clock.pump([0.05] * round(seconds / 0.05))


class EventTests(StreamsTestCase):
    def test_the_first_event_has_all(self) -> None:
        viewer = self.view(b"?state=failed")
        self.assertIn(b"Content-Type: text/event-stream", viewer.transport.value())
        self.pass_time(0.2)
        self.assertEqual(viewer.events, [{"a": "1", "b": "1", "q": "failed"}])

    def test_then_what_changed(self) -> None:
        viewer = self.view()
        self.pass_time(1)
        self.content["b"] = "2\n</script>"
        self.streams.touch()
        self.pass_time(0.2)
        self.assertEqual(viewer.events[1:], [{"b": "2\n</script>"}])

    def test_a_late_viewer_gets_all_the_others_what_changed(self) -> None:
        first = self.view()
        self.pass_time(1)
        self.content["a"] = "2"
        second = self.view()
        self.pass_time(1)
        self.assertEqual(first.events[1:], [{"a": "2"}])
        self.assertEqual(second.events, [{"a": "2", "b": "1", "q": "None"}])

    def test_a_beat_says_that_we_live(self) -> None:
        viewer = self.view()
        self.pass_time(1)
        for _ in range(10):
            before = len(viewer.events)
            self.pass_time(stream.PULSE)
            self.assertEqual(set(map(len, viewer.events[before:])), {0})

    def test_no_beat_before_there_is_something_to_see(self) -> None:
        self.takes = Deferred()
        viewer = self.view()
        self.pass_time(3 * stream.PULSE)
        self.assertEqual(viewer.events, [])
        self.takes.callback(None)
        self.assertEqual(len(viewer.events), 1)

    def test_no_beat_while_nobody_knows(self) -> None:
        viewer = self.view()
        self.pass_time(1)
        self.content = cast(Any, None)  # what shows it fails
        self.streams.touch()
        self.pass_time(1)
        before = len(viewer.events)
        self.pass_time(2 * stream.PULSE)
        self.assertEqual(len(viewer.events), before)
        self.content = {"a": "2"}
        self.pass_time(stream.BEAT)
        self.assertIn({"a": "2", "q": "None"}, [{**each, "q": "None"} for each in viewer.events])
        self.flushLoggedErrors()

    def test_no_beat_while_a_round_hangs(self) -> None:
        viewer = self.view()
        self.pass_time(1)
        self.takes = Deferred()
        self.streams.touch()
        self.pass_time(stream.BEAT + 1)
        before = len(viewer.events)
        self.assertGreater(before, 1)  # it may only be slow
        self.pass_time(3 * stream.PULSE)
        self.assertEqual(len(viewer.events), before)
        taken, self.takes = self.takes, None
        taken.callback(None)
        self.assertEqual(len(viewer.events), before + 1)

    def test_many_things_at_once_are_one_round(self) -> None:
        self.view()
        self.pass_time(2)
        self.rounds.clear()
        for _ in range(200):
            self.streams.touch()
            self.clock.advance(0.01)
        self.assertLessEqual(len(self.rounds), 2 / stream.SPACING + 1)
        self.assertGreaterEqual(len(self.rounds), 3)

    def test_what_happens_in_a_round_rides_the_next(self) -> None:
        viewer = self.view()
        self.pass_time(2)
        self.takes, taken = Deferred(), self.takes
        self.streams.touch()
        self.pass_time(0.2)
        self.streams.touch()
        rounds = len(self.rounds)
        self.pass_time(3)
        self.assertEqual(len(self.rounds), rounds)  # one at a time
        self.takes, taken = None, self.takes
        self.content["a"] = "2"
        cast("Deferred[None]", taken).callback(None)
        self.pass_time(0.5)
        self.assertEqual(len(self.rounds), rounds)  # it took long, so the next waits
        self.pass_time(3.2 * stream.SHARE)
        self.assertGreater(len(self.rounds), rounds)
        self.assertIn({"a": "2"}, viewer.events)

    def test_a_round_in_which_the_process_stood_still_is_followed_by_another_soon(self) -> None:
        viewer = self.view()
        self.pass_time(2)
        self.takes = Deferred()
        self.streams.touch()
        self.pass_time(0.2)
        self.clock.advance(3600)
        taken, self.takes = self.takes, None
        taken.callback(None)
        self.content["a"] = "2"
        self.streams.touch()
        self.pass_time(stream.LONGEST + 1)
        self.assertIn({"a": "2"}, viewer.events)

    def test_a_round_that_fails_is_not_the_last(self) -> None:
        viewer = self.view()
        self.pass_time(1)
        self.takes = Deferred()
        self.streams.touch()
        self.pass_time(0.5)
        self.takes.errback(ValueError("secret"))
        self.takes = None
        self.pass_time(stream.BEAT + 3)
        self.assertEqual(viewer.events[-1], {})
        self.flushLoggedErrors()

    def test_nobody_looks_nothing_is_rendered(self) -> None:
        self.streams.touch()
        self.pass_time(20)
        self.assertEqual((self.rounds, self.clock.getDelayedCalls()), ([], []))
        viewer = self.view()
        self.pass_time(1)
        viewer.hang_up()
        self.assertEqual(len(self.streams._open), 0)
        self.rounds.clear()
        self.pass_time(20)
        self.assertEqual(self.rounds, [])


class BoundTests(StreamsTestCase):
    def test_one_too_many(self) -> None:
        for _ in range(stream.MOST):
            self.assertEqual(self.view().status, 200)
        late = self.view()
        self.assertEqual(late.status, 503)
        self.assertIn(b"Retry-After", late.transport.value())
        self.viewers[0].hang_up()
        self.assertEqual(self.view().status, 200)

    def test_who_does_not_read_is_skipped_then_dropped(self) -> None:
        slow, quick = self.view(), self.view()
        self.pass_time(1)
        cast(Any, slow.transport.producer).pauseProducing()
        self.content["a"] = "2"
        self.pass_time(stream.SLOW - 5)
        self.assertEqual(len(slow.events), 1)
        self.assertFalse(slow.transport.aborted)
        self.pass_time(2 * stream.BEAT + 1)
        self.assertTrue(slow.transport.aborted)
        self.assertFalse(quick.transport.aborted)

    def test_who_reads_again_gets_the_newest(self) -> None:
        viewer = self.view()
        self.pass_time(1)
        cast(Any, viewer.transport.producer).pauseProducing()
        for number in range(5):
            self.content["a"] = str(number)
            self.streams.touch()
            self.pass_time(1)
        cast(Any, viewer.transport.producer).resumeProducing()
        self.pass_time(1)
        self.assertEqual(viewer.changes[1:], [{"a": "4"}])

    def test_a_stop_ends_them_at_once(self) -> None:
        viewers = [self.view(), self.view()]
        self.pass_time(1)
        self.streams.close()
        self.assertEqual([v.transport.aborted for v in viewers], [True, True])
        self.assertEqual(len(self.streams._open), 0)
        self.streams.touch()
        self.assertEqual(self.clock.getDelayedCalls(), [])
