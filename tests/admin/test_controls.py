"""What can be paused: whether it is, by whom and since when, and the button that changes it."""

import attrs

from chatgpt_source.admin.controls import controls
from chatgpt_source.journal import Pause
from tests.admin.test_page import SHOWN, PageTestCase
from tests.journal.common import NOON

SHOWN = attrs.evolve(
    SHOWN,
    pausable=["intake", "asking", "target", "target.billing", "dead_letter"],
    pauses={"intake": Pause("intake", "jörg", NOON - 125)},
)


class ControlsTests(PageTestCase):
    def test_who_paused_it_and_since_when(self) -> None:
        text = self.text(controls(SHOWN))
        self.assertIn("IntakePaused by jörg since 12:57, 2 min agoResume Intake", text)
        self.assertIn("Askingnot pausedPause Asking", text)
        self.assertIn("Targetnot pausedPause Target", text)
        self.assertIn("Target billingnot pausedPause Target billing", text)
        self.assertIn("Dead letter's receivernot paused", text)
        self.assertIn("Target <code>billing</code></span>", self.html(controls(SHOWN)))

    def test_a_pause_asks_first_and_a_resume_does_not(self) -> None:
        resume, pause, _, target, _ = self.read(controls(SHOWN)).all("button")
        self.assertEqual(resume["data-post"], "api/resume/intake")
        self.assertNotIn("data-sure", resume)
        self.assertEqual(pause["data-post"], "api/pause/asking")
        self.assertEqual(pause["data-sure"], "Pause: Asking?")
        self.assertIn("still fetched", pause["data-why"] or "")
        self.assertEqual(target["data-post"], "api/pause/target.billing")
