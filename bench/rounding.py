"""Format numbers for reports; ``-`` where nothing was measured."""

import math

NOTHING = "-"


def significant(value: float | None, digits: int = 3) -> str:
    """Format to this many significant digits; integers in full, with thousands separators."""
    if value is None:
        return NOTHING
    if value == 0.0:
        return "0"
    rounded = float(f"{value:.{digits - 1}e}")
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(rounded))))
    return f"{value:,.{decimals}f}"


def millions(value: float | None) -> str:
    """Format with two decimals below 100, one above, as Table 1 prints parameters."""
    if value is None:
        return NOTHING
    return f"{value:,.{2 if round(value, 2) < 100.0 else 1}f}"


def multiple(value: float | None) -> str:
    """Format with two decimals below 1, one below 100, none above."""
    if value is None:
        return NOTHING
    return f"{value:,.{2 if round(value, 2) < 1.0 else 1 if round(value, 1) < 100.0 else 0}f}"


def hundredths(value: float | None) -> str:
    """Format with two decimals, as Table 1 prints seconds."""
    return NOTHING if value is None else f"{value:,.2f}"


def gibibytes(value: int | None) -> str:
    """Format bytes in GiB."""
    return NOTHING if value is None else significant(value / 2**30)


def percent(value: float | None) -> str:
    """Format a share of 1 in percent."""
    return NOTHING if value is None else significant(100.0 * value, 2)


def one_line(text: str) -> str:
    """Return a text without line breaks and control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
