"""How far images are, in words."""

import io
import time

import pytest

from fieldmarks.cli.console import counting, duration, images_line, shown
from fieldmarks.evaluation.predictions import Progress


def test_images_with_rate_and_time_left() -> None:
    assert images_line(Progress(90, 10, 1000, 10.0)) == "90 of 1,000 images, 10 unreadable, 10.0/s, 1:30 left"


def test_the_first_second_tells_no_rate() -> None:
    assert images_line(Progress(1, 0, 1000, 0.01)) == "1 of 1,000 images"


def test_more_than_were_counted_is_no_time_left() -> None:
    assert images_line(Progress(10, 2, 10, 2.0)) == "10 of 10 images, 2 unreadable, 6.0/s, 0:00 left"


def test_other_things_are_counted_in_the_same_way() -> None:
    assert counting("sorted")(Progress(110, 10, 3000, 2.0)) == "120 of 3,000 sorted, 60.0/s, 0:48 left"
    assert counting("sorted")(Progress(5, 0, None, 0.2)) == "5 sorted"


def test_elsewhere_than_in_a_terminal_a_short_run_shows_no_lines() -> None:
    stream = io.StringIO()
    with shown(stream, images_line) as progress:
        for done in range(1, 101):
            progress(Progress(done, 0, 100, 0.5))
    assert stream.getvalue() == ""


def test_elsewhere_than_in_a_terminal_lines_come_though_nothing_is_new() -> None:
    stream = io.StringIO()
    with shown(stream, images_line, every=0.02) as progress:
        time.sleep(0.1)
        progress(Progress(40, 0, 100, 0.5))
        time.sleep(0.3)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "no result yet (after 0.0 s)"
    assert lines.count("40 of 100 images (after 0.2 s)") > 1


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (7500, "2 h 5 min"),
    ],
)
def test_times_are_said_as_people_say_them(seconds: float, words: str) -> None:
    assert duration(seconds) == words
