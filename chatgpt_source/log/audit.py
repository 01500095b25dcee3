"""One line in the log for each thing that an operator does."""

from chatgpt_source.log import get_logger

log = get_logger(__name__)

ANYBODY = "an operator without credentials"
A_BEARER = "an operator with a bearer token"
"""Who has no name: where nobody needs credentials, and where they are a token."""


def audit(who: str, did: str) -> None:
    """Log what an operator did.

    Args:
        who: The operator's name, `ANYBODY` or `A_BEARER`; no credential.
        did: What was done, with ids and reasons of ours alone.
    """
    log.info("operator {who} {did}", who=who.removeprefix("an operator "), did=did)
