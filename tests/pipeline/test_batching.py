"""Batches with a provider that the test scripts, on a journal in a file."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred

from chatgpt_source.errors import Gone, Lost, PeerFailure, Permanent, PossiblyBilled, Transient
from chatgpt_source.journal import Batched
from chatgpt_source.pipeline import NOTHING_RECOVERED, Pipeline
from chatgpt_source.prompt import Answer, Prompt, Tier
from chatgpt_source.providers.batch_lines import Line
from chatgpt_source.providers.openai_batch import BatchStatus
from tests.contracts.driver import ANSWER, PEERS
from tests.pipeline.test_pipeline import CONFIG, PipelineTestCase

DAY, HOUR, MINUTE = 86400.0, 3600.0, 60.0
RUNNING = BatchStatus("in_progress", ended=False)
COMPLETED = BatchStatus("completed", ended=True, files=("out",))
DOWN = Transient("down", status=503)


class FakeBatches:
    """Answers each call by the next of its scripted replies, else as a provider that is well.

    Attributes:
        scripts: The replies of each kind of call: exceptions, or what it returns.
        calls: The calls, by their kinds.
        sent: The lines of each upload.
        lines: What the files with results say.
    """

    def __init__(self) -> None:
        self.scripts: dict[str, list[Any]] = {}
        self.calls: list[str] = []
        self.sent: list[list[str]] = []
        self.lines: list[Line] = []

    def line(self, prompt: Prompt) -> bytes:
        return prompt.id.encode() + b"\n"

    def reply(self, kind: str, usual: Any) -> Any:
        self.calls.append(kind)
        script = self.scripts.get(kind)
        result = script.pop(0) if script else usual
        if isinstance(result, Exception):
            raise result
        return result

    async def find_file(self, _: str) -> Any:
        return self.reply("find file", None)

    async def upload(self, _: str, size: int, lines: AsyncIterator[bytes]) -> Any:
        sent = [line.decode().strip() async for line in lines]
        assert size == sum(len(line) + 1 for line in sent)
        self.sent.append(sent)
        return self.reply("upload", "file")

    async def find(self, _: str, __: float) -> Any:
        return self.reply("find", None)

    async def submit(self, _: str, __: str) -> Any:
        return self.reply("submit", "batch")

    async def look_up(self, _: str) -> Any:
        return self.reply("look up", RUNNING)

    async def cancel(self, _: str) -> Any:
        return self.reply("cancel", None)

    async def results(self, _: str, take: Callable[[Sequence[Line]], Awaitable[None]]) -> Any:
        await take(self.lines)
        return self.reply("read", None)

    async def structured(self, answer: Answer, _: Prompt) -> Answer:
        return answer

    async def delete(self, file: str) -> Any:
        return self.reply(f"delete {file}", None)


class BatchingTestCase(PipelineTestCase):
    config = attrs.evolve(
        CONFIG, batch_over=HOUR, batch_window=10 * MINUTE, batch_margin=30 * MINUTE
    )

    def setUp(self) -> None:
        self.batches = FakeBatches()
        super().setUp()

    def recover(self, journal: Any, peers: Any = None) -> Any:
        return super().recover(journal, peers or {**PEERS, "model.batch": "as before"})

    def begin(self, recovered: Any = NOTHING_RECOVERED, **changes: Any) -> None:
        self.pipeline = Pipeline(
            self.clock,
            self.journal,
            attrs.evolve(self.config, **changes),
            self.model,
            {"target": lambda delivery: self.deliver(self.target, delivery)},
            lambda: 1.0,
            batches=self.batches,  # type: ignore[arg-type] # has all that is called
        )
        self.pipeline.start(recovered)
        self.addCleanup(self.pipeline.end)

    def crash_and_start(self, **changes: Any) -> None:
        self.pipeline.end()
        self.crash()
        self.begin(**changes)

    def send(self, *names: str, seconds: float = DAY) -> None:
        """Accept prompts, and let the window pass."""
        deadline = self.clock.seconds() + seconds
        self.post(*names, deadline=deadline, tier=Tier.BATCH)
        self.live(10 * MINUTE + 3)

    def live(self, seconds: float) -> None:
        self.clock.pump([1.0] * round(seconds))

    def end_with(self, *lines: tuple[str, Any]) -> None:
        self.batches.lines = [Line(name, result) for name, result in lines]
        self.batches.scripts["look up"] = [COMPLETED]
        self.live(2 * MINUTE)

    def is_done(self) -> bool:
        return not self.successResultOf(self.journal.batches())


class BatchTests(BatchingTestCase):
    def test_is_sent_once_its_window_is_over(self) -> None:
        deadline = self.clock.seconds() + DAY
        self.post("p1", "p2", deadline=deadline, tier=Tier.BATCH)
        self.live(9 * MINUTE)
        self.assertEqual((self.batches.calls, self.states("p1")), ([], ["accepted"]))
        self.live(2 * MINUTE)
        self.assertEqual(self.batches.calls[:2], ["upload", "submit"])
        self.assertEqual(self.batches.sent, [["p1", "p2"]])
        self.assertEqual(self.states("p1", "p2"), ["submitted"] * 2)

    def test_each_line_ends_its_prompt(self) -> None:
        self.send("good", "bad", "lost", "left")
        self.end_with(("good", ANSWER), ("bad", Permanent("refused")), ("lost", Lost("expired")))
        self.assertEqual(self.states("good", "bad"), ["answered", "failed"])
        self.live(5)
        self.assertEqual({each.id for each in self.model.under_way}, {"lost", "left"})
        self.assertEqual(self.batches.calls[-2:], ["delete file", "delete out"])
        self.assertTrue(self.is_done())

    def test_a_submission_without_a_reply_is_looked_for(self) -> None:
        self.batches.scripts = {"submit": [PossiblyBilled("lost")], "find": [DOWN, "batch"]}
        self.send("p1")
        self.live(MINUTE)
        self.assertEqual(self.batches.calls[:4], ["upload", "submit", "find", "find"])
        self.assertEqual(self.batches.calls.count("submit"), 1)

    def test_after_a_crash_all_is_looked_for(self) -> None:
        self.batches.scripts = {"upload": [DOWN] * 1000}
        self.send("p1")
        self.batches.scripts.clear()
        self.batches.calls.clear()
        self.crash_and_start()
        self.live(MINUTE)
        self.assertEqual(self.batches.calls[:4], ["find file", "upload", "find", "submit"])

    def test_one_whose_prompts_are_all_cancelled_is_not_sent(self) -> None:
        self.batches.scripts = {"upload": [DOWN] * 1000}
        self.send("p1")
        self.successResultOf(self.journal.cancel("p1"))
        self.batches.scripts.clear()
        self.live(5 * MINUTE)
        self.assertNotIn("submit", self.batches.calls)
        self.assertTrue(self.is_done())

    def test_one_that_is_half_gathered_at_a_crash_is_filled_up(self) -> None:
        self.post("p1", deadline=self.clock.seconds() + DAY, tier=Tier.BATCH)
        claims = self.successResultOf(
            self.journal.claim_asks(self.clock.seconds(), 1, Tier.BATCH)
        ).claimed
        batch = self.successResultOf(self.journal.open_batch("a-key"))
        self.end(claims[0], Batched(batch.id))
        self.post("p2", deadline=self.clock.seconds() + DAY, tier=Tier.BATCH)
        self.crash_and_start()
        self.live(MINUTE)
        self.assertEqual(self.batches.sent, [["p1", "p2"]])

    def test_too_slow(self) -> None:
        """It is cancelled before the first deadline, and asked elsewhere once it has ended."""
        self.send("p1", seconds=3 * HOUR)
        self.live(2.2 * HOUR)
        self.assertNotIn("cancel", self.batches.calls)
        self.live(HOUR / 4)
        self.assertEqual(self.batches.calls.count("cancel"), 1)
        self.assertEqual((self.states("p1"), self.model.calls), (["submitted"], []))
        self.batches.scripts["look up"] = [BatchStatus("cancelled", ended=True)]
        self.live(2 * MINUTE)
        self.assertEqual([each.id for each in self.model.under_way], ["p1"])

    def test_a_cancel_that_is_refused_is_tried_after_the_next_poll(self) -> None:
        """A batch that has ended can't be cancelled any more: it answers 409."""
        self.send("p1", seconds=3 * HOUR)
        self.batches.scripts["cancel"] = [Transient("conflict", status=409)]
        self.live(2.4 * HOUR)
        calls = [call for call in self.batches.calls if call in {"cancel", "look up"}]
        where = calls.index("cancel")
        self.assertEqual(calls[where : where + 3], ["cancel", "look up", "cancel"])

    def test_one_that_can_not_be_sent_moves_up_in_time(self) -> None:
        self.batches.scripts = {"upload": [PeerFailure("no such call", status=404)] * 1000}
        self.send("p1", seconds=3 * HOUR)
        self.live(2.6 * HOUR)
        self.assertEqual([each.id for each in self.model.under_way], ["p1"])
        self.assertTrue(self.pipeline.breakers["model.batch"].held)
        self.assertTrue(self.is_done())

    def test_one_that_is_refused_is_asked_otherwise(self) -> None:
        self.batches.scripts = {"submit": [Permanent("refused", status=400)]}
        self.send("p1")
        self.live(5)
        self.assertEqual([each.id for each in self.model.under_way], ["p1"])

    def test_one_that_is_gone_is_given_up_after_a_while(self) -> None:
        self.send("p1")
        self.batches.scripts["look up"] = [Gone("gone")] * 100
        self.live(1)
        self.assertEqual(self.model.calls, [])
        self.live(5 * MINUTE)
        self.assertEqual([each.id for each in self.model.under_way], ["p1"])

    def test_no_room_for_tokens_holds_batches_alone(self) -> None:
        self.send("p1")
        full = BatchStatus("failed", ended=True, code="token_limit_exceeded")
        self.batches.scripts["look up"] = [full]
        self.live(MINUTE + 5)
        self.assertEqual((self.states("p1"), self.model.calls), (["accepted"], []))
        self.live(8 * MINUTE)
        self.assertEqual(len(self.batches.sent), 1)
        self.live(3 * MINUTE)
        self.assertEqual(self.batches.sent, [["p1"], ["p1"]])

    def test_goes_on_after_a_bug(self) -> None:
        self.batches.scripts["look up"] = [object(), COMPLETED]
        self.batches.lines = [Line("p1", ANSWER)]
        self.send("p1")
        self.live(5 * MINUTE)
        self.assertEqual(self.states("p1"), ["answered"])
        self.assertEqual(self.batches.calls.count("look up"), 2)

    def test_without_batches_what_was_gathered_is_asked_at_once(self) -> None:
        self.batches.scripts = {"upload": [DOWN] * 1000}
        self.send("p1")
        self.crash_and_start(batch_over=None)
        self.live(5)
        self.assertEqual([each.id for each in self.model.under_way], ["p1"])

    def test_what_the_provider_has_is_brought_in_also_without_batches(self) -> None:
        self.send("p1")
        self.crash_and_start(batch_over=None)
        self.end_with(("p1", ANSWER))
        self.assertEqual(self.states("p1"), ["answered"])

    def test_a_stop_ends_at_once(self) -> None:
        self.send("p1")
        done = Deferred.fromCoroutine(self.pipeline.drain())
        self.successResultOf(done)
