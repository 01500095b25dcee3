"""What one replica has under way when it can't go on, another takes over after its lease.

Each scenario waits for a lease of 20 s, so they run side by side, each with replicas, a model and a
target of its own.
"""

from collections import Counter
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.e2e.fleet import LEASE, PATIENCE, TAKEOVER, Fleet, go_on, stop
from tests.e2e.line import DOWN, UP, Line
from tests.e2e.processes import Daemon, call, throughout, together, until
from tests.fakes.openai import completion
from tests.fakes.server import Fault, Reply
from tests.journal.postgres_server import ask, server

SOON = 12.0
"""Seconds in which a prompt is refused while the database is silent: 10, and a busy machine."""
HOUR = 3600.0
LOCKED = 5.0
"""Seconds that others may wait for a replica that stands still in a transaction."""
CLAIMS = """
SELECT id FROM {schema}.prompts WHERE owner = (
    SELECT id FROM {schema}.owners WHERE NOT ended
    AND until + interval '7 s' < (SELECT max(until) FROM {schema}.owners)
)
"""
"""The prompts of the replica that alone has not renewed its lease for longer than others do."""
DOING = "SELECT pid, state, wait_event, now() - xact_start, left(query, 80) FROM pg_stat_activity"


class LeaseTests(TestCase):
    timeout = 300

    def fleet(self, **settings: Any) -> Fleet:
        return Fleet(self, server().schema(), **settings)

    async def test_replicas_that_can_not_go_on(self) -> None:
        await together(
            self.paused_under_load(),
            self.paused_with_the_day_in_hand(),
            self.cut_off(),
            self.killed_with_a_batch(),
            self.killed_while_it_polls(),
            self.answered_too_late(),
        )

    async def paused_under_load(self) -> None:
        """A short pause changes nothing; after a long one, nothing is written over."""
        url = server().schema()
        claims = CLAIMS.format(schema=url.rpartition("%3D")[2])

        async def claims_of_the_silent() -> set[str]:
            return {id_ for (id_,) in await deferToThread(ask, server(), claims)}

        fleet = Fleet(self, url, concurrency=16)
        fleet.openai.delay = 0.5
        (first,) = await fleet.begin(1)
        (second,) = await fleet.begin(1)
        async with fleet.load([first, second], callers=8):
            await fleet.more(50)
            stop(first)
            await throughout(5, lambda: max(fleet.openai.asked.values()) == 1, "asked twice")
            go_on(first)
            await fleet.more(20)
        await fleet.settled()
        fleet.assert_kept()
        fleet.assert_once()
        async with fleet.load([second, first], callers=8):
            await fleet.more(20)
            stop(second)
            claimed = await until(claims_of_the_silent, "a lease that is not renewed")
            try:
                await until(lambda: max(fleet.openai.asked.values()) > 1, "a takeover", TAKEOVER)
            except AssertionError as error:
                doing = await deferToThread(ask, server(), DOING)
                raise AssertionError(f"{error}: {claimed}; {doing}; {fleet.said()}") from None
            await fleet.more(100)
            go_on(second)
            await fleet.more(20)
        await fleet.settled()
        fleet.assert_kept()
        again = {fleet.ids[text] for text, times in fleet.openai.asked.items() if times > 1}
        self.assertLessEqual(again, claimed, "asked again, and were not claimed at the pause")
        self.assertLessEqual(max(fleet.openai.asked.values()), 2)

    async def paused_with_the_day_in_hand(self) -> None:
        """A replica that stands still in a transaction keeps nobody out for long."""
        url = server().schema()
        fleet = Fleet(self, f"{url}&application_name=other")
        (second,) = await fleet.begin(1)
        first = fleet.replica(url=f"{url}&application_name={(name := url.rpartition('%3D')[2])}")
        await fleet.start(first)
        in_hand = (
            "SELECT count(*) FROM pg_stat_activity"
            f" WHERE application_name = '{name}' AND state = 'idle in transaction'"
        )

        async def has_it() -> bool:
            stop(first)
            if await deferToThread(ask, server(), in_hand) == [(1,)]:
                return True
            go_on(first)
            return False

        async with fleet.load([first], callers=8, pause=0.0):
            await fleet.more(10)
            await until(has_it, "a pause in a transaction", PATIENCE)
            began = reactor.seconds()
            await fleet.send("meanwhile", [second.port])
            waited = reactor.seconds() - began
            go_on(first)
        self.assertLess(waited, LOCKED)
        self.assertEqual(fleet.refused, {})
        await fleet.settled()
        fleet.assert_kept()
        fleet.assert_once()

    async def cut_off(self) -> None:
        """Three replicas are cut off the database: both ways, or one of them; a fourth is not."""
        fleet = self.fleet()
        lines = {Line(server().port): ways for ways in ((UP, DOWN), (UP,), (DOWN,))}
        for line in lines:
            line.start()
            self.addCleanup(line.stop)
        cut = [fleet.behind(line) for line in lines]
        well = fleet.replica()
        await fleet.start(*cut, well)
        texts = [f"held {number}" for number in range(len(cut))]
        for text, replica in zip(texts, cut, strict=True):
            await fleet.send(text, [replica.port])
        await until(lambda: len(fleet.openai.asked) == len(texts), "calls")
        fleet.openai.held = ""
        began = reactor.seconds()
        for line, ways in lines.items():
            line.cut(*ways)
        await together(*(self.refuses(replica, began) for replica in cut))
        await until(lambda: len(fleet.delivered) >= len(texts), "what they had", TAKEOVER)
        for text in texts:
            _, again = fleet.openai.at(text)
            self.assertGreater(again - began, LEASE - 6)  # a lease is renewed every 5 s
            self.assertLess(fleet.openai.hung_up[text][0], again, "asked by two at once")
        async with fleet.load([well], callers=2):
            await fleet.more(20)
        for line in lines:
            line.mend()
        await together(*(until(each.is_ready, "a mended replica", PATIENCE) for each in cut))
        fleet.openai.held = "held"
        async with fleet.load([*cut, well], callers=4):
            await fleet.more(40)
        await fleet.settled()
        fleet.assert_kept()
        asked = fleet.openai.asked
        self.assertEqual(
            {text: asked[text] for text in asked if asked[text] > 1}, dict.fromkeys(texts, 2)
        )
        self.assertEqual(max(fleet.delivered.values()), 1)

    async def refuses(self, replica: Daemon, began: float) -> None:
        """See that a replica says why it takes nothing, and soon."""

        async def unready() -> bool:
            status, _, checks = await replica.checks()
            return status == 503 and checks["journal"] != "ok"

        await until(unready, "a replica that is not ready", SOON)
        url = f"http://127.0.0.1:{replica.port}/"

        async def refused() -> bool:
            answer = await call("POST", url, "while cut off", timeout=SOON)
            self.assertEqual(answer.status, 503)
            self.assertTrue(answer.header("retry-after"))
            return bool(answer.json()["detail"])

        await until(refused, "a refusal", SOON)
        self.assertLess(reactor.seconds() - began, 2 * SOON)

    async def killed_with_a_batch(self) -> None:
        """The other goes on with the batch, which is paid once."""
        fleet = self.fleet(batch_over=2 * HOUR, batch_window=0.5, deadline=24 * HOUR)
        fleet.openai.running = HOUR
        fleet.openai.troubles["submit"].append(Fault.HANG)  # it has it, and says nothing
        (first,) = await fleet.begin(1)
        await together(*(fleet.send(f"prompt {n}", [first.port]) for n in range(30)))
        await until(self.all_in(fleet, 30), "all in batches", PATIENCE)
        await fleet.begin(1)
        await first.kill()
        fleet.openai.end_batches()
        await fleet.settled(TAKEOVER + PATIENCE)
        fleet.assert_kept()
        self.assertEqual(set(fleet.openai.paid.values()), {1})
        lines = Counter(line.id for each in fleet.openai.batches.values() for line in each.lines)
        self.assertEqual(set(lines.values()), {1}, "submitted twice")
        self.assertEqual((fleet.openai.billed, fleet.openai.asks), (30, []))

    def all_in(self, fleet: Fleet, number: int) -> Any:
        return lambda: sum(len(each.lines) for each in fleet.openai.batches.values()) == number

    async def killed_while_it_polls(self) -> None:
        """The other polls what the first has submitted; it is paid once."""
        fleet = self.fleet(api="responses", background=True)
        fleet.openai.seconds = HOUR
        first, second = await fleet.begin(2)
        await together(*(fleet.send(f"prompt {n}", [first.port, second.port]) for n in range(20)))
        await until(lambda: len(fleet.openai.kept) == 20, "submitted prompts", PATIENCE)
        for id_ in fleet.ids.values():
            await second.reaches(id_, "submitted")
        await first.kill()
        fleet.openai.end_all()
        await fleet.settled(TAKEOVER + PATIENCE)
        fleet.assert_kept()
        self.assertEqual((fleet.openai.billed, len(fleet.openai.asks)), (20, 20))

    async def answered_too_late(self) -> None:
        """A paused replica that goes on writes nothing over the answer of who took over."""
        fleet = self.fleet()
        held: list[Deferred[Reply]] = [Deferred(), Deferred()]
        answers = iter(held)
        killed, paused, other = await fleet.begin(3)
        fleet.openai.script = lambda _: next(answers)
        for number, replica in enumerate((killed, paused)):
            await fleet.send(f"prompt {number}", [replica.port])
        await until(lambda: len(fleet.openai.asks) == len(held), "their calls")
        fleet.openai.script = lambda _: completion("the second answer")
        stop(paused)
        await killed.kill()
        began = reactor.seconds()
        await until(lambda: len(fleet.delivered) == len(held), "their events", TAKEOVER)
        self.assertGreater(reactor.seconds() - began, LEASE / 2)
        taking = "20 s after its last commit: taking over"
        await until(lambda: taking in other.text, "a line that says so")
        for each in held:
            each.callback(completion("the first answer"))
        taken_over = list(fleet.ids.values())
        go_on(paused)
        await fleet.send("another", [paused.port])
        await fleet.settled()
        fleet.assert_kept()
        self.assertEqual(set().union(*fleet.contents().values()), {"the second answer"})
        for prompt_id in taken_over:
            record = await other.record(prompt_id)
            self.assertEqual((record["state"], record["asks"]), ("delivered", 2))
