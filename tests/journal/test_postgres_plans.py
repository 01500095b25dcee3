"""What PostgreSQL counts and reads: no statement that is sent often reads all prompts."""

import contextlib
from typing import Any

import attrs

from chatgpt_source.errors import QuotaUsedUp
from chatgpt_source.journal import (
    Answered,
    AuditEntry,
    Delivered,
    Failed,
    Key,
    Postponed,
    Submission,
    Terms,
)
from chatgpt_source.prompt import NOWHERE, State
from chatgpt_source.tiers import Tiers
from tests.contracts.attempts import FAILED_ASK
from tests.journal.common import ANSWER, DAY, NOON, PEERS, prompt

with contextlib.suppress(ImportError):  # the tests are skipped then: `server` says why
    from chatgpt_source.journal.postgres import (
        recovery,
    )

from tests.journal.postgres_case import Counted, PostgresTestCase


class CountTests(PostgresTestCase):
    def counted(self) -> Any:
        """What the tally says; it must be what the table has."""
        (rows,) = (
            each.fetchall()
            for each in [
                self.journal._session.connection.execute(
                    "SELECT state, count(*) AS n FROM prompts GROUP BY state"
                )
            ]
        )
        tally = self.successResultOf(self.journal.tally(DAY.date)).prompts
        self.assertEqual(
            {state.value: count for state, count in tally.items() if count},
            {row["state"]: row["n"] for row in rows},
        )
        return tally

    def test_however_prompts_end_they_are_counted(self) -> None:
        self.accept(*(prompt(f"p{n}") for n in range(8)))
        nowhere = attrs.evolve(prompt("p8"), target=NOWHERE)
        self.accept(nowhere)
        self.answer("p8")
        self.deliver("p0")
        self.answer("p1", claim=True)
        self.fail_it("p1", dead_letter=b"l")
        for name in ("p2", "p3", "p4"):
            self.fail_it(name)
        for name in ("p5", "p6"):
            self.postpone(name)
            self.successResultOf(self.journal.cancel(name))
        told = self.counted()
        self.assertEqual([told[each] for each in State], [1, 0, 0, 2, 4, 2])
        for name in ("p1", "p2"):
            self.successResultOf(self.journal.redrive(name))
        self.successResultOf(self.journal.purge("p3"))
        self.assertFalse(self.successResultOf(self.journal.purge("p3")))
        told = self.counted()
        self.assertEqual([told[each] for each in State], [2, 0, 1, 2, 1, 2])
        self.successResultOf(self.journal._background.let_lapse())
        self.assertEqual(self.counted(), told)
        rows = self.journal._session.connection.execute("SELECT state FROM ended_counts")
        self.assertEqual(len(rows.fetchall()), 3)
        self.successResultOf(self.journal.prune(NOON + 1))
        told = self.counted()
        self.assertEqual([told[each] for each in State], [2, 0, 1, 0, 0, 0])

    def test_a_redrive_that_is_refused_counts_nothing(self) -> None:
        self.everyday_limit = 1
        self.another()
        self.accept(prompt())
        self.fail_it()
        self.failureResultOf(self.journal.redrive("p1"), QuotaUsedUp)
        self.counted()


class Recorded(Counted):
    """A connection that keeps its statements."""

    def __init__(self, real: Any) -> None:
        super().__init__(real)
        self.sent: list[tuple[bytes, Any]] = []

    def execute(self, query: Any, values: Any = None) -> Any:
        self.sent.append((query if isinstance(query, bytes) else query.encode(), values))
        return super().execute(query, values)


class PlanTests(PostgresTestCase):
    """No statement that is sent all the time reads all prompts."""

    FILL = """
        INSERT INTO prompts (id, state, due, day, accepted, ended, since, target, tier, size,
            deadline, ends, error)
        SELECT 'p' || n, state, CASE WHEN state IN ('accepted', 'submitted') THEN %(at)s + n END,
            'd', %(at)s,
            CASE WHEN state IN ('delivered', 'failed', 'cancelled') THEN %(at)s + n END,
            0, 'target', CASE n %% 3 WHEN 0 THEN 'flex' ELSE 'standard' END, 10,
            CASE n %% 3 WHEN 0 THEN %(at)s + n END, CASE n %% 5 WHEN 0 THEN %(at)s + n END,
            CASE WHEN state = 'failed' THEN 'why' END
        FROM (SELECT n, CASE n %% 100 WHEN 1 THEN 'accepted' WHEN 2 THEN 'answered'
            WHEN 3 THEN 'submitted' WHEN 4 THEN 'failed' WHEN 5 THEN 'cancelled'
            ELSE 'delivered' END AS state FROM generate_series(1, 20000) AS n) AS few;
        INSERT INTO texts (seq, prompt, source, type, event)
            SELECT seq, 'p', 's', 't', 'e' FROM prompts WHERE state <> 'delivered';
        INSERT INTO outbox (seq, destination, due, since, size)
            SELECT seq, 'target', %(at)s, %(at)s, 10 FROM prompts WHERE state = 'answered';
        INSERT INTO attempts SELECT seq, 'ask', 1, 1, 'model', %(at)s, 1, 'again', 500, 'why', NULL
            FROM prompts
    """

    def setUp(self) -> None:
        super().setUp()
        connection = self.journal._session.connection
        for each in self.FILL.split(";"):
            connection.execute(each, {"at": NOON})
        connection.execute("INSERT INTO owners (until) VALUES ('-infinity')")
        connection.execute("ANALYZE")
        self.recorded = self.journal._session.connection = Recorded(connection)

    def test_none_reads_all_prompts(self) -> None:
        at = NOON + 2000
        journal = self.journal
        told = [
            journal.accept(
                [Submission(prompt("new"), Key(("k",)))], Terms(DAY, 10**6, 10**6), claim=True
            ),
            journal.claim_asks(at, 10),
            journal.claim_expired(at, 10),
            journal.claim_submitted(at, 10),
            journal.claim_batched(1, at, 10),
            journal.claim_deliveries("target", at, 10),
            journal.is_batch_due(at, at, 10),
            journal.move_up(at, Tiers(3600.0, 7200.0)),
            journal.tally(DAY.date),
            journal.tally_tiers(),
            journal.ends(NOON + 19_000, 100),
            journal.batched(1, 0, 10),
            journal.ids("p1", 10),
            journal.record("p1"),
            journal.detail("p4"),
            journal.kept("p1", at),
            journal.unneeded("p1"),
            journal.cancel("p17001"),
            journal.redrive("p104"),
            journal.purge("p204"),
            journal.prune(NOON + 100),
            journal.history(60, 0, 10),
            journal.prune_history(NOON),
            journal._background.renew(),
            journal._background.sweep(),
            journal._background.let_lapse(),
            *(journal.latest(state, None, 10) for state in State),
            journal.latest(None, None, 10, "why"),
            journal.failure_groups(10),
            journal.ids_of([Key(("k",))]),
            journal.pause("asking", "alice"),
            journal.pauses(),
            journal.audit(AuditEntry("alice", "purged p1")),
            journal.has_audit_entries(),
            journal.take_audit_entries(),
            journal.resume("asking", "alice"),
            *(journal.records(state, 0, 10) for state in State),
            journal._write(lambda db: recovery.recover(db, at, 60.0, 100, "UTC", PEERS)),
        ]
        claims = [self.successResultOf(each) for each in told]
        (ask, *asks) = claims[1].claimed
        self.successResultOf(journal.ask_ended(ask, Answered(ANSWER, b"e"), at, claim=True))
        calls = [FAILED_ASK]
        ends = Postponed(at, "why", calls=calls), Failed("why", dead_letter=b"l", calls=calls)
        for outcome in ends:
            self.successResultOf(journal.ask_ended(asks.pop(), outcome, at))
        (delivery, *deliveries) = claims[5].claimed
        self.successResultOf(journal.delivery_ended(delivery, Delivered(), at))
        for outcome in ends:
            self.successResultOf(journal.delivery_ended(deliveries.pop(), outcome, at))
        real, sent = self.recorded.real, self.recorded.sent
        looked_at = 0
        for query, values in sent:
            if query.split()[0] in {b"SELECT", b"WITH", b"UPDATE", b"DELETE", b"INSERT"}:
                plan = real.execute(b"EXPLAIN " + query, values).fetchall()
                text = "\n".join(row["QUERY PLAN"] for row in plan)
                for table in ("prompts", "attempts"):
                    self.assertNotIn(f"Seq Scan on {table}", text, f"{query.decode()}\n{text}")
                looked_at += b"prompts" in query
        self.assertGreater(looked_at, 40)
        self.assertTrue(any(b"billed OR state" in query for query, _ in sent))
