"""Numbers as a reader sees them; ``-`` is what was not measured."""

import math

NOTHING = "-"


def significant(value: float | None, digits: int = 3) -> str:
    """To so many significant digits, integers whole, with thousands separators."""
    if value is None:
        return NOTHING
    if value == 0.0:
        return "0"
    rounded = float(f"{value:.{digits - 1}e}")
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(rounded))))
    return f"{value:,.{decimals}f}"


def millions(value: float | None) -> str:
    """Two decimals below 100, one above, as Table 1 prints parameters."""
    if value is None:
        return NOTHING
    return f"{value:,.{2 if round(value, 2) < 100.0 else 1}f}"


def multiple(value: float | None) -> str:
    """Two decimals below 1, one below 100, none above."""
    if value is None:
        return NOTHING
    return f"{value:,.{2 if round(value, 2) < 1.0 else 1 if round(value, 1) < 100.0 else 0}f}"


def hundredths(value: float | None) -> str:
    """Two decimals, as Table 1 prints seconds."""
    return NOTHING if value is None else f"{value:,.2f}"


def gibibytes(value: int | None) -> str:
    """Bytes in GiB."""
    return NOTHING if value is None else significant(value / 2**30)


def percent(value: float | None) -> str:
    """A share of 1 in hundredths."""
    return NOTHING if value is None else significant(100.0 * value, 2)


def one_line(text: str) -> str:
    """Text without line breaks and control characters, for a cell."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
