"""Whose certificates are trusted, beside those of the platform."""

import os

from twisted.internet import reactor
from twisted.python.filepath import FilePath
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.http.client import NotSent, make_client
from chatgpt_source.http.client.certificates import read_authorities
from tests.certificates import Issued, issue
from tests.http.client.test_client import ClientCase, Peer


class ReadTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.one, self.other = issue(None).pem, issue("host.example").pem

    def test_how_many(self) -> None:
        for pem, count in (
            (self.one, 1),
            (self.one + self.other, 2),
            (self.one.replace(b"\n", b"\r\n").rstrip(), 1),
            (b"\xef\xbb\xbf# Ours, \xe4\n\n" + self.one + b"\nand\n" + self.other + b"end", 2),
        ):
            self.assertEqual(len(read_authorities(pem)), count)

    def test_what_holds_none(self) -> None:
        broken = b"-----BEGIN CERTIFICATE-----\nMARK\n-----END CERTIFICATE-----\n"
        key = b"-----BEGIN PRIVATE KEY-----\nMARK\n-----END PRIVATE KEY-----\n"
        for pem in (
            b"",
            b"MARK",
            broken,
            key,
            self.one + broken,
            self.one[:100],
            self.one + self.other[:100],
            self.one.replace(b"M", b"*", 1),
        ):
            error = self.assertRaises(ValueError, read_authorities, pem)
            self.assertIn("PEM", str(error))
            self.assertNotIn("MARK", str(error))
            self.assertNotIn("\n", str(error))

    def test_a_client_is_not_made_of_it(self) -> None:
        self.assertRaises(ValueError, make_client, reactor, 1, authorities=[self.one, b"MARK"])


class TrustTests(ClientCase):
    def setUp(self) -> None:
        super().setUp()
        self.root = issue(None)
        self.intermediate = issue(None, self.root)
        self.shown = issue("127.0.0.1", self.intermediate)

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
