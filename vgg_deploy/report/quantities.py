"""Numbers as people read them: significant digits, units, one number of decimals per column."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

MISSING = "–"
NOT_FINITE = "not finite"
_SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
_BYTES = ("B", "kB", "MB", "GB", "TB")


def significant(value: float, digits: int = 3) -> str:
    """``value`` with that many significant digits; powers of ten outside 0.001..100,000.

    0.000000312 → ``3.12×10⁻⁷``, 0.0412 → ``0.0412``, 1234 → ``1,230``.
    """
    if not math.isfinite(value):
        return NOT_FINITE
    if value == 0:
        return "0"
    mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    power = int(exponent)
    if -3 <= power < 5:
        decimals = max(0, digits - 1 - power)
        return f"{round(value, digits - 1 - power):,.{decimals}f}"
    return f"{mantissa}×10{str(power).translate(_SUPERSCRIPT)}"


def decimals_for(values: Iterable[float | None], digits: int = 3, most: int = 3) -> int:
    """How many decimals give the smallest of ``values`` that many significant digits."""
    sizes = [abs(v) for v in values if v is not None and math.isfinite(v) and v != 0]
    if not sizes:
        return 0
    return min(most, max(0, digits - 1 - math.floor(math.log10(min(sizes)))))


def fixed(value: float | None, decimals: int) -> str:
    """``value`` with thousands separators and that many decimals; a dash when absent."""
    if value is None:
        return MISSING
    return f"{value:,.{decimals}f}" if math.isfinite(value) else NOT_FINITE


def fixed_all(values: Sequence[float | None], digits: int = 3) -> list[str]:
    """A column of numbers with the same number of decimals each, so that they line up.

    Numbers that differ more than a thousandfold keep their significant digits instead.
    """
    sizes = [abs(v) for v in values if v is not None and math.isfinite(v) and v != 0]
    if sizes and max(sizes) > 1000 * min(sizes):
        return [MISSING if v is None else significant(v, digits) for v in values]
    decimals = decimals_for(values, digits)
    return [fixed(value, decimals) for value in values]


def size(count: int | None) -> str:
    """Bytes in decimal units, as commands and file managers tell them: 553,430,232 → ``553 MB``."""
    if count is None:
        return MISSING
    value, unit = float(count), 0
    while value >= 1000 and unit < len(_BYTES) - 1:
        value, unit = value / 1000, unit + 1
    return f"{count} B" if unit == 0 else f"{significant(value)} {_BYTES[unit]}"


def percent(share: float | None, decimals: int = 1) -> str:
    """A share of one as a percentage: 0.9182 → ``91.8 %``; a share below one is never 100 %."""
    if share is None:
        return MISSING
    if not math.isfinite(share):
        return NOT_FINITE
    if 0 <= share < 1:
        scale = 10 ** (decimals + 2)
        share = min(share, (scale - 1) / scale)
    return f"{share * 100:.{decimals}f} %"


def duration(seconds: float | None) -> str:
    """Seconds in a unit that suits them: 0.0412 → ``41.2 ms``, 75 → ``1 min 15 s``."""
    if seconds is None:
        return MISSING
    if not math.isfinite(seconds):
        return NOT_FINITE
    for unit, scale in (("µs", 1e6), ("ms", 1e3)):
        if 0 < seconds < 1000 / scale:
            return f"{significant(seconds * scale)} {unit}"
    if seconds < 60:
        return f"{significant(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def times(ratio: float) -> str:
    """A ratio: 1.344 → ``1.34×``."""
    return f"{significant(ratio)}×"


def listed(words: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last
