"""What exceptions are called."""

from OpenSSL import SSL
from twisted.internet import error as net
from twisted.internet.defer import TimeoutError
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseFailed

from chatgpt_source.http.client.response import TooLongHead
from chatgpt_source.http.client.tunnel import ProxyFailed
from chatgpt_source.http.client.words import describe


class DescribeTests(SynchronousTestCase):
    def test_by_cause(self) -> None:
        for error, words in (
            (TimeoutError("MARK"), "no answer in time"),
            (net.TCPTimedOutError(), "no connection in time"),
            (net.DNSLookupError("MARK"), "its name can't be resolved"),
            (ResponseFailed([Failure(TooLongHead())]), "its answer's head is too long"),
            (
                SSL.Error([("", "", "certificate verify failed")]),
                "its TLS certificate is not trusted",
            ),
            (ResponseFailed([Failure(SSL.Error("MARK"))]), "the TLS handshake failed"),
            (ZeroDivisionError("MARK"), "ZeroDivisionError"),
            (None, "unknown"),
        ):
            self.assertEqual(describe(error), words)

    def test_of_a_proxy(self) -> None:
        why = Failure(net.ConnectionRefusedError())
        self.assertEqual(describe(ProxyFailed("this happened")), "this happened")
        self.assertEqual(
            describe(ProxyFailed("this happened", why)), "this happened (connection refused)"
        )
