"""The failed prompts by reason, and what can be done about each group."""

import attrs

from chatgpt_source.admin.failures import MOST, all_failures, failures, redrive_cost
from chatgpt_source.journal import FailureGroup
from chatgpt_source.prompt import State
from tests.admin.test_page import SHOWN, PageTestCase
from tests.journal.common import NOON

GROUPS = [
    FailureGroup("the model answered 400", 2000, NOON - 3600, NOON - 120),
    FailureGroup("it's `target`/ü", 1, NOON - 5, NOON - 5),
]
FAILING = attrs.evolve(
    SHOWN, groups=GROUPS, prompts={**SHOWN.prompts, State.FAILED: 2001}, used=SHOWN.limit - 1
)


class FailuresTests(PageTestCase):
    def test_each_reason_with_its_count_and_times(self) -> None:
        read = self.read(failures(FAILING))
        self.assertIn(
            "2,000The model answered 40012:00, 1 h ago12:58, 2 min ago", " ".join(read.text.split())
        )
        links = [a["href"] for a in read.all("a")]
        self.assertEqual(links[0], "?state=failed&reason=the+model+answered+400#prompts")
        self.assertEqual(len(read.all("tr")), 3)

    def test_redrive_and_purge_of_a_group_ask_first(self) -> None:
        redrive, purge = self.read(failures(FAILING)).all("button")[:2]
        self.assertEqual(redrive["data-post"], "api/redrive?reason=the%20model%20answered%20400")
        self.assertEqual(redrive["data-sure"], "Redrive 2,000 prompts?")
        self.assertEqual(redrive["data-kind"], "redrive")
        self.assertEqual(purge["data-post"], "api/purge?reason=the%20model%20answered%20400")
        self.assertEqual(purge["data-yes"], "Purge 2,000")
        self.assertEqual(purge["data-why"], "Reason: The model answered 400.")

    def test_an_id_is_one_whatever_the_reason_is(self) -> None:
        for _, attributes in self.read(failures(FAILING)).elements:
            self.assertNotRegex(attributes.get("id") or "", r"[\s'`/]")

    def test_what_is_not_shown_is_counted(self) -> None:
        many = [FailureGroup(f"reason {number}", 10, NOON, NOON) for number in range(MOST + 5)]
        shown = attrs.evolve(FAILING, groups=many)
        read = self.read(failures(shown))
        self.assertEqual(len(read.all("tr")), MOST + 1)
        self.assertIn("and 1,901 others", read.text)

    def test_none(self) -> None:
        shown = attrs.evolve(SHOWN, prompts=dict.fromkeys(State, 0))
        self.assertIn("hidden", self.read(failures(shown)).elements[0][1])
        self.assertEqual(self.read(all_failures(shown)).all("button"), [])

    def test_all_of_them(self) -> None:
        redrive, purge = self.read(all_failures(FAILING)).all("button")
        self.assertEqual(redrive["data-post"], "api/redrive")
        self.assertEqual(redrive["data-sure"], "Redrive 2,001 failed prompts?")
        self.assertEqual(purge["data-post"], "api/purge")

    def test_what_a_redrive_costs(self) -> None:
        told = self.text(redrive_cost(FAILING))
        self.assertIn("takes one of today’s 100 prompts; 1 of them is left.", told)
        self.assertIn("none is left", self.text(redrive_cost(attrs.evolve(FAILING, used=100))))
