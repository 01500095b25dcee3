"""The parent that waits for a start hears of its end, once."""

import inspect
import os
import sys
from io import StringIO
from typing import Any
from unittest.mock import Mock

from twisted.scripts import _twistd_unix
from twisted.trial.unittest import SynchronousTestCase

import twisted
from chatgpt_source.process import parent
from chatgpt_source.process.parent import _PIPE, Parent, fail_at_exit


class ParentTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.read, write = os.pipe()
        self.addCleanup(os.close, self.read)
        self.twistd: dict[str, Any] = {"statusPipe": write}
        self.parent = Parent(self.twistd)

    def test_hears_nothing_from_twistd(self) -> None:
        self.parent.hold()
        self.assertEqual(self.twistd, {})
        self.parent.tell()
        self.assertEqual(os.read(self.read, 100), b"0")
        self.assertEqual(os.read(self.read, 100), b"")
        self.parent.tell()

    def test_hears_why(self) -> None:
        self.parent.hold()
        self.parent.tell("näh" * 99)
        said = os.read(self.read, 1000)
        self.assertEqual(len(said), 100)
        self.assertTrue(said.startswith(b"1 n\\xe4h"), said)

    def test_where_there_is_none(self) -> None:
        nobody = Parent({})
        nobody.hold()
        nobody.tell("anything")


class FailTests(SynchronousTestCase):
    def test_it_says_why_if_it_can(self) -> None:
        at_exit = Mock()
        self.patch(parent.atexit, "register", at_exit)
        said = StringIO()
        for stderr in (said, Mock(write=Mock(side_effect=BrokenPipeError)), None):
            self.patch(sys, "__stderr__", stderr)
            fail_at_exit("the reason")
        self.assertEqual(said.getvalue(), "the reason\n")
        self.assertEqual(at_exit.call_count, 3)


class InstalledReleaseTests(SynchronousTestCase):
    def test_twistd_keeps_its_pipe_where_it_is_looked_for(self) -> None:
        source = inspect.getsource(_twistd_unix.UnixApplicationRunner)
        for use in (f'config["{_PIPE}"] = ', f'config.get("{_PIPE}", None)'):
            self.assertIn(use, source, f"Twisted {twisted.__version__}: mend process/parent.py")
