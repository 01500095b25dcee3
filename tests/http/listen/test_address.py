"""Which addresses are this machine's loopback."""

from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.http.listen.address import is_loopback


class LoopbackTests(SynchronousTestCase):
    def test_addresses(self) -> None:
        for address, expected in {
            "127.0.0.1": True,
            "127.9.9.9": True,
            "::1": True,
            "::1%lo": True,
            "::ffff:127.0.0.1": True,
            "::ffff:192.0.2.1": False,
            "192.0.2.1": False,
            "0.0.0.0": False,
            "::": False,
            "localhost": False,
            "": False,
        }.items():
            self.assertEqual(is_loopback(address), expected, address)
