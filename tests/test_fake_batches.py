"""The fake of OpenAI's Files and Batch APIs and of the flex tier does as it says."""

import json
from collections import Counter

from openai import ConflictError, DefaultHttpxClient, NotFoundError, OpenAI
from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.fakes.batches import ENDED, FakeBatches
from tests.fakes.openai import answer_to, api_error
from tests.fakes.responses import Outcome
from tests.fakes.server import Fault
from tests.providers.openai_types import (
    check_batch,
    check_completion,
    check_file,
    check_list,
    check_response,
)
from tests.test_fakes import CHAT, HEADERS, NO_END, call

CHATS = "/v1/chat/completions"
RESPONSES = "/v1/responses"


def line(number, url=CHATS, **others):
    asked = {"messages": [{"role": "user", "content": f"prompt {number}"}]}
    if url == RESPONSES:
        asked = {"input": f"prompt {number}"}
    body = {"model": "gpt-6-luna", **asked, **others.pop("body", {})}
    return {"custom_id": f"id-{number}", "method": "POST", "url": url, "body": body, **others}


def jsonl(lines):
    return b"".join(json.dumps(each).encode() + b"\n" for each in lines)


class FakeBatchesTests(TestCase):
    timeout = 60

    def setUp(self):
        self.fake = FakeBatches(reactor)
        self.fake.start()
        self.addCleanup(self.fake.stop)
        self.now = 1790000000.0
        self.fake.time = lambda: self.now
        self.fake.validating, self.fake.running, self.fake.finalizing = 10.0, 100.0, 10.0

    async def api(self, method, path, body=b"", headers=HEADERS):
        status, got = await call(method, f"{self.fake.base_url}{path}", body, headers)
        return status, json.loads(got)

    async def upload(self, lines, name="key.jsonl", purpose="batch", more=""):
        content = lines if isinstance(lines, bytes) else jsonl(lines)
        form = (
            f'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\n{purpose}\r\n{more}'
            f'--x\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
        )
        body = form.encode() + content + b"\r\n--x--\r\n"
        headers = {**HEADERS, "Content-Type": "multipart/form-data; boundary=x"}
        return await self.api("POST", "/files", body, headers)

    async def submit(self, lines, endpoint=CHATS, **members):
        _, file = await self.upload(lines)
        asked = {"input_file_id": file["id"], "endpoint": endpoint, "completion_window": "24h"}
        status, batch = await self.api("POST", "/batches", {**asked, **members})
        self.assertEqual(status, 200)
        return batch

    async def look_up(self, batch):
        status, batch = await self.api("GET", f"/batches/{batch['id']}")
        self.assertEqual(status, 200)
        check_batch(batch)
        return batch

    async def results(self, batch):
        """The lines of its output file and of its error file."""
        lines = []
        for name in ("output_file_id", "error_file_id"):
            content = b""
            if batch[name]:
                url = f"{self.fake.base_url}/files/{batch[name]}/content"
                _, content = await call("GET", url, headers=HEADERS)
            lines.append([json.loads(each) for each in content.splitlines()])
        return lines

    async def test_openais_own_client(self):
        """What OpenAI's client sends is what the fake understands, and the other way about."""
        self.fake.time = reactor.seconds
        self.fake.validating = self.fake.running = self.fake.finalizing = 0.0

        def use():
            with OpenAI(
                api_key="sk-test",
                base_url=self.fake.base_url,
                max_retries=0,
                http_client=DefaultHttpxClient(trust_env=False),
            ) as client:
                file = client.files.create(
                    file=("key.jsonl", jsonl(line(n) for n in range(3))), purpose="batch"
                )
                submitted = [
                    client.batches.create(
                        input_file_id=file.id,
                        endpoint=CHATS,
                        completion_window="24h",
                        metadata={"batch": f"key {number}"},
                    )
                    for number in range(5)
                ]
                found = client.files.list(purpose="batch", limit=1)
                self.assertEqual([each.filename for each in found], ["key.jsonl"])
                ids = [each.id for each in client.batches.list(limit=2)]
                self.assertEqual(ids, [each.id for each in submitted][::-1])
                batch = client.batches.retrieve(submitted[0].id)
                self.assertEqual((batch.status, batch.metadata), ("completed", {"batch": "key 0"}))
                results = client.files.content(batch.output_file_id).text.splitlines()
                self.assertEqual(len(results), 3)
                with self.assertRaises(ConflictError):
                    client.batches.cancel(batch.id)
                self.assertEqual(client.files.retrieve(file.id).bytes, file.bytes)
                self.assertTrue(client.files.delete(file.id).deleted)
                with self.assertRaises(NotFoundError):
                    client.files.retrieve(file.id)

        await deferToThread(use)
        self.assertEqual(self.fake.complaints, [])
        self.assertEqual((self.fake.billed, self.fake.money), (15, 7.5))

    async def test_the_life_of_a_batch(self):
        batch = await self.submit([line(n) for n in range(10)], metadata={"batch": "key"})
        seen = []
        for at in (0, 9, 60, 109, 115, 120, 9999):
            self.now = 1790000000.0 + at
            batch = await self.look_up(batch)
            seen.append((batch["status"], batch["request_counts"]["completed"], self.fake.money))
            self.assertEqual(batch["output_file_id"] is not None, batch["status"] in ENDED)
        self.assertEqual(
            seen,
            [
                ("validating", 0, 0.0),
                ("validating", 0, 0.0),
                ("in_progress", 5, 2.5),
                ("in_progress", 9, 4.5),
                ("finalizing", 10, 5.0),
                ("completed", 10, 5.0),
                ("completed", 10, 5.0),
            ],
        )
        good, bad = await self.results(batch)
        self.assertEqual((len(good), bad, batch["error_file_id"]), (10, [], None))
        self.assertNotEqual([each["custom_id"] for each in good], [f"id-{n}" for n in range(10)])
        for each in good:
            self.assertEqual((each["error"], each["response"]["status_code"]), (None, 200))
            body = each["response"]["body"]
            check_completion(body)
            asked = each["custom_id"].replace("id-", "prompt ")
            self.assertEqual(body["choices"][0]["message"]["content"], answer_to(asked))
        self.assertEqual(self.fake.paid, Counter(each["custom_id"] for each in good))
        self.assertEqual(self.fake.complaints, [])

    async def test_responses(self):
        batch = await self.submit([line(n, RESPONSES) for n in range(3)], RESPONSES)
        self.fake.end_batches()
        good, _ = await self.results(await self.look_up(batch))
        self.assertEqual(len(good), 3)
        for each in good:
            check_response(each["response"]["body"])
        self.assertEqual(self.fake.complaints, [])

    async def test_what_an_expired_or_cancelled_batch_finished_is_billed(self):
        for how in ("expired", "cancelled"):
            before = self.fake.money
            batch = await self.submit([line(n) for n in range(10)])
            self.now += 60
            if how == "expired":
                self.fake.expire_batches()
                more = 0
            else:
                path = f"/batches/{batch['id']}/cancel"
                self.fake.cancelling = 20.0
                for _ in range(2):
                    _, batch = await self.api("POST", path)
                    check_batch(batch)
                    self.assertEqual(batch["status"], "cancelling")
                more = 2  # they run until it has ended
            self.now += 1000
            self.fake.end_batches()  # changes nothing that has ended
            batch = await self.look_up(batch)
            self.assertEqual(batch["status"], how)
            good, bad = await self.results(batch)
            self.assertEqual((len(good), len(bad)), (5 + more, 5 - more))
            self.assertEqual(self.fake.money - before, len(good) / 2)
            self.assertEqual({each["error"]["code"] for each in bad}, {f"batch_{how}"})
            ids = {each["custom_id"] for each in good + bad}
            self.assertEqual(ids, {f"id-{n}" for n in range(10)})
            counts = {"total": 10, "completed": len(good), "failed": len(bad)}
            self.assertEqual(batch["request_counts"], counts)
            status, _ = await self.api("POST", f"/batches/{batch['id']}/cancel")
            self.assertEqual(status, 409)

    async def test_its_window_ends(self):
        self.fake.window = 60.0
        batch = await self.submit([line(n) for n in range(10)])
        self.now += 60
        batch = await self.look_up(batch)
        self.assertEqual((batch["status"], self.fake.billed), ("expired", 5))

    async def test_lines_that_fail_and_lines_without_a_result(self):
        self.fake.line_faults.extend([400, 429, 500, 0, None])
        self.fake.outcomes.extend([*[Outcome()] * 4, Outcome(refusal="I can't.")])
        batch = await self.submit([line(n) for n in range(6)])
        self.fake.end_batches()
        batch = await self.look_up(batch)
        good, bad = await self.results(batch)
        statuses = {each["custom_id"]: each["response"]["status_code"] for each in bad}
        self.assertEqual(statuses, {"id-0": 400, "id-1": 429, "id-2": 500})
        for each in bad:
            self.assertEqual(set(each["response"]["body"]), {"error"})
        refusals = {
            each["custom_id"]: each["response"]["body"]["choices"][0]["message"]["refusal"]
            for each in good
        }
        self.assertEqual(refusals, {"id-4": "I can't.", "id-5": None})
        self.assertEqual((self.fake.billed, self.fake.money), (2, 1.0))
        await self.submit([line(0)])  # nothing befalls it again
        self.fake.end_batches()
        self.assertEqual(self.fake.billed, 3)

    async def test_failed(self):
        self.fake.failures.append("token_limit_exceeded")
        batch = await self.submit([line(0)])
        self.assertEqual(batch["status"], "validating")
        self.now += 10
        batch = await self.look_up(batch)
        self.assertEqual((batch["status"], batch["output_file_id"]), ("failed", None))
        self.assertEqual(batch["errors"]["data"][0]["code"], "token_limit_exceeded")
        self.now += 1000
        self.assertEqual((self.fake.billed, self.fake.complaints), (0, []))

    async def test_wrong_files_fail_once_they_are_validated(self):
        for lines, code, number in (
            (b"", "empty_file", None),
            (b"{\n", "invalid_json_line", 1),
            ([line(0), {"custom_id": "1"}], "invalid_json_line", 2),
            ([line(0), line(1, method="GET")], "invalid_json_line", 2),
            ([line(0), line(0)], "duplicate_custom_id", 2),
            ([line(0, RESPONSES)], "url_mismatch", 1),
            ([line(0), line(1, body={"model": "other"})], "model_mismatch", None),
        ):
            complaints = len(self.fake.complaints)
            batch = await self.submit(lines)
            self.now += 10
            (error,) = (await self.look_up(batch))["errors"]["data"]
            self.assertEqual((error["code"], error["line"]), (code, number))
            self.assertEqual(len(self.fake.complaints), complaints + 1)

    async def test_a_line_with_a_wrong_body_fails_alone(self):
        for url, body in (
            (CHATS, {"messages": []}),
            (CHATS, {"stream": True}),
            (RESPONSES, {"background": True}),
            (RESPONSES, {"max_output_tokens": 1}),
        ):
            self.fake.complaints.clear()
            batch = await self.submit([line(0, url), line(1, url, body=body)], url)
            self.fake.end_batches()
            good, bad = await self.results(await self.look_up(batch))
            self.assertEqual([each["custom_id"] for each in good], ["id-0"])
            self.assertEqual([each["response"]["status_code"] for each in bad], [400])
            self.assertEqual(len(self.fake.complaints), 1)

    async def test_wrong_uploads(self):
        more = '--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n'
        for wrong in (
            {"name": "key.txt"},
            {"name": ""},
            {"purpose": "assistants"},
            {"more": more},
            {"more": more.replace("model", "purpose")},
        ):
            status, _ = await self.upload([line(0)], **wrong)
            self.assertEqual(status, 400, wrong)
        self.assertEqual((await self.api("POST", "/files", b"{}"))[0], 400)
        self.assertEqual((self.fake.files, len(self.fake.complaints)), ({}, 6))

    async def test_wrong_submits(self):
        _, file = await self.upload([line(0)])
        check_file(file)
        right = {"input_file_id": file["id"], "endpoint": CHATS, "completion_window": "24h"}
        for wrong in (
            {"input_file_id": "file-none"},
            {"endpoint": "/chat/completions"},
            {"completion_window": "1h"},
            {"metadata": {"batch": 1}},
            {"model": "gpt-6-luna"},
        ):
            status, _ = await self.api("POST", "/batches", {**right, **wrong})
            self.assertEqual(status, 400, wrong)
        self.assertEqual((self.fake.batches, len(self.fake.complaints)), ({}, 5))

    async def test_lists(self):
        batches = [await self.submit([line(0)], metadata={"batch": str(n)}) for n in range(5)]
        self.fake.end_batches()
        self.fake.listed_after = 5.0
        _, page = await self.api("GET", "/batches")
        self.assertEqual((page["data"], page["has_more"]), ([], False))
        self.now += 5
        status, page = await self.api("GET", "/batches?limit=2")
        check_list(page)
        names = [each["metadata"]["batch"] for each in page["data"]]
        self.assertEqual((status, names, page["has_more"]), (200, ["4", "3"], True))
        _, page = await self.api("GET", f"/batches?limit=100&after={page['last_id']}")
        names = [each["metadata"]["batch"] for each in page["data"]]
        self.assertEqual((names, page["has_more"]), (["2", "1", "0"], False))
        for purpose, number in (("batch", 5), ("batch_output", 5), ("fine-tune", 0)):
            _, page = await self.api("GET", f"/files?purpose={purpose}")
            check_list(page)
            self.assertEqual(len(page["data"]), number)
        self.assertEqual(self.fake.complaints, [])
        for wrong in ("limit=101", "limit=0", "after=batch_none"):
            self.assertEqual((await self.api("GET", f"/batches?{wrong}"))[0], 400)
        status, gone = await self.api("DELETE", f"/files/{batches[0]['input_file_id']}")
        check_file(gone)
        for method, path in (
            ("GET", f"/files/{gone['id']}"),
            ("GET", f"/files/{gone['id']}/content"),
            ("DELETE", f"/files/{gone['id']}"),
            ("GET", "/batches/none"),
            ("POST", "/batches/none/cancel"),
            ("PUT", "/files"),
            ("GET", f"/files/{gone['id']}/cancel"),
        ):
            self.assertEqual((await self.api(method, path))[0], 404)
        self.assertEqual((await call("GET", f"{self.fake.base_url}/files"))[0], 401)

    async def test_troubles_at_each_call(self):
        batch = await self.submit([line(n) for n in range(10)])
        self.fake.end_batches()
        batch = await self.look_up(batch)
        submit = {name: batch[name] for name in ("input_file_id", "endpoint", "completion_window")}
        calls = {
            "list files": ("GET", "/files"),
            "file": ("GET", f"/files/{batch['input_file_id']}"),
            "submit": ("POST", "/batches", submit),
            "list batches": ("GET", "/batches"),
            "look up": ("GET", f"/batches/{batch['id']}"),
            "cancel": ("POST", "/batches/batch_4/cancel"),
            "delete": ("DELETE", f"/files/{batch['output_file_id']}"),
        }
        self.assertEqual({*calls, "upload", "read"}, set(self.fake.troubles))
        for name, arguments in calls.items():
            self.fake.troubles[name].extend([api_error(429), Fault.RESET])
            self.assertEqual((await self.api(*arguments))[0], 429)
            with self.assertRaises(NO_END):
                await self.api(*arguments)
            self.assertEqual(len(self.fake.calls(name)) >= 2, True, name)
        self.assertEqual(len(self.fake.batches), 2)
        self.assertEqual((await self.look_up({"id": "batch_4"}))["status"], "cancelling")
        self.assertNotIn(batch["output_file_id"], self.fake.files)
        self.fake.troubles["upload"].extend([api_error(500), Fault.RESET])
        uploads = len(self.fake.files)
        self.assertEqual((await self.upload([line(0)]))[0], 500)
        with self.assertRaises(NO_END):
            await self.upload([line(0)])
        self.assertEqual(len(self.fake.files), uploads + 1)

    async def test_half_a_file(self):
        batch = await self.submit([line(n) for n in range(10)])
        self.fake.end_batches()
        batch = await self.look_up(batch)
        url = f"{self.fake.base_url}/files/{batch['output_file_id']}/content"
        for fault in (Fault.CUT, Fault.STALL):
            self.fake.troubles["read"].append(fault)
            with self.assertRaises(NO_END):
                await call("GET", url, headers=HEADERS, timeout=1.0)
            sent = self.fake.requests[-1].reply.body
            self.assertTrue(self.fake.files[batch["output_file_id"]].content.startswith(sent))
            self.assertGreater(len(sent), 0)
        self.assertEqual(len((await self.results(batch))[0]), 10)

    async def test_flex(self):
        asks = (("/chat/completions", CHAT), ("/responses", {"model": "m", "input": "x"}))
        for path, asked in asks:
            _, answer = await self.api("POST", path, asked)
            self.assertEqual(answer["service_tier"], "default")
            _, answer = await self.api("POST", path, {**asked, "service_tier": "flex"})
            {"/responses": check_response}.get(path, check_completion)(answer)
            self.assertEqual(answer["service_tier"], "flex")
        self.assertEqual((self.fake.billed, self.fake.money), (4, 3.0))
        self.fake.flex_full = True
        for path, asked in asks:
            status, answer = await self.api("POST", path, {**asked, "service_tier": "flex"})
            self.assertEqual((status, answer["error"]["code"]), (429, "resource_unavailable"))
            self.assertEqual((await self.api("POST", path, asked))[0], 200)
        self.assertEqual((self.fake.billed, self.fake.money), (6, 5.0))
        self.fake.flex_full, self.fake.flex_tier = False, "default"
        for path, asked in asks:
            _, answer = await self.api("POST", path, {**asked, "service_tier": "flex"})
            self.assertEqual(answer["service_tier"], "default")
        self.assertEqual((self.fake.billed, self.fake.money), (8, 7.0))
        self.assertEqual(self.fake.complaints, [])
