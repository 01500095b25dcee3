"""No token, prompt, answer or header value leaves by any door but the two it is meant for."""

import json

from tests.e2e.processes import Daemon, DaemonCase, Wire, call, free_port, until
from tests.fakes.openai import api_error, completion, prompt_of
from tests.fakes.server import Fault, Reply

MARK = "MARKED"
TOKEN = f"sk-{MARK}-token"
SOURCE, TYPE = f"/{MARK}-source", f"{MARK}-type"
CALLER = {
    "vanus-source": SOURCE,
    "vanus-type": TYPE,
    "Authorization": f"Bearer {MARK}-caller",
    "Cookie": f"session={MARK}",
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "tracestate": f"marked={MARK}",
    "Content-Type": f"text/plain; x={MARK}",
    "X-Secret": MARK,
    "User-Agent": MARK,
    "Referer": f"http://{MARK}/",
}
TELLTALE = {
    "x-request-id": f"req {MARK}",
    "Set-Cookie": f"a={MARK}",
    "X-Told": MARK,
    "Location": f"http://{MARK}.example/{MARK}",
    "Content-Type": f"application/json; x={MARK}",
}


def gossip(status, **others):
    """An error that repeats all it was told, as some servers do."""
    told = f"Incorrect API key provided: {TOKEN}; you asked {MARK}"
    return api_error(status, told, code=MARK, param=f"{MARK}", headers=TELLTALE, **others)


MODEL = {
    "well": completion(f"{MARK} answer", headers=TELLTALE, finish_reason=f"{MARK}"),
    "400": gossip(400),
    "500": gossip(500),
    "refusal": completion(None, message={"refusal": MARK}),
    "empty": completion("", finish_reason=MARK),
    "unreadable": Reply(200, f"<html>{MARK}".encode(), TELLTALE),
    "not UTF-8": Reply(200, b"\xff" + MARK.encode(), TELLTALE),
    "cut": completion(MARK, fault=Fault.CUT),
    "reset": Reply(fault=Fault.RESET),
    "odd usage": Reply.of_json(
        {
            "choices": [{"message": {"content": f"{MARK}"}, "finish_reason": [MARK]}],
            "usage": {MARK: MARK},
            "model": {MARK: MARK},
        }
    ),
    "nested": Reply(200, b"[" * 100000 + MARK.encode()),
}


class SecretTests(DaemonCase):
    def setUp(self):
        super().setUp()
        self.answers = []
        self.admin = None

    def script(self, request):
        name = prompt_of(request).partition(":")[0]
        return MODEL.get(name) or completion(f"{MARK} answer")

    async def post(self, daemon, body, headers=CALLER, path="/"):
        answer = await daemon.post(body, headers, path)
        self.answers.append(answer)
        return answer

    async def drive(self, daemon):
        """Take prompts down every path there is but those that hold all calls."""
        ids = [(await self.post(daemon, f"{name}: {MARK} prompt")).json()["id"] for name in MODEL]
        for status in (500, 303, 400, 404):
            self.target.queue(Reply(status, f"{MARK}".encode(), TELLTALE))
            answer = await self.post(daemon, f"target: {MARK} prompt")
            ids.append(answer.json()["id"])
        for body, headers, path, status in (
            ("", CALLER, "/", 400),
            (MARK.encode() + b"\xff", {}, "/", 400),
            (MARK, {"vanus-source": f"not a uri {MARK}"}, "/", 400),
            (MARK, {"vanus-type": f"\x01{MARK}"}, "/", 400),
            (MARK, {"Content-Type": f"text/plain; charset={MARK}"}, "/", 415),
            (MARK * 1000, CALLER, "/", 413),
            (MARK, CALLER, f"/{MARK}?{MARK}={MARK}", 404),
            (MARK, CALLER, f"/prompts/{MARK}", 405),
        ):
            known = {"Authorization": CALLER["Authorization"], **headers}
            answer = await self.post(daemon, body, known, path)
            self.assert_problem(answer, status)
        for wrong in ({}, {"Authorization": f"Bearer {MARK}"}, {"Authorization": f"Basic {MARK}"}):
            self.assert_problem(await self.post(daemon, MARK, wrong), 401)
        url = f"http://127.0.0.1:{daemon.port}/prompts/{MARK}"
        self.answers.append(await call("GET", url, headers=CALLER))
        for nonsense in (
            f"{MARK}\r\n\r\n",
            f"POST / HTTP/1.1\r\n{MARK}\r\n\r\n",
            f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {MARK}\r\n\r\n{MARK}",
            f"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{MARK}\r\n",
            f"POST / HTTP/9.{MARK}\r\n\r\n",
            f"POST / HTTP/1.1\r\nHost: x\r\nX: {MARK * 10000}\r\n\r\n",
        ):
            wire = await Wire.connect(daemon.port)
            self.addCleanup(wire.close)
            wire.send(nonsense.encode())
            await until(lambda wire=wire: wire.closed, "the end of nonsense")
            self.assertNotIn(MARK.encode(), wire.received)
        return ids

    async def see(self, daemon, ids):
        for prompt_id in ids:
            for method in ("GET", "HEAD"):
                self.answers.append(await daemon.get(f"/prompts/{prompt_id}", method))
        for path in ("/readyz", "/healthz"):
            self.answers.append(await daemon.get(path))
        await self.see_as_operator(ids)

    async def see_as_operator(self, ids):
        """Look at all there is for operators, if the daemon has it."""
        pages = ["/", "/metrics", "/api/status", "/api/prompts", f"/api/prompts/{ids[0]}"]
        pages += [f"/api/prompts?state={MARK}", f"/{MARK}", f"/api/prompts/{MARK}"]
        for page in pages if self.admin else ():
            url = f"http://127.0.0.1:{self.admin}{page}"
            self.answers.append(await call("GET", url, headers={"X-Secret": MARK}))
        for path in (f"/api/prompts/{MARK}/redrive", "/api/prompts") if self.admin else ():
            for headers in (
                {},
                {"X-Requested-With": "chatgpt-source", "vanus-source": f"no {MARK}"},
            ):
                url = f"http://127.0.0.1:{self.admin}{path}"
                self.answers.append(await call("POST", url, MARK, headers))

    def assert_discreet(self, daemon):
        self.assertNotIn(MARK, daemon.text)
        self.assertNotIn("Traceback", daemon.text)
        self.assertNotIn("nobody foresaw", daemon.text)
        for answer in self.answers:
            self.assertNotIn(MARK.encode(), answer.body)
            self.assertNotIn(MARK, repr(list(answer.headers.getAllRawHeaders())))

    async def through_everything(self, *options, log_format="auto"):
        self.openai.script = self.script
        self.admin = free_port()
        config = self.config(
            token=TOKEN,
            auth={"bearer": [f"{MARK}-caller"]},
            admin=f"tcp:{self.admin}:interface=127.0.0.1",
            target_headers={"X-Target": f"{MARK}-header"},
            headers={"X-Model": f"{MARK}-header"},
            body={"metadata": {MARK: MARK}},
            signing_secret=f"whsec_{MARK}00",
            include=["prompt", "usage", "model", "finish_reason", "request_id"],
            target=f"{self.target.origin}/{MARK}?key={MARK}",
            base_url=f"{self.openai.origin}/{MARK}/v1",
            system_prompt=f"{MARK} system",
            log_config={"log_level": "debug"},
            log_format=log_format,
            max_body_size=1000,
        )
        # The fake answers where it is told to, not where OpenAI's servers do.
        self.openai.objection = lambda _: None
        overrides = json.dumps({"extensions": {"marked": MARK}})
        daemon = Daemon(self, config, K_CE_OVERRIDES=overrides)
        daemon.headers = {"Authorization": CALLER["Authorization"]}
        await daemon.start(*options)
        live = await Wire.connect(self.admin)
        live.send(f"GET /api/events HTTP/1.1\r\nHost: 127.0.0.1:{self.admin}\r\n\r\n".encode())
        ids = await self.drive(daemon)
        for prompt_id in ids[: len(MODEL)]:
            name = list(MODEL)[ids.index(prompt_id)]
            if name in {"500", "reset"}:
                await daemon.reaches(prompt_id, lambda record: record["error"])
            else:
                await daemon.reaches(
                    prompt_id, lambda record: record["state"] in {"delivered", "failed"}
                )
        await self.see(daemon, ids)
        # Whatever holds all calls, at the model, then at the target.
        self.openai.script = lambda _: gossip(401)
        held = (await self.post(daemon, f"held: {MARK}")).json()["id"]
        await daemon.reaches(held, lambda record: record["error"])
        await self.see(daemon, [*ids, held])
        self.assertEqual((await daemon.checks())[:2], (200, "degraded"))
        await until(lambda: held.encode() in live.received, "the live page's latest prompt")
        self.assertNotIn(MARK.encode(), live.received)
        await daemon.kill()
        await daemon.start(*options)
        await daemon.stop()
        self.assertTrue(self.target.requests)
        self.assertIn(MARK, json.dumps(self.target.requests[0].document))
        self.assertIn("delivered: ", daemon.text)
        self.assertIn("request: ", daemon.text)
        self.assert_discreet(daemon)
        return daemon.text.splitlines()

    async def test_json(self):
        lines = list(map(json.loads, await self.through_everything()))
        for start, members in (
            ("accepted: ", {"id", "bytes", "status", "seconds"}),
            ("request: ", {"method", "route", "status", "seconds", "bytes"}),
            ("answered: ", {"id", "asks", "request_id"}),
            ("delivered: ", {"id", "deliveries"}),
            ("set aside: ", {"id", "reason"}),
        ):
            told = [line for line in lines if line["message"].startswith(start)]
            self.assertTrue(told, start)
            for line in told:
                self.assertLessEqual(members, set(line))

    async def test_text(self):
        for line in await self.through_everything(log_format="text"):
            self.assertRegex(line, r"^20\d\d-\S+Z (debug|info|warn|error|fatal) +\S")

    async def test_twistds_own_choice_of_log(self):
        for line in await self.through_everything("--no_save"):
            json.loads(line)

    async def test_target_that_holds(self):
        self.target.script = lambda _: Reply(403, MARK.encode(), TELLTALE)
        self.openai.script = self.script
        daemon = Daemon(self, self.config(token=TOKEN, log_config={"log_level": "trace"}))
        await daemon.start()
        held = (await self.post(daemon, f"well: {MARK}")).json()["id"]
        await daemon.reaches(held, lambda record: record["error"])
        await self.see(daemon, [held])
        await daemon.stop()
        self.assert_discreet(daemon)

    async def test_peers_that_are_down(self):
        config = self.config(token=TOKEN, log_config={"log_level": "debug"}, everyday_limit=1)
        await self.openai.stop()
        daemon = Daemon(self, config)
        await daemon.start()
        prompt_id = (await self.post(daemon, f"well: {MARK}")).json()["id"]
        self.assertEqual((await self.post(daemon, f"well: {MARK}")).status, 429)
        await daemon.reaches(prompt_id, lambda record: record["error"])
        await self.see(daemon, [prompt_id])
        await self.target.stop()
        self.openai.script = self.script
        self.openai.start()
        await daemon.reaches(prompt_id, "answered")
        await daemon.reaches(prompt_id, lambda record: record["error"])
        await self.see(daemon, [prompt_id])
        await daemon.stop()
        self.assert_discreet(daemon)

    async def test_daemonised(self):
        self.openai.script = self.script
        daemon = Daemon(self, self.config(token=TOKEN, log_config={"log_level": "debug"}))
        await daemon.start_daemonised()
        ids = await self.drive_few(daemon)
        await self.see(daemon, ids)
        log = (daemon.dir / "twistd.log").read_text()
        self.assertIn(f"accepted: id={ids[0]}", log)
        self.assertIn("request: method=", log)
        self.assertNotIn(MARK, log)
        self.assert_discreet(daemon)

    async def drive_few(self, daemon):
        ids = [
            (await self.post(daemon, f"{name}: {MARK}")).json()["id"]
            for name in ("well", "400", "unreadable")
        ]
        for prompt_id in ids:
            await daemon.reaches(
                prompt_id, lambda record: record["state"] in {"delivered", "failed"}
            )
        return ids
