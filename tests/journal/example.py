"""The prompt that docs/operations.md shows."""

from chatgpt_source.journal import DeadLetter, Detail, Record
from chatgpt_source.journal.attempts import Attempt, Kind
from chatgpt_source.prompt import State, Tier

MORNING = 1_679_994_910.0  # 2023-03-28T09:15:10Z
SLOW = "the target `mail` did not answer: it took longer than 30 s"
REFUSED = "the target `mail` answered 400: it refuses this event"
AWAY = "the dead letter's receiver answered 503"
RECORD = Record(
    "0effe4cc-06c7-4fe9-9180-aa7c3b30777e",
    State.FAILED,
    MORNING,
    answered=MORNING + 7,
    ended=MORNING + 38,
    asks=3,
    deliveries=2,
    error=REFUSED,
    request_id="req_5f2c",
    target="mail",
)

EXAMPLE = Detail(
    RECORD,
    (
        Attempt(Kind.ASK, 1, "model", MORNING, 1.25, "again", 500, "the model answered 500"),
        Attempt(Kind.ASK, 3, "model.spare", MORNING + 3, 3.5, "answered", 200),
        Attempt(Kind.DELIVERY, 1, "target.mail", MORNING + 7, 30.0, "again", None, SLOW),
        Attempt(Kind.DELIVERY, 2, "target.mail", MORNING + 38, 0.25, "failed", 400, REFUSED),
        Attempt(Kind.DEAD_LETTER, 1, "dead_letter", MORNING + 39, 0.5, "again", 503, AWAY),
    ),
    source="vanus-chatGPT-source",
    type="vanus-chatGPT-type",
    tier=Tier.STANDARD,
    answered_by="model.spare",
    input_tokens=12,
    output_tokens=230,
    ask_seconds=3.5,
    dead_letter=DeadLetter("waiting", 1, None, MORNING + 60),
)
