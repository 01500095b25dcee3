"""The steps of a stop: in their order, and each of them."""

from unittest.mock import Mock

from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.process.steps import take_all


class StepsTests(SynchronousTestCase):
    def test_each_waits_for_the_one_before(self) -> None:
        first: Deferred[None] = Deferred()
        log, second = Mock(), Mock(return_value=None)
        taken = Deferred.fromCoroutine(take_all(log, ("one", lambda: first), ("two", second)))
        second.assert_not_called()
        first.callback(None)
        self.successResultOf(taken)
        second.assert_called_once_with()
        log.error.assert_not_called()

    def test_what_one_raises_is_logged_without_its_text(self) -> None:
        async def third() -> None:
            raise KeyError("MARKED")

        log, last = Mock(), Mock(return_value=None)
        steps = (
            ("one", Mock(side_effect=ValueError("MARKED"))),
            ("two", lambda: fail(ValueError("MARKED"))),
            ("three", third),
            ("four", last),
        )
        self.successResultOf(Deferred.fromCoroutine(take_all(log, *steps)))
        last.assert_called_once_with()
        told = [(each.kwargs["doing"], each.kwargs["kind"]) for each in log.error.mock_calls]
        kinds = [("one", "ValueError"), ("two", "ValueError"), ("three", "KeyError")]
        self.assertEqual(told, kinds)
        self.assertNotIn("MARKED", str(log.mock_calls))
