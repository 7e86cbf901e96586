"""At float32 the product answers as transformers' own processor and model, whatever file an image is in."""

from pathlib import Path

import pytest
from tests.classification import agreement
from tests.classification.drawn_files import sixty_files


@pytest.mark.slow
def test_sixty_files_of_all_kinds(demo_clip: Path) -> None:
    kinds = sixty_files()
    assert len(kinds) == 60
    mine = agreement.ours(demo_clip, [data for _, data, _ in kinds], engine="torch")
    reference = agreement.theirs(demo_clip, [(data, shown) for _, data, shown in kinds])
    weights = agreement.class_weights(demo_clip, agreement.class_names(None))
    errors = {
        name: agreement.difference(weights, mine[[row]], reference[[row]])
        for row, (name, _, _) in enumerate(kinds)
    }
    wrong = {name: error for name, error in errors.items() if error[0] or error[1] > 1e-6}
    assert not wrong


@pytest.mark.slow
def test_photos(demo_clip: Path, check_data: Path) -> None:
    jpegs = agreement.photos(check_data / "photos", 60)
    weights = agreement.class_weights(demo_clip, agreement.class_names(check_data / "photos"))
    mine = agreement.ours(demo_clip, jpegs, engine="torch")
    changed, error = agreement.difference(
        weights, mine, agreement.theirs(demo_clip, [(data, None) for data in jpegs])
    )
    assert changed == 0
    assert error <= 1e-6
