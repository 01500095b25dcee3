"""What is known of peers. Each function runs in a transaction."""

from collections.abc import Mapping

from attrs import fields

from chatgpt_source.journal import PeerState, digests
from chatgpt_source.journal.postgres.session import Cursor, Session, Steps
from chatgpt_source.journal.rows import peer_of
from chatgpt_source.prompt import is_asked

_FIELDS = [each.name for each in fields(PeerState)]
_INSTANTS = {"since", "probe_at", "throttled_until"}


def _fingerprint(db: Session, peer: str, settings: str) -> bytes:
    """A digest of a peer's settings."""
    return digests.digest(db.secret, "peer", peer, settings)


def remember(db: Session, peer: str, settings: str, state: PeerState) -> Steps[None]:
    """Store the state of a peer; see `Journal.remember`."""
    yield _store(
        *(db, peer, settings, state),
        # A hold that another has found, and that is not known here yet, stays.
        "peers.held IS NULL OR EXCLUDED.held IS NOT NULL OR peers.owner = EXCLUDED.owner"
        " OR peers.version = %s OR peers.fingerprint <> EXCLUDED.fingerprint",
        db.peers_known.get(peer, 0),
    )


def claim_probe(db: Session, peer: str, settings: str, state: PeerState, now: float) -> Steps[bool]:
    """Claim the next probe of a peer; see `Journal.claim_probe`."""
    rows = yield _store(
        *(db, peer, settings, state),
        "peers.held IS NULL OR coalesce(peers.probe_at, 0) <= %s"
        " OR peers.fingerprint <> EXCLUDED.fingerprint",
        db.at(now),
    )
    return bool(rows)


def _store(
    db: Session, peer: str, settings: str, state: PeerState, if_known: str, value: float
) -> Cursor:
    """Store a peer's state; over a row that is there only if some SQL with a value says so.

    A row may be missing: a start with other settings deletes it.
    """
    values = [
        db.stored(getattr(state, name)) if name in _INSTANTS else getattr(state, name)
        for name in _FIELDS
    ]
    names = ["fingerprint", *_FIELDS, "owner", "version"]
    return db.execute(
        f"INSERT INTO peers (name, {', '.join(names)})"
        f" VALUES (%s{', %s' * (len(names) - 1)}, nextval('tokens'))"
        f" ON CONFLICT (name) DO UPDATE SET ({', '.join(names)})"
        f" = ROW ({', '.join(f'EXCLUDED.{name}' for name in names)})"
        f" WHERE {if_known} RETURNING name",
        (peer, _fingerprint(db, peer, settings), *values, db.owner, value),
    )


def news(db: Session, settings: Mapping[str, str], now: float) -> Steps[Mapping[str, PeerState]]:
    """What other owners have stored of peers; see `Journal.news_of_peers`."""
    found = yield db.execute("SELECT * FROM peers ORDER BY name")
    told = {}
    for row in found:
        peer = row["name"]
        known = db.peers_known.get(peer)
        db.peers_known[peer] = row["version"]
        if known == row["version"] or row["owner"] == db.owner or peer not in settings:
            continue
        if bytes(row["fingerprint"]) == _fingerprint(db, peer, settings[peer]):
            told[peer] = peer_of(row, now, db.steady)
    return told


def recall(db: Session, settings: Mapping[str, str], now: float) -> Steps[Mapping[str, PeerState]]:
    """The states of the peers with the same settings; the others are deleted."""
    found = {}
    for row in (yield db.execute("SELECT * FROM peers ORDER BY name")):
        known = settings.get(row["name"])
        if known is not None and bytes(row["fingerprint"]) == _fingerprint(db, row["name"], known):
            found[row["name"]] = peer_of(row, now, db.steady)
        else:
            db.execute("DELETE FROM peers WHERE name = %s", (row["name"],))
            yield from _let_go(db, row["name"], now)
    return found


def _let_go(db: Session, peer: str, now: float) -> Steps[None]:
    """Make work that waits for a peer due, because the settings have changed."""
    values = {"now": db.at(now), "peer": peer}
    if is_asked(peer):
        yield db.execute(
            "UPDATE prompts SET due = greatest(%(now)s, coalesce(not_before, %(now)s))"
            " WHERE state = 'accepted' AND due > greatest(%(now)s, coalesce(not_before, 0))",
            values,
        )
    else:
        yield db.execute(
            "UPDATE outbox SET due = %(now)s WHERE destination = %(peer)s AND due > %(now)s",
            values,
        )
