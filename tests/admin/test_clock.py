"""What operators are told after the wall clock was set: its times, and durations all the same."""

from chatgpt_source.errors import PeerFailure
from tests.admin.common import AdminTestCase

HOUR = 3600.0


class SetBackTests(AdminTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.ask()
        self.clock.advance(240)
        self.model.answer(PeerFailure("the model answered 401: check `token`", status=401))
        self.clock.step(-HOUR)

    def test_times_are_the_wall_clocks_and_go_together(self) -> None:
        told = self.get("/api/status").json
        self.assertEqual(told["now"], "2027-01-15T11:04:00Z")
        self.assertEqual(
            " ".join(told["troubles"]),
            "The model answered 401 (since 11:04): check `token`; then try it now."
            " 1 prompt waits, and none fails meanwhile. The next try is at 11:04",
        )
        model = told["calls"]["model"]
        self.assertEqual((model["circuit"], model["since"]), ("open", "2027-01-15T11:04:00Z"))
        self.clock.advance(30)
        self.assertIn("The next try is due", self.get("/api/status").json["troubles"][0])

    def test_no_age_is_negative(self) -> None:
        self.assertEqual(self.get("/api/status").json["backlog"]["oldest_seconds"], 0)
        self.assertEqual(self.scrape()["backlog_oldest_age_seconds"], 0)
        self.clock.advance(30)
        self.model.answer()
        self.target.answer()
        self.assertEqual(self.scrape()["accepted_to_delivered_seconds_sum"], 0)

    def test_durations_are_true(self) -> None:
        self.ask()
        self.clock.advance(30)
        self.model.answer()
        self.pass_time(0.1)
        self.clock.advance(3)
        self.model.answer()
        told = self.scrape()
        self.assertAlmostEqual(told["ask_seconds_sum"], 240 + 3.1, places=3)
        self.assertAlmostEqual(told["wait_seconds_sum"], 30, places=3)

    def test_the_page_says_how_long_it_runs(self) -> None:
        page = self.get("/").body.decode()
        self.assertIn("up 4 min", page)
        self.assertIn(">11:00<", page)
