"""Image files to pixels: the one reader of every route, whatever an image comes by."""

import collections
import concurrent.futures
import functools
import importlib.util
import io
import itertools
import os
import struct
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO, TypeVar

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kerashash.checks import check_choices, check_integer, listing
from kerashash.data.resizing import FITS, check_image_size, resize
from kerashash.files import open_regular
from kerashash.forks import check_not_forked
from kerashash.notes import one_line

Item = TypeVar("Item")

#: How the names of image files end, in lower case.
SUFFIXES = (
    ".avif",
    ".bmp",
    ".gif",
    ".heic",
    ".heif",
    ".jfif",
    ".jpe",
    ".jpeg",
    ".jpg",
    ".png",
    ".tif",
    ".tiff",
    ".webp",
)
#: The side in pixels to which images are resized where nothing else is known.
DEFAULT_SIZE = 224
# Bytes that a file may have. A video may bear the name of a photograph.
_MAX_BYTES = 1 << 30
# Pixels that an image may have: a few kilobytes of PNG can stand for gigabytes.
_MAX_PIXELS = 1 << 27
# Tags of TIFF: the bits of a sample and their order in a byte, what samples stand for,
# whether channels are apart, the kind of numbers, and how much colour is left out.
_BITS, _PHOTOMETRIC, _FILL_ORDER, _PLANES = 258, 262, 266, 284
_SAMPLE_FORMAT, _SUBSAMPLING = 339, 530
# Values of these.
_WHITE_IS_ZERO, _YCBCR, _APART, _SIGNED = 0, 6, 2, 2
# Tag of the orientation in EXIF, and the pixels upright by its value.
_ORIENTATION = 0x0112
_UPRIGHT: dict[int, Callable[[Any], Any]] = {
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: image[::-1].swapaxes(0, 1),
    7: lambda image: image[::-1, ::-1].swapaxes(0, 1),
    8: lambda image: image.swapaxes(0, 1)[::-1],
}
#: The formats that are read, by Pillow's names. It knows more, and starts other
#: programs for some. MPO is a JPEG with further pictures; HEIF needs a package.
FORMATS = ("AVIF", "BMP", "GIF", "HEIF", "JPEG", "MPO", "PNG", "TIFF", "WEBP")
# What is wrong with an image for which there is no memory.
_NO_MEMORY = "too large for the memory"
# What TensorFlow decodes. Its JPEG decoder rounds in its own way, with which all
# trained entries have met photographs; that of PNG takes as long as Pillow's, and finds
# all damage by the checksums.
_BY_TENSORFLOW = ("JPEG", "MPO", "PNG")
# How the names of HEIF's kinds begin, 8 bytes into a file.
_HEIF_KINDS = (b"hei", b"hev", b"mif1", b"msf1")


def read_images(
    paths: Iterable[str | os.PathLike[str]], image_size: int, fit: str = "squash"
) -> npt.NDArray[np.uint8]:
    """Read image files as one array, as `HashModel.encode` reads a list of paths.

    The same reader serves `kerashash.data.from_directory` and the data sets of
    photographs: a file gives the same pixels, and the same code, by every route.

    The formats are AVIF, BMP, GIF, JPEG, PNG, TIFF, WebP and, with the package
    pillow-heif (``pip install 'kerashash[heif]'``), HEIC and HEIF. Of several frames
    the first is read. Images are turned upright as their EXIF orientation says. What is
    transparent is put on white. Gray, palette and CMYK images become RGB, and of 16
    bits the upper 8 are kept. Colour profiles are not applied. Files of more than 1 GiB
    and images of more than 134 million pixels are not read, nor are rare kinds of TIFF.

    Args:
        paths: list of paths, or another iterable of them. ``~`` is the home folder.
        image_size: int from 1 to 4096; the side in pixels to which images are resized
            (bicubic, antialiased).
        fit: str; how an image that is no square becomes one: "squash" resizes it
            whatever its aspect ratio, "crop" cuts the square of its shorter side out of
            the middle, "pad" puts all of it in the middle of a white square.

    Returns:
        uint8 array ``(n, image_size, image_size, 3)``.

    Raises:
        TypeError: if `paths` is one path or holds others than paths, or `image_size` is
            not an integer.
        ValueError: if `image_size` is out of range, `fit` is none of these, or files
            are missing or not readable images; the error names them.
        RuntimeError: if the process was forked from one in which TensorFlow has run.

    Example:
        >>> file = tf.io.encode_png(tf.zeros((8, 4, 3), tf.uint8))
        >>> tf.io.write_file("black.png", file)
        >>> read_images(["black.png"], image_size=6).shape
        (1, 6, 6, 3)
    """
    check_integer("image_size", image_size)  # None is none
    check_image_size(image_size)
    check_choices({"fit": FITS}, fit=fit)
    if isinstance(paths, str | os.PathLike):
        raise TypeError(
            f"`paths` must be a list of paths, not one path. Received: {paths!r}."
        )
    if not isinstance(paths, Iterable):
        raise TypeError(f"`paths` must be a list of paths. Received: {paths!r:.100}.")
    paths = [*paths]
    for path in paths:
        if not isinstance(path, str | os.PathLike):
            raise TypeError(
                f"`paths` must hold paths. Received type: {type(path).__name__}."
            )
    pixels = np.empty((len(paths), image_size, image_size, 3), np.uint8)
    faults: dict[int, str] = {}
    row = 0
    batches = read_ahead(
        enumerate(paths),
        lambda item: content(os.path.expanduser(item[1])),
        image_size,
        fit,
    )
    for images, _, unreadable in batches:
        pixels[row : row + len(images)] = images
        row += len(images)
        faults |= {at: why for (at, _), why in unreadable}
    check_faults(faults, paths, "paths")
    return pixels


def content(path: str | os.PathLike[str]) -> bytes:
    """Return the content of a regular file.

    Args:
        path: path.

    Returns:
        bytes.

    Raises:
        ValueError: if it is no regular file, larger than 1 GiB, or than the memory, or
            no file can have its name.
        OSError: if it cannot be read.

    Example:
        >>> with open("greeting.txt", "w") as file:
        ...     _ = file.write("hello")
        >>> content("greeting.txt")
        b'hello'
    """
    try:
        file = open_regular(path)
    except UnicodeEncodeError as error:
        raise ValueError(name_fault(path)) from error
    with file:
        if os.fstat(file.fileno()).st_size > _MAX_BYTES:
            raise ValueError(f"larger than {_MAX_BYTES >> 30} GiB")
        try:
            return file.read()
        except MemoryError as error:
            raise ValueError(_NO_MEMORY) from error


def read_ahead(
    items: Iterable[Item],
    content_of: Callable[[Item], bytes],
    image_size: int,
    fit: str = "squash",
    batch_size: int = 128,
    threads: int | None = None,
) -> Iterator[tuple[npt.NDArray[np.uint8], list[Item], list[tuple[Item, str]]]]:
    """Read images in batches, of which the next is being read meanwhile.

    A few batches are in memory, however many items there are.

    Args:
        items: iterable; what stands for each image.
        content_of: function of an item; the content of its image file. It may raise
            OSError or ValueError.
        image_size, fit: as for `read_images`.
        batch_size: int; images of a batch.
        threads: int or None; how many decode. None is one for each processor core.

    Yields:
        ``(pixels, items, faults)`` of a batch: uint8 array ``(n, image_size,
        image_size, 3)``; the items that it is of; and the others with what is wrong
        with them.

    Example:
        >>> file = tf.io.encode_png(tf.zeros((8, 4, 3), tf.uint8)).numpy()
        >>> files = {"a": file, "b": b"", "c": file}
        >>> for pixels, names, faults in read_ahead(files, files.get, 6, batch_size=2):
        ...     print(pixels.shape, names, faults)
        (1, 6, 6, 3) ['a'] [('b', 'empty')]
        (1, 6, 6, 3) ['c'] []
    """
    check_not_forked()

    def read(item: Item) -> npt.NDArray[np.uint8] | str:
        try:
            return resize(decode(content_of(item)), image_size, fit)
        except FileNotFoundError:
            return "no such file"
        except OSError as error:
            return error.strerror or str(error)
        except ValueError as error:
            return str(error)
        except MemoryError:  # of one large image; others may fit
            return _NO_MEMORY

    pool = concurrent.futures.ThreadPoolExecutor(threads or os.cpu_count())

    def begun() -> Iterator[tuple[Item, concurrent.futures.Future[Any]]]:
        coming: collections.deque[tuple[Item, concurrent.futures.Future[Any]]]
        coming = collections.deque()
        for item in items:
            coming.append((item, pool.submit(read, item)))
            if len(coming) > batch_size:
                yield coming.popleft()
        yield from coming

    images = begun()
    try:
        while batch := [*itertools.islice(images, batch_size)]:
            read_items: list[Item] = []
            faults: list[tuple[Item, str]] = []
            pixels = np.empty((len(batch), image_size, image_size, 3), np.uint8)
            for item, future in batch:
                image = future.result()
                if isinstance(image, str):
                    faults.append((item, image))
                else:
                    pixels[len(read_items)] = image
                    read_items.append(item)
            del batch
            yield pixels[: len(read_items)], read_items, faults
    finally:
        # Nobody waits for what has not begun, if an error or Ctrl-C has ended this.
        pool.shutdown(cancel_futures=True)


def check_faults(
    faults: Mapping[int, str],
    paths: Sequence[str | os.PathLike[str]] | Mapping[int, str | os.PathLike[str]],
    argument: str,
) -> None:
    """Raise an error that names the files that cannot be read, if there are any.

    Args:
        faults: dict of str by position in `paths`; what is wrong.
        paths: list of paths, or dict of those with faults by position.
        argument: str; the argument that holds the paths.

    Raises:
        ValueError: if there are faults.
    """
    if faults:
        files = [f"{os.fspath(paths[at])!r} ({why})" for at, why in faults.items()]
        raise ValueError(
            f"`{argument}` must hold paths of image files. Received {listing(files)}."
        )


def decode(data: bytes) -> npt.NDArray[np.uint8]:
    """Decode the content of an image file to upright RGB pixels.

    Args:
        data: bytes; a file of a format that `read_images` reads.

    Returns:
        uint8 array ``(height, width, 3)``.

    Raises:
        ValueError: if it is no image of these formats, is truncated, has more than 134
            million pixels, none that stand for colours, or is a TIFF of a kind that
            would be read wrongly, or if there is no memory for it.

    Example:
        >>> decode(tf.io.encode_png(tf.zeros((8, 4, 3), tf.uint8)).numpy()).shape
        (8, 4, 3)
    """
    picture = opened(data)
    # Errors of all kinds: a damaged file reaches any line of a decoder.
    try:
        if not _is_for_tensorflow(picture):
            return decode_by_pillow(picture)
        has_alpha = picture.has_transparency_data
        channels = 4 if has_alpha else 3
        tensor = tf.io.decode_image(data, channels, expand_animations=False)
        # Not `numpy()`, which copies: of a large photograph, for half its decoding.
        image = np.asarray(memoryview(tensor))
        image = _on_white(image) if has_alpha else image
        return _upright(image, _orientation(picture))
    except MemoryError as error:
        raise ValueError(_NO_MEMORY) from error
    except Exception as error:
        raise ValueError("not an image, or truncated") from error


def decode_by_pillow(picture: Any) -> npt.NDArray[np.uint8]:
    """Decode an opened image to upright RGB pixels, by Pillow alone.

    Args:
        picture: image of Pillow, as of `opened`.

    Returns:
        uint8 array ``(height, width, 3)``.

    Raises:
        Exception: of any kind, if the file is damaged.

    Example:
        >>> file = tf.io.encode_png(tf.zeros((8, 4, 3), tf.uint8)).numpy()
        >>> decode_by_pillow(opened(file)).shape
        (8, 4, 3)
    """
    picture.load()  # which turns those of TIFF, and forgets their orientation
    if picture.mode.startswith("I;16"):
        image = np.repeat(_eight_bits(picture)[:, :, None], 3, axis=2)
    elif picture.has_transparency_data:
        image = _on_white(np.asarray(picture.convert("RGBA")))
    else:
        image = np.asarray(picture.convert("RGB"))
    return _upright(image, _orientation(picture))


# A function even outside of graphs, where `numpy_function` passes arrays of objects.
@tf.function(input_signature=[tf.TensorSpec((), tf.string)])
def decode_tensor(file: tf.Tensor) -> tf.Tensor:
    """As `decode`, in a graph, where several threads can decode.

    Args:
        file: string tensor of shape ``()``.

    Returns:
        uint8 tensor ``(height, width, 3)``.

    Example:
        >>> decode_tensor(tf.io.encode_png(tf.zeros((8, 4, 3), tf.uint8))).shape
        TensorShape([8, 4, 3])
    """

    def orientation_of(data: bytes) -> np.int64:
        """The orientation, or 0 if there is more to do than to decode and turn."""
        picture = opened(data)
        try:
            is_plain = _is_for_tensorflow(picture) and not picture.has_transparency_data
        except Exception:  # `decode` says so
            is_plain = False
        return np.int64(_orientation(picture) if is_plain else 0)

    orientation = tf.numpy_function(orientation_of, [file], tf.int64, stateful=False)
    image = tf.cond(
        orientation > 0,
        lambda: tf.io.decode_image(file, channels=3, expand_animations=False),
        lambda: tf.numpy_function(decode, [file], tf.uint8, stateful=False),
    )
    image = tf.cond(
        orientation > 1,
        lambda: tf.numpy_function(
            _upright, [image, orientation], tf.uint8, stateful=False
        ),
        lambda: image,
    )
    return tf.ensure_shape(image, (None, None, 3))


def opened(data: bytes) -> Any:
    """Read the header of an image file.

    Args:
        data: bytes; as for `decode`.

    Returns:
        Image of Pillow, whose pixels are not read yet.

    Raises:
        ValueError: if it is no image of these formats, has too many pixels, none that
            stand for colours, or is a TIFF of a kind that would be read wrongly.

    Example:
        >>> opened(tf.io.encode_png(tf.zeros((8, 4, 3), tf.uint8)).numpy()).size
        (4, 8)
    """
    from PIL import Image

    if not data:
        raise ValueError("empty")
    try:
        picture = identified(io.BytesIO(data))
        too_large = picture.width * picture.height > _MAX_PIXELS
    except Image.DecompressionBombError:
        too_large = True
    except ValueError as error:
        raise ValueError(_why_unreadable(data, known_formats())) from error
    if too_large:
        raise ValueError(f"more than {_MAX_PIXELS // 10**6} million pixels")
    if picture.mode in ("F", "I", "LAB"):
        raise ValueError(f"pixels of Pillow's mode {picture.mode}, which are no RGB")
    if fault := _misread(picture):
        raise ValueError(fault)
    return picture


def identified(file: BinaryIO) -> Any:
    """Read the header of an image file of any size.

    As `PIL.Image.open`, which warns of images that are well within our limits.

    Args:
        file: binary file, at its start; of a format that `read_images` reads.

    Returns:
        Image of Pillow, whose pixels are not read yet.

    Raises:
        ValueError: if it is no image of these formats.
        PIL.Image.DecompressionBombError: if Pillow refuses its size.

    Example:
        >>> file = tf.io.encode_png(tf.zeros((8, 4, 3), tf.uint8)).numpy()
        >>> identified(io.BytesIO(file)).format
        'PNG'
    """
    from PIL import Image

    start = file.read(16)
    for factory, accepts in map(Image.OPEN.__getitem__, known_formats()):
        try:
            is_this = accepts is None or accepts(start)
            # A decoder that is not installed answers by a text.
            if not is_this or isinstance(is_this, str):
                continue
            file.seek(0)
            return factory(file, "")
        except Image.DecompressionBombError:
            raise
        # Errors of all kinds: a damaged file reaches any line of a decoder.
        except Exception:
            continue
    raise ValueError("not a readable image")


@functools.cache
def known_formats() -> tuple[str, ...]:
    """List the formats that the installation reads.

    Returns:
        tuple of those of `FORMATS`, which Pillow then knows.

    Example:
        >>> "PNG" in known_formats()
        True
    """
    from PIL import Image

    if importlib.util.find_spec("pillow_heif") is not None:
        import pillow_heif

        pillow_heif.register_heif_opener()
    Image.init()  # it knows few formats before
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _why_unreadable(data: bytes, known: Sequence[str]) -> str:
    """What is wrong with a file that is not opened."""
    is_heif = data[4:8] == b"ftyp" and data[8:12].startswith(_HEIF_KINDS)
    if is_heif and "HEIF" not in known:
        return "HEIF, which needs pip install 'kerashash[heif]'"
    bits = _jpeg_bits(data)
    if bits > 8:
        return f"a JPEG of {bits} bits, of which 8 are read"
    return "not a readable image"


def _misread(picture: Any) -> str:
    """What an opened TIFF file is that Pillow would read wrongly; empty if none."""
    tags = getattr(picture, "tag_v2", {})
    is_raw = picture.info.get("compression") == "raw"
    if tags.get(_PLANES) == _APART:
        # Each channel is read as if its samples were of 8 bits, or of one.
        bits = {1 if picture.mode == "1" else 8}
        is_plain = (
            {*tags.get(_BITS, (1,))} == bits
            and tags.get(_PHOTOMETRIC) not in (None, _WHITE_IS_ZERO)
            and tags.get(_FILL_ORDER, 1) == 1
        )
        if (is_raw and not is_plain) or picture.mode in ("LA", "La", "PA"):
            return "a TIFF file whose channels are apart; interleaved, they are read"
    if picture.mode == "L" and _SIGNED in tags.get(_SAMPLE_FORMAT, ()):
        return "a TIFF file of signed samples"
    # Pillow 11 takes it for RGB, and later ones take subsampled colours for whole.
    is_whole = picture.mode == "YCbCr" and tags.get(_SUBSAMPLING, (2, 2)) == (1, 1)
    if is_raw and tags.get(_PHOTOMETRIC) == _YCBCR and not is_whole:
        return "a TIFF file of YCbCr; compressed, it is read"
    return ""


def _jpeg_bits(data: bytes) -> int:
    """The bits of a sample of a JPEG; 0 if it is none, or does not say."""
    start = 2
    while data[:2] == b"\xff\xd8" and data[start : start + 1] == b"\xff":
        header = data[start : start + 5].ljust(5, b"\0")
        marker, length, bits = struct.unpack(">xBHB", header)
        # Markers of frames, but for those of tables that lie among them.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return int(bits)
        start += 2 + length
    return 0


def _eight_bits(picture: Any) -> npt.NDArray[np.uint8]:
    """The upper 8 bits of gray of 16 or 12, which Pillow would clip; 0 is black."""
    tags = getattr(picture, "tag_v2", {})  # of TIFF
    gray, bits = np.asarray(picture), tags.get(_BITS, (16,))[0]
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        gray = (1 << bits) - 1 - gray
    return (gray >> (bits - 8)).astype(np.uint8)


def _on_white(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Put an image ``(height, width, 4)``, RGB and opacity, on white."""
    # 255 - opacity (255 - colour) / 255, rounded to the nearest integer
    pixels = (255 - image[..., :3]).astype(np.uint16)
    pixels *= image[..., 3:]
    pixels += 127
    pixels //= 255
    return 255 - pixels.astype(np.uint8)


def _is_for_tensorflow(picture: Any) -> bool:
    """Whether TensorFlow decodes an opened image."""
    # Others, browsers among them, take ink of JPEGs to be inverted, whoever wrote them;
    # TensorFlow only if Adobe's programs did.
    is_foreign = picture.mode == "CMYK" and "adobe" not in picture.info
    return picture.format in _BY_TENSORFLOW and not is_foreign


def _orientation(picture: Any) -> int:
    """Return the EXIF orientation of an opened image, 1 if there is none."""
    try:
        orientation = int(picture.getexif().get(_ORIENTATION, 1))
    # The image may be whole although its tags are damaged.
    except Exception:
        return 1
    return orientation if orientation in _UPRIGHT else 1


def _upright(image: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """Turn an image as its EXIF orientation, 1 to 8, says."""
    turn = _UPRIGHT.get(orientation)
    return image if turn is None else np.ascontiguousarray(turn(image))


def printable(path: str | os.PathLike[str]) -> str:
    """Return a path for a message, in one line.

    Args:
        path: path.

    Returns:
        str that can be printed and encoded: bytes that are not UTF-8, and control
        characters, are escaped.

    Example:
        >>> printable(os.fsdecode(b"caf\\xe9\\n.png"))
        'caf\\\\udce9\\\\n.png'
    """
    return one_line(os.fspath(path))


def name_fault(path: str | os.PathLike[str]) -> str:
    """Say why a path is no text that can be stored, or that leads to a file.

    Args:
        path: path.

    Returns:
        str; what is wrong with it, empty if nothing is.

    Example:
        >>> name_fault("caf\\u00e9\\n.png")
        ''
        >>> name_fault(os.fsdecode(b"caf\\xe9.png"))
        'a name that is not UTF-8'
    """
    try:
        os.fspath(path).encode()
        os.fsencode(path)
    except UnicodeEncodeError:
        encoding = sys.getfilesystemencoding()
        if encoding == "utf-8":
            return "a name that is not UTF-8"
        return (  # as in the locale "C"
            f"a name that is not {encoding}, as names are in this locale; with "
            "PYTHONUTF8=1 they are UTF-8"
        )
    return ""
