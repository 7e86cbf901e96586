"""How far images are, in words."""

import io

from fieldmarks.cli.console import images_line, shown
from fieldmarks.evaluation.predictions import Progress


def test_images_with_rate_and_time_left() -> None:
    assert images_line(Progress(90, 10, 1000, 10.0)) == "90 of 1,000 images, 10 unreadable, 10.0/s, 1:30 left"


def test_the_first_second_tells_no_rate() -> None:
    assert images_line(Progress(1, 0, 1000, 0.01)) == "1 of 1,000 images"


def test_more_than_were_counted_is_no_time_left() -> None:
    assert images_line(Progress(10, 2, 10, 2.0)) == "10 of 10 images, 2 unreadable, 6.0/s, 0:00 left"


def test_elsewhere_than_in_a_terminal_lines_are_few() -> None:
    stream = io.StringIO()
    with shown(stream, images_line) as progress:
        for done in range(1, 101):
            progress(Progress(done, 0, 100, 0.5))
    assert stream.getvalue() == "1 of 100 images\n100 of 100 images\n"
