"""A real Prometheus scrapes a real daemon, and is asked what the dashboard asks."""

import math
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml
from twisted.internet import reactor
from twisted.internet.error import ConnectError
from twisted.trial.unittest import SkipTest

from tests.e2e.processes import Running, call, free_port, until
from tests.e2e.test_admin import AdminCase
from tests.fakes.openai import api_error, prompt_of
from tests.rules import (
    RULES,
    dashboard,
    panels,
    queries,
    rules,
    settled,
    unknown,
)

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class PrometheusTests(AdminCase):
    async def prometheus(self) -> None:
        """Start a Prometheus that scrapes the daemon each second."""
        program = shutil.which("prometheus")
        if program is None:
            raise SkipTest("prometheus is not installed (Debian's package prometheus has it)")
        folder, port = self.folder(), free_port()
        self.url = f"http://127.0.0.1:{port}"
        process = Running(bytearray())
        arguments = [
            program,
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=warn",
        ]
        reactor.spawnProcess(process, program, arguments, env={}, path=str(folder))
        self.addCleanup(self.kill, process)
        await until(lambda: self.is_up(process), f"Prometheus; it said: {process.text}", 60)

    def folder(self) -> Path:
        """A folder with Prometheus's config."""
        targets = [f"127.0.0.1:{self.admin_port}"]
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(RULES)],
            "scrape_configs": [{"job_name": "prompts", "static_configs": [{"targets": targets}]}],
        }
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        return folder

    async def is_up(self, process: Running) -> bool:
        self.assertIsNone(process.status, process.text)
        try:
            ready = await call("GET", f"{self.url}/-/ready")
        except ConnectError:
            return False
        return ready.status == 200 and bool(await self.ask("chatgpt_source_build_info"))

    async def kill(self, process: Running) -> None:
        process.signal(9)
        await process.end()

    async def api(self, path: str, **query: str) -> Any:
        answer = await call("POST", f"{self.url}/api/v1/{path}", urlencode(query), FORM)
        self.assertEqual(answer.json()["status"], "success", answer.body)
        return answer.json()["data"]

    async def ask(self, query: str) -> list[float]:
        """The values of a query at this moment."""
        found = await self.api("query", query=query)
        return [float(each["value"][1]) for each in found["result"]]

    async def test_every_query_has_a_result(self) -> None:
        self.openai.script = lambda request: (
            api_error(400) if prompt_of(request) == "refused" else self.openai.default(request)
        )
        daemon = self.daemon(dead_letter=self.target.origin)
        await daemon.start()
        await self.prometheus()
        ids = [await daemon.accepted("well") for _ in range(9)]
        ids.append(await daemon.accepted("refused"))
        self.assertEqual((await daemon.post(" ")).status, 400)
        for each in ids:
            await daemon.reaches(each, lambda record: record["state"] in {"delivered", "failed"})
        await until(lambda: self.ask("increase(chatgpt_source_deliveries_total[1m]) > 0"), "a rate")
        firing = 'ALERTS{alertname="ChatGPTSourcePromptsFail", alertstate="firing"}'
        await until(lambda: self.ask(firing), "the alert")
        for query in queries():
            values = await self.ask(settled(query))
            self.assertTrue(values, query)
            self.assertFalse([value for value in values if math.isnan(value)], query)
        await self.see_values()
        await self.see_rules()
        exposition = (await self.ask_admin("/metrics")).body.decode()
        for query in [*queries(), *(rule["expr"] for rule in rules())]:
            self.assertEqual(unknown(query, exposition), [], query)

    async def see_values(self) -> None:
        """The panels say what has happened."""
        shown = {
            panel["title"]: [settled(target["expr"]) for target in panel["targets"]]
            for panel in panels()
        }
        (failed,) = await self.ask(shown["Failed of the last"][0])
        self.assertEqual(failed, 0.1)
        (used,) = await self.ask(shown["Used of the day"][0])
        self.assertEqual(used, 0.09)  # a refused prompt is not billed
        (firing,) = await self.ask(shown["Alerts that fire"][0])
        self.assertGreaterEqual(firing, 1)
        for variable in dashboard()["templating"]["list"]:
            if variable["name"] in {"job", "instance"}:
                metric = settled(variable["query"]["query"]).removeprefix("label_values(")
                metric = metric.rpartition(",")[0]
                found = await self.api("series", **{"match[]": metric})
                self.assertEqual(len({each[variable["name"]] for each in found}), 1)

    async def see_rules(self) -> None:
        """Prometheus evaluates each rule without an error."""
        answer = (await call("GET", f"{self.url}/api/v1/rules")).json()["data"]
        (group,) = answer["groups"]
        self.assertEqual({rule["health"] for rule in group["rules"]}, {"ok"})
        self.assertEqual(len(group["rules"]), len(rules()))
