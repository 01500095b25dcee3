"""What --check says: the facts in lines, or every mistake."""

import socket
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import attrs
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source import check
from chatgpt_source.check import Facts, Mistakes, gather, tell
from chatgpt_source.config import Config, Price, TargetSettings
from chatgpt_source.config.fallbacks import Fallback
from chatgpt_source.config.secret import Secret
from chatgpt_source.journal.seen import Seen
from chatgpt_source.journal.sqlite import open_journal
from chatgpt_source.journal.sqlite.engine import SqliteEngine
from chatgpt_source.journal.sqlite.schema import VERSION
from chatgpt_source.prompt import State
from tests.e2e.processes import free_port

NOON = 1_800_014_400.0
COUNTS = {
    State.ACCEPTED: 3,
    State.SUBMITTED: 0,
    State.ANSWERED: 1,
    State.DELIVERED: 7,
    State.FAILED: 2,
    State.CANCELLED: 0,
}
CONFIG = Config(
    target="http://gateway:8080/gateway/MARKED?key=MARKED",
    token=Secret("MARKED"),
    base_url="https://models.example/MARKED/v1",
    timezone=ZoneInfo("Asia/Tokyo"),
    origin="/etc/config.yml",
    warnings=("`batch_size` does nothing here",),
)
JOURNAL = Seen(
    "/state/journal.sqlite",
    schema=1,
    current=1,
    prompts=COUNTS,
    to_ask=2,
    to_deliver=1,
    used=40,
)
ENGINE = SqliteEngine(Path(JOURNAL.location))
FACTS = Facts(CONFIG, ENGINE, JOURNAL, where="tcp:8080", taken=False, files=4096)


class TellTests(SynchronousTestCase):
    def test_everything(self) -> None:
        self.assertEqual(
            list(tell(FACTS)),
            [
                "chatgpt-source would start",
                "settings: /etc/config.yml",
                "listens:  port 8080",
                "admin:    nowhere",
                "asks:     gpt-6-luna at https://models.example",
                "delivers: to http://gateway:8080",
                "answers:  callers may wait 60 s",
                "limit:    100 prompts a day (Asia/Tokyo); 60 left today",
                "journal:  /state/journal.sqlite (schema 1)",
                "prompts:  3 accepted, 0 submitted, 1 answered, 7 delivered, 2 failed, 0 cancelled",
                "at once:  2 to ask, 1 to deliver",
                "files:    4096 may be open",
                "warning:  `batch_size` does nothing here",
                f"warning:  {check.UNGUARDED}",
            ],
        )

    def test_prices(self) -> None:
        config = attrs.evolve(CONFIG, prices={"m": Price(1, 2), "n": Price(3, 4)})
        self.assertIn("prices:   of m, n", tell(attrs.evolve(FACTS, config=config)))

    def test_the_api(self) -> None:
        asks = "asks:     gpt-6-luna at https://models.example by the Responses API"
        config = attrs.evolve(CONFIG, api="responses")
        self.assertIn(asks, tell(attrs.evolve(FACTS, config=config)))
        config = attrs.evolve(config, background=True)
        self.assertIn(f"{asks}, in the background", tell(attrs.evolve(FACTS, config=config)))

    def test_the_form_of_answers(self) -> None:
        for kind, told in (
            ("text", "example"),
            ("json_object", "example, for JSON objects"),
            ("json_schema", "example, for JSON by a schema"),
        ):
            config = attrs.evolve(CONFIG, response_format={"type": kind})
            lines = tell(attrs.evolve(FACTS, config=config))
            self.assertIn(f"asks:     gpt-6-luna at https://models.{told}", lines)

    def test_further_targets(self) -> None:
        config = attrs.evolve(
            CONFIG, targets={"billing": TargetSettings("https://b.example/MARKED")}
        )
        told = "delivers: to http://gateway:8080; `billing` to https://b.example"
        self.assertIn(told, tell(attrs.evolve(FACTS, config=config)))

    def test_fallbacks(self) -> None:
        settings = {"base_url": "https://b.example/MARKED", "token": Secret("t2"), "model": "m"}
        config = attrs.evolve(CONFIG, fallbacks=(Fallback("second", settings),))
        for after, told in ((False, "fails"), (True, "fails or is slow")):
            config = attrs.evolve(config, fallback_after_timeout=after)
            line = f"or asks:  if that {told}, `second`: m at https://b.example"
            self.assertIn(line, tell(attrs.evolve(FACTS, config=config)))

    def test_flex(self) -> None:
        self.assert_asks("; on its flex tier with more than 60 s to the deadline", flex_over=60.0)

    def test_batches(self) -> None:
        self.assert_asks("; in batches with more than 60 s to the deadline", batch_over=60.0)

    def assert_asks(self, words: str, **tiers: float) -> None:
        unset = " (of prompts that name one: `deadline` is not set)"
        for deadline, end in ((90.0, ""), (None, unset)):
            config = attrs.evolve(CONFIG, deadline=deadline, **tiers)
            told = "\n".join(tell(attrs.evolve(FACTS, config=config)))
            self.assertIn(f"{words}{end}\n", told)

    def test_beside_a_daemon(self) -> None:
        journal = attrs.evolve(FACTS.journal, users=1)
        first, _, port, *_ = tell(attrs.evolve(FACTS, journal=journal, taken=True))
        self.assertIn("once the daemon that uses this journal has stopped", first)
        self.assertIn("8080, where a daemon listens now", port)

    def test_journals(self) -> None:
        for schema, words in ((None, "it would be created"), (0, "schema 0, which would become 1")):
            journal = attrs.evolve(FACTS.journal, schema=schema)
            self.assertIn(f"({words})", "\n".join(tell(attrs.evolve(FACTS, journal=journal))))

    def test_none_left_of_a_lowered_limit(self) -> None:
        config = attrs.evolve(CONFIG, everyday_limit=10)
        self.assertIn("; 0 left today", "\n".join(tell(attrs.evolve(FACTS, config=config))))

    def test_a_port_that_another_replica_may_have(self) -> None:
        for shared in (True, False):
            journal = attrs.evolve(JOURNAL, users=2, shared=shared)
            told = tell(attrs.evolve(FACTS, journal=journal, taken=True))
            warned = any("a port is in use: by this daemon, if it runs" in each for each in told)
            self.assertEqual(warned, shared)


class GatherTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.home = Path(self.mktemp()).absolute()
        self.home.mkdir()
        self.port = free_port()

    def gather(self, twistd: dict[str, Any] | None = None, **settings: object) -> Facts:
        where = {} if "listen" in settings else {"port": self.port}
        lines = {"target": "http://localhost:9", "token": "t", **where, **settings}
        config = self.home / "config.yml"
        config.write_text("".join(f"{key}: {value}\n" for key, value in lines.items()))
        options = {"rundir": str(self.home), **(twistd or {})}
        return gather({"CONNECTOR_CONFIG": str(config)}, options, NOON)

    def mistakes(self, **settings: object) -> list[str]:
        return str(self.assertRaises(Mistakes, self.gather, **settings)).splitlines()

    def test_nothing_is_made(self) -> None:
        facts = self.gather()
        self.assertEqual(facts.journal, Seen(str(self.home / "journal.sqlite"), current=VERSION))
        self.assertFalse(facts.taken)
        self.assertEqual([path.name for path in self.home.iterdir()], ["config.yml"])

    def test_of_the_config(self) -> None:
        port, limit = self.mistakes(port="x", everyday_limit=0)
        self.assertTrue(port.startswith("`port` must be"), port)
        self.assertTrue(limit.startswith("`everyday_limit` must be"), limit)

    def test_of_the_machine_all_at_once(self) -> None:
        self.patch(check, "hard_limit", lambda: 300)
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            files, journal, busy = self.mistakes(port=port, journal="/nonexistent/j.sqlite")
        self.assertTrue(files.startswith("`concurrency` must be"), files)
        self.assertTrue(journal.startswith("journal /nonexistent/j.sqlite"), journal)
        self.assertTrue(busy.startswith(f"port {port} "), busy)

    def test_an_admin_site_is_not_shared(self) -> None:
        admin = f"tcp:{free_port()}:interface=127.0.0.1:reusePort=yes"
        (mistake,) = self.mistakes(admin=f"'{admin}'")
        self.assertTrue(mistake.startswith("`admin` must not have reusePort=yes: "), mistake)

    def test_one_port_for_both_sites(self) -> None:
        admin = f"'tcp:{self.port}:interface=127.0.0.1'"
        self.assertEqual(self.mistakes(admin=admin), [check.ADMIN_ON_PROMPTS_PORT])
        listen = f"'tcp:{self.port}:interface=127.0.0.1'"
        self.assertEqual(self.mistakes(listen=listen, admin=admin), [check.ADMIN_ON_PROMPTS_PORT])

    def test_a_running_daemon_is_no_mistake(self) -> None:
        opened = open_journal(self.home / "journal.sqlite")
        self.addCleanup(opened.close)
        self.assertEqual(self.gather().journal.users, 1)
        with socket.create_server(("127.0.0.1", 0)) as taken:
            self.assertTrue(self.gather(port=taken.getsockname()[1]).taken)

    def test_a_socket_that_systemd_will_pass(self) -> None:
        facts = self.gather(listen="'systemd:domain=INET6:index=0'")
        self.assertIn("listens:  systemd:domain=INET6:index=0", tell(facts))

    def test_the_operators_port(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            admin = f"'tcp:{taken.getsockname()[1]}:interface=127.0.0.1'"
            (mistake,) = self.mistakes(admin=admin)
        self.assertTrue(mistake.startswith("`admin`: port "), mistake)
        self.assertIn("admin:    tcp:", "\n".join(tell(self.gather(admin=admin))))

    def test_strangers(self) -> None:
        prompts = f"'tcp:{self.port}:interface=127.0.0.1'"
        own, others = f"tcp:{free_port()}:interface=127.0.0.1", f"tcp:{free_port()}"
        auth = "{bearer: [secret]}"
        for settings, end in (
            ({"admin": f"'{others}'"}, f"{others}; other machines get {check.OPEN_TO_ALL}"),
            ({"admin": f"'{others}'", "admin_auth": auth}, others),
            ({"admin": f"'{own}'"}, own),
        ):
            said = tell(self.gather(listen=prompts, **settings))
            self.assertIn(f"admin:    {end}", said)
            self.assertEqual([line for line in said if line.startswith("warning")], [])

    def test_as_another_user(self) -> None:
        asked: list[bool] = []
        engine = SqliteEngine
        self.patch(engine, "look", lambda *_, as_writer: asked.append(as_writer) or Seen("journal"))
        for twistd in ({}, {"uid": 1}, {"gid": 1}):
            self.gather(twistd)
        self.assertEqual(asked, [True, False, False])
