"""Whatever people upload, as upright RGB pages.

PDFium renders PDFs, `redpencil.frames` decodes the rest. Sizes are read from headers and checked
before anything is decoded.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator, Sequence

import numpy as np
import pypdfium2
from PIL import Image, UnidentifiedImageError

from redpencil.errors import BadImage, BadInput, RedpencilError, TooLarge, UnsupportedMedia
from redpencil.frames import Pixels, frame

READABLE = (
    "JPEG",
    "PNG",
    "TIFF",
    "WEBP",
    "BMP",
    "GIF",
    "PPM",
    "JPEG2000",
    "AVIF",
)  # MPO, many phones' JPEG, comes with JPEG
WE_READ = "JPEG, PNG, TIFF, WebP, BMP, GIF, PNM, JPEG 2000, AVIF and PDF are read"
IMAGES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*", b"RIFF", b"BM", b"\0\0\0\x0cjP")
"""How files of images begin, which may hold any words further on."""
PDF_DPI = 200
LIGHT_PIXELS = 4_000_000
DOCUMENT_PAGES = 4  # all pages of one document together may hold so many times max_pixels
LONGEST_SIDE = 100_000  # pixels; a page that is longer is a trap
_pdfium = threading.Lock()  # PDFium is not thread-safe


def open_pages(
    data: bytes, media_type: str | None, max_pixels: int, max_pages: int, only: int | None = None
) -> list[Pixels]:
    """Every page of an uploaded image or PDF, or `only` one of them, as of `each_page`."""
    return list(each_page(data, media_type, max_pixels, max_pages, only))


def each_page(
    data: bytes, media_type: str | None, max_pixels: int, max_pages: int, only: int | None = None
) -> Iterator[Pixels]:
    """One page after the other, decoded when it is asked for; or `only` one of them, counted from 0.

    The bytes decide what it is; a declared media type is only refused where it is no image at
    all. Raises UnsupportedMedia, TooLarge or BadImage, before decoding where the header tells.
    """
    _check_media_type(media_type)
    if not data:
        raise BadImage("the image is empty (0 bytes)")
    pages = _pdf_pages if is_pdf(data) else _image_pages
    try:
        yield from pages(data, max_pixels, max_pages, only)
    except RedpencilError:
        raise
    except MemoryError as error:
        raise TooLarge("the image does not fit into memory") from error
    except Exception as error:  # decoders meet hostile bytes and raise whatever they like
        raise BadImage(f"the image cannot be decoded, it is damaged or cut short ({error})") from error


def is_heavy(data: bytes) -> bool:
    """Whether decoding takes much memory, by the header alone: a PDF, several pages, or a large image.

    What cannot be recognised is not: whoever opens it is told why.
    """
    if is_pdf(data):
        return True
    try:
        with _open_image(data) as image:
            return image.width * image.height > LIGHT_PIXELS or _has_more(image)
    except Exception:  # noqa: BLE001  decoders meet hostile bytes and raise whatever they like
        return False


def is_pdf(data: bytes) -> bool:
    """Whether an upload is taken for a PDF: its mark may stand behind some other bytes, but no image's."""
    return b"%PDF-" in data[:1024] and not data.startswith(IMAGES)


def _check_media_type(media_type: str | None) -> None:
    kind = (media_type or "").partition(";")[0].strip().lower()
    general = ("", "application/pdf", "application/x-pdf", "application/octet-stream", "binary/octet-stream")
    if kind in ("image/svg+xml", "image/heic", "image/heif"):
        raise UnsupportedMedia(f"{kind} is not read here; {WE_READ}")
    if kind not in general and not kind.startswith("image/"):
        raise UnsupportedMedia(f"{kind} is not an image; {WE_READ}")


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise TooLarge(
            f"the image has {width} x {height} = {width * height:,} pixels, at most {max_pixels:,} are read "
            "(REDPENCIL_MAX_PIXELS)"
        )


def _check_pages(count: int, max_pages: int) -> None:
    if count > max_pages:
        raise TooLarge(
            f"the document has {count} pages, at most {max_pages} are read at once (REDPENCIL_MAX_PAGES)"
        )


def _wanted(count: int, only: int | None) -> Sequence[int]:
    if only is None:
        return range(count)
    if only >= count:
        raise BadInput(f"the image has {count} page(s), counted from 0; there is no page {only}")
    return [only]


# --- images -------------------------------------------------------------------------------------


def _image_pages(data: bytes, max_pixels: int, max_pages: int, only: int | None) -> Iterator[Pixels]:
    with _open_image(data) as image:
        _check_size(*image.size, max_pixels)
        count = _frames(image, max_pages) if image.format == "TIFF" else 1
        left = DOCUMENT_PAGES * max_pixels
        for index in _wanted(count, only):
            if index:
                image.seek(index)
                _check_size(*image.size, max_pixels)
            left -= image.width * image.height
            if left < 0:
                raise TooLarge("the document's pages together have too many pixels: send fewer at once")
            yield frame(image, data, index)


def _frames(image: Image.Image, most: int) -> int:
    """How many pages a TIFF has; no more than one too many are looked at, since each takes longer."""
    for count in range(1, most + 1):
        try:
            image.seek(count)
        except EOFError:
            image.seek(0)
            return count
    raise TooLarge(f"the document has more than {most} pages, at most {most} are read at once")


def _has_more(image: Image.Image) -> bool:
    try:
        image.seek(1)
    except EOFError:
        return False
    return True


def _open_image(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=READABLE)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TooLarge(f"the image is far too large ({error})") from error
    except UnidentifiedImageError as error:
        known = _unreadable(data)
        if known:
            raise UnsupportedMedia(f"{known} is not read here; {WE_READ}") from error
        raise BadImage(f"these bytes are not an image that can be recognised; {WE_READ}") from error


def _unreadable(data: bytes) -> str | None:
    """The name of a format that is recognised and yet not read."""
    head = data[:256].lstrip()
    if data[4:8] == b"ftyp" and data[8:12] in (b"heic", b"heix", b"mif1", b"msf1", b"heim", b"hevc"):
        return "HEIC"
    if head[:4] == b"<svg" or (head[:5] == b"<?xml" and b"<svg" in data[:1024]):
        return "SVG"
    return "PostScript" if head[:4] == b"%!PS" else None


# --- PDF ----------------------------------------------------------------------------------------


def _pdf_pages(data: bytes, max_pixels: int, max_pages: int, only: int | None) -> Iterator[Pixels]:
    """PDFium does one thing at a time; between two pages other documents have their turn."""
    with _pdfium:
        document = _open_pdf(data)
    try:
        with _pdfium:
            count = len(document)
            _check_pages(count, max_pages)
            if not count:
                raise BadImage("the PDF has no page")
            document.init_forms()
        share = max_pixels * min(1.0, DOCUMENT_PAGES / count)
        for index in _wanted(count, only):
            with _pdfium:
                rendered = _render(document[index], share)
            yield rendered
    finally:
        with _pdfium:
            document.close()


def _open_pdf(data: bytes) -> pypdfium2.PdfDocument:
    try:
        return pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        locked = "assword" in str(error)
        why = "it is locked with a password: send it unlocked" if locked else "it is damaged or cut short"
        raise BadImage(f"the PDF cannot be opened, {why} ({error})") from error


def _render(page: pypdfium2.PdfPage, max_pixels: float) -> Pixels:
    width, height = page.get_size()
    if width <= 0 or height <= 0:
        raise BadImage("the PDF has a page without a size")
    scale = min(PDF_DPI / 72, (max_pixels / (width * height)) ** 0.5)
    if min(width, height) * scale < 1 or max(width, height) * scale > LONGEST_SIDE:
        raise BadImage(f"the PDF has a page of {width:g} x {height:g} points, which is no page to read")
    bitmap = page.render(scale=scale, rev_byteorder=True)
    pixels = bitmap.to_numpy()
    rgb = pixels[:, :, :3] if pixels.shape[2] >= 3 else np.repeat(pixels, 3, axis=2)
    return np.array(rgb)
