"""Whose certificates are trusted, beside those of the platform."""

import os

from twisted.internet import reactor
from twisted.python.filepath import FilePath

from chatgpt_source.http.client import NotSent, make_client
from tests.certificates import Issued, issue
from tests.http.client.test_client import ClientCase, Peer


class TrustTests(ClientCase):
    def setUp(self) -> None:
        super().setUp()
        self.root = issue(None)
        self.intermediate = issue(None, self.root)
        self.shown = issue("127.0.0.1", self.intermediate)

    def test_a_client_is_not_made_of_it(self) -> None:
        self.assertRaises(ValueError, make_client, reactor, 1, authorities=[self.root.pem, b"MARK"])

    async def reach(self, trusted: list[bytes], shown: Issued, *chain: Issued) -> None:
        self.remake(authorities=trusted)
        url = self.serve(Peer(), options=shown.options(*chain))
        for _ in range(2):
            self.assertEqual((await self.post(url)).status, 200)

    async def test_the_one_that_signed(self) -> None:
        await self.reach([self.root.pem], issue("127.0.0.1", self.root))

    async def test_one_of_several(self) -> None:
        another = issue(None).pem
        await self.reach([another, another + self.root.pem], self.shown, self.intermediate)

    async def test_an_intermediate_one_without_its_root(self) -> None:
        await self.reach([self.intermediate.pem], self.shown)

    async def test_the_certificate_itself(self) -> None:
        itself = issue("127.0.0.1")
        await self.reach([itself.pem], itself)

    async def test_the_same_twice(self) -> None:
        await self.reach([self.root.pem * 2, self.root.pem], issue("127.0.0.1", self.root))

    async def test_others_are_not(self) -> None:
        self.remake(authorities=[issue(None).pem])
        url = self.serve(Peer(), options=self.shown.options(self.intermediate, self.root))
        words = await self.error(NotSent, self.post(url))
        self.assertEqual(words, "its TLS certificate is not trusted")

    async def test_the_name_still_counts(self) -> None:
        self.remake(authorities=[self.root.pem])
        url = self.serve(Peer(), options=issue("127.0.0.2", self.root).options())
        words = await self.error(NotSent, self.post(url))
        self.assertEqual(words, "its TLS certificate is for another name")

    async def test_beside_those_of_the_platform(self) -> None:
        bundle = FilePath(self.mktemp())
        bundle.setContent(self.root.pem)
        before = os.environ.get("SSL_CERT_FILE")  # where OpenSSL looks for the platform's
        os.environ["SSL_CERT_FILE"] = bundle.path
        try:
            await self.reach([issue(None).pem], issue("127.0.0.1", self.root))
        finally:
            del os.environ["SSL_CERT_FILE"]
            os.environ.update({} if before is None else {"SSL_CERT_FILE": before})
