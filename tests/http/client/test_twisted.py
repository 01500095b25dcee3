"""What the client uses of Twisted's inside, held to the installed release."""

from OpenSSL import SSL
from twisted.internet import ssl
from twisted.trial.unittest import SynchronousTestCase

import twisted
from chatgpt_source.http.client.twisted_private import TrustRoots
from tests.certificates import issue


class InstalledReleaseTests(SynchronousTestCase):
    def has(self, where: object, *names: str) -> None:
        release, module = twisted.__version__, "http/client/twisted_private.py"
        for name in names:
            self.assertTrue(
                hasattr(where, name), f"Twisted {release} has no {name} at {where!r}: mend {module}"
            )

    def test_the_names_are_there(self) -> None:
        for root in (ssl.platformTrust(), ssl.trustRootFromCertificates([])):
            self.has(root, "_addCACertsToContext")

    def test_trust_roots_are_asked_when_a_context_is_made(self) -> None:
        prepared: list[SSL.Context] = []

        class Noted(TrustRoots):
            def prepare(self, context: SSL.Context) -> None:
                prepared.append(context)

        authority = ssl.Certificate.loadPEM(issue(None).pem)
        roots = Noted(ssl.platformTrust(), ssl.trustRootFromCertificates([authority]))
        context = ssl.CertificateOptions(trustRoot=roots).getContext()
        self.assertEqual(prepared, [context])
