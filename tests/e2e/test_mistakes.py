"""What is wrong with the configuration is said at start: a line each, with the key's name."""

from pathlib import Path

from tests.e2e.processes import Daemon, DaemonCase, together

TOKEN = "sk-MARKED-TOKEN-4711"
GOOD = f"target: http://localhost:1\ntoken: {TOKEN}\n"


class MistakeTests(DaemonCase):
    async def refuses(self, config, *expected, both_ways=False, **environ):
        daemon = Daemon(self, config, **environ)
        ends = await (daemon.fail_both_ways() if both_ways else together(daemon.fail()))
        for status, said in ends:
            self.assertEqual(status, 1, said)
            self.assertNotIn("Traceback", said)
            self.assertNotIn("MARKED", said)
            lines = said.splitlines()
            self.assertEqual(len(lines), len(expected), said)
            for line, (start, *words) in zip(lines, expected, strict=True):
                self.assertTrue(line.startswith(start), (line, start))
                for word in words:
                    self.assertIn(word, line)
            self.assertEqual(list(daemon.dir.glob("journal*")), [])

    async def test_missing(self):
        await together(
            self.refuses(
                "port: 8080\n",
                ("`target` is missing", "CONNECTOR_TARGET", "K_SINK"),
                ("`token` is missing", "OPENAI_API_KEY"),
                both_ways=True,
            ),
            self.refuses(None, ("`target` is missing",), ("`token` is missing",)),
            self.refuses("", ("`target` is missing",), OPENAI_API_KEY=TOKEN),
        )

    async def test_every_key_at_once(self):
        config = f"""
target: ftp://x
token: [{TOKEN}]
port: "8080"
everyday_limit: 0
timezone: Mars/Phobos
base_url: localhost
model: 5
system_prompt: [a]
max_tokens: 1.5
openai_timeout: 0
concurrency: true
journal: {{}}
send_event_attempts: -1
give_up_after: .inf
max_body_size: 1e3
max_backlog: none
keep: -1
drain_timeout: soon
log_config: {{log_level: loud}}
everyday_limits: 5
"""
        expected = [("`everyday_limits` is not a known key", "`everyday_limit`")]
        keys = (
            "target token port everyday_limit timezone base_url model system_prompt max_tokens"
            " openai_timeout concurrency journal send_event_attempts give_up_after max_body_size"
            " max_backlog keep drain_timeout log_config"
        )
        expected += [(f"`{key}` must be ",) for key in keys.split()]
        await self.refuses(config, *expected, both_ways=True)

    async def test_environment(self):
        await together(
            self.refuses(
                None,
                ("CONNECTOR_TARGET (for `target`) must be ",),
                ("OPENAI_BASE_URL (for `base_url`) must be ",),
                ("LOG_LEVEL (for `log_config`) must be ",),
                OPENAI_API_KEY=TOKEN,
                CONNECTOR_TARGET="no URL",
                OPENAI_BASE_URL="http://",
                LOG_LEVEL="MARKED",
            ),
            self.refuses(
                "port: 8080",
                ("K_SINK (for `target`) must be ",),
                ("OPENAI_API_KEY (for `token`) must be ",),
                OPENAI_API_KEY="MARKED with spaces",
                K_SINK="http://user:MARKED@host",
            ),
        )

    async def test_vanus(self):
        config = f"token: {TOKEN}\nvanus:\n  endpoint: gw:8080\n  eventbus: quick-start\n"
        await self.refuses(
            config,
            ("`vanus` must be replaced", "target: http://gw:8080/gateway/quick-start"),
            ("`target` is missing",),
        )

    async def test_not_yaml(self):
        await together(
            self.refuses(f"token: {TOKEN}\n  port: : 8080\n", ("config file ", "line 2")),
            self.refuses(GOOD + "port: 80\nport: 90\n", ("config file ", "line 4", "twice")),
            self.refuses(f"- {TOKEN}\n", ("config file ", "`key: value`")),
            self.refuses(f"token:{TOKEN}\n", ("config file ", "`key: value`")),
            self.refuses(GOOD.encode() + b"model: \xff\n", ("config file ", "UTF-8")),
        )

    async def test_a_slip_does_not_show_the_token(self):
        await self.refuses(GOOD + f"{TOKEN}: \n", ("a key is unknown and not shown",))

    async def test_unreadable_file(self):
        nowhere, folder = "/nonexistent/config.yml", str(Path(__file__).parent)
        named = "(named by CONNECTOR_CONFIG)"
        await together(
            self.refuses(
                GOOD, (f"config file {nowhere} {named} does not exist",), CONNECTOR_CONFIG=nowhere
            ),
            self.refuses(
                GOOD, (f"config file {folder} {named} can't be read",), CONNECTOR_CONFIG=folder
            ),
        )

    async def test_concurrency_that_cannot_fit(self):
        daemon = Daemon(self, GOOD + "concurrency: 500\n", files=(500, 1000))
        for status, said in await daemon.fail_both_ways():
            self.assertEqual(status, 1)
            self.assertRegex(said, r"^`concurrency` must be at most \d+ .*\b1000\b.*\n$")
        await Daemon(self, self.config(concurrency=400), files=(500, 1000)).start()

    async def test_keys_of_the_go_connector(self):
        daemon = self.daemon(store_config={"type": "FILE"}, batch_size=32, log_config={})
        process = await daemon.start()
        warnings = [line for line in process.text.splitlines() if "does nothing" in line]
        self.assertEqual(len(warnings), 2)
        self.assertIn("`store_config`", warnings[0])
        self.assertIn("`batch_size`", warnings[1])
        await daemon.reaches(await daemon.accepted("text"), "delivered")

    async def test_settings_from_the_environment(self):
        config = self.config()
        daemon = Daemon(
            self,
            {"port": config["port"], "target": "", "token": None},
            K_SINK=config["target"],
            OPENAI_BASE_URL=config["base_url"],
            OPENAI_API_KEY=TOKEN,
            LOG_LEVEL="warn",
        )
        process = await daemon.start()
        await daemon.reaches(await daemon.accepted("text"), "delivered")
        self.assertEqual(self.openai.asks[0].header("authorization"), f"Bearer {TOKEN}")
        (warning,) = process.text.splitlines()
        self.assertIn("set `auth`", warning)
        await daemon.stop()
        daemon.environ["CONNECTOR_TARGET"] = "http://127.0.0.1:1"  # goes before K_SINK
        await daemon.start()
        prompt_id = await daemon.accepted("text")
        await daemon.reaches(prompt_id, lambda record: record["error"])
