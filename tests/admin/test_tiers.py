"""What operators see of batches and tiers: as JSON, in the metrics and the probes."""

from typing import Any

import attrs

from chatgpt_source.clock import rfc3339
from chatgpt_source.errors import PeerFailure, Transient
from chatgpt_source.journal import Batched
from chatgpt_source.pipeline.batching import NO_ROOM
from chatgpt_source.prompt import Tier
from chatgpt_source.providers.openai_batch import BatchStatus
from tests.admin.common import AdminTestCase
from tests.journal.common import NOON, PEERS, prompt
from tests.pipeline.test_batching import FakeBatches

HOUR = 3600.0
STATES = ("gathering", "uploading", "submitting", "submitted", "cancelling", "collecting")
REFUSED = PeerFailure("the model answered 401: check `token`", status=401)


class TiersCase(AdminTestCase):
    config = attrs.evolve(AdminTestCase.config, batch_over=2 * HOUR, batch_window=60.0)

    def setUp(self) -> None:
        self.batches = FakeBatches()
        super().setUp()

    def recover(self, journal: Any, peers: Any = None) -> Any:
        return super().recover(journal, peers or {**PEERS, "model.batch": "as before"})

    def told(self) -> Any:
        answer = self.get("/api/batches")
        self.assertEqual(answer.status, 200)
        return answer.json

    def send(self, *names: str) -> None:
        """Accept prompts that have time, and let the window pass."""
        deadline = self.clock.seconds() + 24 * HOUR
        self.accept(*(attrs.evolve(prompt(n), deadline=deadline, tier=Tier.BATCH) for n in names))

    def live(self, seconds: float) -> None:
        self.clock.pump([1.0] * round(seconds))


class BatchesTests(TiersCase):
    def test_there_are_none(self) -> None:
        self.assertEqual(
            self.told(),
            {
                "batches": [],
                "waiting": dict.fromkeys(("standard", "flex", "batch"), 0),
                "trouble": None,
                "next_try": None,
                "counted": rfc3339(NOON),
            },
        )

    def test_one_on_its_way(self) -> None:
        self.send("p1", "p2")
        self.assertEqual(self.told()["waiting"], {"standard": 0, "flex": 0, "batch": 2})
        self.live(70)
        told = self.told()
        (batch,) = told["batches"]
        self.assertEqual(told["waiting"]["batch"], 0)
        self.assertEqual(
            (batch["state"], batch["prompts"], batch["remote"], batch["file"], batch["trouble"]),
            ("submitted", 2, "batch", "file", None),
        )
        self.assertEqual(batch["deadline"], rfc3339(NOON + 24 * HOUR))
        self.assertGreater(batch["next_try"], rfc3339(self.clock.seconds()) or "")
        record = self.get("/api/prompts/p1").json
        self.assertEqual((record["tier"], record["batch"]), ("batch", batch["id"]))
        self.site = self.door
        self.connect()
        self.assertFalse({"tier", "batch"} & self.request("GET", "/prompts/p1").json.keys())

    def test_every_state(self) -> None:
        """As each step is stored."""
        self.pipeline.end()  # nothing goes on by itself
        self.send("p1")
        batch = self.successResultOf(self.journal.open_batch("a-key"))
        seen = []
        for changes in (
            {},
            {"deadline": NOON + HOUR},
            {"file": "file-1"},
            {"remote": "batch-1"},
            {"cancelled": True},
            {"results": ("file-2",)},
        ):
            batch = attrs.evolve(batch, **changes)
            self.successResultOf(self.journal.store_batch(batch))
            (told,) = self.told()["batches"]
            seen.append(told["state"])
            status = self.get("/api/status").json["tiers"]["batches"]
            self.assertEqual(status, {**dict.fromkeys(STATES, 0), told["state"]: 1})
            gauges = {name: n for name, n in self.scrape().items() if name.startswith("batches{")}
            self.assertEqual(
                gauges, {f'batches{{state="{name}"}}': n for name, n in status.items()}
            )
        self.assertEqual(tuple(seen), STATES)

    def test_what_waits_in_the_metrics(self) -> None:
        self.pipeline.end()
        self.send("p1", "p2", "p3")
        self.assertEqual(self.scrape()['tier_prompts{tier="batch"}'], 3)
        batch = self.successResultOf(self.journal.open_batch("a-key"))
        claims = self.successResultOf(self.journal.claim_asks(NOON, 1, Tier.BATCH))
        self.end(claims.claimed[0], Batched(batch.id))
        self.assertEqual(self.scrape()['tier_prompts{tier="batch"}'], 2)

    def test_the_last_known_while_the_journal_can_not_be_read(self) -> None:
        self.send("p1")
        before = self.told()
        self.opened.connection.close()
        self.clock.advance(7)
        self.assertEqual(self.told(), before)
        self.assertEqual(before["counted"], rfc3339(NOON))
        page = self.get("/").body.decode()
        self.assertIn("As of", page.partition('id="batches"')[2].partition("</section>")[0])


class NeverReadTests(TiersCase):
    def test_nothing_is_known(self) -> None:
        self.opened.connection.close()
        told = self.told()
        self.assertEqual((told["waiting"], told["batches"], told["counted"]), (None, [], None))
        self.assertIsNone(self.get("/api/status").json["tiers"]["batches"])
        self.assertNotIn('batches{state="submitted"}', self.scrape())


class TroubleTests(TiersCase):
    def ready(self) -> Any:
        self.site = self.door
        self.connect()
        answer = self.request("GET", "/readyz")
        self.assertEqual(answer.status, 200)
        return answer.json

    def test_a_hold_of_batches(self) -> None:
        self.assertEqual(self.ready()["checks"]["openai.batch"], "unknown")
        self.batches.scripts["upload"] = [REFUSED]
        self.send("p1")
        self.live(65)
        ready, told = self.ready(), self.told()
        self.assertEqual((ready["status"], told["trouble"]), ("degraded", REFUSED.reason))
        check = ready["checks"]["openai.batch"]
        self.assertIn("batches: the model answered 401 (since 12:01): check `token`", check)
        (batch,) = told["batches"]
        self.assertEqual((batch["state"], batch["trouble"]), ("uploading", REFUSED.reason))
        self.assertEqual(batch["next_try"], told["next_try"])
        self.assertGreater(told["next_try"], rfc3339(self.clock.seconds()) or "")
        (trouble,) = self.troubles()
        self.assertEqual((trouble["peer"], trouble["next_try"]), ("model.batch", told["next_try"]))
        self.assertEqual(trouble["advice"], "Check `token`; then try it now")
        self.live(31)
        self.assertEqual(self.ready()["checks"]["openai.batch"], "ok")
        self.assertIsNone(self.told()["trouble"])

    def test_a_hold_with_a_batch_at_the_provider(self) -> None:
        """Its prompts wait for it until their deadline; the prompts without a batch do not."""
        self.batches.scripts["look up"] = [REFUSED] * 100
        self.send("p1")
        self.live(65)
        (trouble,) = self.troubles()
        self.assertEqual(trouble["peer"], "model.batch")
        self.assertIn("Prompts that are not at the provider yet", trouble["meaning"])
        model = self.pipeline.model
        model.failed(model.start(NOON), REFUSED, NOON, shared=True)
        told = {each["check"]: each["meaning"] for each in self.troubles()}
        self.assertEqual(
            told["openai.batch"],
            "1 prompt waits, and none fails before its deadline;"
            " the first deadline is at 2027-01-16 12:00",
        )

    def troubles(self) -> Any:
        return self.get("/api/status").json["health"]["troubles"]

    def test_calls_that_fail(self) -> None:
        self.batches.scripts["upload"] = [Transient("down", status=503)] * 100
        self.send("p1")
        self.live(65)
        self.assertIn("batches: down (since 12:01)", self.ready()["checks"]["openai.batch"])

    def test_no_room(self) -> None:
        full = BatchStatus("failed", ended=True, code="token_limit_exceeded")
        self.batches.scripts["look up"] = [full]
        self.send("p1")
        self.live(70)
        ready = self.ready()
        self.assertEqual((ready["status"], ready["health"]), ("degraded", "amber"))
        self.assertIn(NO_ROOM, ready["checks"]["openai.batch"])
        status = self.get("/api/status").json
        self.assertEqual(status["tiers"]["trouble"], NO_ROOM)
        (told,) = [each for each in status["health"]["troubles"] if "room" in each["what"]]
        self.assertEqual((told["what"], told["peer"]), (f"T{NO_ROOM[1:]}", None))
        self.assertGreater(told["next_try"], status["now"])


class WithoutTests(TiersCase):
    config = AdminTestCase.config

    def test_batches_of_before_count_only_while_they_fail(self) -> None:
        self.assertNotIn("openai.batch", self.intake_checks())
        batching = self.pipeline.batching
        assert batching is not None
        batching.breaker.failed(batching.breaker.start(NOON), REFUSED, NOON, shared=True)
        self.assertIn("the model answered 401", self.intake_checks()["openai.batch"])

    def intake_checks(self) -> Any:
        return self.get("/readyz").json["checks"]
