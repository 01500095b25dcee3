"""The journal of a real daemon: beside an operator's command, and on a disk that fails."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import SkipTest

from tests.e2e.processes import ROOT, Daemon, DaemonCase, until
from tests.fakes.openai import prompt_of
from tests.fakes.server import Reply

COMMAND = "from chatgpt_source.journal.command import main; main()"
BROKEN_FSYNC = """
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
static int sync_or_fail(long call, int fd) {
    const char *flag = getenv("BROKEN_FSYNC");
    if (flag && access(flag, F_OK) == 0) { errno = EIO; return -1; }
    return syscall(call, fd);
}
int fsync(int fd) { return sync_or_fail(SYS_fsync, fd); }
int fdatasync(int fd) { return sync_or_fail(SYS_fdatasync, fd); }
"""


class BesideTests(DaemonCase):
    """An operator acts on many prompts while callers come and go."""

    FAILED = 300

    async def busy(self, daemon, statuses, done):
        """Post one prompt after the other; count what came of them."""
        while not done:
            answer = await daemon.post("text")
            statuses[answer.status] += 1

    async def beside_callers(self, *argv):
        self.target.script = lambda _: Reply(400)
        daemon = self.daemon(everyday_limit=100_000, concurrency=16)
        await daemon.start()
        posts = [daemon.accepted("text") for _ in range(self.FAILED)]
        await gatherResults([Deferred.fromCoroutine(post) for post in posts])
        await until(lambda: len(self.target.requests) >= self.FAILED, "their failures")
        statuses, done = Counter(), []
        callers = [Deferred.fromCoroutine(self.busy(daemon, statuses, done)) for _ in range(8)]
        await until(lambda: sum(statuses.values()) > 20, "some load")
        out, err, status = await getProcessOutputAndValue(
            sys.executable,
            ["-c", COMMAND, f"--journal={daemon.dir / 'journal.sqlite'}", *argv],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        )
        done.append(True)
        await gatherResults(callers)
        self.assertEqual((status, err), (0, b""), out[-300:])
        self.assertGreaterEqual(len(out.splitlines()), self.FAILED)
        self.assertEqual(set(statuses), {202}, statuses)
        return daemon

    async def logs(self, daemon, did):
        line = re.compile(rf"operator \S.* \(chatgpt-source-journal\) {did} \d+ failed prompts")
        await until(lambda: line.search(daemon.text), "the line of the log")

    async def test_purge_all(self):
        await self.logs(await self.beside_callers("purge", "--all"), "purged")

    async def test_redrive_all(self):
        await self.logs(await self.beside_callers("redrive", "--all"), "redrove")


class BrokenDiskTests(DaemonCase):
    """`fsync` fails: what was refused is refused for good."""

    def daemon_on_a_broken_disk(self):
        compiler = shutil.which("cc") or shutil.which("gcc")
        if not compiler or not sys.platform.startswith("linux"):
            raise SkipTest("no C compiler, or not Linux")
        library = Path(self.mktemp()).absolute()
        library.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [compiler, "-shared", "-fPIC", "-x", "c", "-o", str(library), "-"],
            input=BROKEN_FSYNC.encode(),
            check=True,
        )
        flag = library.with_name(f"{library.name}-broken")
        daemon = Daemon(self, self.config(), LD_PRELOAD=str(library), BROKEN_FSYNC=str(flag))
        return daemon, flag

    async def test_a_refused_prompt_does_not_come_to_life_after_a_crash(self):
        daemon, flag = self.daemon_on_a_broken_disk()
        await daemon.start()
        await daemon.reaches(await daemon.accepted("before"), "delivered")
        flag.touch()
        self.assert_problem(await daemon.post("refused"), 503)
        daemon.process.signal(signal.SIGKILL)
        await daemon.process.end()
        flag.unlink()
        await daemon.start()
        await daemon.reaches(await daemon.accepted("after"), "delivered")
        self.assertEqual([prompt_of(ask) for ask in self.openai.asks], ["before", "after"])

    async def test_it_goes_on_once_the_disk_is_mended(self):
        daemon, flag = self.daemon_on_a_broken_disk()
        await daemon.start()
        flag.touch()
        for _ in range(3):
            self.assert_problem(await daemon.post("refused"), 503)
        flag.unlink()
        await until(lambda: self.is_accepted(daemon), "a mended journal")
        await until(lambda: self.target.events, "an event")
        await daemon.kill()
        await daemon.start()
        await daemon.reaches(await daemon.accepted("last"), "delivered")
        self.assertEqual([prompt_of(ask) for ask in self.openai.asks], ["after", "last"])

    async def is_accepted(self, daemon):
        return (await daemon.post("after")).status == 202
