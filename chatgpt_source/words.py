"""Numbers, durations and reasons as people say them. Pure."""


def count(number: int, one: str = "", many: str = "") -> str:
    """A number with its digits in groups, and its noun if one is given."""
    noun = one if number == 1 else many or f"{one}s"
    return f"{number:,} {noun}" if one else f"{number:,}"


def age(seconds: float) -> str:
    """A duration as people say it: `0 s`, `12 s`, `3 min`, `2 h 5 min`, `4 d 1 h`."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if hours < 1:
        return f"{minutes} min"
    if days < 1:
        return _two(hours, "h", minutes % 60, "min")
    return _two(days, "d", hours % 24, "h")


def _two(large: int, unit: str, small: int, subunit: str) -> str:
    return f"{large} {unit} {small} {subunit}" if small else f"{large} {unit}"


def sentence(text: str) -> str:
    """A reason as a sentence, without the full stop."""
    return text[:1].upper() + text[1:]
