"""Lines to a pipe that is read, is not read, and is read again."""

import os
import subprocess
import sys
import time
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.log import lines as module
from chatgpt_source.log.lines import MOST_BYTES, Lines, dropped

LINE = b"x" * 1023 + b"\n"
STUCK = """
import os, sys
from chatgpt_source.log.lines import Lines
read, write = os.pipe()
lines = Lines(write, lambda _: b"lost")
for _ in range(200):
    lines.write(b"x" * 1023 + bytes([10]))
"""
HEALTHY = """
import os, sys
from chatgpt_source.log.lines import Lines
lines = Lines(1, lambda _: b"lost")
for number in range(1000):
    lines.write(b"%d" % number + bytes([10]))
"""
FORKING = """
import os, sys
from chatgpt_source.log.lines import Lines
lines = Lines(1, lambda _: b"lost")
lines.write(b"before" + bytes([10]))
child = os.fork()
lines.write((b"after" if child else b"in the child") + bytes([10]))
lines.flush(5)
if not child:
    os._exit(0)
os.waitpid(child, 0)
"""


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def run(program: str) -> bytes:
    return subprocess.run(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, check=True, timeout=20
    ).stdout


class LinesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.read, self.write = os.pipe()
        self.lines = Lines(self.write, lambda number: b"%d lost\n" % number)
        self.addCleanup(self.shut)

    def shut(self) -> None:
        os.close(self.read)
        wait_for(lambda: self.lines._put == self.lines._done)  # an error ends what still waits
        os.close(self.write)

    def read_lines(self, until: Callable[[list[bytes]], bool]) -> list[bytes]:
        got = b""
        while not until(got.split(b"\n")[:-1]):
            got += os.read(self.read, 2**20)
        return got.split(b"\n")[:-1]

    def test_in_order(self) -> None:
        for number in range(1000):
            self.lines.write(b"%d\n" % number)
        got = self.read_lines(lambda got: len(got) == 1000)
        self.assertEqual(got, [b"%d" % number for number in range(1000)])
        self.assertEqual(self.lines.dropped, 0)

    def test_what_is_too_much_is_dropped_counted_and_told(self) -> None:
        before = dropped()
        for _ in range(3 * 1024):
            self.lines.write(LINE)
        lost = self.lines.dropped
        self.assertEqual(dropped() - before, lost)
        written = 3 * 1024 - lost
        self.assertGreaterEqual(written * len(LINE), MOST_BYTES)
        got = self.read_lines(lambda got: got[-1:] == [b"%d lost" % lost])
        self.assertEqual(len(got), written + 1)
        self.lines.write(b"then\n")
        self.assertEqual(self.read_lines(lambda got: len(got) == 1), [b"then"])
        self.assertEqual(self.lines.dropped, lost)

    def test_it_is_told_where_they_are_missing(self) -> None:
        for _ in range(2 * 1024):
            self.lines.write(LINE)
        lost = self.lines.dropped
        os.read(self.read, 2**16)
        wait_for(lambda: self.lines._put - self.lines._done < MOST_BYTES - 2**15)
        self.lines.write(b"later\n")
        got = self.read_lines(lambda got: got[-1:] == [b"later"])
        self.assertEqual(got[-2:], [b"%d lost" % lost, b"later"])

    def test_a_flush_waits_for_what_is_written_but_not_for_ever_and_not_again(self) -> None:
        self.lines.write(b"x\n")
        self.lines.flush(20)
        self.assertEqual(self.lines._put, self.lines._done)
        for _ in range(500):
            self.lines.write(LINE)
        began = time.monotonic()
        self.lines.flush(0.2)
        between = time.monotonic()
        self.assertLess(between - began, 5)
        self.lines.flush(20)
        self.assertLess(time.monotonic() - between, 5)

    def test_a_stream_that_is_not_blocking(self) -> None:
        os.set_blocking(self.write, False)
        for _ in range(500):
            self.lines.write(LINE)
        self.assertEqual(len(self.read_lines(lambda got: len(got) == 500)), 500)

    def test_nobody_there(self) -> None:
        os.close(self.read)
        for number in range(5):
            self.lines.write(b"x\n")
            self.lines.flush(20)
            self.assertEqual(self.lines.dropped, number + 1)
        self.read, other = os.pipe()
        os.dup2(other, self.write)
        os.close(other)
        self.lines.write(b"here\n")
        self.assertEqual(self.read_lines(lambda got: len(got) == 2), [b"here", b"5 lost"])


class ProcessTests(SynchronousTestCase):
    def test_an_end_waits_for_a_healthy_reader(self) -> None:
        self.assertEqual(run(HEALTHY).split(), [b"%d" % number for number in range(1000)])

    def test_an_end_does_not_wait_long_for_a_stuck_one(self) -> None:
        began = time.monotonic()
        self.assertEqual(run(STUCK), b"")
        self.assertLess(time.monotonic() - began, 10)

    def test_a_fork_writes_nothing_twice(self) -> None:
        told = sorted(run(FORKING).splitlines())
        self.assertEqual(told, [b"after", b"before", b"in the child"])

    def test_the_bounds(self) -> None:
        self.assertEqual((module.PATIENCE, MOST_BYTES), (0.5, 2**20))
