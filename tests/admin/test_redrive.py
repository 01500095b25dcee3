"""Taking up again all that failed."""

from typing import Any, cast

import attrs
from twisted.internet.defer import Deferred

from chatgpt_source.admin import redrive
from chatgpt_source.admin.redrive import Redriver
from chatgpt_source.errors import NotRedriven, Permanent
from chatgpt_source.prompt import State
from tests.admin.common import AdminTestCase
from tests.telemetry.test_observer import Recorder

NO = Permanent("no", status=400)


class RedriveAllTests(AdminTestCase):
    config = attrs.evolve(AdminTestCase.config, everyday_limit=7)

    def failed(self, *, answered: bool = False) -> str:
        prompt_id = str(self.ask().json["id"])
        self.model.answer(*[] if answered else [NO])
        if answered:
            self.target.answer(NO)
        return prompt_id

    def states(self) -> list[State]:
        return [r.state for r in self.successResultOf(self.journal.latest(None, None, 99))]

    def test_all_of_them(self) -> None:
        self.patch(redrive, "STEP", 2)
        for _ in range(3):
            self.failed()
        self.failed(answered=True)
        recorder = Recorder()
        self.observers.add(recorder)
        answer = self.send("/api/redrive")
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.json, {"redriven": 4, "refused": 0, "detail": "Taken up again: 4."})
        self.assertNotIn(State.FAILED, self.states())
        self.assertEqual(len(recorder.of("redriven")), 4)
        self.assertEqual(len(self.model.under_way), 2)  # as many as may be at once
        self.assertEqual(len(self.target.under_way), 1)

    def test_none(self) -> None:
        self.assertEqual(self.send("/api/redrive").json["redriven"], 0)

    def test_as_far_as_the_day_goes(self) -> None:
        self.failed(answered=True)
        for _ in range(3):
            self.failed()
        for _ in range(5):
            self.ask()
        told = self.send("/api/redrive").json
        self.assertEqual((told["redriven"], told["refused"]), (2, 2))
        self.assertIn("the day has none left: 2.", told["detail"])
        self.assertEqual(self.used(), 7)

    def test_not_twice_at_once(self) -> None:
        waiting: Deferred[Any] = Deferred()
        journal = cast(Any, self.journal)
        self.patch(journal, "latest", lambda *_: waiting)
        redriver = Redriver(journal, self.pipeline, self.observers)
        first = Deferred.fromCoroutine(redriver.all())
        self.failureResultOf(Deferred.fromCoroutine(redriver.all()), NotRedriven)
        waiting.callback([])
        self.assertEqual(self.successResultOf(first), (0, 0))
        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(redriver.all())), (0, 0))

    def test_another_site_can_not(self) -> None:
        self.assert_problem(self.send("/api/redrive", X_Requested_With="x"), 403)
        self.assert_problem(self.get("/api/redrive"), 405)

    def test_a_journal_that_can_not_be_used(self) -> None:
        self.failed()
        self.opened.connection.close()
        self.assert_problem(self.send("/api/redrive"), 503)
