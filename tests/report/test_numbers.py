"""Numbers as the pages print them."""

from fieldmarks.report.numbers import amount, p_value, percent, points, share, signed


def test_percentages_claim_no_certainty() -> None:
    shown = [percent(share) for share in (0, 0.00049, 0.0005, 0.5, 0.9995, 0.9996, 1)]
    assert shown == ["<0.1%", "<0.1%", "0.1%", "50.0%", ">99.9%", ">99.9%", ">99.9%"]


def test_measured_shares_and_their_differences() -> None:
    assert [share(value) for value in (0.6314, 0, 1, None, float("nan"))] == [
        "63.1",
        "0.0",
        "100.0",
        "–",
        "–",
    ]
    assert [points(value) for value in (0.0125, -0.3, 0, None)] == ["+1.2", "−30.0", "0.0", "–"]


def test_what_rounds_to_zero_has_no_sign() -> None:
    assert [signed(value, 2) for value in (0.004, -0.004, -0.006)] == ["0.00", "0.00", "−0.01"]


def test_p_and_amounts() -> None:
    assert [p_value(value) for value in (0.0312, 0.0004, 1.0, None)] == ["0.031", "<0.001", "1.000", "–"]
    assert [amount(value) for value in (1234, 1234.0, 0.25)] == ["1,234", "1,234", "0.2"]
