"""What an operator's command has done to a journal."""

from attrs import frozen


@frozen
class AuditEntry:
    """One line that a daemon is to log.

    Attributes:
        who: The operator's name, or words for it.
        did: What was done, with ids of ours alone.
    """

    who: str
    did: str
