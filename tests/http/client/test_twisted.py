"""What the client uses of Twisted's inside, held to the installed release."""

from typing import Any

from OpenSSL import SSL
from twisted.internet import ssl
from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from twisted.web._newclient import HTTP11ClientProtocol, Request
from twisted.web.client import HTTPConnectionPool
from twisted.web.http_headers import Headers

import twisted
from chatgpt_source.http.client.twisted_private import OpenPool, TrustRoots, abort
from tests.certificates import issue


class Selective(OpenPool):
    keeps = True

    def may_keep(self, _: Any) -> bool:
        return self.keeps


class Endpoint:
    def connect(self, factory: Any) -> Deferred[Any]:
        protocol = factory.buildProtocol(None)
        protocol.makeConnection(StringTransport())
        return succeed(protocol)


class InstalledReleaseTests(SynchronousTestCase):
    def has(self, where: object, *names: str) -> None:
        release, module = twisted.__version__, "http/client/twisted_private.py"
        for name in names:
            self.assertTrue(
                hasattr(where, name), f"Twisted {release} has no {name} at {where!r}: mend {module}"
            )

    def test_the_names_are_there(self) -> None:
        pool = HTTPConnectionPool(Clock())
        self.has(pool, "_connections", "_timeouts", "_newConnection", "_putConnection", "_factory")
        self.has(pool._factory, "noisy")
        for root in (ssl.platformTrust(), ssl.trustRootFromCertificates([])):
            self.has(root, "_addCACertsToContext")

    def test_a_pool_keeps_what_it_may(self) -> None:
        clock: Any = Clock()
        pool = Selective(clock)
        connection = self.successResultOf(pool.connect("key", Endpoint()))
        self.assertIsInstance(connection, HTTP11ClientProtocol)
        pool._putConnection("key", connection)
        self.assertEqual(len(clock.getDelayedCalls()), 1)
        self.assertIs(pool.take_kept("key"), connection)
        self.assertEqual(clock.getDelayedCalls(), [])
        self.assertIsNone(pool.take_kept("key"))
        pool.keeps = False
        pool._putConnection("key", connection)
        self.assertIsNone(pool.take_kept("key"))
        self.assertTrue(connection.transport.disconnecting)

    def test_trust_roots_are_asked_when_a_context_is_made(self) -> None:
        prepared: list[SSL.Context] = []

        class Noted(TrustRoots):
            def prepare(self, context: SSL.Context) -> None:
                prepared.append(context)

        authority = ssl.Certificate.loadPEM(issue(None).pem)
        roots = Noted(ssl.platformTrust(), ssl.trustRootFromCertificates([authority]))
        context = ssl.CertificateOptions(trustRoot=roots).getContext()
        self.assertEqual(prepared, [context])

    def test_a_body_is_aborted(self) -> None:
        aborted: list[bool] = []

        class Transport(StringTransport):
            def abortConnection(self) -> None:
                aborted.append(True)

        connection = HTTP11ClientProtocol()
        connection.makeConnection(Transport())
        request = Request(b"GET", b"/", Headers({b"Host": [b"x"]}), None)
        answer = connection.request(request)
        connection.dataReceived(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
        body = Protocol()
        self.successResultOf(answer).deliverBody(body)
        self.has(body.transport, "_producer")
        abort(body.transport)
        self.assertEqual(aborted, [True])
