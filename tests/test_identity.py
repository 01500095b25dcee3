"""Names that tell daemons apart."""

import os
import socket

from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.identity import MOST, host_name, label


class IdentityTests(SynchronousTestCase):
    def test_a_pod(self) -> None:
        self.patch(socket, "gethostname", lambda: "source-chatgpt-7d9f4c-x2x5p")
        self.assertEqual(host_name(), "source-chatgpt-7d9f4c-x2x5p")
        told = f"chatgpt-source source-chatgpt-7d9f4c-x2x5p {os.getpid()}"
        self.assertEqual(label("chatgpt-source"), told)

    def test_the_end_of_a_long_name_is_kept(self) -> None:
        self.patch(socket, "gethostname", lambda: f"{'a' * 100}-x2x5p")
        told = label("chatgpt-source-journal")
        self.assertEqual(len(told), MOST)
        self.assertTrue(told.startswith("chatgpt-source-journal a"), told)
        self.assertTrue(told.endswith(f"a-x2x5p {os.getpid()}"), told)

    def test_a_name_that_is_not_in_ascii(self) -> None:
        self.patch(socket, "gethostname", lambda: "büro")
        self.assertEqual(host_name(), "b?ro")
