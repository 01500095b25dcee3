"""docs/generate.py: what it makes of rules and metrics, and that its files are up to date."""

from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType

import yaml
from twisted.trial.unittest import SynchronousTestCase

from tests.admin.common import AdminTestCase
from tests.rules import PAGE, RULES
from tests.test_dockerfile import ROOT

TEXT = PAGE.read_text(encoding="utf-8")
TOLD = RULES.read_text(encoding="utf-8")


def load() -> ModuleType:
    spec = spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generate = load()

EXPOSITION = """\
# HELP chatgpt_source_prompts Prompts in the journal.
# TYPE chatgpt_source_prompts gauge
chatgpt_source_prompts{state="accepted"} 1.0
chatgpt_source_prompts{state="failed"} 2.0
# HELP chatgpt_source_asks_total Calls to the model.
# TYPE chatgpt_source_asks_total counter
chatgpt_source_asks_total{peer="model",outcome="answered"} 1.0
# HELP chatgpt_source_wait_seconds How long.
# TYPE chatgpt_source_wait_seconds histogram
chatgpt_source_wait_seconds_bucket{le="1.0"} 1.0
chatgpt_source_wait_seconds_bucket{le="+Inf"} 1.0
chatgpt_source_wait_seconds_count 1.0
chatgpt_source_wait_seconds_sum 1.0
# HELP process_open_fds Open files.
# TYPE process_open_fds gauge
process_open_fds 5.0
# HELP process_threads Threads.
# TYPE process_threads gauge
process_threads 5.0
"""


def rule(name: str, query: str) -> dict[str, object]:
    return {
        "alert": name,
        "expr": query,
        "labels": {"severity": "page"},
        "annotations": {
            "summary": "`{{ $labels.peer }}` waits for {{ $value | humanizeDuration }}.",
            "description": "Look.",
            "runbook": "docs/operations.md#look-here",
        },
    }


class TableTests(SynchronousTestCase):
    def test_metrics(self) -> None:
        rules = [
            rule("A", 'chatgpt_source_prompts{state="failed"} > process_open_fds'),
            rule("B", "rate(chatgpt_source_wait_seconds_bucket[1m]) > 1"),
            rule("C", "chatgpt_source_prompts_refused_total > 1"),
        ]
        self.assertEqual(
            generate.metrics_table(EXPOSITION, rules),
            "| metric | kind and labels | what it tells | alert |\n"
            "| --- | --- | --- | --- |\n"
            "| `chatgpt_source_prompts` | gauge; `state`: `accepted`, `failed` | "
            "Prompts in the journal. | `A` |\n"
            "| `chatgpt_source_asks_total` | counter; `peer`; `outcome`: `answered` | "
            "Calls to the model. | none |\n"
            "| `chatgpt_source_wait_seconds` | histogram | How long. | `B` |\n"
            "| `process_open_fds` | gauge | Open files. | `A` |\n",
        )

    def test_alerts(self) -> None:
        self.assertEqual(
            generate.alerts_table([rule("A", "x")]),
            "| alert | severity | what is wrong | what to do |\n"
            "| --- | --- | --- | --- |\n"
            "| `A` | page | … waits for …. | Look. [More](#look-here) |\n",
        )

    def test_a_page_is_filled_between_its_comments(self) -> None:
        page = "a\n<!-- x: python docs/generate.py -->\nold\n<!-- end of x -->\nb\n"
        filled = generate.filled(page, {"x": "new\n"})
        self.assertEqual(filled, page.replace("old", "\nnew\n"))
        self.assertEqual(generate.filled(filled, {"x": "new\n"}), filled)

    def test_a_page_without_the_comments(self) -> None:
        for page in ("a", "<!-- x: python docs/generate.py -->\n", "<!-- end of x -->\n"):
            self.assertRaises(ValueError, generate.filled, page, {"x": "new"})


class UpToDateTests(AdminTestCase):
    def test_the_files(self) -> None:
        exposition = self.get("/metrics").body.decode()
        for path, text in generate.generated(TEXT, exposition, TOLD).items():
            told = f"{path.relative_to(ROOT)} is out of date: run `python docs/generate.py`"
            self.assertEqual(path.read_text(encoding="utf-8").splitlines(), text.splitlines(), told)

    def test_the_charts_rules_are_the_rules(self) -> None:
        copy = generate.CHARTS_RULES.read_text(encoding="utf-8")
        self.assertEqual(yaml.safe_load(copy), yaml.safe_load(TOLD))

    def test_a_daemon_tells_what_the_test_s_does(self) -> None:
        theirs, ours = generate.scrape(), self.get("/metrics").body.decode()
        self.assertEqual(generate.metrics_table(theirs, []), generate.metrics_table(ours, []))
