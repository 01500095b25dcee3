"""`twistd chatgpt-source --check`, in the foreground and not, beside a daemon and without one."""

from chatgpt_source import __version__
from tests.e2e.processes import LOG_TO_STDOUT, ROOT, TWISTD, Daemon, DaemonCase
from tests.e2e.terminal import Terminal
from tests.fakes.openai import api_error
from tests.fakes.server import Reply

PLAIN = ()
FOREGROUND = ("--nodaemon", "--pidfile=", LOG_TO_STDOUT)


class CheckTests(DaemonCase):
    async def check(self, daemon, *options, status=0):
        process = daemon.launch(
            f"--rundir={daemon.dir}", *options, arguments=("chatgpt-source", "--check")
        )
        self.assertEqual(await process.end(), status, process.text)
        self.assertNotIn("Traceback", process.text)
        return process.text.splitlines()

    async def test_before_the_first_start(self):
        daemon = self.daemon()
        for options in (PLAIN, FOREGROUND):
            lines = await self.check(daemon, *options)
            self.assertEqual(lines[0], "chatgpt-source would start")
            self.assertIn(f"listens:  port {daemon.port}", lines)
            self.assertIn(f"delivers: to {self.target.origin}", lines)
            self.assertIn(f"journal:  {daemon.dir}/journal.sqlite (it would be created)", lines)
        self.assertEqual(list(daemon.files()), ["config.yml"])

    async def test_in_a_terminal(self):
        daemon = self.daemon()
        for option, first in (
            ("--check", "chatgpt-source would start"),
            ("--help", "Usage: "),
            ("--version", f"chatgpt-source {__version__}"),
        ):
            command = [str(TWISTD), "chatgpt-source", option]
            environ = {"PYTHONPATH": str(ROOT), **daemon.environ}
            terminal = Terminal(self, command, daemon.dir, environ)
            lines = terminal.wait_for_end().splitlines()
            self.assertTrue(lines[0].startswith(first), lines)
            self.assertEqual(lines[-1], "it ended with 0")
            # The folder's name is as long as it is.
            self.assertEqual([line for line in terminal.wide() if str(daemon.dir) not in line], [])

    async def test_mistakes_in_a_terminal(self):
        daemon = Daemon(self, "port: 8080\n")
        command = [str(TWISTD), "chatgpt-source", "--check"]
        environ = {"PYTHONPATH": str(ROOT), **daemon.environ}
        terminal = Terminal(self, command, daemon.dir, environ)
        lines = terminal.wait_for_end().splitlines()
        self.assertTrue(lines[0].startswith("`target` is missing"), lines)
        self.assertTrue(any(line.startswith("`token` is missing") for line in lines), lines)
        self.assertEqual(lines[-1], "it ended with 1")
        self.assertEqual(terminal.wide(), [])

    async def online(self, daemon, *, status):
        """What trying the peers says."""
        arguments = ("chatgpt-source", "--check", "--online")
        process = daemon.launch(f"--rundir={daemon.dir}", arguments=arguments)
        self.assertEqual(await process.end(), status, process.text)
        self.assertNotIn("Traceback", process.text)
        lines = process.text.splitlines()
        self.assertEqual(lines[0], "chatgpt-source would start")
        return [line for line in lines if line.startswith("online:")]

    async def test_online(self):
        fallback = {"name": "second", "base_url": self.openai.base_url, "token": "sk-wrong"}
        daemon = self.daemon(fallbacks=[fallback], targets={"more": {"url": self.target.origin}})
        lines = await self.online(daemon, status=0)
        model, target = self.openai.origin, self.target.origin
        told = [
            f"the model at {model} takes the key, and has the model",
            f"the fallback `second` at {model} takes the key, and has the model",
            f"the target at {target} answers (405 to OPTIONS)",
            f"the target `more` at {target} answers (405 to OPTIONS)",
        ]
        self.assertEqual(lines, [f"online:   {line}" for line in told])
        self.assertEqual((self.openai.asks, self.target.events), ([], []))
        self.assertEqual(list(daemon.files()), ["config.yml"])

    async def test_online_without_luck(self):
        self.openai.models, self.target.options = api_error(401), Reply(404)
        first, second = await self.online(self.daemon(), status=1)
        model, target = self.openai.origin, self.target.origin
        self.assertIn(f" the model at {model} answered 401: check `token`", first)
        self.assertIn(f" the target at {target} answered 404", second)
        await self.openai.stop()
        first, _ = await self.online(self.daemon(), status=1)
        self.assertIn(f" the model at {model} can't be reached: ", first)

    async def test_online_belongs_to_check(self):
        daemon = self.daemon()
        process = daemon.launch(arguments=("chatgpt-source", "--online"))
        self.assertNotEqual(await process.end(), 0)
        self.assertIn("--online belongs to --check", process.text)

    async def test_its_version(self):
        process = self.daemon().launch(arguments=("chatgpt-source", "--version"))
        self.assertEqual(await process.end(), 0)
        self.assertEqual(process.text, f"chatgpt-source {__version__}\n")

    async def test_beside_a_daemon_and_after_it(self):
        self.openai.script = lambda _: Reply(503)
        daemon = self.daemon()
        await daemon.start_daemonised()
        waiting = await daemon.accepted("text")
        await daemon.reaches(waiting, lambda record: record["error"])
        for options in (PLAIN, (f"--pidfile={daemon.dir}/twistd.pid",), FOREGROUND):
            lines = await self.check(daemon, *options)
            self.assertIn("once the daemon that uses this journal has stopped", lines[0])
            self.assertIn(f"listens:  port {daemon.port}, where a daemon listens now", lines)
            self.assertIn(
                "prompts:  1 accepted, 0 submitted, 0 answered, 0 delivered, 0 failed, 0 cancelled",
                lines,
            )
            self.assertTrue(any(line.endswith("; 99 left today") for line in lines), lines)
        self.openai.script = self.openai.default
        await daemon.reaches(waiting, "delivered")

    async def test_what_a_crash_left_is_told_and_then_taken_up(self):
        self.target.script = lambda _: Reply(503)
        daemon = self.daemon()
        await daemon.start()
        for _ in range(3):
            prompt_id = await daemon.accepted("text")
            await daemon.reaches(prompt_id, lambda record: record["deliveries"])
        await daemon.kill()
        before = daemon.files()
        lines = await self.check(daemon)
        self.assertIn(
            "prompts:  0 accepted, 0 submitted, 3 answered, 0 delivered, 0 failed, 0 cancelled",
            lines,
        )
        after = daemon.files()
        for name in ("journal.sqlite", "journal.sqlite-wal"):
            self.assertEqual(after[name], before[name], name)
        self.target.script = self.target.default
        await daemon.start()
        await daemon.reaches(prompt_id, "delivered")

    async def test_every_mistake(self):
        for options in (PLAIN, FOREGROUND):
            lines = await self.check(Daemon(self, "port: x\ntoken: [MARKED]\n"), *options, status=1)
            self.assertEqual(len(lines), 3, lines)
            for line, key in zip(lines, ("`target`", "`token`", "`port`"), strict=True):
                self.assertTrue(line.startswith(key), line)
                self.assertNotIn("MARKED", line)

    async def test_a_port_that_another_program_has(self):
        other = self.daemon()
        await other.start()
        (line,) = await self.check(self.daemon(port=other.port), status=1)
        self.assertTrue(line.startswith(f"port {other.port} can't be listened on"), line)
