"""The admin site over a connection in memory, beside the door, on a real journal and pipeline."""

from typing import Any, cast

import attrs
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.defer import Deferred

from chatgpt_source.admin import Admin, Admission
from chatgpt_source.http.server import BoundedSite
from chatgpt_source.intake.health import Health
from chatgpt_source.pipeline import Pipeline
from chatgpt_source.telemetry.observer import Observers
from tests.door import CONFIG, DoorTestCase, ParsedResponse
from tests.pipeline.test_pipeline import Peer

PREFIX = "chatgpt_source_"
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
OURS = {"X_Requested_With": "chatgpt-source"}


class AdminTestCase(DoorTestCase):
    config = attrs.evolve(
        CONFIG, concurrency=2, dead_letter="http://letters", admin="tcp:9464:interface=127.0.0.1"
    )
    host = "localhost:9464"
    batches: Any = None
    """Makes the calls about batches, if there are any."""

    @property
    def everyday_limit(self) -> int:  # type: ignore[override]
        return self.config.everyday_limit

    def setUp(self) -> None:
        super().setUp()
        self.model, self.target, self.letters = Peer(), Peer(), Peer()
        self.observers = Observers()
        self.pipeline = Pipeline(
            cast(Any, self.clock),
            self.journal,
            self.config,
            self.model,
            {
                "target": self.target.receive,
                **{name: Peer().receive for name in self.config.targets},
                "dead_letter": self.letters.receive,
            },
            lambda: 1.0,
            self.observers,
            batches=self.batches,
        )
        judge = attrs.evolve(self.intake.health.judge, pipeline=self.pipeline)
        self.observers.add(judge.recent)
        self.observers.add(judge.refusals)
        self.intake = attrs.evolve(
            self.intake, pipeline=self.pipeline, health=Health(judge), observer=self.observers
        )
        self.admin = Admin(self.intake, self.observers)
        self.door = BoundedSite(
            cast(Any, self.clock),
            self.intake.answer,
            self.config.max_body_size,
            refused=self.intake.refused,
        )
        self.back = BoundedSite(
            cast(Any, self.clock),
            self.admin.answer,
            self.config.max_body_size,
            Admission(self.config.admin_auth, self.config.admin or "").refusal,
            refused=self.intake.refused,
        )
        self.pipeline.start()
        self.admin.start()
        self.addCleanup(self.shut_down)

    def shut_down(self) -> None:
        self.admin.stop()
        self.pipeline.end()

    def come(self) -> ParsedResponse:
        """The response that has come, in a few turns."""
        for _ in range(20):
            if self.transport.value():
                break
            self.clock.advance(0)
        return super().come()

    def ask(self, body: bytes = b"what is vanus", **headers: str | bytes) -> ParsedResponse:
        """POST a prompt at the door."""
        self.site = self.door
        self.connect()
        return self.post(body, **headers)

    def get(self, path: str, **headers: str | bytes) -> ParsedResponse:
        """GET a page of the admin site, in a turn of its own."""
        self.clock.advance(0)
        self.site = self.back
        self.connect()
        return self.request("GET", path, **headers)

    def send(self, path: str, body: bytes = b"", **headers: str | bytes) -> ParsedResponse:
        """POST to the admin site, as its page does."""
        self.site = self.back
        self.connect()
        return self.request("POST", path, body, **{**OURS, **headers})

    def scrape(self) -> dict[str, float]:
        """What a scrape tells: `name{label="value"}` -> value, without the prefix."""
        plain, open_ = self.get("/metrics"), self.get("/metrics", Accept=OPENMETRICS)
        self.assertEqual((plain.status, open_.status), (200, 200))
        families = list(text_string_to_metric_families(plain.body.decode()))
        found = samples(families)
        also = samples(openmetrics.text_string_to_metric_families(open_.body.decode()))
        self.assertEqual(set(found), set(also))
        return found

    def assert_probes(self) -> None:
        """See that the site answers probes as the door does."""
        alive, ready = self.get("/healthz"), self.get("/readyz")
        self.assertEqual((alive.status, alive.json), (200, {"status": "ok"}))
        status, body = self.successResultOf(Deferred.fromCoroutine(self.intake.health.ready()))
        self.assertEqual((ready.status, ready.json), (status, body))

    def pass_time(self, seconds: float) -> None:
        self.clock.pump([0.05] * round(seconds / 0.05))


def samples(families: Any) -> dict[str, float]:
    found = {}
    for family in families:
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            name = sample.name.removeprefix(PREFIX)
            found[f"{name}{{{labels}}}" if labels else name] = sample.value
    return found
