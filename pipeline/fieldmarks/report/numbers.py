"""Format numbers for pages and charts, with a true minus sign and no false certainty."""

import math
from typing import Final

MINUS: Final = "\u2212"
NONE: Final = "\u2013"  # where there is no figure


def percent(share: float) -> str:
    """Return a share as a percentage, without rounding to 0% or 100%."""
    if share >= 0.9995:
        return ">99.9%"
    return "<0.1%" if share < 0.0005 else f"{100 * share:.1f}%"


def share(value: float | None) -> str:
    """Return a measured share in percent, without the % sign: "63.1"."""
    return NONE if value is None or math.isnan(value) else f"{100 * value:.1f}".replace("-", MINUS)


def points(value: float | None) -> str:
    """Return a difference of shares in percentage points: "+1.2", "−0.4", "0.0"."""
    return NONE if value is None else signed(100 * value, 1)


def signed(value: float, digits: int) -> str:
    """Return a number with its sign; if it rounds to zero, it has none."""
    if math.isnan(value):
        return NONE
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", MINUS)


def p_value(value: float | None) -> str:
    """Return a p-value to three digits, or that it is smaller."""
    if value is None or math.isnan(value):
        return NONE
    return "<0.001" if value < 0.0005 else f"{value:.3f}"


def amount(number: float) -> str:
    """Return a count, with thousands separators and, if it is a mean that is not whole, one decimal."""
    return f"{number:,.0f}" if float(number).is_integer() else f"{number:,.1f}"
