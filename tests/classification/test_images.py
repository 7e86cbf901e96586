"""Every kind of picture becomes an upright RGB image, or one clear error."""

import contextlib
import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from fieldmarks.classification import images
from fieldmarks.classification.preprocess import EXTENT
from fieldmarks.errors import ImageError
from fieldmarks.extras import install


def _saved(image: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def _bands() -> Image.Image:
    """A picture 40 x 20, red on the left and blue on the right."""
    image = Image.new("RGB", (40, 20), (200, 0, 0))
    image.paste((0, 0, 200), (20, 0, 40, 20))
    return image


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    image = images.to_rgb(Image.new("LAB", (40, 20)) if mode == "LAB" else _bands().convert(mode))
    assert (image.mode, image.size) == ("RGB", (40, 20))


@pytest.mark.parametrize(
    ("form", "mode"), [("JPEG", "CMYK"), ("PNG", "P"), ("GIF", "P"), ("TIFF", "CMYK"), ("WEBP", "RGBA")]
)
def test_colours_survive(form: str, mode: str) -> None:
    image = images.decode(_saved(_bands().convert(mode), form))
    left, right = np.asarray(image)[10, 5].astype(int), np.asarray(image)[10, 35].astype(int)
    assert left[0] > 150 > left[2] + 100
    assert right[2] > 150 > right[0] + 100


def test_16_bits_are_scaled_not_clipped() -> None:
    ramp = np.linspace(0, 65535, 40 * 20).reshape(20, 40).astype(np.uint16)
    image = np.asarray(images.decode(_saved(Image.fromarray(ramp), "PNG")))
    assert image.shape == (20, 40, 3)
    assert (image[0, 0, 0], image[-1, -1, 0]) == (0, 255)
    assert abs(int(image[10, 0, 0]) - 128) < 3


def test_32_bit_and_float_greys() -> None:
    whole = images.decode(_saved(Image.fromarray(np.full((4, 4), 200, np.int32)), "TIFF"))
    assert whole.getpixel((0, 0)) == (200, 200, 200)
    part = images.decode(_saved(Image.fromarray(np.full((4, 4), 0.5, np.float32)), "TIFF"))
    assert part.getpixel((0, 0)) == (127, 127, 127)


def test_a_palette_with_transparency_makes_no_warning() -> None:
    image = _bands().convert("P")
    data = _saved(image, "PNG", transparency=bytes([0] * 128 + [255] * 128))
    assert images.decode(data).mode == "RGB"  # a warning would be an error here


def test_the_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green", "blue")]
    data = _saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert images.decode(data).getpixel((4, 4)) == (255, 0, 0)


def test_exif_orientation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter to the right
    image = images.decode(_saved(_bands(), "JPEG", exif=exif, quality=95))
    assert image.size == (20, 40)
    assert np.asarray(image)[5, 10, 0] > 150


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize(
    ("size", "least", "drafted"),
    [((400, 200), 101, (400, 200)), ((401, 203), 101, (201, 102)), ((1620, 800), 100, (203, 100))],
)
def test_a_jpeg_is_drafted_to_no_less_than_asked(
    mode: str, size: tuple[int, int], least: int, drafted: tuple[int, int]
) -> None:
    data = _saved(_bands().resize(size).convert(mode), "JPEG", quality=95)
    whole, image = images.decode(data), images.decode(data, min_side=least)
    assert (whole.size, image.size, image.mode) == (size, drafted, "RGB")
    for share in (0.2, 0.8):  # left and right
        same = [np.asarray(item)[item.height // 2, int(share * item.width)] for item in (whole, image)]
        assert np.abs(same[0].astype(int) - same[1]).max() <= 2


def test_a_phones_mpo_is_drafted() -> None:
    frames = [_bands().resize((400, 200)), Image.new("RGB", (400, 200), "green")]
    image = images.decode(_saved(frames[0], "MPO", save_all=True, append_images=frames[1:]), min_side=100)
    assert image.size == (200, 100)
    assert np.asarray(image)[50, 40, 0] > 150


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF", "GIF"])
def test_what_is_no_jpeg_keeps_its_size(form: str) -> None:
    image = images.decode(_saved(_bands().resize((400, 200)), form), min_side=20)
    assert image.size == (400, 200)
    assert EXTENT not in image.info


def test_a_text_in_a_file_is_not_taken_for_an_extent() -> None:
    text = PngInfo()
    text.add_text(EXTENT, "0, 0, 1, 1")
    data = _saved(_bands(), "PNG", pnginfo=text)
    assert EXTENT in Image.open(io.BytesIO(data)).info
    assert EXTENT not in images.decode(data).info
    assert EXTENT not in images.to_rgb(Image.open(io.BytesIO(data))).info


@pytest.mark.parametrize(
    ("width", "message"),
    [(9_460, "too large: the limit is 89478485 pixels"), (10, "too narrow: 10 x 9460 pixels")],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_the_size_is_judged_before_a_draft(width: int, message: str) -> None:
    data = _saved(_bands().convert("L"), "JPEG")
    sizes = data.index(b"\xff\xc0") + 5  # of the frame header: height and width
    data = data[:sizes] + struct.pack(">HH", 9_460, width) + data[sizes + 4 :]
    with pytest.raises(ImageError, match=message):
        images.decode(data, min_side=1)


def _png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty: it has zero bytes"),
        (
            b"Dear diary,\n",
            "not an image but text; if it lists images, pass its lines (on the command line: - < FILE)",
        ),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image but PostScript; save it as PNG"),
        (_png_header(20_000, 20_000), "too large: the limit is 89478485 pixels"),
        (_png_header(12_000, 12_000), "too large: the limit is 89478485 pixels"),
        (_png_header(70_000, 100), "too narrow: 70000 x 100 pixels, the limit is 200 to 1"),
        (_saved(_bands(), "PNG")[:-30], "cannot be decoded: "),
        (_saved(_bands(), "JPEG")[:400], "cannot be decoded: "),
    ],
    ids=["empty", "text", "postscript", "bomb", "small bomb", "thread", "cut png", "cut jpeg"],
)
def test_what_is_no_picture(data: bytes, message: str) -> None:
    with pytest.raises(ImageError) as caught:
        images.decode(data)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@given(st.integers(0, 700), st.binary(min_size=1, max_size=8))
def test_damage_anywhere_is_an_image_or_an_image_error(at: int, damage: bytes) -> None:
    data = bytearray(_saved(_bands(), "PNG") if at % 2 else _saved(_bands(), "GIF"))
    data[at % len(data) : at % len(data) + len(damage)] = damage
    with contextlib.suppress(ImageError):  # anything else is a fault
        assert images.decode(bytes(data)).mode == "RGB"


def test_arrays_and_tensors_are_the_same_picture() -> None:
    array = np.asarray(_bands())
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    for same in (array, array / 255, array.astype(np.int64), tensor, tensor / 255, tensor.bfloat16() / 255):
        assert np.abs(np.asarray(images.from_array(same)).astype(int) - array).max() <= 1


def test_grey_arrays() -> None:
    grey = np.full((6, 8), 77, np.uint8)
    for item in (grey, grey[:, :, None], torch.from_numpy(grey), torch.from_numpy(grey)[None]):
        image = images.from_array(item)
        assert (image.size, image.getpixel((0, 0))) == ((8, 6), (77, 77, 77))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (
            np.zeros((2, 3, 4, 3)),
            "expected (height, width) with 1, 3 or 4 channels, found the shape (2, 3, 4, 3)",
        ),
        (np.zeros((0, 3)), "expected (height, width) with 1, 3 or 4 channels, found the shape (0, 3)"),
        (np.zeros((3, 3, 2)), "expected (height, width) with 1, 3 or 4 channels, found the shape (3, 3, 2)"),
        (
            np.zeros((3, 8, 8)),
            "expected (height, width) with 1, 3 or 4 channels, found the shape (3, 8, 8): an array has its"
            " channels last",
        ),
        (
            torch.zeros(8, 9, 3),
            "expected (height, width) with 1, 3 or 4 channels, found the shape (8, 9, 3): a tensor has its"
            " channels first",
        ),
        (torch.zeros(3, 4, 4, device="meta"), "this tensor cannot be read as an array: "),
        (torch.zeros(3, 4, 4).to_sparse(), "this tensor cannot be read as an array: "),
        (np.array([["a", "b"]]), "expected integers 0 to 255 or floats 0 to 1, found <U1"),
        (np.full((2, 2), 256), "values out of range"),
        (np.full((2, 2), 1.5), "values out of range"),
        (np.full((2, 2), np.nan), "values out of range"),
        (torch.full((2, 2), -1), "values out of range"),
    ],
)
def test_arrays_that_are_no_pictures(array: object, message: str) -> None:
    with pytest.raises(ImageError) as caught:
        images.from_array(array)  # type: ignore[arg-type]
    assert str(caught.value).startswith(message)


def test_an_image_without_pixels_is_an_error() -> None:
    with pytest.raises(ImageError, match=r"^empty: 0 x 5 pixels$"):
        images.from_memory(Image.new("RGB", (0, 5)))


def _heic(image: Image.Image, orientation: int = 1) -> bytes:
    """Return a HEIC, written in another process so that nothing is registered in this one."""
    script = (
        "import sys, io; from PIL import Image; from pillow_heif import from_pillow\n"
        "image = Image.open(io.BytesIO(sys.stdin.buffer.read())); file = io.BytesIO()\n"
        "exif = Image.Exif(); exif[0x0112] = int(sys.argv[1])\n"
        "from_pillow(image).save(file, quality=90, exif=exif.tobytes())\n"
        "sys.stdout.buffer.write(file.getvalue())"
    )
    command = [sys.executable, "-c", script, str(orientation)]
    return subprocess.run(command, input=_saved(image, "PNG"), capture_output=True, check=True).stdout


@pytest.mark.slow
def test_heic_is_read_upright_in_several_threads_at_once() -> None:
    data = _heic(_bands(), orientation=6)  # turned a quarter to the right
    script = (
        "import sys; from concurrent.futures import ThreadPoolExecutor\n"
        "from fieldmarks.classification import images\n"
        "data = sys.stdin.buffer.read()\n"
        "with ThreadPoolExecutor(8) as pool:\n"
        "    read = list(pool.map(lambda _: images.decode(data, min_side=8), range(16)))\n"
        "assert {image.size for image in read} == {(20, 40)}, read\n"
        "red, green, blue = read[0].getpixel((10, 5))\n"
        "assert red > 150 > blue + 100, read[0].getpixel((10, 5))\n"
    )
    run = subprocess.run([sys.executable, "-W", "error", "-c", script], input=data, capture_output=True)
    assert (run.returncode, run.stderr.decode()) == (0, "")


def test_heic_without_pillow_heif_says_what_to_install() -> None:
    script = (
        "import sys; sys.modules['pillow_heif'] = None\n"  # as if it were not installed
        "from fieldmarks.classification import images; from fieldmarks.errors import ImageError\n"
        "try: images.decode(sys.stdin.buffer.read())\n"
        "except ImageError as error: print(error)"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], input=_heic(_bands()), capture_output=True, check=True
    )
    assert run.stdout.decode() == f"HEIC needs pillow-heif: {install('heic')}\n"


def test_a_heic_that_is_cut_short_is_one_clear_error() -> None:
    data = _heic(_bands())
    for end in range(0, len(data) - 1, 40):
        with pytest.raises(ImageError):
            images.decode(data[:end])


def test_a_file_of_another_kind_says_what_it_is() -> None:
    with pytest.raises(ImageError, match=r"^not an image but a PDF; save its pages as images$"):
        images.decode(b"%PDF-1.7 and so on")
    with pytest.raises(
        ImageError, match=r"^not an image in a known format \(AVIF, BMP, DIB, GIF, HEIF, ICO, "
    ):
        images.decode(b"\xff\x00 noise")
