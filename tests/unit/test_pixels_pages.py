"""Odd formats come in upright and in colour; broken ones are refused in words that help."""

import io
import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from redpencil.errors import BadImage, BadInput, TooLarge, UnsupportedMedia
from redpencil.pixels import is_heavy, open_pages


def gradient(height: int = 40, width: int = 60) -> np.ndarray:
    """Every pixel differs from its neighbours, so a wrong turn shows."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 4, y * 6, (x + y) * 2], axis=2).astype(np.uint8)


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    back = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}[orientation]
    return pixels if back is None else np.array(Image.fromarray(pixels).transpose(back))


def encoded(pixels: np.ndarray | Image.Image, form: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(out, form, **options)
    return out.getvalue()


def opened(data: bytes, media_type: str | None = None, max_pixels: int = 10**6, max_pages: int = 9) -> list:
    return open_pages(data, media_type, max_pixels, max_pages)


def png16(levels: np.ndarray) -> bytes:
    """A 16-bit PNG, grey or colour, which Pillow cannot write in colour."""
    height, width = levels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    colour = {2: 0, 3: {3: 2, 4: 6}.get(levels.shape[-1], 0)}[levels.ndim]
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM"])
def test_a_lossless_format_comes_back_as_it_was(form: str) -> None:
    assert np.array_equal(opened(encoded(gradient(), form))[0], gradient())


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "JPEG2000", "AVIF"])
def test_a_lossy_format_comes_back_nearly_as_it_was(form: str) -> None:
    page = opened(encoded(gradient(), form, quality=95) if form != "JPEG2000" else encoded(gradient(), form))[
        0
    ]
    assert np.abs(page.astype(int) - gradient()).mean() < 4


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(form: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}.get(form, {})
    page = opened(encoded(gradient(), form, exif=exif, **lossless))[0]
    upright = turned(gradient(), orientation)
    assert page.shape == upright.shape
    assert np.abs(page.astype(int) - upright).max() <= (6 if form == "JPEG" else 0)


def test_sixteen_bits_come_out_as_the_eight_bit_twin() -> None:
    assert np.array_equal(opened(png16(gradient().astype(int) * 257))[0], gradient())
    grey = gradient()[:, :, 0]
    assert np.array_equal(opened(png16(grey.astype(int) * 257))[0][:, :, 1], grey)


def test_twelve_bits_in_a_sixteen_bit_file_are_not_left_in_the_dark() -> None:
    assert opened(png16(np.full((8, 8), 4095)))[0].min() == 255


@pytest.mark.parametrize("orientation", range(1, 9))
def test_sixteen_bit_tiff_is_scaled_and_turned(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    grey = gradient()[:, :, 2]
    page = opened(encoded(Image.fromarray(grey.astype(np.uint16) * 257), "TIFF", exif=exif))[0]
    assert np.array_equal(page[:, :, 0], turned(grey, orientation))


def test_a_tiff_that_counts_from_white_is_not_a_negative() -> None:
    ink = np.array([[0, 65535]], np.uint16)
    page = opened(encoded(Image.fromarray(ink), "TIFF", tiffinfo={262: 0}))[0]
    assert page[0, :, 0].tolist() == [255, 0]


def test_sixteen_bit_alpha_is_laid_on_white() -> None:
    clear = np.zeros((8, 8, 4), int)
    assert opened(png16(clear))[0].min() == 255


def test_floats_and_long_integers_are_scaled() -> None:
    ramp = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    for image in (Image.fromarray(ramp), Image.fromarray((ramp * 65535).astype(np.int32))):
        page = opened(encoded(image, "TIFF"))[0]
        assert (page.min(), page.max()) == (0, 255)


def test_alpha_is_laid_on_white() -> None:
    ink = np.zeros((10, 10, 4), np.uint8)
    ink[2, 2, 3] = 255
    for mode in ("RGBA", "LA", "PA"):
        page = opened(encoded(Image.fromarray(ink).convert(mode), "TIFF" if mode == "PA" else "PNG"))[0]
        assert page[0, 0].tolist() == [255] * 3
        assert page[2, 2].tolist() == [0] * 3


def test_a_palette_with_a_transparent_colour_is_laid_on_white() -> None:
    image = Image.new("P", (6, 4), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    assert opened(encoded(image))[0][0, 0].tolist() == [10, 20, 30]
    assert opened(encoded(image, transparency=1))[0][0, 0].tolist() == [255] * 3
    assert opened(encoded(image, "GIF"))[0][0, 0].tolist() == [10, 20, 30]


def test_one_bit_and_cmyk_are_read() -> None:
    assert opened(encoded(Image.new("1", (9, 9), 1)))[0].min() == 255
    for form in ("JPEG", "TIFF"):
        page = opened(encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), form))[0]
        assert np.abs(page[4, 4].astype(int) - [255, 0, 0]).max() < 6


def test_every_page_of_a_tiff_is_read_and_too_many_are_refused() -> None:
    frames = [Image.new("RGB", (20 + i, 10), (i, 0, 0)) for i in range(3)]
    data = encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    assert [p.shape for p in opened(data)] == [(10, 20, 3), (10, 21, 3), (10, 22, 3)]
    assert [int(p[0, 0, 0]) for p in opened(data)] == [0, 1, 2]
    with pytest.raises(TooLarge, match="more than 2 pages, at most 2"):
        opened(data, max_pages=2)


def test_every_page_of_a_sixteen_bit_tiff_is_its_own() -> None:
    frames = [Image.fromarray(np.full((4, 5), v, np.uint16)) for v in (65535, 32768)]
    data = encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    assert [int(p[0, 0, 0]) for p in opened(data)] == [255, 128]


def test_pages_of_a_pdf_are_rendered_at_200_dpi_within_the_cap() -> None:
    frames = [Image.new("RGB", (100, 50), c) for c in ("white", "black")]
    data = encoded(frames[0], "PDF", save_all=True, append_images=frames[1:], resolution=100)
    pages = opened(data, "application/pdf")
    assert [p.shape for p in pages] == [(100, 200, 3)] * 2
    assert (pages[0].min(), pages[1].max()) == (255, 0)
    small = opened(data, max_pixels=800)
    assert all(p.shape[0] * p.shape[1] <= 900 for p in small)
    with pytest.raises(TooLarge, match="2 pages, at most 1"):
        opened(data, max_pages=1)


def test_one_page_of_a_document_is_as_among_all() -> None:
    for form in ("PDF", "TIFF"):
        frames = [Image.new("RGB", (100, 50), c) for c in ("white", "black", "red")]
        data = encoded(frames[0], form, save_all=True, append_images=frames[1:])
        every = opened(data)
        for n in range(3):
            (page,) = open_pages(data, None, 10**7, 10, only=n)
            assert np.array_equal(page, every[n])
        with pytest.raises(BadInput, match=r"3 page\(s\)"):
            open_pages(data, None, 10**7, 10, only=3)


def test_the_header_tells_what_takes_much_memory() -> None:
    pages = [Image.new("1", (3000, 2000), 1) for _ in range(2)]
    several = encoded(pages[0].resize((10, 10)), "TIFF", save_all=True, append_images=[pages[1]])
    heavy = (encoded(pages[0], "PNG"), several, encoded(pages[0], "PDF"))
    light = (encoded(pages[0].resize((10, 10)), "TIFF"), encoded(Image.new("RGB", (900, 900)), "PNG"), b"no")
    assert [is_heavy(data) for data in (*heavy, *light)] == [True] * 3 + [False] * 3


def test_an_image_that_speaks_of_pdf_is_an_image() -> None:
    told = PngInfo()
    told.add_text("Comment", "made from %PDF-1.7")
    (page,) = opened(encoded(Image.new("RGB", (20, 10), "white"), "PNG", pnginfo=told))
    assert page.shape == (10, 20, 3)


@pytest.mark.parametrize("box", ["0 0 700000000 0.01", "0 0 0.001 100000", "0 0 5000000 5"])
def test_a_pdf_page_that_is_a_thread_is_refused_before_it_is_rendered(box: str) -> None:
    data = encoded(Image.new("RGB", (100, 50)), "PDF")
    thread = re.sub(rb"/MediaBox \[[^]]*\]", f"/MediaBox [{box}]".encode(), data)
    assert thread != data
    with pytest.raises(BadImage, match="no page to read"):
        opened(thread)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF", "PDF"])
@pytest.mark.parametrize("kept", [0.05, 0.5, 0.9])
def test_a_truncated_file_is_a_bad_image(form: str, kept: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    data = encoded(noise, form)
    with pytest.raises(BadImage, match=r"cut short|recognised"):
        opened(data[: int(len(data) * kept)])


def test_a_damaged_png_is_a_bad_image() -> None:
    data = bytearray(encoded(gradient()))
    data[len(data) // 2] ^= 0x55
    with pytest.raises(BadImage, match="damaged"):
        opened(bytes(data))


def test_nothing_and_nonsense_are_bad_images() -> None:
    with pytest.raises(BadImage, match="empty"):
        opened(b"")
    with pytest.raises(BadImage, match="PNG, TIFF"):
        opened(b"hello, is this an image?" * 9)


@pytest.mark.parametrize("media_type", ["text/html", "video/mp4", "image/svg+xml", "image/heic"])
def test_a_declared_type_that_is_no_readable_image_is_refused(media_type: str) -> None:
    with pytest.raises(UnsupportedMedia, match=r"PNG.*PDF are read"):
        opened(encoded(gradient()), media_type)


@pytest.mark.parametrize("media_type", [None, "", "image/jpeg", "IMAGE/PNG; q=1", "application/octet-stream"])
def test_otherwise_the_bytes_decide(media_type: str | None) -> None:
    assert np.array_equal(opened(encoded(gradient()), media_type)[0], gradient())


@pytest.mark.parametrize(
    "data", [b"\0\0\0\x18ftypheic" + b"\0" * 99, b"<svg xmlns='x'></svg>", b"%!PS-Adobe-3.0"]
)
def test_recognised_formats_that_are_not_read_are_named(data: bytes) -> None:
    with pytest.raises(UnsupportedMedia, match=r"HEIC|SVG|PostScript"):
        opened(data)


def test_a_decompression_bomb_is_refused_by_its_header() -> None:
    bomb = bytearray(encoded(Image.new("1", (8, 8))))
    bomb[16:24] = struct.pack(">II", 200_000, 200_000)
    bomb[29:33] = struct.pack(">I", zlib.crc32(bytes(bomb[12:29])))
    with pytest.raises(TooLarge):
        opened(bytes(bomb))
    with pytest.raises(TooLarge, match="60 x 40 = 2,400 pixels, at most 2,399"):
        opened(encoded(gradient()), max_pixels=2399)


def test_many_large_pages_together_are_refused() -> None:
    frames = [Image.new("1", (100, 100))] * 5
    data = encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    with pytest.raises(TooLarge, match="together"):
        opened(data, max_pixels=10_000)
