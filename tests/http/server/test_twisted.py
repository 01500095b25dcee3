"""What the server uses of Twisted's inside, held to the installed release."""

from typing import Any

from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http import HTTPChannel
from twisted.web.server import Site

import twisted
from chatgpt_source.http.server.twisted_private import OpenChannel

STATE = (
    "_buffer",
    "_command",
    "_dataBuffer",
    "_networkProducer",
    "_path",
    "_receivedHeaderCount",
    "_receivedHeaderSize",
    "_version",
    "_waitingForTransport",
)
STEPS = (
    "_failChooseTransferDecoder",
    "_maybeChooseTransferDecoder",
    "_respondToBadRequestAndDisconnect",
    "_send100Continue",
)


class Asked(OpenChannel):
    """Notes which steps are taken."""

    def __init__(self) -> None:
        super().__init__()
        self.framed: list[tuple[bytes, bytes]] = []
        self.unparsable = 0
        self.lengths: list[int] = []

    def may_frame(self, header: bytes, data: bytes) -> bool:
        self.framed.append((header, data))
        return data != b"5"

    def refuse_unparsable(self) -> None:
        self.unparsable += 1

    def leave_to_twisted(self) -> None:
        self.lengths.append(len(self.transport.value()))  # type: ignore[union-attr]


class InstalledReleaseTests(SynchronousTestCase):
    def has(self, where: object, name: str) -> None:
        release = twisted.__version__
        self.assertTrue(
            hasattr(where, name),
            f"Twisted {release} has no {name} at {where!r}: mend http/server/twisted_private.py",
        )

    def begin(self, channel: HTTPChannel, sent: bytes) -> None:
        channel.site = Site(None)
        channel.makeConnection(StringTransport())
        self.addCleanup(channel.setTimeout, None)
        channel.dataReceived(sent)

    def test_the_names_are_there(self) -> None:
        channel = HTTPChannel()
        self.begin(channel, b"POST /x HTTP/1.1\r\nA: b\r\n")
        for name in STATE:
            self.has(channel, name)
        for name in STEPS:
            self.has(HTTPChannel, name)
        for name in ("pauseProducing", "resumeProducing", "unregisterProducer"):
            self.has(channel._networkProducer, name)

    def test_the_state_is_what_it_is_taken_for(self) -> None:
        channel = OpenChannel()
        self.assertEqual(channel.request_line, (b"", b"", b""))
        self.begin(channel, b"POST /x?y HTTP/1.1\r\nA: b\r\nC: d\r\nrest")
        self.assertEqual(channel.request_line, (b"POST", b"/x?y", b"HTTP/1.1"))
        self.assertEqual(channel.head_fields, 1)  # the last one may be folded
        self.assertGreater(channel.head_size, len("POST /x?y HTTP/1.1"))
        self.assertTrue(channel.has_unread)
        self.assertFalse(channel.write_stalled)
        channel.pauseProducing()
        self.assertTrue(channel.write_stalled)

    def test_the_steps_are_taken(self) -> None:
        channel = Asked()
        head = b"POST /x HTTP/1.1\r\nOther: 1\r\nContent-Length: %d\r\n\r\n"
        self.begin(channel, head % 3)
        self.assertEqual(channel.framed, [(b"Content-Length", b"3")])
        self.assertEqual(channel.unparsable, 0)
        channel = Asked()
        self.begin(channel, head % 5)
        self.assertEqual(channel.unparsable, 1)

    def test_nothing_is_written_unasked(self) -> None:
        channel = Asked()
        self.begin(channel, b"POST / HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        request = channel.requests[0]
        self.assertEqual(channel.lengths, [0])
        transport: Any = channel.transport
        for write in (request.write, channel.write, lambda data: channel.writeSequence([data])):
            channel.lengths.clear()
            before = len(transport.value())
            write(b"abc")
            self.assertEqual(
                (channel.lengths[0], channel.lengths[-1]), (before, len(transport.value()) - 3)
            )

    def test_what_is_kept_is_parsed_later(self) -> None:
        channel = OpenChannel()
        self.begin(channel, b"")
        channel.paused = True
        channel.keep_unread(b"GET /x HTTP/1.1\r\n")
        self.assertTrue(channel.has_unread)
        channel.paused = False
        channel.dataReceived(b"")
        self.assertEqual(channel.request_line[1], b"/x")
