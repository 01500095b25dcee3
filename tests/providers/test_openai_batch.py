"""The Batch API, against a fake that keeps state, over real sockets."""

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import attrs
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.trial.unittest import TestCase

from chatgpt_source.config import Config
from chatgpt_source.config.secret import Secret
from chatgpt_source.errors import CallError, Gone, PeerFailure, Permanent, PossiblyBilled, Transient
from chatgpt_source.http.client import make_client
from chatgpt_source.prompt import Answer, Prompt
from chatgpt_source.providers import openai_batch
from chatgpt_source.providers.openai_batch import MOST_LINES, MOST_LOT, Line, OpenAIBatch
from tests.fakes.batches import DAY, FakeBatches
from tests.fakes.openai import answer_to, api_error
from tests.fakes.responses import Outcome
from tests.fakes.server import Fault, Received, Reply
from tests.providers.common import MARKS
from tests.providers.openai_types import check_batch_request

KEY = "sk-TOKENMARK"
NEVER_AGAIN = {"x-should-retry": "false"}


def prompts(count: int) -> list[Prompt]:
    return [Prompt(f"id-{n}", f"PROMPTMARK {n} \u00e9\n", "s", "t", 1.0) for n in range(count)]


async def each(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


class BatchCase(TestCase):
    timeout = 60
    api = "chat"

    def setUp(self) -> None:
        self.fake = FakeBatches(reactor, KEY)
        self.fake.start()
        self.addCleanup(self.fake.stop)
        client, pool = make_client(reactor, 4)
        self.addCleanup(pool.close)
        config = Config(
            target="http://target/",
            token=Secret(KEY),
            base_url=self.fake.base_url,
            api=self.api,
            background=self.api == "responses",
        )
        self.config, self.client = config, client
        self.provider = OpenAIBatch(client, reactor, config)  # type: ignore[arg-type]

    async def upload(self, key: str, asked: Sequence[Prompt]) -> str:
        lines = [self.provider.line(prompt) for prompt in asked]
        return await self.provider.upload(key, sum(map(len, lines)), each(*lines))

    async def submit(self, asked: Sequence[Prompt]) -> str:
        return await self.provider.submit("key", await self.upload("key", asked))

    async def results(self, file: str) -> list[Line]:
        lines: list[Line] = []

        async def take(lot: Sequence[Line]) -> None:
            await deferLater(reactor, 0)
            lines.extend(lot)

        await self.provider.results(file, take)
        return lines

    async def results_of(self, batch: str) -> dict[str, Any]:
        status = await self.provider.look_up(batch)
        self.assertTrue(status.ended)
        lines = [line for file in status.files for line in await self.results(file)]
        self.assertEqual(len({line.prompt for line in lines}), len(lines))
        return {line.prompt: line.result for line in lines}

    async def fails(self, kind: type[CallError], calling: Any) -> CallError:
        error: CallError = await self.assertFailure(_deferred(calling), CallError)
        self.assertIs(type(error), kind)
        for mark in (*MARKS, "127.0.0.1"):
            self.assertNotIn(mark, str(error))
        return error

    def keep(self, *lines: Any) -> str:
        """Let the fake keep a file of results."""
        texts = [
            line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines
        ]
        return self.fake._keep("x.jsonl", "batch_output", b"".join(texts)).id


def _deferred(calling: Any) -> Any:
    return Deferred.fromCoroutine(calling)


def result(prompt: str, text: str = "yes", **others: Any) -> dict[str, Any]:
    """A line of an output file, by the chat API."""
    body = {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}
    response = {"status_code": 200, "request_id": "req_1", "body": body}
    return {"id": "x", "custom_id": prompt, "response": response, "error": None, **others}


class WholeTests(BatchCase):
    async def test_from_lines_to_results(self) -> None:
        self.fake.validating = 3600.0
        asked = prompts(250)
        batch = await self.submit(asked)
        check_batch_request(self.fake.calls("submit")[0].document)
        self.assertEqual((await self.provider.look_up(batch)).status, "validating")
        self.assertFalse((await self.provider.look_up(batch)).ended)
        self.fake.end_batches()
        results = await self.results_of(batch)
        self.assertEqual(
            {prompt.id: results[prompt.id].content for prompt in asked},
            {prompt.id: answer_to(prompt.text) for prompt in asked},
        )
        self.assertEqual({each.request_id for each in results.values()}, {"req_fake"})
        self.assertEqual(self.fake.complaints, [])
        self.assertEqual(self.fake.money, 125.0)

    async def test_failures(self) -> None:
        self.fake.outcomes.extend([Outcome(refusal="MODELMARK")])
        self.fake.line_faults.extend([None, 429, 500, 400, 401])
        batch = await self.submit(prompts(6))
        self.fake.end_batches()
        results = await self.results_of(batch)
        kinds = [type(results[f"id-{n}"]).__name__ for n in range(6)]
        self.assertEqual(
            kinds, ["Permanent", "Transient", "Transient", "Permanent", "PeerFailure", "Answer"]
        )
        self.assertEqual(results["id-1"].status, 429)

    async def test_what_was_not_run(self) -> None:
        self.fake.running = DAY / 2
        batch = await self.submit(prompts(3))
        await deferLater(reactor, self.fake.validating)
        self.fake.expire_batches()
        status = await self.provider.look_up(batch)
        self.assertEqual((status.status, len(status.files)), ("expired", 1))
        results = await self.results_of(batch)
        self.assertEqual({type(each).__name__ for each in results.values()}, {"Lost"})
        self.assertIn("(batch_expired)", str(results["id-0"]))
        self.assertEqual(self.fake.billed, 0)

    async def test_cancelling(self) -> None:
        self.fake.running = self.fake.cancelling = DAY / 2
        batch = await self.submit(prompts(3))
        await self.provider.cancel(batch)
        status = await self.provider.look_up(batch)
        self.assertEqual((status.status, status.ended), ("cancelling", False))
        self.fake.end_batches()
        self.assertEqual((await self.provider.look_up(batch)).status, "cancelled")
        await self.fails(Transient, self.provider.cancel(batch))  # it has ended

    async def test_one_that_fails(self) -> None:
        for code, shown in (("token_limit_exceeded", "token_limit_exceeded"), ("PROMPTMARK", None)):
            self.fake.failures.append(code)
            batch = await self.submit(prompts(1))
            self.fake.end_batches()
            status = await self.provider.look_up(batch)
            self.assertEqual(attrs.astuple(status), ("failed", True, (), shown))

    async def test_deleting(self) -> None:
        file = await self.upload("key", prompts(1))
        await self.provider.delete(file)
        self.assertEqual(self.fake.files, {})
        await self.fails(Gone, self.provider.delete(file))
        await self.fails(Gone, self.results(file))
        await self.fails(Gone, self.provider.look_up("batch_7"))
        await self.fails(Gone, self.provider.cancel("batch_7"))


class ResponsesTests(WholeTests):
    """The same by the Responses API; a batch has no calls in the background."""

    api = "responses"


class LineTests(BatchCase):
    def test_one_line_in_the_schema_of_the_api(self) -> None:
        line = self.provider.line(prompts(1)[0])
        self.assertEqual(line.count(b"\n"), 1)
        self.assertTrue(line.endswith(b"}\n"))
        document = json.loads(line)
        body = document.pop("body")
        self.assertEqual(
            document, {"custom_id": "id-0", "method": "POST", "url": "/v1/chat/completions"}
        )
        self.assertEqual(body["messages"][0]["content"], "PROMPTMARK 0 \u00e9\n")


class FindingTests(BatchCase):
    async def test_a_file_among_many(self) -> None:
        self.assertIsNone(await self.provider.find_file("key"))
        file = await self.upload("key", prompts(1))
        for n in range(120):
            self.fake._keep(f"{n}.jsonl", "batch", b"")
        self.assertEqual(await self.provider.find_file("key"), file)
        self.assertIsNone(await self.provider.find_file("other"))

    async def test_a_batch_among_many(self) -> None:
        file = await self.upload("key", prompts(1))
        now = self.fake.now()
        self.assertIsNone(await self.provider.find("key-0", now))
        ids = [await self.provider.submit(f"key-{n}", file) for n in range(130)]
        self.assertEqual(await self.provider.find("key-0", now), ids[0])
        self.assertEqual(await self.provider.find("key-129", now), ids[129])
        self.assertIsNone(await self.provider.find("key", now))

    async def test_only_as_far_back_as_needed(self) -> None:
        file = await self.upload("key", prompts(1))
        for n in range(130):
            await self.provider.submit(f"key-{n}", file)
        self.fake.requests.clear()
        await self.provider.find("key", self.fake.now() + 2 * DAY)
        self.assertEqual(len(self.fake.calls("list batches")), 1)

    async def test_lists_that_are_none(self) -> None:
        for document in ([], {}, {"data": 7}, {"data": ["x"]}, {"data": [{}], "has_more": True}):
            self.fake.queue(Reply.of_json(document))
            await self.fails(Transient, self.provider.find("key", 0.0))

    async def test_a_list_without_end(self) -> None:
        page = Reply.of_json({"data": [{"id": "batch_1"}], "has_more": True})
        self.fake.queue(page, page)
        error = await self.fails(Transient, self.provider.find("key", 0.0))
        self.assertIn("does not end", str(error))


class LostCallTests(BatchCase):
    async def test_an_upload(self) -> None:
        self.fake.troubles["upload"].append(Fault.RESET)
        await self.fails(Transient, self.upload("key", prompts(1)))
        self.assertIsNotNone(await self.provider.find_file("key"))

    async def test_a_submission_may_have_begun(self) -> None:
        file = await self.upload("key", prompts(1))
        never = Reply(500, headers=NEVER_AGAIN)
        for trouble in (Fault.RESET, Fault.CUT, Reply(502), never, Reply.of_json({"id": "a b"})):
            self.fake.troubles["submit"].append(trouble)
            await self.fails(PossiblyBilled, self.provider.submit("key", file))
        self.assertEqual(
            await self.provider.find("key", self.fake.now()), list(self.fake.batches)[-1]
        )

    async def test_a_submission_that_is_refused(self) -> None:
        file = await self.upload("key", prompts(1))
        for status, kind in ((429, Transient), (401, PeerFailure), (400, Permanent)):
            self.fake.troubles["submit"].append(api_error(status))
            await self.fails(kind, self.provider.submit("key", file))
        self.assertEqual(self.fake.batches, {})

    async def test_a_server_without_these_apis(self) -> None:
        missing = api_error(404)
        for calling in (
            self.provider.find("key", 0.0),
            self.provider.find_file("key"),
            self.upload("key", prompts(1)),
            self.provider.submit("key", "file-1"),
        ):
            self.fake.queue(missing)
            await self.fails(PeerFailure, calling)

    async def test_one_that_can_not_be_reached(self) -> None:
        await self.fake.stop()
        for calling in (
            self.upload("key", prompts(1)),
            self.provider.submit("key", "file-1"),
            self.provider.look_up("batch_1"),
            self.results("file-1"),
        ):
            await self.fails(Transient, calling)

    async def test_what_can_not_be_read_costs_nothing(self) -> None:
        for document in ({}, {"status": "new"}, {"status": "completed", "output_file_id": "a/b"}):
            self.fake.queue(Reply.of_json(document))
            await self.fails(Transient, self.provider.look_up("batch_1"))
        self.fake.queue(Reply(200, b"<html>"))
        await self.fails(Transient, self.provider.look_up("batch_1"))
        self.fake.queue(Reply.of_json({"id": 7}))
        await self.fails(Transient, self.upload("key", prompts(1)))

    async def test_that_a_look_is_refused_says_nothing_about_the_batch(self) -> None:
        for refused in (api_error(400), api_error(422), Reply(500, headers=NEVER_AGAIN)):
            for looking in (
                lambda: self.provider.look_up("batch_1"),
                lambda: self.provider.find("key", 0.0),
                lambda: self.provider.find_file("key"),
                lambda: self.results("file-1"),
            ):
                self.fake.queue(refused)
                error = await self.fails(Transient, looking())
                self.assertEqual(error.status, refused.status)

    async def test_results_that_are_cut(self) -> None:
        file = self.keep(*(result(f"id-{n}") for n in range(50)))
        for fault in (Fault.CUT, Fault.RESET):
            self.fake.troubles["read"].append(fault)
            await self.fails(Transient, self.results(file))
        self.assertEqual(len(await self.results(file)), 50)


class UploadTests(BatchCase):
    async def test_what_the_lines_raise(self) -> None:
        async def broken() -> AsyncIterator[bytes]:
            yield b"x" * 10
            raise ZeroDivisionError

        uploading = _deferred(self.provider.upload("key", 20, broken()))
        await self.assertFailure(uploading, ZeroDivisionError)

    async def test_another_size_than_was_said(self) -> None:
        for size in (9, 11):
            uploading = _deferred(self.provider.upload("key", size, each(b"x" * 10)))
            await self.assertFailure(uploading, ValueError)
        self.assertEqual(self.fake.files, {})


class ResultsTests(BatchCase):
    async def ids(self, *lines: Any) -> list[str]:
        return [line.prompt for line in await self.results(self.keep(*lines))]

    async def test_lines_that_can_not_be_read(self) -> None:
        odd = (
            b"\n",
            b"\xff\n",
            b"{\n",
            b"[" * 100_000 + b"\n",
            7,
            [],
            {},
            result("x", custom_id=7),
            *(result("x", custom_id=each) for each in ("a\0", "a\ud800", "", "a" * 201)),
            result("x", response=None),
            result("x", response=7),
            result("x", response={"status_code": "200", "body": {}}),
            result("x", response={"status_code": True, "body": {}}),
            result("x", response={"status_code": 200}),
            {"custom_id": "x", "response": None, "error": "MODELMARK"},
        )
        self.assertEqual(await self.ids(*odd, result("id-1")), ["id-1"])

    async def test_errors_show_nothing_of_the_providers(self) -> None:
        for code in ("MODELMARK", None, [], "x" * 100):
            error = {"code": code, "message": "MODELMARK"}
            file = self.keep({"custom_id": "x", "response": None, "error": error})
            (line,) = await self.results(file)
            self.assertIn("(no code)", str(line.result))
            self.assertNotIn("MODELMARK", repr(line))

    async def test_an_answer_that_can_not_be_read(self) -> None:
        odd = result(
            "x", response={"status_code": 200, "request_id": "\u00e9", "body": "MODELMARK"}
        )
        (line,) = await self.results(self.keep(odd))
        self.assertIs(type(line.result), PossiblyBilled)

    async def test_a_last_line_without_end(self) -> None:
        self.assertEqual(await self.ids(result("a"), json.dumps(result("b")).encode()), ["a", "b"])

    async def test_a_line_that_is_too_long(self) -> None:
        long = "x" * (2 * 2**20)
        self.assertEqual(await self.ids(result("a"), result("b", long), result("c")), ["a", "c"])
        self.assertEqual(await self.ids(result("b", long)), [])

    async def test_lots(self) -> None:
        lots: list[Sequence[Line]] = []
        under_way = 0

        async def take(lot: Sequence[Line]) -> None:
            nonlocal under_way
            under_way += 1
            await deferLater(reactor, 0.001)
            self.assertEqual(under_way, 1)
            under_way -= 1
            lots.append(lot)

        some = [result(f"a{n}") for n in range(250)]
        long = [result(f"b{n}", "x" * 600_000) for n in range(3)]
        await self.provider.results(self.keep(*some, *long), take)
        self.assertEqual([len(lot) for lot in lots], [MOST_LINES, MOST_LINES, 51, 1, 1])
        self.assertGreater(2 * 600_000, MOST_LOT)

    async def test_what_the_taker_raises(self) -> None:
        async def take(_: Sequence[Line]) -> None:
            await deferLater(reactor, 0)
            raise ZeroDivisionError

        for count in (1, 150, 20_000):
            file = self.keep(*(result(f"id-{n}") for n in range(count)))
            await self.assertFailure(
                _deferred(self.provider.results(file, take)), ZeroDivisionError
            )

    async def test_others_run_meanwhile(self) -> None:
        self.patch(openai_batch, "BUSY", 0.0)
        turns = 0

        def turn() -> None:
            nonlocal turns
            turns += 1

        call = LoopingCall(turn)
        call.start(0.0)
        lines = await self.results(self.keep(*(result(f"id-{n}") for n in range(500))))
        call.stop()
        self.assertEqual(len(lines), 500)
        self.assertTrue(all(isinstance(line.result, Answer) for line in lines))
        self.assertGreaterEqual(turns, 500)


class RequestTests(BatchCase):
    async def test_headers(self) -> None:
        config = attrs.evolve(self.config, headers={"X-Title": Secret("t")})
        self.provider = OpenAIBatch(self.client, reactor, config)  # type: ignore[arg-type]
        batch = await self.submit(prompts(1))
        self.fake.end_batches()
        await self.results_of(batch)
        requests: list[Received] = self.fake.requests
        self.assertEqual({each.header("x-title") for each in requests}, {"t"})
        self.assertEqual({each.header("authorization") for each in requests}, {f"Bearer {KEY}"})
        self.assertIn("multipart/form-data", str(requests[0].header("content-type")))
        self.assertIsNotNone(requests[0].header("content-length"))
