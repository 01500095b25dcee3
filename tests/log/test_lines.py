"""Lines to a pipe that is read, is not read, and is read again."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from io import StringIO
from resource import RLIMIT_NOFILE, getrlimit, setrlimit
from select import poll, select

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from chatgpt_source.log import lines as module
from chatgpt_source.log.lines import MOST_BYTES, STEP, Lines, Piece, dropped, lines_of

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


def told(lines: list[bytes]) -> int:
    """How many are said to be lost."""
    return sum(int(line.split()[0]) for line in lines if line.endswith(b" lost"))


def run(program: str) -> bytes:
    return subprocess.run(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, check=True, timeout=20
    ).stdout


class LinesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.read, self.write = os.pipe()
        self.during_a_write: list[bytes] = []
        self.writes = 0
        self.patch(os, "write", partial(self.written, os.write))
        self.lines = Lines(self.write, lambda number: b"%d lost\n" % number)
        self.addCleanup(self.shut)

    def written(self, write: Callable[[int, bytes], int], fd: int, data: bytes) -> int:
        self.writes += fd == self.write
        if self.during_a_write:
            self.lines.write(self.during_a_write.pop())
        return write(fd, data)

    def shut(self) -> None:
        os.close(self.read)
        self.lines.flush(0)
        wait_for(lambda: self.lines._put == self.lines._done)  # an error ends what still waits
        os.close(self.write)

    def read_lines(self, until: Callable[[list[bytes]], bool]) -> list[bytes]:
        got = b""
        while not until(got.split(b"\n")[:-1]):
            assert select([self.read], [], [], 20)[0]
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
        got = self.read_lines(lambda got: told(got) == lost)
        self.assertEqual(sum(line + b"\n" == LINE for line in got), written)
        self.lines.write(b"then\n")
        self.assertEqual(self.read_lines(lambda got: len(got) == 1), [b"then"])
        self.assertEqual(self.lines.dropped, lost)

    def test_it_is_told_where_they_are_missing(self) -> None:
        for _ in range(STEP // len(LINE)):
            self.lines.write(LINE)
        self.lines.flush(20)
        self.assertFalse(self.lines.ready())  # else it makes room at any time
        for _ in range(2 * 1024):
            self.lines.write(LINE)
        lost = self.lines.dropped
        os.read(self.read, 2**16)
        wait_for(lambda: self.lines._put - self.lines._done < MOST_BYTES - 2**15)
        self.lines.write(b"later\n")
        got = self.read_lines(lambda got: got[-1:] == [b"later"])
        self.assertEqual(told(got), lost)
        self.assertIn(b"lost", got[-2])

    def test_a_flush_waits_for_what_is_written_but_not_for_ever_and_not_again(self) -> None:
        self.lines.write(b"x\n")
        self.lines.flush(20)
        self.assertEqual(self.lines._put, self.lines._done)
        for _ in range(500):
            self.lines.write(LINE)
        wait_for(lambda: not self.lines._takes_more(0))
        began = time.monotonic()
        self.lines.flush(0.2)
        between = time.monotonic()
        self.assertLess(between - began, 5)
        self.lines.flush(20)
        self.assertLess(time.monotonic() - between, 5)

    def pause(self) -> None:
        """Write a first line, after which others wait for long."""
        self.patch(module, "SPACING", 600.0)
        self.during_a_write = [b"meanwhile\n"]
        self.lines.write(b"first\n")
        self.assertEqual(self.read_lines(lambda got: len(got) == 1), [b"first"])

    def test_the_lines_of_a_while_share_a_write_and_a_flush_waits_for_no_more(self) -> None:
        asked: list[object] = []
        self.patch(module, "poll", lambda: asked.append(1) or poll())
        self.pause()
        for number in range(100):
            self.lines.write(b"%d\n" % number)
        self.lines.flush(20)
        got = self.read_lines(lambda got: len(got) == 101)
        self.assertEqual(got, [b"meanwhile", *(b"%d" % number for number in range(100))])
        self.assertEqual(self.writes, 2)
        self.assertEqual(asked, [])

    def test_a_descriptor_that_select_does_not_take(self) -> None:
        high = 2000
        soft, hard = getrlimit(RLIMIT_NOFILE)
        if hard <= high:
            raise SkipTest("there may not be so many open files")
        setrlimit(RLIMIT_NOFILE, (max(soft, high + 1), hard))
        self.addCleanup(setrlimit, RLIMIT_NOFILE, (soft, hard))
        read, write = os.pipe()
        self.addCleanup(os.close, read)
        os.set_blocking(write, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(write, b"-" * 4096)
        os.set_blocking(write, True)
        os.dup2(write, high)
        os.close(write)
        self.addCleanup(os.close, high)
        full = Lines(high)
        piece = full.put(b"data", lambda _: None)
        assert piece is not None
        self.assertTrue(full.take_back(piece))

    def test_many_lines_do_not_wait(self) -> None:
        self.pause()
        for _ in range(STEP // len(LINE)):
            self.lines.write(LINE)
        self.read_lines(lambda got: len(got) >= STEP // len(LINE) - 1)

    def test_a_line_after_a_quiet_while_does_not_wait(self) -> None:
        for number in range(3):
            self.lines.write(b"%d\n" % number)
            self.read_lines(lambda got: len(got) == 1)
            wait_for(lambda: self.lines._idle)
        self.patch(module, "SPACING", 600.0)
        self.lines.write(b"then\n")
        self.assertEqual(self.read_lines(lambda got: len(got) == 1), [b"then"])

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


class PutTests(SynchronousTestCase):
    """What must not be dropped."""

    def setUp(self) -> None:
        self.read, self.write = os.pipe()
        self.lines = Lines(self.write)
        self.ends: list[OSError | None] = []
        self.addCleanup(self.shut)

    def shut(self) -> None:
        os.close(self.read)
        wait_for(lambda: self.lines._put == self.lines._done)
        os.close(self.write)

    def fill(self) -> int:
        """Leave no room in the pipe; returns how much was put there."""
        os.set_blocking(self.write, False)
        size = 0
        try:
            while True:
                size += os.write(self.write, b"-" * 4096)
        except BlockingIOError:
            os.set_blocking(self.write, True)
        return size

    def put(self, data: bytes) -> Piece | None:
        return self.lines.put(data, self.ends.append)

    def drain(self, size: int) -> bytes:
        got = b""
        while len(got) < size:
            got += os.read(self.read, size - len(got))
        return got

    def test_it_is_written_at_once(self) -> None:
        self.assertIsNone(self.put(b"data"))
        self.assertIsNone(self.put(b""))
        self.assertEqual(os.read(self.read, 100), b"data")

    def test_it_is_written_after_the_lines_before_it(self) -> None:
        self.lines.write(b"a line\n")
        piece = self.put(b"data")  # the thread may be writing the line
        self.lines.flush(20)
        self.assertEqual(os.read(self.read, 100), b"a line\ndata")
        self.assertEqual(self.ends, [] if piece is None else [None])

    def test_a_flush_waits_until_the_end_is_told(self) -> None:
        def told(error: OSError | None) -> None:
            time.sleep(0.05)
            self.ends.append(error)

        size = self.fill()
        self.lines.put(b"data", told)
        self.drain(size)
        self.lines.flush(20)
        self.assertEqual(self.ends, [None])

    def test_what_waits_is_written_once_there_is_room(self) -> None:
        size = self.fill()
        self.assertFalse(self.lines.ready())
        self.assertIsNotNone(self.put(b"first"))
        self.lines.write(b"a line\n")
        self.assertIsNotNone(self.put(b"second"))
        self.assertEqual(self.ends, [])
        self.drain(size)
        self.assertEqual(self.drain(18), b"firsta line\nsecond")
        wait_for(lambda: len(self.ends) == 2)
        self.assertEqual(self.ends, [None, None])
        self.assertTrue(self.lines.ready())

    def test_what_is_not_begun_can_be_taken_back(self) -> None:
        size = self.fill()
        first, second = self.put(b"first"), self.put(b"second")
        assert first
        assert second
        self.assertTrue(self.lines.take_back(first))
        self.drain(size)
        self.assertEqual(self.drain(6), b"second")
        wait_for(lambda: self.ends == [None])
        self.assertFalse(self.lines.take_back(second))

    def test_a_large_one_is_written_whole(self) -> None:
        data = os.urandom(300_000)
        large, small = self.put(data), self.put(b"small")
        assert large
        assert small
        self.assertFalse(self.lines.take_back(large))
        self.assertTrue(self.lines.take_back(small))
        self.lines.write(b"a line\n")
        self.assertEqual(self.drain(300_007), data + b"a line\n")
        wait_for(lambda: self.ends == [None])

    def test_large_ones_take_no_room_from_lines(self) -> None:
        self.put(b"x" * 2 * MOST_BYTES)
        self.lines.write(LINE)
        self.assertEqual(self.lines.dropped, 0)

    def test_nobody_there(self) -> None:
        self.fill()
        self.put(b"first")
        os.close(self.read)
        wait_for(lambda: self.lines._idle)
        (error,) = self.ends
        self.assertIsInstance(error, BrokenPipeError)
        self.assertTrue(self.lines.ready())
        self.assertRaises(BrokenPipeError, self.put, b"second")
        self.assertEqual(self.lines.dropped, 0)
        self.read = os.open(os.devnull, os.O_RDONLY)

    def test_it_does_not_wait_for_more_lines(self) -> None:
        master, terminal = os.openpty()
        self.addCleanup(os.close, master)
        self.addCleanup(os.close, terminal)
        self.patch(module, "SPACING", 600.0)
        lines = Lines(terminal)
        lines.write(b"a line\n")
        wait_for(lambda: lines._put == lines._done)
        lines.write(b"a second\n")
        piece = lines.put(b"data", self.ends.append)
        if piece:  # the thread may have been faster
            wait_for(lambda: self.ends == [None])

    def test_a_terminal_that_is_not_read(self) -> None:
        master, terminal = os.openpty()
        lines = Lines(terminal)
        put = [lines.put(b"x" * 1000, self.ends.append) for _ in range(300)]
        pieces = [piece for piece in put if piece]  # the thread may have written some by then
        lines.flush(0.3)
        taken_back = [piece for piece in pieces if lines.take_back(piece)]
        self.assertGreater(len(taken_back), 200)
        got = 0
        while got < 1000 * (300 - len(taken_back)):
            got += len(os.read(master, 2**16))
        wait_for(lambda: len(self.ends) >= len(pieces) - len(taken_back))
        self.assertEqual(self.ends, [None] * (len(pieces) - len(taken_back)))
        os.close(master)
        os.close(terminal)


class SharedTests(SynchronousTestCase):
    def test_one_a_descriptor(self) -> None:
        self.assertIs(lines_of(sys.__stdout__), lines_of(sys.__stdout__))
        self.assertIsNone(lines_of(StringIO()))
        self.assertIsNone(lines_of(None))


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
