"""Certificates in PEM."""

from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.http.pem import read_certificates
from tests.certificates import issue


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
            self.assertEqual(len(read_certificates(pem)), count)

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
            error = self.assertRaises(ValueError, read_certificates, pem)
            self.assertIn("PEM", str(error))
            self.assertNotIn("MARK", str(error))
            self.assertNotIn("\n", str(error))
