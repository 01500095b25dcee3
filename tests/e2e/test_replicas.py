"""Several daemons that share one journal in PostgreSQL, as real processes."""

import contextlib
import socket
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread

from tests.certificates import Authority
from tests.e2e.processes import STARTED, Daemon, DaemonCase, call, free_port, together, until
from tests.fakes.openai import api_error
from tests.fakes.server import Fault, Reply
from tests.journal.postgres_server import begin, server

with contextlib.suppress(ImportError):  # the tests are skipped then: `server` says why
    import psycopg

CAREFUL = "fsync=off max_connections=50"
"""Settings of a server that loses nothing in a crash of its own, if its machine goes on."""


def query(url: str, statement: str) -> list[Any]:
    """What a statement finds."""
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(statement.encode()).fetchall()


class ReplicasCase(DaemonCase):
    def setUp(self) -> None:
        self.url = server().schema()
        super().setUp()

    @property
    def asked(self) -> list[Any]:
        """The calls to the model."""
        return [each for each in self.openai.requests if each.method == "POST"]

    def replica(self, **settings: Any) -> Daemon:
        """A daemon that shares this test's journal."""
        return self.daemon(**{"journal": self.url, **settings})

    async def replicas(self, number: int, **settings: Any) -> list[Daemon]:
        """Some that run."""
        started = [self.replica(**settings) for _ in range(number)]
        await together(*(each.start() for each in started))
        await together(*(until(each.is_ready, "a replica") for each in started))
        return started


class SharedTests(ReplicasCase):
    async def test_each_says_who_it_is_and_how_many_there_are(self) -> None:
        ports = [free_port(), free_port()]
        where = [f"tcp:{port}:interface=127.0.0.1" for port in ports]
        some = [self.replica(admin=each) for each in where]
        await together(*(each.start() for each in some))
        await together(*(until(each.is_ready, "a replica") for each in some))
        told = [await self.daemon_at(port) for port in ports]
        pids = [each.process.transport.pid for each in some]  # type: ignore[union-attr] # they run
        self.assertEqual([each["pid"] for each in told], pids)
        self.assertEqual([each["daemons"] for each in told], [2, 2])
        self.assertNotEqual(told[0]["owner"], told[1]["owner"])
        for port in ports:
            metrics = (await call("GET", f"http://127.0.0.1:{port}/metrics")).body
            self.assertIn(b"chatgpt_source_daemons 2.0", metrics)
            page = (await call("GET", f"http://127.0.0.1:{port}/")).body.decode()
            self.assertIn("one of 2 daemons on this journal", page)
        names = "SELECT application_name FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        connected = await deferToThread(lambda: {row[0] for row in query(self.url, names)})
        host = socket.gethostname()[-35:]
        for pid in pids:
            self.assertTrue(any(each.endswith(f"{host} {pid}") for each in connected), connected)
        await some[1].stop()
        self.assertEqual((await self.daemon_at(ports[0]))["daemons"], 1)

    async def daemon_at(self, port: int) -> Any:
        """What a replica says of itself."""
        return (await call("GET", f"http://127.0.0.1:{port}/api/status")).json()["daemon"]

    async def test_two_share_the_limit_the_keys_and_the_records(self) -> None:
        first, second = await self.replicas(2, everyday_limit=3)
        key = {"Idempotency-Key": "k"}
        told = [await each.accepted("hello", key) for each in (first, second)]
        self.assertEqual(*told)
        await first.accepted("a")
        await second.accepted("b")
        refused = await together(first.post("c"), second.post("c"))
        self.assertEqual([answer.status for answer in refused], [429, 429])
        record = await second.reaches(told[0], "delivered")
        self.assertEqual(await first.record(told[0]), record)
        self.assert_fair()

    async def test_nothing_is_asked_twice(self) -> None:
        replicas = await self.replicas(2, everyday_limit=1000)
        posts = (replicas[n % 2].accepted(f"prompt {n}") for n in range(200))
        ids = await together(*posts)
        await until(lambda: len(self.target.events) >= 200, "all events")
        self.assertEqual(sorted(event["id"] for event in self.target.events), sorted(ids))
        self.assertEqual(len(self.asked), 200)
        self.assert_fair()

    async def test_who_waits_at_one_is_told_of_what_another_has_asked(self) -> None:
        first = (await self.replicas(1, openai_timeout=60))[0]
        self.openai.script = lambda _: Reply(500)
        prompt_id = await first.accepted("hello")
        await first.reaches(prompt_id, lambda record: record["asks"])
        second = (await self.replicas(1, max_wait=30))[0]
        waiting = Deferred.fromCoroutine(
            call(
                "GET",
                f"http://127.0.0.1:{second.port}/prompts/{prompt_id}/event",
                headers={"Prefer": "wait=30"},
            )
        )
        await first.stop()
        self.openai.script = self.openai.default
        answer = await waiting
        self.assertEqual((answer.status, answer.json()["id"]), (200, prompt_id))

    async def test_an_operator_at_one_acts_for_all(self) -> None:
        first, second = await self.replicas(2, send_event_attempts=1)
        self.target.script = lambda _: Reply(500)
        prompt_id = await first.accepted("hello")
        await second.reaches(prompt_id, "failed")
        self.target.script = self.target.default
        status, told = await second.operate("redrive", prompt_id, journal=self.url)
        self.assertEqual(status, 0, told)
        await first.reaches(prompt_id, "delivered")


class TryNowTests(ReplicasCase):
    async def test_one_calls_a_mended_peer_at_once_and_all_go_on(self) -> None:
        admins = [free_port(), free_port()]
        replicas = [self.replica(admin=f"tcp:{port}:interface=127.0.0.1") for port in admins]
        await together(*(each.start() for each in replicas))
        await together(*(until(each.is_ready, "a replica") for each in replicas))
        self.openai.script = lambda _: api_error(401)
        ids = [await each.accepted("hello") for each in (*replicas, *replicas)]

        async def held(replica: Daemon) -> bool:
            return "401" in (await replica.checks())[2]["openai"]

        await together(*(until(lambda each=each: held(each), "a hold") for each in replicas))
        self.openai.script = self.openai.default
        asked = len(self.asked)
        url = f"http://127.0.0.1:{admins[1]}/api/peers/model/try"
        answer = await call("POST", url, b"", {"X-Requested-With": "chatgpt-source"})
        self.assertEqual(answer.status, 202, answer.body)
        await until(lambda: len(self.target.events) == len(ids), "all events", 12)
        self.assertEqual(len(self.asked), asked + len(ids))

        async def well(replica: Daemon) -> bool:
            return (await replica.checks())[2]["openai"] == "ok"

        await together(*(until(lambda each=each: well(each), "the others") for each in replicas))


class FailoverTests(ReplicasCase):
    async def test_what_a_stopped_one_has_not_done_is_taken_over_at_once(self) -> None:
        first = (await self.replicas(1, drain_timeout=0.2))[0]
        self.openai.script = lambda _: Reply(fault=Fault.HANG)
        await first.accepted("hello")
        await until(lambda: self.asked, "a call")
        self.openai.script = self.openai.default
        await self.replicas(1)
        await first.stop()
        await until(lambda: self.target.events, "its event", 12)  # a lease is 20 s


class OutageTests(ReplicasCase):
    """The database is another's, so that it can be stopped."""

    def setUp(self) -> None:
        self.database = begin(CAREFUL)
        self.addCleanup(self.database.end)
        super().setUp()
        self.url = self.database.url

    async def test_a_start_waits_for_the_database(self) -> None:
        self.database.control("stop", "-m", "fast")
        replica = self.replica()
        await replica.start()
        status, _, checks = await replica.checks()
        self.assertEqual(status, 503)
        self.assertRegex(
            checks["journal"],
            "^starting: waiting for the journal's database: .* the database can't be reached",
        )
        answer = await replica.post("hello")
        self.assert_problem(answer, 503)
        self.assertEqual(answer.header("retry-after"), "5")
        self.database.start()
        await until(replica.is_ready, "a start", STARTED)
        self.assertIn("can't be opened: the database can't be reached", replica.text)
        self.assertNotIn("Traceback", replica.text)

    async def test_a_restart_in_the_middle_loses_nothing_and_repeats_nothing(self) -> None:
        replicas = await self.replicas(2, everyday_limit=1000)
        ids: list[str] = []
        going = True

        async def caller(number: int) -> None:
            while going:
                answer = await replicas[number % 2].post(f"prompt {number}")
                if answer.status == 202:
                    ids.append(answer.json()["id"])
                else:
                    self.assertEqual(answer.status, 503, answer.body)
                    self.assertIsNotNone(answer.header("retry-after"))

        callers = [Deferred.fromCoroutine(caller(number)) for number in range(8)]
        await until(lambda: len(ids) > 50, "prompts")
        await deferToThread(self.database.control, "stop", "-m", "immediate")
        await deferToThread(self.database.start)
        before = len(ids)
        await until(lambda: len(ids) > before + 50, "prompts after the restart")
        going = False
        await gatherResults(callers)
        await until(lambda: {each["id"] for each in self.target.events} >= set(ids), "all events")
        self.assertEqual(len(ids), len(set(ids)))
        bodies = {(each["id"], each["data"]["content"]) for each in self.target.events}
        self.assertEqual(len(bodies), len({each["id"] for each in self.target.events}))
        for replica in replicas:
            self.assertNotIn("Traceback", replica.text)


class SecuredTests(ReplicasCase):
    """A database that wants TLS and a password."""

    def setUp(self) -> None:
        self.database = begin(CAREFUL)
        self.addCleanup(self.database.end)
        super().setUp()
        folder = Path(self.mktemp()).absolute()
        folder.mkdir(parents=True)
        authority = Authority(folder)
        key, certificate = authority.issue("localhost")
        self.database.require_tls(certificate, key)
        with psycopg.connect(self.database.local_url, autocommit=True) as connection:
            connection.execute("CREATE SCHEMA own")
        self.set_password("the-first")
        self.url = (
            f"postgresql://tests@localhost:{self.database.port}/postgres?sslmode=verify-full"
            f"&sslrootcert={authority.file}&options=-csearch_path%3Down"
        )

    def set_password(self, password: str) -> None:
        with psycopg.connect(self.database.local_url, autocommit=True) as connection:
            connection.execute(f"ALTER ROLE tests PASSWORD '{password}'")

    async def test_a_password_that_changes(self) -> None:
        file = self.file("the-first\n")
        replica = self.replica(journal_password={"file": str(file)})
        await replica.start()
        await until(replica.is_ready, "a start", STARTED)
        await replica.accepted("hello")
        self.set_password("the-second")
        file.write_text("the-second\n")
        self.database.control("restart", "-m", "fast")
        await until(replica.is_ready, "the new password")
        await until(lambda: self.target.events, "its event")
        self.assert_not_told(replica.text)

    async def test_what_is_wrong_with_it_is_told_in_a_line(self) -> None:
        for change, told in (
            ({"journal_password": "MARKED"}, "password authentication failed"),
            ({"journal": f"{self.url}&sslrootcert=/nonexistent"}, "root certificate file"),
            ({"journal": self.url.replace("verify-full", "disable")}, "no pg_hba.conf entry"),
        ):
            replica = self.replica(**{"journal_password": "the-first", **change})
            status, said = await replica.fail(
                "--nodaemon", "--pidfile=", arguments=("chatgpt-source", "--check")
            )
            self.assertEqual((status, len(said.splitlines())), (1, 1), said)
            self.assertIn(told, said)
            self.assert_not_told(said)

    def assert_not_told(self, said: str) -> None:
        for each in ("the-first", "the-second", "MARKED", "Traceback"):
            self.assertNotIn(each, said)
