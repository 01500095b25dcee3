"""Whether prompts may be admitted."""

from collections.abc import Callable, Sequence
from hmac import compare_digest

from attrs import define, field, frozen

from chatgpt_source.errors import (
    BacklogFull,
    Draining,
    KeyReused,
    Paused,
    QuotaUsedUp,
    TooLate,
)
from chatgpt_source.journal import Admitted, Submission, Terms, digests
from chatgpt_source.journal.group_commit import RETRY_AFTER
from chatgpt_source.prompt import Ask, Tier

PAUSED_RETRY_AFTER = 60.0
"""Seconds after which a caller may see whether the intake goes on."""


def check(terms: Terms, used: int, backlog: int, count: int) -> None:
    """Check that the daemon admits so many prompts beside its backlog.

    Raises:
        Draining: If it admits none any more.
        Paused: If the intake is paused.
        BacklogFull: If too many wait already.
    """
    if terms.draining:
        raise Draining("the daemon is stopping", retry_after=RETRY_AFTER)
    if terms.paused:
        raise Paused("an operator has paused the intake", retry_after=PAUSED_RETRY_AFTER)
    fits = used + count <= terms.limit  # else the day's limit is the reason
    if fits and backlog + count > terms.max_backlog:
        reason = f"{terms.max_backlog} prompts wait already"
        if count > 1:
            reason = f"{backlog} prompts wait, {terms.max_backlog} may, and these are {count}"
        raise BacklogFull(reason, retry_after=RETRY_AFTER)


def check_units(terms: Terms, used: int, count: int, now: float) -> None:
    """Check that a day that has `used` of its units taken has so many left.

    Raises:
        QuotaUsedUp: If it has not.
    """
    if used + count > terms.limit:
        reason = f"the day's limit of {terms.limit} prompts is used up"
        left = max(0, terms.limit - used)
        if left > 0:
            reason = f"the day has {left} of its {terms.limit} prompts left, and these are {count}"
        raise QuotaUsedUp(reason, retry_after=terms.day.end - now, left=left)


@frozen
class Request:
    """A request to accept some prompts, all or nothing.

    Attributes:
        submissions: The prompts.
        terms: The limits.
        claim: Whether to claim them too.
        now: The time.
    """

    submissions: Sequence[Submission]
    terms: Terms
    claim: bool
    now: float


@define
class Known:
    """What the decisions of one transaction go by, and change.

    Attributes:
        secret: The journal's, for digests; needed if a prompt has a key.
        keys: The fingerprint and the prompt's id, by a key's digest.
        used: The units used, by day.
        backlog: How many prompts wait.
        is_first: Whether no other prompt is due.
    """

    secret: bytes = field(repr=False)
    keys: dict[bytes, tuple[bytes, str]]
    used: dict[str, int]
    backlog: int
    is_first: bool


@frozen
class New:
    """A prompt that is admitted.

    Attributes:
        submission: What came.
        day: The date of the day whose unit it takes.
        due: When it may be asked.
        ask: The claim for its first call, if it is claimed.
        digest: Its key's, if it has one.
        fingerprint: Its content's, if it has a key.
    """

    submission: Submission
    day: str
    due: float
    ask: Ask | None
    digest: bytes | None
    fingerprint: bytes | None


def decide(
    request: Request, known: Known, token: Callable[[], int]
) -> tuple[list[Admitted], list[New]]:
    """Admit the prompts of a request; returns its outcome, and those that are new.

    Args:
        request: The request.
        known: What is known, with the requests before it; if one is refused, it does not change.
        token: Gives the fencing token of the next claim.

    Raises:
        KeyReused: If a key came before with another content.
        TooLate: If one that is no repeat came after its deadline.
        Draining: If no prompt is admitted any more.
        Paused: If the intake is paused.
        QuotaUsedUp: If the day has too few units left.
        BacklogFull: If too many prompts wait already.
    """
    terms, day = request.terms, request.terms.day.date
    earlier = [_earlier(each, known) for each in request.submissions]
    first: dict[object, Submission] = {}
    for each, one in zip(request.submissions, earlier, strict=True):
        if one is None:
            first.setdefault(each.key or each.prompt.id, each)
    if any(each.late for each in first.values()):
        raise TooLate
    used = known.used.get(day, 0)
    if first:
        check(terms, used, known.backlog, len(first))
        check_units(terms, used, len(first), request.submissions[0].prompt.accepted)
    may_claim = request.claim and known.is_first
    new = [_new(each, request, known, token if may_claim else None) for each in first.values()]
    known.used[day] = used + len(new)
    known.backlog += len(new)
    for add in new:
        if add.digest is not None and add.fingerprint is not None:
            known.keys[add.digest] = (add.fingerprint, add.submission.prompt.id)
        known.is_first &= add.ask is not None or not _is_due(add.submission, request.now)
    asks = {add.submission.prompt.id: add.ask for add in new}
    left = max(0, terms.limit - known.used[day])
    admitted = []
    for each, one in zip(request.submissions, earlier, strict=True):
        its = each if one is not None else first[each.key or each.prompt.id]
        is_new = one is None and its is each
        ask = asks[each.prompt.id] if is_new else None
        admitted.append(Admitted(one or its.prompt.id, left, not is_new, ask))
    return admitted, new


def _earlier(submission: Submission, known: Known) -> str | None:
    """The id of the prompt that came with a key before."""
    key = submission.key
    if key is None:
        return None
    found = known.keys.get(digests.digest(known.secret, *key.words))
    if found is None:
        return None
    fingerprint, prompt_id = found
    if not key.any_content and not compare_digest(
        fingerprint, digests.fingerprint(known.secret, submission.prompt)
    ):
        raise KeyReused
    return prompt_id


def _is_due(submission: Submission, now: float) -> bool:
    """Whether a prompt may be asked at once, on the standard tier."""
    prompt = submission.prompt
    return prompt.tier is Tier.STANDARD and (prompt.not_before is None or prompt.not_before <= now)


def _new(new: Submission, request: Request, known: Known, token: Callable[[], int] | None) -> New:
    prompt, key, now = new.prompt, new.key, request.now
    ask = None
    if token is not None and _is_due(new, now):
        calls = int(prompt.ends is None or prompt.ends > now)
        ask = Ask(prompt, attempt=calls, total=calls, since=now, token=token())
    return New(
        new,
        request.terms.day.date,
        now if prompt.not_before is None else max(now, prompt.not_before),
        ask,
        None if key is None else digests.digest(known.secret, *key.words),
        None if key is None else digests.fingerprint(known.secret, prompt),
    )
