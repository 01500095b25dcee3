"""SIGHUP and SIGUSR1: what they do, and that neither ends the daemon."""

import contextlib
import os
import re
import signal
import ssl
import subprocess
import sys

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from tests.certificates import Authority
from tests.e2e.processes import LOG_TO_STDOUT, STARTED, TWISTD, DaemonCase, alive, free_port, until
from tests.fakes.openai import completion
from tests.fakes.server import Reply


class SignalTests(DaemonCase):
    async def test_hangup_reads_certificates_anew(self):
        folder = self.file("").parent
        authority = Authority(folder)
        key, certificate = authority.issue("first")
        token = self.file("sk-first")
        admin = free_port()
        endpoint = f"ssl:{admin}:privateKey={key}:certKey={certificate}:interface=127.0.0.1"
        config = self.config(admin=endpoint, token_file=str(token))
        del config["token"]
        daemon = self.daemon()
        daemon.config_file.write_text(
            "\n".join(f"{k}: '{v}'" for k, v in config.items() if k != "port")
            + f"\nport: {daemon.port}\n"
        )
        process = await daemon.start()

        async def shown():
            return await deferToThread(ssl.get_server_certificate, ("127.0.0.1", admin))

        first = await shown()
        self.assertEqual(first.strip(), certificate.read_text().strip())
        for new, old in zip(authority.issue("second"), (key, certificate), strict=True):
            new.replace(old)
        self.assertEqual(await shown(), first)
        process.signal(signal.SIGHUP)
        await until(
            lambda: "SIGHUP: read anew: the certificates of `admin`, 1 secret" in process.text,
            "the log line",
        )
        self.assertEqual((await shown()).strip(), certificate.read_text().strip())
        self.assertNotEqual(await shown(), first)
        kept = await shown()
        key.write_text("none")
        token.unlink()
        process.signal(signal.SIGHUP)
        await until(
            lambda: "kept as before: the certificates of `admin`, which must" in process.text,
            "the log line",
        )
        self.assertIn(f"the file {token} can't be read", process.text)
        self.assertEqual(await shown(), kept)
        await daemon.reaches(await daemon.accepted("text"), "delivered")
        self.assertIn(await daemon.stop(), (0, -signal.SIGTERM))

    async def test_neither_ends_it(self):
        daemon = self.daemon()
        process = await daemon.start()
        process.signal(signal.SIGHUP)
        await until(lambda: "SIGHUP: read anew: nothing" in process.text, "the log line")
        process.signal(signal.SIGUSR1)
        await until(
            lambda: "SIGUSR1: twistd does not log to a file" in process.text, "the log line"
        )
        await daemon.reaches(await daemon.accepted("text"), "delivered")
        self.assertIn(await daemon.stop(), (0, -signal.SIGTERM))

    async def test_a_stop_says_at_once_what_it_waits_for(self):
        reply: Deferred[Reply] = Deferred()
        self.openai.script = lambda _: reply
        daemon = self.daemon(drain_timeout=40)
        process = await daemon.start()
        await daemon.accepted("text")
        await until(lambda: self.openai.asks, "the call")
        process.signal(signal.SIGTERM)
        await until(
            lambda: "stopping: 1 call under way, at most 40 s" in process.text, "the log line"
        )
        later = re.compile("stopping: 1 call under way, at most 3[0-5] s")
        await until(lambda: later.search(process.text), "a later log line")
        self.assertIsNone(process.status)
        reply.callback(completion("an answer"))
        self.assertIn(await process.end(), (0, -signal.SIGTERM))
        self.assertIn("delivered: id=", process.text)

    async def test_usr1_opens_the_log_anew(self):
        daemon = self.daemon()
        pid = await daemon.start_daemonised()
        log, moved = daemon.dir / "twistd.log", daemon.dir / "moved.log"
        log.rename(moved)
        os.kill(pid, signal.SIGUSR1)
        await until(lambda: log.exists() and "opened anew" in log.read_text(), "a new log")
        prompt_id = await daemon.accepted("text")
        await until(lambda: f"delivered: id={prompt_id}" in log.read_text(), "its line")
        self.assertNotIn(prompt_id, moved.read_text())
        os.kill(pid, signal.SIGHUP)
        await until(lambda: "SIGHUP" in log.read_text(), "the log line")
        self.assertTrue(alive(pid))

    async def test_a_terminal_that_is_closed_ends_it_in_order(self):
        daemon = self.daemon()
        ours, theirs = os.openpty()
        process = subprocess.Popen(  # noqa: ASYNC220 - it returns at once
            [
                sys.executable,
                TWISTD,
                "--nodaemon",
                "--pidfile=",
                f"--rundir={daemon.dir}",
                LOG_TO_STDOUT,
                "chatgpt-source",
            ],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            env={"PATH": os.environ["PATH"], **daemon.environ},
            # As a terminal's program has it, also where the tests run under nohup.
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # noqa: PLW1509 - no threads yet
        )
        os.close(theirs)
        self.addCleanup(process.wait, 10)
        self.addCleanup(process.kill)
        await until(daemon.answers, "a start", STARTED)
        self.assertTrue((daemon.dir / "journal.sqlite-wal").exists())
        os.close(ours)
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGHUP)
        await until(lambda: process.poll() is not None, "its end")
        self.assertFalse((daemon.dir / "journal.sqlite-wal").exists(), "the journal was closed")
