"""The README says what the code does."""

import re
from pathlib import Path

import attrs
import yaml
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.config import Config
from tests.config.test_config import DEFAULTS

README = Path(__file__).parent.parent.joinpath("README.md").read_text(encoding="utf-8")


def block(start: str) -> str:
    """The shell lines of the first block that starts so."""
    found = re.search(rf"```shell\n({re.escape(start)}.*?)```", README, re.DOTALL)
    assert found, start
    return found[1]


class SettingsTests(SynchronousTestCase):
    def rows(self) -> dict[str, str]:
        table = README.partition("| key | else | meaning |")[2].partition("\n\n")[0]
        cells = (line.split(" | ") for line in table.splitlines() if line.startswith("| `"))
        return {row[0].strip("| `"): row[1] for row in cells}

    def test_every_key_has_its_row(self) -> None:
        keys = {
            field.metadata["key"] or field.name
            for field in attrs.fields(Config)
            if field.metadata.get("key") is not None
        }
        self.assertEqual(set(self.rows()), keys)

    def test_every_row_has_the_default_and_the_variables(self) -> None:
        fields = {
            field.metadata["key"] or field.name: field
            for field in attrs.fields(Config)
            if field.metadata.get("key") is not None
        }
        for key, told in self.rows().items():
            *variables, default = [word.strip("` ") for word in re.split(r"[;,]", told)]
            self.assertEqual(tuple(variables), fields[key].metadata["env"], key)
            if key in {"target", "token"}:
                self.assertEqual(default, "required", key)
            elif key == "log_config":
                self.assertEqual(yaml.safe_load(default), {"log_level": "info"})
            else:
                expected = DEFAULTS[key]
                shown = "none" if expected in (None, {}, ()) else str(expected).removesuffix(".0")
                shown = shown.lower() if isinstance(expected, bool) else shown
                self.assertEqual(default, shown, key)


class ConfigTests(SynchronousTestCase):
    def test_the_quick_starts_config_is_one(self) -> None:
        lines = block("cat << EOF > config.yml").splitlines()[1:-1]
        self.assertEqual(set(yaml.safe_load("\n".join(lines))), {"target", "port", "token"})

    def test_every_yaml_block_is_yaml(self) -> None:
        for text in re.findall(r"```yaml\n(.*?)```", README, re.DOTALL):
            yaml.safe_load(re.sub(r"(?m)^   ", "", text) if text.startswith("   ") else text)
