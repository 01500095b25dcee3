"""The table of what a receiver's failures mean, row by row."""

from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.delivery.target import receiver_error
from chatgpt_source.errors import PeerFailure, Permanent, Transient
from chatgpt_source.prompt import DEAD_LETTER, TARGET

TARGET_HOLD = {401, 403, 410}
TARGET_AGAIN = {404, 408, 409, 429}


class TargetErrorTests(SynchronousTestCase):
    def test_every_status(self) -> None:
        for status in range(300, 600):
            error = receiver_error(TARGET, status)
            if status in TARGET_AGAIN or status >= 500:
                expected: type = Transient
            elif status in TARGET_HOLD:
                expected = PeerFailure
            else:
                expected = Permanent
            self.assertIs(type(error), expected, status)
            self.assertEqual(error.status, status)
            self.assertIn(f"the target answered {status}", error.reason)

    def test_wait_is_carried(self) -> None:
        for status in (404, 408, 429, 503):
            self.assertEqual(receiver_error(TARGET, status, 7.5).retry_after, 7.5)

    def test_gone_asks_us_to_stop(self) -> None:
        self.assertIn("asks us to stop", receiver_error(TARGET, 410).reason)

    def test_another_receiver_is_blamed_by_its_own_name(self) -> None:
        for status in (302, 401, 403, 404, 410, 422, 503):
            reason = receiver_error(DEAD_LETTER, status).reason
            self.assertIn(f"the dead letter's receiver answered {status}", reason)
            self.assertNotIn("target", reason)
        self.assertIn("check `dead_letter`", receiver_error(DEAD_LETTER, 410).reason)

    def test_redirect_says_so(self) -> None:
        self.assertIn("redirect", receiver_error(TARGET, 307).reason)
