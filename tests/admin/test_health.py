"""The page's headline: levels, what each trouble says, and what is read out."""

from typing import Any

import attrs

from chatgpt_source.admin.fragments import about as about_
from chatgpt_source.admin.health import health
from chatgpt_source.health.trouble import Level, Trouble, judged
from chatgpt_source.prompt import State
from tests.admin.test_page import SHOWN, PageTestCase, Reader
from tests.journal.common import NOON

HELD = Trouble(
    "openai",
    Level.RED,
    "the model answered 401",
    NOON - 300,
    "12 prompts wait",
    NOON + 30,
    "check `token`; then try it now",
    "model",
)
FAILED = Trouble(
    "failures", Level.AMBER, "2 failed", prompts={"state": "failed", "reason": "the & of it"}
)

NO_FAILED = attrs.evolve(SHOWN, prompts={**SHOWN.prompts, State.FAILED: 0})


class HeadlineTests(PageTestCase):
    def banner(self, *troubles: Trouble, untried: str | None = None) -> Reader:
        return self.read(health(attrs.evolve(NO_FAILED, judgement=judged(troubles, untried))))

    def of(self, read: Reader, tag: str, id_: str) -> Any:
        return next(each for each in read.all(tag) if each.get("id") == id_)

    def test_level_and_title(self) -> None:
        for given, level, title in (
            (self.banner(), "green", "✓ All is well – ChatGPT Source"),
            (self.banner(untried="Nothing tried yet"), "unknown", "○ Nothing tried yet – ChatG"),
            (self.banner(FAILED), "amber", "◐ 1 trouble – ChatGPT Source"),
            (self.banner(FAILED, HELD), "red", "● 2 troubles – ChatGPT Source"),
        ):
            banner = self.of(given, "div", "health")
            self.assertEqual(banner["class"], f"health {level}")
            self.assertTrue(banner["data-title"].startswith(title), banner)

    def test_all_is_well(self) -> None:
        self.assertEqual(self.banner().text, "All is well.All is well.")

    def test_all_of_a_trouble(self) -> None:
        read = self.banner(HELD)
        self.assertIn(
            "Red: The model answered 401.Since 12:55, for 5 min. 12 prompts wait. "
            "The next try is at 13:00:30, in 30 s.Check token; then try it now. Try now: model",
            read.text,
        )
        self.assertEqual(len(read.all("code")), 1)
        (button,) = read.all("button")
        self.assertEqual((button["id"], button["data-try"]), ("try-model", "model"))

    def test_all_is_well_beside_earlier_failures(self) -> None:
        prompts = {**SHOWN.prompts, State.FAILED: 4000}
        read = self.read(health(attrs.evolve(SHOWN, prompts=prompts, judgement=judged([]))))
        told = "All is well.4,000 prompts that failed earlier wait to be redriven or purged. "
        self.assertTrue(read.text.startswith(told), read.text)
        (link,) = read.all("a")
        self.assertEqual(link["href"], "?state=failed#prompts")

    def test_what_there_is_not_is_left_out(self) -> None:
        read = self.banner(Trouble("quota", Level.AMBER, "all is used up"))
        self.assertEqual(read.text, "Amber: All is used up.Amber: All is used up.")
        self.assertEqual((read.all("button"), read.all("a")), ([], []))

    def test_all_troubles_of_one_check_are_there(self) -> None:
        pauses = [
            Trouble("paused", Level.AMBER, f"{what} is paused", paused=what)
            for what in ("intake", "target")
        ]
        backlog = [Trouble("backlog", Level.AMBER, told) for told in ("it is full", "it ages")]
        read = self.banner(*pauses, *backlog)
        ids = ["paused-intake", "paused-target", "backlog", "backlog-2"]
        self.assertEqual([each["id"] for each in read.all("li")], [f"trouble-{id_}" for id_ in ids])
        self.assertEqual(
            [(each["id"], each["data-post"]) for each in read.all("button")],
            [
                ("end-paused-intake", "api/resume/intake"),
                ("end-paused-target", "api/resume/target"),
            ],
        )

    def test_unknown_says_what_will_tell(self) -> None:
        told = self.banner(untried="Nothing tried yet").text
        self.assertIn("Nothing tried yet.The next prompt shows whether all works.", told)

    def test_leads_to_the_prompts(self) -> None:
        (link,) = self.banner(FAILED).all("a")
        self.assertEqual(link["href"], "?state=failed&reason=the+%26+of+it#prompts")

    def test_what_is_read_out_does_not_age(self) -> None:
        def said(shown: Any) -> str:
            html = self.read(health(shown)).text
            return html[html.rindex("Red: ") :]

        shown = attrs.evolve(SHOWN, judgement=judged([HELD]))
        later = attrs.evolve(shown, now=NOON + 10)
        self.assertEqual(said(shown), "Red: The model answered 401.")
        self.assertEqual(said(shown), said(later))
        self.assertEqual(self.of(self.read(health(shown)), "p", "health-said")["role"], "status")

    def test_a_duration_that_grows_is_no_news(self) -> None:
        for what, told in (
            ("the journal can't be read: it has not answered for {}", "it has not answered."),
            ("the backlog ages: a call has been due for {}", "a call has been due."),
        ):
            for lasts in ("9 s", "5 min", "2 h 5 min", "1 d"):
                trouble = Trouble("journal", Level.RED, what.format(lasts))
                read = self.read(health(attrs.evolve(SHOWN, judgement=judged([trouble]))))
                self.assertIn(lasts, read.text)
                self.assertTrue(read.text.endswith(told), read.text)

    def test_the_daemons_own_time(self) -> None:
        (about,) = self.read(about_(SHOWN)).all("p")
        self.assertEqual(about["data-now"], "2027-01-15T13:00:00.000")
        (left,) = [each for each in self.banner(HELD).all("span") if "data-at" in each]
        self.assertEqual(left["data-at"], "2027-01-15T13:00:30.000")
