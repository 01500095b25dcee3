"""docs/operations.md says what the code does, and the links of all pages lead somewhere."""

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.admin.common import AdminTestCase
from tests.rules import PAGE, exposed, headings_of, names

ROOT = Path(__file__).parent.parent
TEXT = PAGE.read_text(encoding="utf-8")


class MetricsTests(AdminTestCase):
    def test_every_mention_is_of_one_that_exists(self) -> None:
        self.assertLessEqual(names(TEXT), exposed(self.get("/metrics").body.decode()))


class FenceTests(SynchronousTestCase):
    def test_every_block_of_code_is_closed(self) -> None:
        for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
            fences = re.findall(r"^ *(```.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            self.assertEqual(len(fences) % 2, 0, path)
            for closing in fences[1::2]:  # one that is missing makes the next an opening one
                self.assertEqual(closing, "```", path)


class LinkTests(SynchronousTestCase):
    def test_links(self) -> None:
        for source in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
            for target in re.findall(r"\]\(([^)\s]+)\)", source.read_text(encoding="utf-8")):
                if re.match("https?:", target):
                    continue
                page, _, heading = target.partition("#")
                path = source.parent / page if page else source
                self.assertTrue(path.exists(), (source, target))
                if heading:
                    self.assertIn(heading, headings_of(path.read_text()), source)

    def test_files_that_are_named(self) -> None:
        for name in re.findall(r"`((?:deploy|benchmarks)/[\w.@/-]+)", TEXT):
            self.assertTrue((ROOT / name).exists(), name)
