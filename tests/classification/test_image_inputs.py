"""What goes into the model: transparency on white, samples of any depth, bounded memory for all threads."""

import io
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from tests.classification import hostile_images
from tests.classification.drawn_files import png16, saved
from transformers.image_transforms import convert_to_rgb

from fieldmarks.classification import images, memory
from fieldmarks.classification.preprocess import INFERRED
from fieldmarks.errors import ImageError

Samples = NDArray[np.uint16]


def _noise(mode: str, width: int = 31, height: int = 17) -> Image.Image:
    bands = np.random.default_rng(0).integers(0, 256, (height, width, 4), np.uint8)
    image = Image.fromarray(bands)
    if mode == "PA":
        grey_and_alpha = image.convert("LA")
        result = Image.merge("LA", grey_and_alpha.split()).convert("PA")
        result.putpalette([value for level in range(256) for value in (level, 255 - level, level // 2)])
        return result
    return image if mode == "RGBA" else image.convert(mode)


def _theirs(data: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data)) as image:
        return _on_white(image)


def _on_white(image: Image.Image) -> NDArray[np.uint8]:
    """What transformers makes of an image."""
    return np.asarray(convert_to_rgb(image, return_numpy=True), np.uint8)


@pytest.mark.parametrize(
    ("form", "mode", "options"),
    [
        ("PNG", "RGBA", {}),
        ("PNG", "LA", {}),
        ("PNG", "P", {"transparency": bytes(range(256))}),
        ("PNG", "P", {"transparency": 7}),
        ("PNG", "L", {"transparency": 40}),
        ("PNG", "RGB", {"transparency": (1, 2, 3)}),
        ("PNG", "1", {"transparency": 0}),
        ("GIF", "P", {"transparency": 3}),
        ("WEBP", "RGBA", {"lossless": True}),
        ("TIFF", "RGBA", {}),
        ("TIFF", "LA", {}),
        ("TGA", "RGBA", {}),
        ("JPEG2000", "RGBA", {}),
        ("AVIF", "RGBA", {}),
        ("ICO", "RGBA", {"sizes": [(16, 16)]}),
    ],
)
def test_what_is_transparent_is_laid_on_white_as_by_transformers(
    form: str, mode: str, options: dict[str, object]
) -> None:
    data = saved(_noise(mode), form, **options)
    assert np.array_equal(np.asarray(images.decode(data)), _theirs(data))
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(np.asarray(images.from_memory(image)), _theirs(data))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_images_in_memory_are_laid_on_white(mode: str) -> None:
    image = _noise(mode)
    before = image.tobytes()
    assert np.array_equal(np.asarray(images.from_memory(image)), _on_white(image))
    assert image.tobytes() == before


def test_premultiplied_colours_are_divided_first() -> None:
    straight = Image.new("RGBA", (4, 4), (200, 100, 0, 51))
    assert images.from_memory(straight.convert("RGBa")).getpixel((0, 0)) == images.from_memory(
        straight
    ).getpixel((0, 0))
    grey = Image.new("LA", (4, 4), (200, 51))
    assert images.from_memory(grey.convert("La")).getpixel((0, 0)) == (244, 244, 244)


def test_an_array_with_alpha_is_laid_on_white() -> None:
    array = np.asarray(_noise("RGBA"))
    expected = _on_white(Image.fromarray(array))
    for same in (array, array / 255):
        assert np.array_equal(np.asarray(images.from_array(same)), expected)


def test_a_thumbnail_is_of_the_image_on_white() -> None:
    clear = images.decode(saved(Image.new("RGBA", (9, 9), (255, 0, 0, 0)), "PNG"))
    with Image.open(io.BytesIO(images.thumbnail(clear))) as small:
        assert small.getpixel((4, 4)) == (255, 255, 255)


def test_a_text_named_transparency_is_none() -> None:
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    text.add_text("transparency", "none")
    assert images.decode(saved(Image.new("RGB", (3, 3), "red"), "PNG", pnginfo=text)).getpixel((1, 1)) == (
        255,
        0,
        0,
    )


def _ramp(bits: int, channels: int = 1) -> Samples:
    ramp = np.linspace(0, 2**bits - 1, 256 * 4).astype(np.uint16).reshape(4, 256)
    return ramp if channels == 1 else np.stack([ramp, ramp[:, ::-1], ramp, ramp][:channels], axis=-1)


def _is_ramp(image: Image.Image) -> None:
    expected = np.linspace(0, 255, 256 * 4).reshape(4, 256)
    assert np.abs(np.asarray(image)[..., 0] - expected).max() < 1.1


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("form", ["PNG", "TIFF", "TIFF lzw", "JPEG2000", "PPM", "memory"])
def test_greys_of_any_depth_are_scaled_by_their_bits(bits: int, form: str) -> None:
    image = Image.fromarray(_ramp(bits))
    if form == "memory":
        read = images.from_memory(image)
    else:
        name, _, lzw = form.partition(" ")
        read = images.decode(saved(image, name, **({"compression": "tiff_lzw"} if lzw else {})))
    _is_ramp(read)
    assert (INFERRED in read.info) == (bits < 16)


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("channels", [2, 3, 4])
def test_colours_of_any_depth_are_scaled_by_their_bits(bits: int, channels: int) -> None:
    samples = _ramp(bits, max(channels, 3))[..., :channels]
    if channels in (2, 4):
        samples = samples.copy()
        samples[..., -1] = 65535  # alpha is often of all bits
    _is_ramp(images.decode(png16(samples)))


def test_16_bit_colours_keep_pillows_values() -> None:
    data = png16(_ramp(16, 3))
    assert np.array_equal(np.asarray(images.decode(data)), _theirs(data))


def test_a_pngs_significant_bits_decide() -> None:
    dark = np.full((4, 4), 300, np.uint16)  # which alone would be taken for 10 bits
    for bits, level in ((12, 18), (14, 4), (16, 1)):
        image = images.decode(png16(dark, significant=bits))
        assert image.getpixel((0, 0)) == (level,) * 3
        assert INFERRED not in image.info
    _is_ramp(images.decode(png16(_ramp(16), significant=12)))  # scaled up to 16, as PNG's standard asks


@pytest.mark.parametrize("maxval", [1023, 4095, 16383])
def test_a_maxval_is_what_pillow_scales_by(maxval: int) -> None:
    dark = np.full((4, 4), maxval // 16, ">u2")
    image = images.decode(b"P5 4 4 %d\n" % maxval + dark.tobytes())
    assert image.getpixel((0, 0)) == (15, 15, 15)
    assert INFERRED not in image.info


def test_a_tiff_of_12_bits_or_with_a_largest_value_says_so() -> None:
    dark = Image.fromarray(np.full((4, 4), 300, np.uint16))
    image = images.decode(saved(dark, "TIFF", tiffinfo={281: 4095}))
    assert image.getpixel((0, 0)) == (18, 18, 18)
    assert INFERRED not in image.info


def test_grey_of_16_bits_that_is_transparent_is_white() -> None:
    image = Image.fromarray(_ramp(16))
    data = saved(image, "PNG", transparency=int(_ramp(16)[0, 9]))
    read = np.asarray(images.decode(data))
    assert read[0, 9, 0] == 255
    assert read[0, 8, 0] < 5


@given(st.integers(0, 2**16 - 1), st.sampled_from([None, 9, 10, 12, 14, 15, 16]))
def test_a_depth_holds_the_largest_value(high: int, declared: int | None) -> None:
    found = images.Depth.of(high, declared)
    assert high < 2**found.bits
    assert 0 <= int(high * 2.0 ** (8 - found.bits)) <= 255
    assert not (declared and found.is_inferred)


@given(st.integers(8, 16), st.lists(st.integers(0, 255), min_size=4, max_size=4))
def test_levels_of_8_bits_survive_any_depth(bits: int, levels: list[int]) -> None:
    """Whether they were shifted or stretched to it; the largest value is there to tell the depth."""
    values = np.array([*levels, 255])
    for wide in (values << (bits - 8), np.round(values * ((2**bits - 1) / 255)).astype(int)):
        grey, _ = images.grey(Image.fromarray(wide.astype(np.uint16)[None]), bits)
        assert np.asarray(grey)[0].tolist() == values.tolist()


def test_progressive_jpegs_are_bounded() -> None:
    assert images.decode(hostile_images.scans(100)).size == (64, 64)
    with pytest.raises(ImageError, match=r"^a progressive JPEG of more than 100 scans; save it again$"):
        images.decode(hostile_images.scans(101))


def test_scans_are_counted_of_the_first_image_and_not_of_its_thumbnail() -> None:
    plain = saved(Image.new("RGB", (64, 64)), "JPEG")
    comment = b"\xff\xfe\x01\x02" + b"\xff\xda" * 128
    assert memory.scans(plain) == memory.scans(plain[:2] + comment + plain[2:] + plain) == 1
    assert memory.scans(saved(Image.new("RGB", (64, 64)), "JPEG", progressive=True)) == 10


@pytest.mark.parametrize(
    ("form", "options"), [("WEBP", {}), ("WEBP", {"lossless": True}), ("JPEG", {"progressive": True})]
)
def test_a_small_file_of_a_large_image_is_refused_before_it_is_decoded(
    form: str, options: dict[str, object]
) -> None:
    data = saved(Image.new("RGB", (16, 16)), form, **options)
    if form == "JPEG":
        at = data.index(b"\xff\xc2") + 5
        data = data[:at] + (9_000).to_bytes(2, "big") * 2 + data[at + 4 :]
    elif options:
        data = data[:21] + (8_999 | 8_999 << 14).to_bytes(4, "little") + data[25:]
    else:
        data = data[:26] + (9_000).to_bytes(2, "little") * 2 + data[30:]
    with pytest.raises(
        ImageError, match=r"^too large: decoding it takes about [\d,]+ MiB of memory; the limit is 512 MiB"
    ):
        images.decode(data)


def test_a_budget_is_shared_and_a_large_image_waits_until_it_is_alone() -> None:
    budget = memory.Budget(100)
    lock, used, most, alone = threading.Lock(), 0, 0, True

    def work(amount: int) -> None:
        nonlocal used, most, alone
        with budget.reserve(amount):
            with lock:
                used += amount
                most = max(most, used if amount <= 100 else 0)
                alone &= amount <= 100 or used == amount
            time.sleep(random.random() / 500)
            with lock:
                used -= amount

    threads = [threading.Thread(target=work, args=(amount,)) for amount in (40, 30, 250, 60, 10, 90) * 5]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert alone
    assert used == 0
    assert 40 < most <= 100


def test_an_error_gives_its_memory_back() -> None:
    broken = saved(_noise("RGB", 300, 300), "PNG")[:-200]
    for _ in range(3):
        with pytest.raises(ImageError):
            images.decode(broken)
    with memory.BUDGET.reserve(2 * memory.BUDGET.limit):  # which waits for all others
        pass


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_twelve_hostile_files_at_once_stay_within_600_mb(tmp_path: Path) -> None:
    hostile_images.write(tmp_path)
    command = [sys.executable, "-W", "ignore", "-m", hostile_images.MODULE, str(tmp_path)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
    assert len(done.stdout.splitlines()) == 13
    assert int(done.stdout.splitlines()[-1].split()[0]) <= 600
