"""What is known of peers. Each function runs in a transaction."""

from collections.abc import Mapping

from attrs import fields

from chatgpt_source.http.client.retry_after import LONGEST_RETRY_AFTER
from chatgpt_source.journal import PeerState, digests
from chatgpt_source.journal.postgres.session import Row, Session, Steps
from chatgpt_source.prompt import MODEL

_FIELDS = [each.name for each in fields(PeerState)]
_INSTANTS = {"since", "probe_at", "throttled_until"}


def _fingerprint(db: Session, peer: str, settings: str) -> bytes:
    """A digest of a peer's settings."""
    return digests.digest(db.secret, "peer", peer, settings)


def remember(db: Session, peer: str, settings: str, state: PeerState) -> Steps[None]:
    """Store the state of a peer; see `Journal.remember`."""
    values = [
        db.stored(getattr(state, name)) if name in _INSTANTS else getattr(state, name)
        for name in _FIELDS
    ]
    names = ["fingerprint", *_FIELDS, "owner", "version"]
    yield db.execute(
        f"INSERT INTO peers (name, {', '.join(names)})"
        f" VALUES (%s{', %s' * (len(names) - 1)}, nextval('tokens'))"
        f" ON CONFLICT (name) DO UPDATE SET ({', '.join(names)})"
        f" = ROW ({', '.join(f'EXCLUDED.{name}' for name in names)})",
        (peer, _fingerprint(db, peer, settings), *values, db.owner),
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
            told[peer] = _peer(db, row, now)
    return told


def claim_probe(db: Session, peer: str, settings: str, now: float, until: float) -> Steps[bool]:
    """Claim the next probe of a peer; see `Journal.claim_probe`."""
    rows = yield db.execute(
        "UPDATE peers SET probe_at = %(until)s, owner = %(owner)s, version = nextval('tokens')"
        " WHERE name = %(peer)s AND (held IS NULL OR fingerprint <> %(fingerprint)s"
        " OR coalesce(probe_at, 0) <= %(now)s) RETURNING name",
        {
            "until": db.at(until),
            "owner": db.owner,
            "peer": peer,
            "fingerprint": _fingerprint(db, peer, settings),
            "now": db.at(now),
        },
    )
    return bool(rows)


def recall(db: Session, settings: Mapping[str, str], now: float) -> Steps[Mapping[str, PeerState]]:
    """The states of the peers with the same settings; the others are deleted."""
    found = {}
    for row in (yield db.execute("SELECT * FROM peers ORDER BY name")):
        known = settings.get(row["name"])
        if known is not None and bytes(row["fingerprint"]) == _fingerprint(db, row["name"], known):
            found[row["name"]] = _peer(db, row, now)
        else:
            db.execute("DELETE FROM peers WHERE name = %s", (row["name"],))
            yield from _let_go(db, row["name"], now)
    return found


def _peer(db: Session, row: Row, now: float) -> PeerState:
    since, probe_at, throttled = (
        db.steady(row[name]) for name in ("since", "probe_at", "throttled_until")
    )
    latest = now + LONGEST_RETRY_AFTER
    return PeerState(
        row["held"],
        None if since is None else min(since, now),
        row["misses"],
        now if probe_at is not None and probe_at > latest else probe_at,
        None if throttled is None else min(throttled, latest),
        row["failing"],
    )


def _let_go(db: Session, peer: str, now: float) -> Steps[None]:
    """Make work that waits for a peer due, because the settings have changed."""
    values = {"now": db.at(now), "peer": peer}
    if peer.partition(".")[0] == MODEL:  # no target's name has a dot
        yield db.execute(
            "UPDATE prompts SET due = greatest(%(now)s, coalesce(not_before, %(now)s))"
            " WHERE state = 'accepted' AND due > %(now)s",
            values,
        )
    else:
        yield db.execute(
            "UPDATE outbox SET due = %(now)s WHERE destination = %(peer)s AND due > %(now)s",
            values,
        )
