"""Batches with a provider that the test scripts, on a journal in a file."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any
from unittest.mock import Mock

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.logger import capturedLogs, formatEvent

from chatgpt_source.errors import Gone, Lost, PeerFailure, Permanent, PossiblyBilled, Transient
from chatgpt_source.journal import Batched
from chatgpt_source.journal.pause import ASKING
from chatgpt_source.pipeline import NOTHING_RECOVERED, Pipeline, batch, batching
from chatgpt_source.pipeline.batching import NO_ROOM
from chatgpt_source.prompt import Answer, Prompt, Tier
from chatgpt_source.providers.batch_lines import Line
from chatgpt_source.providers.openai_batch import BatchStatus
from tests.contracts.driver import ANSWER, PEERS
from tests.pipeline.test_pipeline import CONFIG, PipelineTestCase

DAY, HOUR, MINUTE = 86400.0, 3600.0, 60.0
STEP, STRIDE = 1.0, 60.0
RUNNING = BatchStatus("in_progress", ended=False)
COMPLETED = BatchStatus("completed", ended=True, files=("out",))
DOWN = Transient("down", status=503)
LATER = Transient("down", status=503, retry_after=MINUTE)


class FakeBatches:
    """Answers each call by the next of its scripted replies, else as a provider that is well.

    Attributes:
        unwritable: The prompt for which there is no line.
        hangs: Whether the check of an answer does not end.
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
        self.unwritable = ""
        self.hangs = False

    def line(self, prompt: Prompt) -> bytes:
        if prompt.id == self.unwritable:
            raise ZeroDivisionError
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

    async def submit(self, _: str, file: str) -> Any:
        return self.reply("submit", file.replace("file", "batch"))

    async def look_up(self, _: str) -> Any:
        return self.reply("look up", RUNNING)

    async def cancel(self, _: str) -> Any:
        return self.reply("cancel", None)

    async def results(self, _: str, take: Callable[[Sequence[Line]], Awaitable[None]]) -> Any:
        self.reply("read", None)
        await take(self.lines)

    async def structured(self, answer: Answer, _: Prompt) -> Answer:
        if self.hangs:
            await Deferred()
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
        """Let time pass: a long one in strides, as each step looks at all that is due."""
        step = STEP if seconds <= HOUR / 4 else STRIDE
        self.clock.pump([step] * round(seconds / step))

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

    def do(self, act: str) -> None:
        acting = getattr(self.pipeline.pauses, act)(ASKING, "alice")
        self.successResultOf(Deferred.fromCoroutine(acting))

    def test_none_is_gathered_while_asking_is_paused(self) -> None:
        self.do("pause")
        self.send("p1")
        self.live(HOUR)
        self.assertEqual((self.batches.calls, self.states("p1")), ([], ["accepted"]))
        self.do("resume")
        self.live(5)
        self.assertEqual(self.batches.calls[:2], ["upload", "submit"])

    def test_none_is_submitted_while_asking_is_paused(self) -> None:
        self.batches.scripts = {"submit": [LATER]}
        self.send("p1")
        self.assertEqual(self.batches.calls, ["upload", "submit"])
        self.do("pause")
        self.live(HOUR)
        self.assertEqual(self.batches.calls, ["upload", "submit"])
        self.do("resume")
        self.live(5)
        self.assertEqual(self.batches.calls[:3], ["upload", "submit", "submit"])
        self.do("pause")  # what is submitted is looked at all the same
        self.end_with(("p1", ANSWER))
        self.assertEqual(self.states("p1"), ["answered"])

    def test_none_is_uploaded_while_asking_is_paused(self) -> None:
        self.batches.scripts = {"upload": [LATER]}
        self.send("p1")
        self.do("pause")
        self.live(HOUR)
        self.assertEqual(self.batches.calls, ["upload"])
        self.do("resume")
        self.live(5)
        self.assertEqual(self.batches.calls[1:4], ["find file", "upload", "submit"])

    def test_one_that_waits_for_too_long_is_given_up(self) -> None:
        self.batches.scripts = {"submit": [LATER]}
        self.send("p1", seconds=3 * HOUR)
        self.do("pause")
        self.live(2.5 * HOUR)
        self.assertEqual((self.states("p1"), self.is_done()), (["accepted"], True))
        self.do("resume")
        self.assertEqual([each.id for each in self.model.under_way], ["p1"])

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

    def test_others_are_taken_up_at_each_look_where_there_are_others(self) -> None:
        self.pipeline.end()
        for is_shared, looks in ((False, 1), (True, 3)):
            with self.subTest(is_shared=is_shared):
                self.journal.is_shared = is_shared
                claim = Mock(side_effect=self.journal.claim_batches)
                self.patch(self.journal, "claim_batches", claim)
                self.begin()
                self.assertEqual(claim.call_count, 1)
                self.live(2 * batching.LOOK_EVERY)
                self.assertEqual(claim.call_count, looks)
                self.pipeline.end()

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

    def known(self) -> tuple[str | None, float | None]:
        """What is known of the one batch under way: its trouble, and when the next call is due."""
        ((_, progress),) = self.pipeline.batching.progress.items()
        due = progress.next_try
        return progress.trouble, None if due is None else due - self.clock.seconds()

    def test_what_is_known_of_its_calls(self) -> None:
        hangs: Deferred[Any] = Deferred()
        self.send("p1")
        self.assertEqual(self.known()[0], None)
        self.assertGreater(self.known()[1], 0)
        self.batches.scripts["look up"] = [DOWN] * 100
        self.live(5)
        self.assertEqual((self.known()[0], self.pipeline.batching.trouble), ("down",) * 2)
        self.batches.scripts["look up"] = [PeerFailure("refused", status=401), RUNNING]
        self.live(20)
        self.assertEqual(self.known()[0], "refused")
        self.assertTrue(10 < self.known()[1] <= 30, self.known())
        self.assertEqual(self.pipeline.batching.trouble, "refused")
        self.assertEqual(self.pipeline.batching.opens_at, self.clock.seconds() + self.known()[1])
        self.live(31)
        self.assertEqual((self.known()[0], self.pipeline.batching.trouble), (None, None))
        self.patch(self.batches, "look_up", lambda _: hangs)
        self.live(MINUTE)
        self.assertEqual(self.known(), (None, None))
        hangs.callback(COMPLETED)
        self.live(MINUTE)
        self.assertEqual(self.pipeline.batching.progress, {})

    def test_no_room_is_a_trouble_of_batches(self) -> None:
        self.send("p1")
        full = BatchStatus("failed", ended=True, code="token_limit_exceeded")
        self.batches.scripts["look up"] = [full]
        self.live(5)
        self.assertEqual(self.pipeline.batching.trouble, NO_ROOM)
        wait = self.pipeline.batching.opens_at - self.clock.seconds()
        self.assertTrue(590 < wait <= 600, wait)
        self.live(10 * MINUTE)
        self.assertIsNone(self.pipeline.batching.trouble)

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

    def test_results_that_are_not_there_yet_are_read_later(self) -> None:
        self.batches.scripts["read"] = [Gone("gone")] * 2
        self.send("p1")
        self.end_with(("p1", ANSWER))
        self.assertEqual((self.states("p1"), self.model.calls), (["answered"], []))
        self.assertEqual(self.batches.calls.count("read"), 3)

    def test_results_that_are_lost(self) -> None:
        self.batches.scripts["read"] = [Gone("gone")] * 100
        self.send("p1")
        self.end_with(("p1", ANSWER))
        self.assertEqual([each.id for each in self.model.under_way], ["p1"])

    def test_results_that_can_not_be_read_are_paid(self) -> None:
        """So what waits for them fails at its deadline, and is not asked again."""
        self.batches.scripts["read"] = [DOWN] * 10_000
        self.send("p1", seconds=3 * HOUR)
        self.end_with(("p1", ANSWER))
        self.live(3 * HOUR)
        self.assertEqual((self.states("p1"), self.model.calls), (["failed"], []))
        self.live(10 * MINUTE)
        self.assertTrue(self.is_done())

    def test_what_has_time_goes_into_a_batch_again(self) -> None:
        """One that is too slow for the first deadline may be for no other."""
        self.post("near", deadline=self.clock.seconds() + 3 * HOUR, tier=Tier.BATCH)
        self.send("far", "unlucky")
        self.live(2.4 * HOUR)
        self.assertEqual(self.batches.calls.count("cancel"), 1)
        self.batches.lines = [Line("unlucky", Lost("cancelled"))]
        self.batches.scripts["look up"] = [BatchStatus("cancelled", ended=True, files=("out",))]
        self.live(3 * MINUTE)
        self.assertEqual([each.id for each in self.model.under_way], ["near"])
        self.assertEqual(self.batches.sent[1:], [["far", "unlucky"]])

    def test_one_for_which_nobody_waits_is_cancelled_once_the_provider_is_well(self) -> None:
        self.send("p1")
        self.successResultOf(self.journal.cancel("p1"))
        self.batches.scripts = {"look up": [DOWN] * 10_000, "cancel": [DOWN] * 10_000}
        self.live(HOUR)
        self.batches.scripts = {"cancel": [None]}
        self.live(2 * MINUTE)
        self.assertEqual(self.batches.scripts["cancel"], [])

    def test_one_that_the_provider_says_is_cancelled_goes_into_a_batch_again(self) -> None:
        """The reply to our cancel may have been lost."""
        self.send("p1")
        self.batches.scripts["look up"] = [BatchStatus("cancelled", ended=True)]
        self.live(3 * MINUTE)
        self.assertEqual(self.batches.sent, [["p1"]] * 2)

    def test_the_file_of_one_that_is_not_submitted_is_deleted(self) -> None:
        for refusal in (Permanent("refused", status=400), Transient("full", status=429)):
            self.batches.calls.clear()
            self.batches.scripts = {"submit": [refusal] * 10_000}
            self.send(f"to {refusal.status}", seconds=3 * HOUR)
            self.live(10_000)
            self.assertIn("delete file", self.batches.calls)
            self.assertTrue(self.is_done())

    def test_a_file_is_deleted_once_the_provider_is_well(self) -> None:
        self.batches.scripts["delete file"] = [DOWN] * 10_000
        self.send("p1")
        self.end_with(("p1", ANSWER))
        self.live(HOUR)
        self.assertEqual((self.states("p1"), self.is_done()), (["answered"], False))
        self.batches.scripts.clear()
        self.live(2 * MINUTE)
        self.assertTrue(self.is_done())

    def test_the_files_of_one_that_another_daemon_has_are_left_to_it(self) -> None:
        self.send("p1")
        is_own = iter([True, False])  # its results are stored, then it is taken over
        self.patch(self.journal, "store_batch", lambda _: succeed(next(is_own)))
        self.end_with(("p1", ANSWER))
        self.assertEqual(self.batches.calls[-2:], ["look up", "read"])
        self.assertFalse(self.is_done())

    def test_a_file_of_which_only_the_provider_knows_is_deleted(self) -> None:
        self.batches.scripts = {"upload": [DOWN] * 1000}
        self.send("p1")
        self.batches.scripts = {"find file": ["a-file"]}
        self.batches.calls.clear()
        self.crash_and_start(batch_over=None)
        self.live(MINUTE)
        self.assertEqual(self.batches.calls, ["find file", "find", "delete a-file"])
        self.assertEqual([each.id for each in self.model.under_way], ["p1"])

    def test_a_file_whose_upload_got_no_reply_until_it_was_too_late_is_deleted(self) -> None:
        self.batches.scripts = {"upload": [DOWN] * 10_000, "find file": [DOWN] * 10_000}
        self.send("p1", seconds=3 * HOUR)
        self.live(2.2 * HOUR)
        self.assertEqual([each.id for each in self.model.under_way], ["p1"])
        self.assertNotIn("delete", "".join(self.batches.calls))
        self.batches.scripts = {"find file": ["a-file"]}
        self.live(2 * MINUTE)
        self.assertEqual(self.batches.calls[-1], "delete a-file")
        self.assertTrue(self.is_done())

    def test_a_hold_sends_what_is_in_a_batch_so_that_it_moves_up_in_time(self) -> None:
        self.gathered("p1")
        self.batches.scripts = {
            kind: [PeerFailure("no", status=404)] * 10_000 for kind in ("upload", "submit")
        }
        self.send("p2", seconds=3 * HOUR)
        self.crash_and_start()
        self.live(25 * HOUR)
        self.assertEqual(self.states("p1", "p2"), ["accepted"] * 2)
        self.assertTrue(self.is_done())

    def test_one_for_which_nobody_waits_is_cancelled(self) -> None:
        self.send("p1")
        self.successResultOf(self.journal.cancel("p1"))
        self.live(MINUTE)
        self.assertEqual(self.batches.calls.count("cancel"), 1)
        self.batches.scripts["look up"] = [BatchStatus("cancelled", ended=True, files=("out",))]
        self.live(2 * MINUTE)
        self.assertNotIn("read", self.batches.calls)
        self.assertTrue(self.is_done())

    def test_one_that_can_not_be_looked_for_ends_with_its_prompts(self) -> None:
        self.batches.scripts = {"submit": [PossiblyBilled("lost")], "find": [DOWN] * 10_000}
        self.send("p1", seconds=3 * HOUR)
        self.live(3 * HOUR)
        self.assertEqual((self.states("p1"), self.model.calls), (["failed"], []))
        self.assertFalse(self.is_done())
        self.live(24.5 * HOUR)
        self.assertTrue(self.is_done())

    def test_a_bug_in_a_submission(self) -> None:
        """It may have begun all the same."""
        self.batches.scripts = {"submit": [ZeroDivisionError()]}
        self.send("p1")
        self.live(MINUTE)
        self.assertEqual(self.batches.calls[:4], ["upload", "submit", "find", "submit"])

    def test_one_that_can_not_be_written_holds_up_no_other(self) -> None:
        self.batches.unwritable = "p2"
        self.send("p1", "p2", "p3")
        self.assertEqual(self.batches.sent, [["p1", "p3"]])
        self.assertEqual([each.id for each in self.model.under_way], ["p2"])

    def test_one_that_can_not_be_written_after_a_crash(self) -> None:
        self.gathered("p1")
        self.batches.unwritable = "p1"
        self.crash_and_start()
        self.live(5)
        self.assertEqual([each.id for each in self.model.under_way], ["p1"])
        self.assertTrue(self.is_done())

    def gathered(self, name: str) -> None:
        """Put a prompt into a batch of its own, which is not sent."""
        now = self.clock.seconds()
        self.post(name, deadline=now + DAY, tier=Tier.BATCH)
        (ask,) = self.successResultOf(self.journal.claim_asks(now, 1, Tier.BATCH)).claimed
        opened = self.successResultOf(self.journal.open_batch(f"of-{name}"))
        self.end(ask, Batched(opened.id))

    def test_two_of_one_model_after_a_crash(self) -> None:
        self.gathered("p1")
        self.gathered("p2")
        self.crash_and_start()
        self.live(5)
        self.assertEqual(sorted(self.batches.sent), [["p1"], ["p2"]])

    def test_full_ones(self) -> None:
        self.patch(batching, "MOST_PROMPTS", 3)
        names = [f"p{number}" for number in range(8)]
        self.send(*names)
        self.assertEqual(sorted(self.batches.sent), [names[:3], names[3:6], names[6:]])

    def test_one_without_room_although_it_is_alone_is_too_large(self) -> None:
        self.patch(batch, "LOT", 1)
        self.send("p1", "p2", "p3", "p4")
        full = BatchStatus("failed", ended=True, code="token_limit_exceeded")
        self.batches.scripts["look up"] = [full]
        self.live(11 * MINUTE)
        self.assertEqual(self.batches.sent[1:], [["p1", "p2"]])
        self.end_with(("p1", ANSWER), ("p2", ANSWER))
        self.assertEqual(self.batches.sent[2:], [["p3", "p4"]])

    def test_nobody_waits_for_a_provider_longer_than_there_is_time(self) -> None:
        for kind in ("upload", "look up"):
            with self.subTest(kind=kind):
                self.batches.scripts = {kind: [Transient("full", status=429, retry_after=DAY)]}
                self.send(f"to {kind}", seconds=3 * HOUR)
                self.live(2.4 * HOUR)
                self.batches.scripts["look up"] = [BatchStatus("cancelled", ended=True)]
                self.live(2 * MINUTE)
                self.assertEqual([each.id for each in self.model.under_way], [f"to {kind}"])
                self.model.answer()

    def test_a_stop_while_results_are_recorded(self) -> None:
        self.batches.hangs = True
        self.send("p1", "p2")
        self.end_with(("p1", ANSWER), ("p2", ANSWER))
        self.assertEqual(self.batches.calls[-1], "read")
        with capturedLogs() as logged:
            self.pipeline.end()
        self.assertEqual([formatEvent(each) for each in logged], [])

    def test_a_stop_ends_at_once(self) -> None:
        self.send("p1")
        done = Deferred.fromCoroutine(self.pipeline.drain())
        self.successResultOf(done)


class TimelineTests(BatchingTestCase):
    """The clock times in docs/operations.md: a prompt of 08:00 with a deadline of a day."""

    config = attrs.evolve(
        CONFIG,
        flex_over=HOUR,
        batch_over=4 * HOUR,
        batch_window=10 * MINUTE,
        batch_margin=30 * MINUTE,
    )

    def recover(self, journal: Any, peers: Any = None) -> Any:
        return super().recover(journal, peers or {**PEERS, "model.batch": "", "model.flex": ""})

    def setUp(self) -> None:
        super().setUp()
        self.eight = self.clock.seconds()
        self.post("p1", deadline=self.eight + DAY, tier=Tier.BATCH)

    def at(self, day: int, clock: str) -> None:
        """Let time pass until a minute after a time of that day."""
        hours, minutes = map(int, clock.split(":"))
        until = self.eight + (day - 1) * DAY + (hours - 8) * HOUR + minutes * MINUTE + MINUTE
        self.live(max(0.0, until - 10 * MINUTE - self.clock.seconds()))
        self.clock.pump([10.0] * round((until - self.clock.seconds()) / 10))

    def served(self, name: str = "p1") -> tuple[str, str]:
        detail = self.successResultOf(self.journal.detail(name))
        return self.states(name)[0], detail.tier.value

    def test_a_batch_that_is_too_slow(self) -> None:
        self.at(1, "08:08")
        self.assertEqual(self.batches.calls, [])
        self.at(1, "08:10")
        self.assertEqual(self.batches.calls[:2], ["upload", "submit"])
        self.assertEqual(self.served(), ("submitted", "batch"))
        self.at(2, "07:28")
        self.assertNotIn("cancel", self.batches.calls)
        self.at(2, "07:30")
        self.assertIn("cancel", self.batches.calls)
        self.batches.scripts["look up"] = [BatchStatus("cancelled", ended=True)]
        self.at(2, "07:40")
        self.assertEqual(self.served(), ("accepted", "standard"))
        self.assertEqual([each.id for each in self.model.under_way], ["p1"])

    def test_no_room_for_batches_and_none_on_flex(self) -> None:
        full = BatchStatus("failed", ended=True, code="token_limit_exceeded")
        self.batches.scripts["look up"] = [full] * 1000
        self.at(2, "03:58")
        self.assertEqual(self.served()[1], "batch")
        self.at(2, "04:00")
        self.assertEqual(self.served()[1], "flex")
        for clock in ("05:03", "06:05", "06:58"):
            self.model.answer(Transient("full", status=429, retry_after=HOUR))
            self.at(2, clock)
        self.assertEqual(self.served(), ("accepted", "flex"))
        self.at(2, "07:00")
        self.assertEqual(self.served(), ("accepted", "standard"))
        self.at(2, "07:10")
        self.assertEqual([each.id for each in self.model.under_way], ["p1"])

    def test_one_that_can_not_be_sent(self) -> None:
        self.batches.scripts = {"upload": [PeerFailure("no", status=404)] * 10_000}
        self.at(2, "05:28")
        self.assertEqual(self.served(), ("submitted", "batch"))
        self.at(2, "05:30")
        self.assertEqual(self.served(), ("accepted", "flex"))
