"""How far another clock is from this one, when its answer takes a while. Pure; no Django."""

TOLERANCE_S = 5.0


def ahead_s(before: float, after: float, other: float) -> float:
    """How many seconds the other clock is ahead, as far as that is certain.

    It was read at some moment between `before` and `after`, both by this clock.
    """
    distance, doubt = other - (before + after) / 2, abs(after - before) / 2
    return max(0.0, abs(distance) - doubt) * (1 if distance > 0 else -1)


def too_much(skew_s: float) -> bool:
    return abs(skew_s) > TOLERANCE_S


def sentence(whose: str, skew_s: float, than: str) -> str:
    """That the clock is ahead of or behind another; empty when it is right."""
    if not too_much(skew_s):
        return ""
    return f"{whose} clock is {abs(skew_s):.0f} s {'ahead of' if skew_s > 0 else 'behind'} {than}"
