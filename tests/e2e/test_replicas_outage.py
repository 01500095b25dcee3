"""The database stands still, restarts, or fails over, and peers are in trouble, under replicas.

Each scenario has a server of its own, or waits half a minute, so they run side by side.
"""

import itertools
import os
import shutil
import signal
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest, TestCase

from tests.e2e.fleet import LEASE, PATIENCE, Fleet
from tests.e2e.line import Line
from tests.e2e.processes import POLL, Clock, Daemon, call, throughout, together, until
from tests.e2e.test_replicas import CAREFUL
from tests.fakes.openai import api_error, completion
from tests.fakes.server import Reply
from tests.journal.postgres_server import Server, ask, begin, server
from tests.ports import free_port

SOON = 15.0
"""Seconds in which callers are told that the database is silent: 10, and a busy machine."""
HOUR = 3600.0
SYNCHRONOUS = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
AT_ONCE = LEASE * 0.7
"""Seconds in which all is delivered if nobody has to wait for the end of a lease."""
SESSIONS = "FROM pg_stat_activity"
CANCEL = f"SELECT pg_cancel_backend(pid) {SESSIONS} WHERE wait_event = 'SyncRep'"
ENOUGH = 8
"""Waits that are cancelled: more than there are before and beside the one that is meant."""
PROBE = 30.0
"""Seconds from a hold to the first probe."""


class OutageTests(TestCase):
    timeout = 300

    async def database(self, settings: str = CAREFUL) -> Server:
        """A server of the test's own."""
        found = await deferToThread(begin, settings)
        self.addCleanup(deferToThread, found.end)
        return found

    def clock(self, instant: float) -> Clock:
        """A clock that says `instant` now."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir(parents=True)
        return Clock(folder / "clock", instant)

    async def test_databases_and_peers_in_trouble(self) -> None:
        await together(
            self.stands_still(LEASE + 10),
            self.stands_still(10),
            self.holds_and_probes(),
            self.restarts(),
            self.fails_over(),
            self.results_are_lost(),
            self.sessions_are_ended(),
            self.day_turns(),
        )

    async def stands_still(self, seconds: float) -> None:
        """Nothing is lost, and callers are told soon; a short one is not even a second ask."""
        database = await self.database()
        fleet = Fleet(self, database.url)
        replicas = await fleet.begin(2)
        processes: list[int] = []
        async with fleet.load(replicas, callers=6):
            await fleet.more(50)
            processes += family(database.pid)
            for pid in processes:
                os.kill(pid, signal.SIGSTOP)
            stopped = time.monotonic()
            try:
                await together(*(self.refuses(each) for each in replicas))
                self.assertLess(time.monotonic() - stopped, SOON)
                accepted = len(fleet.ids)
                left = seconds - (time.monotonic() - stopped)
                await throughout(left, lambda: len(fleet.ids) == accepted, "a 202 of nowhere")
                self.assertEqual([await each.is_ready() for each in replicas], [False, False])
            finally:
                for pid in processes:
                    os.kill(pid, signal.SIGCONT)
            await together(*(until(each.is_ready, "a replica", PATIENCE) for each in replicas))
            await fleet.more(50)
        await fleet.settled()
        fleet.assert_kept()
        if seconds < LEASE:
            fleet.assert_once()

    async def refuses(self, replica: Daemon) -> None:
        """Wait until a replica says why it takes nothing."""

        async def unready() -> bool:
            status, _, checks = await replica.checks()
            return status == 503 and "has not answered for" in checks["journal"]

        await until(unready, "a replica that is not ready", SOON)

        async def refused() -> bool:
            answer = await call("POST", f"http://127.0.0.1:{replica.port}/", "text", timeout=SOON)
            assert answer.header("retry-after"), answer.body
            return answer.status == 503 and "has not answered for" in answer.json()["detail"]

        await until(refused, "a refusal", SOON)

    async def restarts(self) -> None:
        """Fast, and in a crash of its own: nothing is lost, asked twice or delivered twice."""
        database = await self.database()
        fleet = Fleet(self, database.url)
        fleet.openai.delay = 0.2
        replicas = await fleet.begin(3)
        async with fleet.load(replicas, callers=9):
            for mode in ("fast", "immediate", "fast", "immediate"):
                await fleet.more(60)
                await deferToThread(database.control, "stop", "-m", mode)
                await deferToThread(database.start)
            await fleet.more(60)
        await fleet.settled()
        fleet.assert_kept()
        fleet.assert_once()

    async def sessions_are_ended(self) -> None:
        """The server ends a session's process at any moment, as after a COMMIT, which it says."""
        url = server().schema()
        name = url.rpartition("%3D")[2]
        end = f"SELECT pg_terminate_backend(pid) {SESSIONS} WHERE application_name = '{name}'"
        fleet = Fleet(self, f"{url}&application_name={name}")
        replicas = await fleet.begin(1)
        ended = 0
        async with fleet.load(replicas, callers=12, pause=0.0):
            while ended < 60:
                await fleet.more(4)
                ended += len(await deferToThread(ask, server(), end))
        await fleet.settled(AT_ONCE)
        fleet.assert_kept()
        fleet.assert_once()

    async def results_are_lost(self) -> None:
        """Commits whose results are lost with their connections are looked up, not repeated."""
        database = await self.database()
        line = Line(database.port)
        line.start()
        self.addCleanup(line.stop)
        fleet = Fleet(self, database.url)
        replica = fleet.behind(line)
        line.loses = 3
        await fleet.start(replica)
        self.assertEqual(line.loses, 0, "a start that lost no connection")
        fleet.openai.delay = 0.1
        async with fleet.load([replica], callers=8, pause=0.0):
            for _ in range(8):
                await fleet.more(20)
                line.loses = 1
                await until(lambda: not line.loses, "a lost result", SOON)
            await fleet.more(30)
        await fleet.settled(AT_ONCE)
        fleet.assert_kept()
        fleet.assert_once()

    async def fails_over(self) -> None:
        """A synchronous standby takes over: every 202 is there, and nothing is asked twice."""
        primary = await self.database()
        standby = await deferToThread(follow, primary)
        self.addCleanup(deferToThread, standby.end)
        await deferToThread(require, primary)
        places = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
        url = f"postgresql://tests@{places}/postgres?target_session_attrs=read-write"
        fleet = Fleet(self, url)
        fleet.openai.delay = 0.2
        replicas = await fleet.begin(2)
        await self.is_never_without(primary, standby, fleet)
        async with fleet.load(replicas, callers=8):
            await fleet.more(100)
            await deferToThread(primary.control, "stop", "-m", "immediate")
            await deferToThread(standby.control, "promote")
            await fleet.more(100)
        await fleet.settled()
        fleet.assert_kept()
        fleet.assert_once()

    async def is_never_without(self, primary: Server, standby: Server, fleet: Fleet) -> None:
        """A 202 waits for the standby, though somebody cancels the wait."""
        processes = family(standby.pid)
        for pid in processes:
            os.kill(pid, signal.SIGSTOP)
        try:
            sent = Deferred.fromCoroutine(fleet.send("cancelled", [fleet.replicas[0].port]))
            cancelled = 0

            async def cancels() -> bool:
                nonlocal cancelled
                self.assertFalse(sent.called, "a 202 that the standby does not have")
                cancelled += len(await deferToThread(ask, primary, CANCEL))
                return cancelled >= ENOUGH

            await until(cancels, "commits that wait for the standby")
        finally:
            for pid in processes:
                os.kill(pid, signal.SIGCONT)
        self.assertEqual(await sent, 202)

    async def holds_and_probes(self) -> None:
        """A model that refuses the key is probed by one replica; its success is everybody's."""
        fleet = Fleet(self, server().schema())
        replicas = await fleet.begin(3)
        fleet.openai.script = lambda _: api_error(401)
        for number in range(12):
            await fleet.send(f"prompt {number}", [replicas[number % 3].port])

        async def held(replica: Daemon) -> bool:
            return "401" in (await replica.checks())[2]["openai"]

        await together(*(until(lambda each=each: held(each), "a hold") for each in replicas))
        probe: Deferred[Reply] = Deferred()
        fleet.openai.script = lambda _: probe
        before, since = len(fleet.openai.asks), fleet.openai.asks[0].at
        await until(lambda: len(fleet.openai.asks) > before, "a probe", PROBE + SOON)
        self.assertGreater(fleet.openai.asks[-1].at - since, PROBE - 1)
        await throughout(3, lambda: len(fleet.openai.asks) == before + 1, "two probes")
        fleet.openai.script = fleet.openai.default
        probe.callback(completion("it works again"))
        await fleet.settled(SOON)  # long before anybody's next probe
        fleet.assert_kept()

        async def well(replica: Daemon) -> bool:
            return (await replica.checks())[2]["openai"] == "ok"

        await together(*(until(lambda each=each: well(each), "a word") for each in replicas))

    async def day_turns(self) -> None:
        """Each day has its limit, whoever accepts; the database's clock says which it is."""
        limit, night = 30, datetime(2026, 12, 2, tzinfo=UTC).timestamp()
        clock = DatabaseClock(night - HOUR)
        fleet = Fleet(self, clock.url, everyday_limit=limit, timezone="UTC")
        replicas = await fleet.begin(3)
        ports = [each.port for each in replicas]

        async def send(day: str, number: int) -> Counter[int]:
            posts = (fleet.send(f"{day} {n}", [ports[n % 3]]) for n in range(number))
            return Counter(await together(*posts))

        self.assertEqual(await send("today", 2 * limit), {202: limit, 429: limit})
        await fleet.settled()
        await deferToThread(clock.set, night - SOON)
        statuses: Counter[int] = Counter()

        async def until_tomorrow(number: int) -> None:
            until_then = time.monotonic() + 2 * PATIENCE
            for n in itertools.count():
                status = await fleet.send(f"around midnight {number}/{n}", [ports[number % 3]])
                statuses[status] += 1
                if status == 202:
                    self.assertGreaterEqual(clock.now(), night - POLL)
                if statuses[202] and status == 429:
                    return
                self.assertLess(time.monotonic(), until_then, "the day does not turn")

        await together(*map(until_tomorrow, range(9)))
        self.assertEqual(statuses[202], limit)
        await fleet.settled()
        fleet.assert_kept()
        fleet.assert_once()


class DatabaseClock:
    """The clock of a journal's database: a function that hides the server's own.

    Attributes:
        url: The journal.
    """

    def __init__(self, date: float) -> None:
        url = server().schema()
        self._schema = url.rpartition("%3D")[2]
        self.url = f"{url}%2Cpg_catalog"
        self._ahead = 0.0
        own = self._schema
        ask(server(), f"CREATE TABLE {own}.ahead AS SELECT 0::float8 AS seconds")
        ask(
            server(),
            f"CREATE FUNCTION {own}.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS 'SELECT"
            f" pg_catalog.clock_timestamp() + make_interval(secs => seconds) FROM {own}.ahead'",
        )
        self.set(date)

    def set(self, date: float) -> None:
        """Set it."""
        self._ahead = date - time.time()
        ask(server(), f"UPDATE {self._schema}.ahead SET seconds = {self._ahead}")

    def now(self) -> float:
        """What it shows."""
        return time.time() + self._ahead


def follow(primary: Server) -> Server:
    """A standby of a server, that has all it has."""
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    if primary.user is not None:
        shutil.chown(folder, primary.user)
    standby = attrs.evolve(primary, data=folder / "data", port=free_port())
    where = f"host=127.0.0.1 port={primary.port} user=tests application_name=standby"
    options = ("-R", "-c", "fast", "--no-sync", "-d", where)
    try:
        standby.run("pg_basebackup", "-D", str(standby.data), *options)
    except FileNotFoundError:
        raise SkipTest("there is no pg_basebackup") from None
    standby.start()
    return standby


def require(primary: Server) -> None:
    """Let a server commit only what its standby has."""
    import psycopg  # noqa: PLC0415 - it may be missing

    with psycopg.connect(primary.url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
        connection.execute("SELECT pg_reload_conf()")
        deadline = time.monotonic() + PATIENCE
        while connection.execute(SYNCHRONOUS).fetchone() != (1,):
            assert time.monotonic() < deadline, "the standby does not follow"
            time.sleep(POLL)


def family(pid: int) -> list[int]:
    """A process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [pid, *map(int, children.split())]
