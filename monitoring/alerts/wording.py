"""The words of the messages: subject and text of a mail, and the JSON that the webhook gets. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

MOST = 50  # incidents that a mail names; its link leads to all


@dataclass(frozen=True, slots=True)
class Told:
    """An incident as one message tells it. `until`: only where the message says that it is over."""

    number: int
    kind: str
    severity: str
    subject: str
    name: str
    title: str
    over: str
    sentence: str
    mend: str
    url: str
    since: datetime  # when it was first seen
    until: datetime | None
    late: bool  # the message says at once that it was there and that it is over

    @property
    def lasted(self) -> str:
        return in_words((self.until or self.since) - self.since)

    @property
    def line(self) -> str:
        """As "node1 is down", or "node1 is back (after 7 min)"."""
        return f"{self.over} (after {self.lasted})" if self.until else self.title


def in_words(length: timedelta) -> str:
    """7 min, 2 h 5 min, 3 d 4 h."""
    seconds = max(int(length.total_seconds()), 0)
    minutes, hours, days = seconds // 60 % 60, seconds // 3600 % 24, seconds // 86_400
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{seconds} s"


def moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%d %b %Y, %H:%M:%S} UTC"


def subject(told: Sequence[Told]) -> str:
    """One line, with the one thing or how many there are."""
    new, over = [t for t in told if not t.until], [t for t in told if t.until]
    if len(told) == 1:
        text = told[0].line
    elif new and over:
        text = f"{_problems(len(new), 'new problem')} ({_names(new)}), {len(over)} over"
    elif new:
        text = f"{_problems(len(new), 'problem')}: {_names(new)}"
    else:
        text = f"{_problems(len(over), 'problem')} over: {_names(over)}"
    return " ".join(f"[Berth] {text}".split())[:200]


def _problems(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def _names(told: Sequence[Told]) -> str:
    text = ", ".join(t.line for t in told[:2])
    return f"{text} and {len(told) - 2} more" if len(told) > 2 else text


def body(told: Sequence[Told], page: str) -> str:
    """Plain text: what is new first, then what is over."""
    inorder = sorted(told, key=lambda t: t.until is not None)
    blocks = [_block(t) for t in inorder[:MOST]]
    if len(inorder) > MOST:
        blocks.append(f"… and {len(inorder) - MOST} more, which the page below lists.")
    blocks.append(f"All that is open: {page}")
    return "\n\n".join(blocks) + "\n"


def _block(told: Told) -> str:
    lines = [f"{'OVER' if told.until else told.severity.upper()}: {told.line}"]
    if told.until:
        late = f"  {told.title}, and nobody could be told then." if told.late else ""
        lines += [late, f"  From {moment(told.since)} until {moment(told.until)}."]
        lines += [f"  It was: {told.sentence}"]
    else:
        lines += [f"  Since {moment(told.since)}.", f"  {told.sentence}"]
        lines += [f"  What to do: {told.mend}" if told.mend else ""]
    return "\n".join([*(line for line in lines if line), f"  {told.url}"])


def as_json(told: Sequence[Told], message: str, now: datetime) -> dict[str, Any]:
    """What the webhook gets. `text` is what chat programs show."""
    return {
        "id": message,
        "sent_at": _iso(now),
        "text": subject(told),
        "incidents": [
            {
                "id": t.number,
                "event": "closed" if t.until else "opened",
                "kind": t.kind,
                "severity": t.severity,
                "subject": t.subject,
                "name": t.name,
                "title": t.line,
                "sentence": t.sentence,
                "mend": t.mend,
                "url": t.url,
                "since": _iso(t.since),
                "until": _iso(t.until) if t.until else None,
            }
            for t in told
        ],
    }


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds")
