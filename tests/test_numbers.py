"""Numbers in three digits."""

import math

import pytest

from gptkit.numbers import amount, quantity


@pytest.mark.parametrize(
    ("number", "count", "measured"),
    [
        (0, "0", "0 B"),
        (96, "96", "96 B"),
        (950, "950", "950 B"),
        (999.4, "999", "999 B"),
        (999.6, "1.00k", "1.00 kB"),
        (4096, "4.10k", "4.10 kB"),
        (12_345, "12.3k", "12.3 kB"),
        (99_960, "100k", "100 kB"),
        (999_499, "999k", "999 kB"),
        (999_501, "1.00M", "1.00 MB"),
        (1.24e6, "1.24M", "1.24 MB"),
        (-124e6, "-124M", "-124 MB"),
        (10.72e9, "10.7B", "10.7 GB"),
        (3.2e12, "3.20T", "3.20 TB"),
        (2e15, "2000T", "2.00 PB"),
        (math.inf, "inf", "inf B"),
        (math.nan, "nan", "nan B"),
    ],
)
def test_three_digits(number: float, count: str, measured: str) -> None:
    assert amount(number) == count
    assert quantity(number, "B") == measured
