"""Only regular files are read, up to a bound, and none is waited for."""

import os
import resource
import socket
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.files import hard_limit, raise_limit, read_file


class ReadFileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp()).absolute()

    def why(self, path: Path) -> str:
        return str(self.assertRaises(OSError, read_file, path, 10).strerror)

    def test_up_to_its_bound(self) -> None:
        self.path.write_bytes(b"0123456789")
        self.assertEqual(read_file(self.path, 10), b"0123456789")
        self.path.write_bytes(b"0123456789x")
        self.assertIn("more than 10 bytes", self.why(self.path))

    def test_one_that_seems_empty(self) -> None:
        self.assertTrue(read_file(Path("/proc/self/stat"), 10_000))

    def test_by_a_link(self) -> None:
        self.path.write_bytes(b"text")
        link = self.path.with_name("link")
        link.symlink_to(self.path)
        self.assertEqual(read_file(link), b"text")

    def test_what_is_none(self) -> None:
        os.mkfifo(self.path)
        self.assertIn("a pipe", self.why(self.path))
        self.assertIn("a device", self.why(Path("/dev/zero")))
        self.assertIn("directory", self.why(self.path.parent))
        self.assertEqual(read_file(Path(os.devnull)), b"")

    def test_a_socket(self) -> None:
        path = Path("/tmp", f"socket-{os.getpid()}")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
            self.addCleanup(path.unlink)
            self.assertIn("a socket", self.why(path))


class LimitTests(SynchronousTestCase):
    def test_raised_as_far_as_it_may_be(self) -> None:
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, before)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, before[1]))
        self.assertEqual(raise_limit(), before[1])
        self.assertIn(hard_limit(), {before[1], 2**31})
