"""When what is written goes out, and in which order."""

from typing import Any

from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.tcp import Connection
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.http.sending import Sender, Sending


class Socket(Connection):
    """A connection that takes as much as it is told to.

    Args:
        takes: Bytes that it takes at once, or the error that it meets.
    """

    connected = True
    aborted = False

    def __init__(self, takes: int | Exception = 1000) -> None:
        self.takes = takes
        self.direct: list[bytes] = []
        self.left: list[bytes] = []

    def writeSomeData(self, data: bytes) -> Any:
        if isinstance(self.takes, Exception):
            return self.takes
        self.direct.append(data[: self.takes])
        return len(self.direct[-1])

    def write(self, data: bytes) -> None:
        self.left.append(data)

    def abortConnection(self) -> None:
        self.aborted = True


class SenderTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock: Any = Clock()
        self.sending = Sending(self.clock)

    def sender(self, transport: Any) -> Sender:
        return Sender(transport, self.sending)

    def turn(self) -> None:
        self.clock.advance(0)

    def test_all_of_a_turn_go_out_in_the_next(self) -> None:
        sockets = [Socket(), Socket()]
        senders = [self.sender(each) for each in sockets]
        for sender in senders:
            sender.send(b"first ")
        senders[0].send(b"second")
        self.assertEqual([each.direct for each in sockets], [[], []])
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.turn()
        self.assertEqual([each.direct for each in sockets], [[b"first second"], [b"first "]])
        senders[1].send(b"third")
        self.turn()
        self.assertEqual(sockets[1].direct, [b"first ", b"third"])
        self.assertEqual([each.left for each in sockets], [[], []])

    def test_what_is_not_taken_is_left_to_twisted_with_all_that_follows(self) -> None:
        for takes in (0, 2):
            socket = Socket(takes)
            sender = self.sender(socket)
            sender.send(b"abcd")
            self.turn()
            sender.send(b"efgh")
            self.assertEqual(socket.left, [b"abcd"[takes:], b"efgh"])
            self.turn()
            self.assertEqual(b"".join(socket.direct + socket.left), b"abcdefgh")

    def test_an_error_is_left_to_twisted(self) -> None:
        socket = Socket(ConnectionLost())
        sender = self.sender(socket)
        sender.send(b"abcd")
        self.turn()
        self.assertEqual(socket.left, [b"abcd"])

    def test_one_that_breaks_ends_alone(self) -> None:
        sockets = [Socket(), Socket(), Socket()]
        self.patch(sockets[1], "writeSomeData", lambda _: 1 // 0)
        for each in sockets:
            self.sender(each).send(b"data")
        with capturedLogs() as logged:
            self.turn()
        self.assertEqual([each.direct for each in sockets], [[b"data"], [], [b"data"]])
        self.assertEqual([each.aborted for each in sockets], [False, True, False])
        self.assertEqual([each["kind"] for each in logged], ["ZeroDivisionError"])

    def test_what_was_sent_before_others_write_goes_first(self) -> None:
        socket = Socket()
        sender = self.sender(socket)
        sender.send(b"ours")
        sender.leave()
        self.assertEqual(socket.direct, [b"ours"])
        sender.send(b"after theirs")
        self.assertEqual(socket.left, [b"after theirs"])
        self.turn()
        self.assertEqual(socket.direct, [b"ours"])

    def test_nothing_goes_out_on_one_that_is_lost_or_given_up(self) -> None:
        for end in ("lost", "given up"):
            socket = Socket()
            sender = self.sender(socket)
            sender.send(b"data")
            if end == "lost":
                socket.connected = False
            else:
                sender.drop()
            self.turn()
            self.assertEqual(socket.direct + socket.left, [])

    def test_never_past_what_encrypts(self) -> None:
        class Encrypting(StringTransport):
            """Leads to the connection below it, as Twisted's does."""

            below = Socket()

            def __getattr__(self, name: str) -> Any:
                return getattr(self.below, name)

        over = Encrypting()
        started = Socket()
        started.TLS = True
        for transport in (over, started):
            self.sender(transport).send(b"secret")
        self.turn()
        self.assertEqual((over.value(), over.below.direct), (b"secret", []))
        self.assertEqual((started.left, started.direct), ([b"secret"], []))
