"""One reader for images, whichever way they come."""

import dataclasses
import io
import itertools
import os
import struct
import threading
import zlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

import kerashash
from kerashash.data import image_reading, photographs, read_images, resizing
from kerashash.data.finding import find_images
from kerashash.store import encode_files


def photograph(size=(60, 44), seed=0):
    """A smooth RGB picture, (height, width, 3)."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8))
    return np.asarray(coarse.resize(size, Image.Resampling.BICUBIC))


def encoded(image, kind, mode="RGB", **options):
    buffer = io.BytesIO()
    Image.fromarray(image).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_upright(kind, orientation):
    """What other programs show, for each orientation of EXIF."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(photograph(), kind, exif=exif, **lossless)
    shown = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    actual = image_reading.decode(data)
    assert actual.shape == ((44, 60, 3) if orientation < 5 else (60, 44, 3))
    np.testing.assert_array_equal(image_reading.decode_tensor(data), actual)
    tolerance = 12 if kind == "JPEG" else 0  # decoders of JPEG round differently
    np.testing.assert_allclose(actual.astype(int), np.asarray(shown), atol=tolerance)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("kind", ["WEBP", "PNG", "JPEG"])
def test_tags_that_are_no_tags_leave_the_image(kind):
    lossless = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(photograph(), kind, exif=b"Exif\0\0MM no tags", **lossless)
    whole = encoded(photograph(), kind, **lossless)
    np.testing.assert_array_equal(
        image_reading.decode(data), image_reading.decode(whole)
    )


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_tags_leave_the_image():
    data = encoded(photograph(), "JPEG")
    damaged = data[:2] + b"\xff\xe1\x00\x10Exif\0\0II*\0\xff\xff" + b"\0\0" + data[2:]
    np.testing.assert_array_equal(
        image_reading.decode(damaged), image_reading.decode(data)
    )


@pytest.mark.parametrize(
    ("kind", "mode", "tolerance"),
    [
        ("BMP", "RGB", 0),
        ("BMP", "P", 0),
        ("BMP", "L", None),
        ("BMP", "1", None),
        ("PNG", "P", 0),
        ("PNG", "RGBA", 0),
        ("PNG", "1", None),
        ("GIF", "P", 0),
        ("TIFF", "RGB", 0),
        ("TIFF", "CMYK", 2),
        ("WEBP", "RGBA", 40),
        ("AVIF", "RGB", 40),
        ("JPEG", "L", None),
    ],
)
def test_formats_are_read_as_rgb(kind, mode, tolerance):
    image = photograph()
    if mode == "P":
        image = np.asarray(Image.fromarray(image).convert("P").convert("RGB"))
    actual = image_reading.decode(encoded(image, kind, mode))
    assert (actual.shape, actual.dtype) == (image.shape, np.uint8)
    if tolerance is None:
        assert (actual[..., 0] == actual[..., 1]).all()
        assert actual.max() - actual.min() > 100
        return
    error = np.abs(actual.astype(int) - image)
    assert error.max() <= 3 * tolerance
    assert error.mean() <= tolerance / 4


def test_sixteen_bits_are_scaled_to_eight():
    gray = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    for kind in ("PNG", "TIFF"):
        buffer = io.BytesIO()
        Image.fromarray(gray).save(buffer, kind)
        actual = image_reading.decode(buffer.getvalue())
        np.testing.assert_array_equal(actual[..., 1], gray // 257)


def tiff(strips, size, tags):
    """A TIFF file of strips, bytes, with further tags, ints or tuples."""
    file, offsets = bytearray(b"II*\0" + bytes(4)), []
    for strip in strips:
        offsets.append(len(file))
        file += strip
    tags = {256: size[1], 257: size[0], 278: size[0], 259: 1, 277: 1} | tags
    tags |= {273: offsets, 279: [*map(len, strips)]}
    entries = b""
    for tag in sorted(tags):
        values = np.atleast_1d(tags[tag]).astype("<u4")
        content = values.tobytes()
        if len(values) > 1:
            content = struct.pack("<I", len(file))
            file += values.tobytes()
        entries += struct.pack("<HHI", tag, 4, len(values)) + content
    file[4:8] = struct.pack("<I", len(file))
    return bytes(file) + struct.pack("<H", len(tags)) + entries + bytes(4)


def packed(samples, bits):
    """Samples as the bytes of a TIFF file, each row from a byte of its own."""
    if bits in (8, 16):
        return samples.astype(f"<u{bits // 8}").tobytes()
    binary = np.unpackbits(samples.astype(">u2").view(np.uint8), axis=-1)
    binary = binary.reshape(len(samples), -1, 16)[..., -bits:]
    return np.packbits(binary.reshape(len(samples), -1), axis=-1).tobytes()


@pytest.mark.parametrize(("bits", "white_is_zero"), [(16, 0), (16, 1), (12, 0)])
def test_gray_of_many_bits_is_scaled_from_black_to_white(bits, white_is_zero):
    light = np.arange(256, dtype=np.uint16).reshape(16, 16)
    gray = light << (bits - 8) | (light >> (16 - bits))
    stored = (1 << bits) - 1 - gray if white_is_zero else gray
    tags = {258: bits, 262: 1 - white_is_zero}
    data = tiff([packed(stored, bits)], stored.shape, tags)
    np.testing.assert_array_equal(image_reading.decode(data)[..., 2], light)


def both(data):
    """Pixels by both routes."""
    pixels = image_reading.decode(data)
    np.testing.assert_array_equal(image_reading.decode_tensor(data), pixels)
    return pixels


@pytest.mark.parametrize(
    ("kind", "bits", "compressed", "is_read"),
    [
        ("RGB", 8, False, True),
        ("RGB", 8, True, True),
        ("RGB", 16, True, True),
        ("RGB", 16, False, False),
        ("RGBA", 8, False, True),
        ("RGBA", 16, True, True),
        ("RGBA", 16, False, False),
        ("CMYK", 8, False, True),
        ("CMYK", 16, True, True),
        ("CMYK", 16, False, False),
        ("LA", 8, False, False),
        ("LA", 8, True, False),
        ("L", 8, False, True),
        ("L", 4, True, True),
        ("L", 4, False, False),
        ("L", 1, False, True),
        ("I", 8, False, False),  # white is 0
        ("I", 8, True, True),
        ("L and others", 8, True, True),
        ("L and others", 16, True, True),
    ],
)
def test_channels_apart_in_a_tiff_are_read_rightly_or_refused(
    kind, bits, compressed, is_read
):
    """Pillow reads some of them wrongly, without a word."""
    count = 3 if kind == "L and others" else len(kind)
    rng = np.random.default_rng(bits + count)
    samples = rng.integers(0, 1 << bits, (count, 6, 8))
    strips = [packed(plane, bits) for plane in samples]
    if compressed:
        strips = [zlib.compress(strip) for strip in strips]
    photometric = {"RGB": 2, "RGBA": 2, "CMYK": 5, "I": 0}.get(kind, 1)
    tags = {258: (bits,) * count, 259: 8 if compressed else 1, 262: photometric}
    tags |= {277: count, 284: 2}
    if kind in ("RGBA", "LA"):
        tags[338] = 2
    elif kind == "L and others":
        tags[338] = (0, 0)
    data = tiff(strips, (6, 8), tags)
    if not is_read:
        with pytest.raises(ValueError, match="a TIFF file whose channels are apart"):
            image_reading.decode(data)
        return
    try:
        Image.open(io.BytesIO(data))
    except UnidentifiedImageError:
        pytest.skip("This version of Pillow does not know it.")
    upper = samples >> (bits - 8) if bits > 8 else samples * (255 // ((1 << bits) - 1))
    upper = upper.transpose(1, 2, 0)
    if kind == "RGBA":
        expected = 255 - upper[..., 3:] / 255 * (255 - upper[..., :3])
    elif kind == "CMYK":
        expected = (255 - upper[..., :3]) * (255 - upper[..., 3:]) / 255
    else:
        expected = upper if kind == "RGB" else upper[..., [0, 0, 0]]
    expected = 255 - expected if kind == "I" else np.rint(expected)
    np.testing.assert_allclose(both(data), expected, atol=kind == "CMYK")


def test_sixteen_bits_of_colour_in_a_tiff():
    samples = np.random.default_rng(0).integers(0, 1 << 16, (6, 8, 3))
    tags = {258: (16, 16, 16), 262: 2, 277: 3, 284: 1}
    data = tiff([packed(samples, 16)], (6, 8), tags)
    np.testing.assert_array_equal(both(data), samples >> 8)


@pytest.mark.parametrize("side", [1, 2])
def test_subsampled_colours_are_read_if_they_are_compressed(side):
    """Uncompressed, Pillow takes them for whole, and reads on behind their end."""
    light = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    blocks = light.reshape(8 // side, side, 8 // side, side).swapaxes(1, 2)
    units = np.full((8 // side, 8 // side, side * side + 2), 128, np.uint8)
    units[..., :-2] = blocks.reshape(8 // side, 8 // side, -1)  # no colour
    tags = {258: (8, 8, 8), 262: 6, 277: 3, 530: (side, side)}
    strip = zlib.compress(units.tobytes())
    compressed = tiff([strip], (8, 8), tags | {259: 8})
    np.testing.assert_allclose(both(compressed)[..., 1].astype(int), light, atol=1)
    data = tiff([units.tobytes()], (8, 8), tags) + bytes(999)
    if side == 1 and Image.open(io.BytesIO(data)).mode == "YCbCr":
        np.testing.assert_allclose(both(data)[..., 1].astype(int), light, atol=1)
        return
    with pytest.raises(ValueError, match="a TIFF file of YCbCr"):
        image_reading.decode(data)


def png(pixels, colour_type, bits, *chunks):
    """A PNG of raw samples, which Pillow does not write in all kinds."""

    def chunk(name, content):
        checksum = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + checksum.to_bytes(4)

    rows = pixels.astype(f">u{bits // 8}").reshape(len(pixels), -1)
    header = struct.pack(">IIBBBBB", *pixels.shape[1::-1], bits, colour_type, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    chunks = ((b"IHDR", header), *chunks, (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*parts) for parts in chunks)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(("colour_type", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_png_of_all_kinds_and_depths(bits, colour_type, channels):
    """Each against the formula: of 16 bits the upper 8; then opacity over white."""
    rng = np.random.default_rng(bits + channels)
    samples = rng.integers(0, 1 << bits, (5, 7, channels))
    upper = samples >> (bits - 8)
    colours = upper[..., :3] if channels > 2 else upper[..., [0, 0, 0]]
    opacity = upper[..., -1:] / 255 if channels % 2 == 0 else 1.0
    expected = np.rint(255 - opacity * (255 - colours))
    np.testing.assert_array_equal(both(png(samples, colour_type, bits)), expected)


def test_transparent_colours_are_white():
    gray = np.array([[0, 7, 9]])
    one_gray = png(gray, 0, 8, (b"tRNS", b"\0\x07"))
    assert both(one_gray)[0, :, 0].tolist() == [0, 255, 9]
    rgb = np.array([[[1, 2, 3], [1, 2, 4]]])
    one_colour = png(rgb, 2, 8, (b"tRNS", b"\0\1\0\2\0\3"))
    assert both(one_colour).tolist() == [[[255, 255, 255], [1, 2, 4]]]
    colours = (b"PLTE", bytes([10, 20, 30, 255, 0, 0, 0, 0, 0]))
    palette = png(np.array([[0, 1, 2]]), 3, 8, colours, (b"tRNS", b"\xff\0\x80"))
    expected = [[[10, 20, 30], [255, 255, 255], [127, 127, 127]]]
    assert both(palette).tolist() == expected


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_opacity_of_every_format_is_over_white(kind):
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    pixels = np.zeros((16, 32, 4), np.uint8)
    pixels[:, 16:, 3] = 255  # transparent, then black
    lossless = {"PNG": {}, "TIFF": {}, "WEBP": {"lossless": True}}
    options = lossless.get(kind, {"quality": 95})
    actual = both(encoded(pixels, kind, "RGBA", **options)).astype(int)
    assert actual.shape == (16, 32, 3)
    assert actual[:, :15].min() >= 250
    assert actual[:, 17:].max() <= 5


def test_of_several_frames_the_first_is_read():
    red, blue = (Image.new("RGB", (8, 6), name) for name in ("red", "blue"))
    clear = Image.new("RGBA", (8, 6), (0, 0, 0, 0))
    clear.paste(red.crop((0, 0, 4, 6)))
    for kind, first in (
        ("GIF", red),
        ("GIF", clear),
        ("WEBP", red),
        ("TIFF", red),
        ("PNG", clear),
        ("AVIF", red),
    ):
        buffer = io.BytesIO()
        options = {"lossless": True} if kind == "WEBP" else {}
        first.save(buffer, kind, save_all=True, append_images=[blue], **options)
        assert Image.open(io.BytesIO(buffer.getvalue())).n_frames == 2
        actual = both(buffer.getvalue()).astype(int)
        assert np.abs(actual[:, :4] - (255, 0, 0)).max() <= 3
        right = (255, 0, 0) if first is red else (255, 255, 255)
        assert np.abs(actual[:, 4:] - right).max() <= 3


@pytest.mark.parametrize("ink", ["Adobe", "Adobe YCCK", "no marker"])
def test_ink_becomes_light(ink):
    data = bytearray(encoded(photograph(), "JPEG", "CMYK", quality=95))
    marker = data.index(b"\xff\xee")  # of Adobe: 14 bytes, the last says what it is
    if ink == "Adobe YCCK":
        data[marker + 15] = 2
    elif ink == "no marker":
        del data[marker : marker + 16]
    data = bytes(data)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    actual = both(data).astype(int)
    assert np.abs(actual - expected).mean() < 3
    if ink != "Adobe YCCK":
        assert np.abs(actual - photograph()).mean() < 3


def test_progressive_files_have_the_pixels_of_others():
    one, other = (
        encoded(photograph(), "JPEG", progressive=progressive)
        for progressive in (True, False)
    )
    np.testing.assert_array_equal(both(one), both(other))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_colour_profiles_are_not_applied(kind):
    swapped = bytearray(
        ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    )
    red, blue = (swapped.index(name) for name in (b"rXYZ", b"bXYZ"))
    swapped[red : red + 4], swapped[blue : blue + 4] = b"bXYZ", b"rXYZ"
    profiled = encoded(photograph(), kind, icc_profile=bytes(swapped))
    assert Image.open(io.BytesIO(profiled)).info["icc_profile"] == swapped
    np.testing.assert_array_equal(both(profiled), both(encoded(photograph(), kind)))


def test_heif_is_read_or_the_extra_named(tmp_path, monkeypatch):
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(photograph(), "HEIF", quality=95, exif=exif.tobytes())
    error = np.abs(both(data).astype(int) - photograph().swapaxes(0, 1)[:, ::-1])
    assert error.mean() < 6
    (tmp_path / "cat").mkdir()
    for name in ("a.heic", "b.HEIF", "c.heif"):
        (tmp_path / "cat" / name).write_bytes(data)
    assert len(find_images(tmp_path)[0]) == 3
    assert len(kerashash.data.from_directory(tmp_path).x) == 3
    monkeypatch.setattr(image_reading, "known_formats", lambda: ("JPEG", "PNG"))
    for read in (image_reading.decode, image_reading.decode_tensor):
        with pytest.raises(Exception, match=r"needs pip install 'kerashash\[heif\]'"):
            read(data)


def saved(mode, kind="TIFF"):
    buffer = io.BytesIO()
    Image.new(mode, (4, 4)).save(buffer, kind)
    return buffer.getvalue()


def twelve_bits():
    data = bytearray(encoded(photograph(), "JPEG"))
    data[data.index(b"\xff\xc0") + 4] = 12
    return bytes(data)


def without_palette():
    """A PNG file of palette type whose palette is missing."""
    data = encoded(photograph(), "PNG", "P")
    start = data.index(b"PLTE") - 4
    (length,) = struct.unpack(">I", data[start : start + 4])
    return data[:start] + data[start + 12 + length :]


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "empty"),
        (without_palette(), "not an image, or truncated"),
        (b"<html>", "not a readable image"),
        (encoded(photograph(), "JPEG")[:-400], "truncated"),
        (encoded(photograph(), "PNG")[:-400], "truncated"),
        (encoded(photograph(), "BMP")[:-400], "truncated"),
        (encoded(photograph(), "WEBP")[:-40], "truncated|not a readable image"),
        (encoded(photograph(), "GIF")[:-400], "truncated"),
        (twelve_bits(), "a JPEG of 12 bits, of which 8 are read"),
        (twelve_bits()[:-1000][:30] + b"\xff", "not a readable image"),
        (saved("I"), "pixels of Pillow's mode I, which are no RGB"),
        (saved("F"), "pixels of Pillow's mode F, "),
        (saved("LAB"), "pixels of Pillow's mode LAB, "),
        (tiff([bytes(16)], (4, 4), {258: 8, 262: 1, 339: 2}), "TIFF file of signed"),
        (encoded(photograph(), "EPS"), "not a readable image"),
        (encoded(photograph(), "PPM"), "not a readable image"),
    ],
)
def test_faults_are_named(data, fault):
    with pytest.raises(ValueError, match=fault):
        image_reading.decode(data)


def test_a_fault_in_a_header_is_named_in_a_graph():
    with pytest.raises(tf.errors.InvalidArgumentError, match="not an image"):
        image_reading.decode_tensor(without_palette())


def test_a_small_file_does_not_become_gigabytes():
    image = Image.new("1", (14_000, 14_000))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    with pytest.raises(ValueError, match="more than 134 million pixels"):
        image_reading.decode(buffer.getvalue())


def test_a_lack_of_memory_is_the_fault_of_one_file(tmp_path, monkeypatch):
    paths = [tmp_path / f"{name}.png" for name in "abcde"]
    for path in paths:
        path.write_bytes(encoded(photograph(), "PNG"))
    monkeypatch.setattr(image_reading, "_MAX_BYTES", paths[0].stat().st_size)
    paths[1].write_bytes(paths[0].read_bytes() + b"0")
    regular, resize = image_reading.open_regular, image_reading.resize
    decode_image = tf.io.decode_image

    class Large(io.FileIO):
        def read(self):
            raise MemoryError

    def lacking(function):
        calls = itertools.count()

        def lack(*arguments, **options):
            if next(calls) == 1:  # of the second that comes so far
                raise MemoryError
            return function(*arguments, **options)

        return lack

    def opened(path):
        return Large(path) if path == paths[2] else regular(path)

    monkeypatch.setattr(image_reading, "open_regular", opened)
    monkeypatch.setattr(tf.io, "decode_image", lacking(decode_image))
    monkeypatch.setattr(image_reading, "resize", lacking(resize))
    ((pixels, read, faults),) = image_reading.read_ahead(
        paths, image_reading.content, 8, threads=1
    )
    assert read == paths[:1]
    assert len(pixels) == 1
    reasons = ["larger than 0 GiB", *["too large for the memory"] * 3]
    assert faults == [*zip(paths[1:], reasons, strict=True)]


@pytest.mark.filterwarnings("error")
def test_a_large_photograph_is_read_without_a_warning():
    buffer = io.BytesIO()
    Image.new("1", (12_000, 9_000)).save(buffer, "PNG")
    assert image_reading.opened(buffer.getvalue()).size == (12_000, 9_000)


@pytest.fixture(scope="module")
def model():
    """A model of images of 20 x 20."""
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Rescaling(1 / 255), keras.layers.Flatten()]
    net = keras.Sequential([keras.Input((20, 20, 3)), *layers])
    return kerashash.AdaLabelHash(net, bits=96, num_classes=2)


@pytest.fixture
def folder(tmp_path):
    """Photographs of all formats and sizes, in two classes."""
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds = ("jpg", "png", "bmp", "gif", "webp", "tif", "avif", "JPEG")
    for label in range(2):
        (tmp_path / "all" / str(label)).mkdir(parents=True)
        for i, kind in enumerate(kinds):
            image = photograph((60 + 9 * i, 90 - 9 * i), seed=2 * i + label)
            file = tmp_path / "all" / str(label) / f"{i}.{kind}"
            options = {"exif": exif} if kind.lower() in ("jpeg", "jpg", "png") else {}
            Image.fromarray(image).save(file, **options)
    return tmp_path / "all"


@pytest.mark.parametrize("image_size", [None, 20])
def test_a_file_has_one_code_by_every_route(folder, model, image_size):
    data = kerashash.data.from_directory(folder, image_size=image_size)
    assert len(data.x) == 16
    paths = [folder / name for name in data.names[data.splits["database"]]]
    expected = model.encode(paths)
    assert len(np.unique(expected, axis=0)) == len(paths)
    np.testing.assert_array_equal(model.encode(read_images(paths, 20)), expected)
    for dataset in (
        data.database,
        data.database.batch(3),
        data.database.batch(4).prefetch(2),
    ):
        np.testing.assert_array_equal(model.encode(dataset), expected)
    half = data.database.skip(2).take(5).batch(2)
    np.testing.assert_array_equal(model.encode(half), expected[2:7])
    # As users of `tf.data` see it.
    side = image_size or 224
    assert data.database.element_spec[0].shape == (side, side, 3)
    assert data.x[:1].shape == (1, side, side, 3)


def test_features_are_cached_in_the_size_of_the_backbone(folder, model, tmp_path):
    data = kerashash.data.from_directory(folder)
    features = kerashash.data.cache_features(data, model.backbone, tmp_path / "cache")
    x = read_images([folder / name for name in data.names], 20)
    np.testing.assert_allclose(
        features.x, model.backbone.predict(x, verbose=0), rtol=1e-6
    )


def test_a_shuffled_split_goes_on_in_its_order(folder):
    train = kerashash.data.from_directory(folder).train
    epochs = [
        [int(y["index"]) for _, y in photographs.as_taken(train, 8, "squash")]
        for _ in range(3)
    ]
    assert len({tuple(epoch) for epoch in epochs}) == 3


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [
        (128, 128, 160),
        (160, 97, 160),  # the height stays
        (33, 64, 64),
        (1, 5, 9),
        (7, 1, 1),
        (1024, 3, 40),
        (500, 375, 224),
        (1025, 20, 32),  # too large
    ],
)
def test_arrays_become_what_a_graph_makes_of_them(rng, height, width, size):
    image = rng.integers(0, 256, (width, height, 3), dtype=np.uint8).swapaxes(0, 1)
    for fit in resizing.FITS:
        actual = resizing.resize(image, size, fit)
        expected = resizing.resize_tensor(tf.constant(image), size, fit)
        np.testing.assert_array_equal(actual, expected)
        assert actual.dtype == np.uint8


def test_small_images_are_resized_by_scipy_where_it_rounds_like_tensorflow(
    rng, monkeypatch
):
    image = rng.integers(0, 256, (30, 20, 3), dtype=np.uint8)
    expected = resizing.resize_tensor(tf.constant(image), 16)
    squashed, calls = resizing._squashed, []

    def inexact(image, size):
        calls.append(size)
        return squashed(image, size) + np.float32(2**-12) * shift

    monkeypatch.setattr(resizing, "_squashed", inexact)
    for shift in (0, 1):
        resizing._agrees_with_tensorflow.cache_clear()
        assert resizing._agrees_with_tensorflow() == (not shift)
        calls.clear()
        np.testing.assert_array_equal(resizing.resize(image, 16), expected)
        assert calls == [16] * (not shift)
        # A large one is TensorFlow's in any case.
        resizing.resize(np.zeros((1025, 8, 3), np.uint8), 16)
        assert len(calls) == (not shift)
    resizing._agrees_with_tensorflow.cache_clear()


def test_fits_by_hand():
    """Sizes in which no pixel is between others: the fits are exact."""
    wide = np.arange(3 * 7 * 3, dtype=np.uint8).reshape(3, 7, 3)
    tall = np.ascontiguousarray(wide.swapaxes(0, 1))
    crop = wide[:, 2:5]
    np.testing.assert_array_equal(resizing.resize(wide, 3, "crop"), crop)
    expected = crop.swapaxes(0, 1)
    np.testing.assert_array_equal(resizing.resize(tall, 3, "crop"), expected)
    pad = np.full((7, 7, 3), 255)
    pad[2:5] = wide
    np.testing.assert_array_equal(resizing.resize(wide, 7, "pad"), pad)
    expected = pad.swapaxes(0, 1)
    np.testing.assert_array_equal(resizing.resize(tall, 7, "pad"), expected)
    # Odd margins: the further row below; and a strip keeps a row.
    assert (resizing.resize(wide[:2], 7, "pad")[[1, 4]] == 255).all()
    strip = np.zeros((1, 5000, 3), np.uint8)
    assert resizing.resize(strip, 8, "pad")[:, 0, 0].tolist().count(255) == 7
    # In between, as the same pixels are resized that are no squares.
    image = photograph((60, 44))
    np.testing.assert_array_equal(
        resizing.resize(image, 20, "crop"),
        resizing.resize(image[:, 8:52], 20),
    )
    expected = tf.image.resize(image, (15, 20), "bicubic", antialias=True)
    expected = np.rint(np.clip(expected, 0, 255))
    actual = resizing.resize(image, 20, "pad")
    np.testing.assert_array_equal(actual[2:17], expected)
    assert (actual[[0, 1, 17, 18, 19]] == 255).all()


@pytest.mark.parametrize(("fit", "image_size"), [("crop", None), ("pad", 20)])
def test_every_route_reads_as_the_model_was_trained(
    fit, image_size, folder, model, tmp_path
):
    trained = type(model).from_config({**model.get_config(), "image_fit": fit})
    paths = sorted((folder / "0").iterdir())
    expected = model.encode(read_images(paths, 20, fit))
    kerashash.save_model(trained, tmp_path / "m.keras")
    loaded = kerashash.load_model(tmp_path / "m.keras")
    loaded.set_weights(model.get_weights())
    assert loaded.get_config()["image_fit"] == fit
    assert "image_fit" not in model.get_config()
    assert not np.array_equal(expected, model.encode(paths))
    np.testing.assert_array_equal(loaded.encode(paths), expected)
    store = kerashash.CodeStore.create(tmp_path / "p.khs", loaded)
    encode_files(folder / "0", store)
    np.testing.assert_array_equal(store.codes(), expected)
    found = store.search(paths, k=1)
    assert found.distances.ravel().tolist() == [0] * len(paths)
    data = kerashash.data.from_directory(folder, image_size=image_size)
    order = {name: row for row, name in enumerate(data.names)}
    rows = [order[f"0/{path.name}"] for path in paths]
    splits = data.splits | {"database": np.array(rows)}
    database = dataclasses.replace(data, splits=splits).database
    batches = database.batch(3).take(9)
    np.testing.assert_array_equal(loaded.encode(batches), expected)
    kerashash.CodeStore.create(tmp_path / "q.khs", model)
    with pytest.raises(ValueError, match="20 pixels"):
        kerashash.CodeStore.open(tmp_path / "q.khs", loaded)


def test_a_model_refuses_images_of_another_fit(folder, model):
    cropping = type(model).from_config({**model.get_config(), "image_fit": "crop"})
    cropping.compile()
    padded = kerashash.data.from_directory(folder, image_size=20, fit="pad")
    message = "`fit` of the images must be the model's `image_fit`, 'crop'.*fit='pad'"
    batches = padded.train.batch(4)
    for refused in (batches, batches.map(lambda x, y: (x, y)).prefetch(1)):
        with pytest.raises(ValueError, match=message):
            cropping.fit(refused, verbose=0)
    with pytest.raises(ValueError, match=message):
        cropping.encode(padded.query)
    # What has been read with an open fit was squashed.
    train = kerashash.data.from_directory(folder, image_size=20).train
    read = train.map(lambda x, y: (x, y)).cache().batch(4)
    with pytest.raises(ValueError, match="fit='squash'"):
        cropping.fit(read, verbose=0)
    cropping.fit(train.batch(16), verbose=0)
    assert photographs.as_taken(read, 20, "squash") is read
    for wrong in (
        lambda: kerashash.data.from_directory(folder, fit="stretch"),
        lambda: read_images([], 20, "stretch"),
        lambda: kerashash.AdaLabelHash("features", 8, num_classes=2, image_fit="x"),
    ):
        with pytest.raises(ValueError, match="fit` must be one of"):
            wrong()


@pytest.mark.slow
def test_features_remember_the_fit_of_their_images(folder, model, tmp_path):
    padded = kerashash.data.from_directory(folder, image_size=20, fit="pad")
    features = kerashash.data.cache_features(padded, model.backbone, tmp_path)
    squashed = kerashash.data.from_directory(folder, image_size=20)
    others = kerashash.data.cache_features(squashed, model.backbone, tmp_path)
    assert not np.array_equal(features.x, others.x)
    on_features = kerashash.AdaLabelHash("features", 96, num_classes=2)
    on_features.compile()
    photographs.as_taken(others.train, None, "squash")
    with pytest.raises(ValueError, match="image_fit='pad'"):
        on_features.fit(features.train.batch(4), verbose=0)


def test_wrong_files_are_all_named(model, folder):
    paths = sorted((folder / "0").iterdir())
    paths[1].write_bytes(b"text")
    paths[3].unlink()
    with pytest.raises(ValueError, match=r"`x` must.*2 files: .*1\.png.*3\.gif.*no su"):
        model.encode(paths)
    # All of them, also where they are in several batches, the last one whole.
    message = r"2 files: '[^']*1\.png' \([^)]*\), '[^']*3\.gif' \(no such file\)\.$"
    with pytest.raises(ValueError, match=message):
        model.encode([*paths, paths[0]], batch_size=2)
    with pytest.raises(ValueError, match=message):
        model.continuous_codes(paths, batch_size=1)
    with pytest.raises(ValueError, match=r"`paths` must hold.*1 file: .*1\.png"):
        read_images(paths[:2], 20)
    with pytest.raises(TypeError, match="`paths` must be a list of paths"):
        read_images("a.png", 20)
    with pytest.raises(ValueError, match="`image_size` must be at least 1"):
        read_images(paths[:1], 0)
    assert read_images([], 20).shape == (0, 20, 20, 3)


def test_wrong_files_are_skipped_and_said(model, folder):
    paths = sorted((folder / "0").iterdir())
    expected = model.encode(paths)
    paths[1].write_bytes(b"text")
    paths[3].unlink()
    codes, skipped = model.encode(paths, batch_size=2, on_error="skip")
    assert skipped == {1: "not a readable image", 3: "no such file"}
    np.testing.assert_array_equal(codes, np.delete(expected, [1, 3], axis=0))
    codes, skipped = model.encode(paths[1:2], packed=False, on_error="skip")
    assert codes.shape == (0, model.bits)
    assert [*skipped] == [0]
    codes, skipped = model.encode(read_images(paths[:1], 20), on_error="skip")
    np.testing.assert_array_equal(codes, expected[:1])
    assert skipped == {}
    with pytest.raises(ValueError, match="`on_error` must be one of"):
        model.encode(paths, on_error="ignore")


def test_folders_patterns_and_generators_of_paths_are_read(model, folder, monkeypatch):
    paths = sorted((folder / "0").iterdir())
    expected = model.encode(paths)
    for x in (
        folder / "0",
        f"{folder}/0/*",
        iter(paths),
        (path for path in paths),
        tuple(map(str, paths)),
        dict.fromkeys(paths).keys(),
    ):
        np.testing.assert_array_equal(model.encode(x, batch_size=3), expected)
    np.testing.assert_array_equal(model.encode(paths[2]), expected[2:3])
    assert model.continuous_codes(folder).shape == (16, 96)
    monkeypatch.chdir(folder)
    assert len(model.encode(".")) == 16
    (folder / "0" / "3.gif").write_bytes(b"")
    codes, skipped = model.encode(folder / "0", on_error="skip")
    assert (len(codes), skipped) == (7, {3: "empty"})
    with pytest.raises(ValueError, match=r"`x` must.*1 file: '[^']*3\.gif' \(empty\)"):
        model.encode(iter(paths), batch_size=2)
    with pytest.raises(ValueError, match="`x` must be folders, files or patterns"):
        model.encode("nowhere")
    with pytest.raises(ValueError, match=r"`x` must match files.*'\*\.tga'"):
        model.encode("*.tga")
    with pytest.raises(ValueError, match=r"1 file: '0' \(Is a directory\)"):
        model.encode(["0"])  # of a list, a path is an image
    vectors = kerashash.AdaLabelHash("features", bits=8, num_classes=2)
    for x in (iter(paths), folder):
        with pytest.raises(ValueError, match=r"takes no images\. Received paths: '"):
            vectors.encode(x)


def test_the_home_folder_is_that_of_whoever_reads(model, folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))  # of Windows
    monkeypatch.chdir(folder / "1")
    expected = model.encode([folder / "0" / "1.png"])
    for x in ("~/0/1.png", ["~/0/1.png"], iter(["~/0/1.png"]), "~/0/*.png"):
        np.testing.assert_array_equal(model.encode(x), expected)
    np.testing.assert_array_equal(
        read_images(["~/0/1.png"], 20), read_images([folder / "0" / "1.png"], 20)
    )
    # Names that only begin like it, and a folder of that name which a pattern matches.
    os.link("1.png", "~1.png")
    os.makedirs("~/0")
    os.link("1.png", "~/0/1.png")
    expected = model.encode(["1.png"])
    for x in ("~1.png", ["~1.png"], "~1*", ["./~/0/1.png"], "*/0/*"):
        np.testing.assert_array_equal(model.encode(x), expected)


def test_names_in_errors_are_escaped_once():
    vectors = kerashash.AdaLabelHash("features", bits=8, num_classes=2)
    with pytest.raises(ValueError, match=r"paths: 'a\\nb\.png'"):
        vectors.encode(["a\nb.png"])
    images = kerashash.data.EncodedImages(
        lambda rows: [b""], 1, 8, stamp="", names=["a\nb.png"]
    )
    with pytest.raises(ValueError, match=r"Received: 'a\\nb\.png' \(empty\)"):
        images.check(np.array([0]))


def test_paths_may_be_any_that_can_be_counted(folder):
    paths = sorted((folder / "0").iterdir())
    expected = read_images(paths, 8)
    np.testing.assert_array_equal(read_images(iter(paths), 8), expected)
    for wrong in (5, None, [5], [b"a.jpg"]):
        with pytest.raises(TypeError, match="`paths` must"):
            read_images(wrong, 8)


def test_few_batches_are_read_ahead():
    file = encoded(photograph((4, 4)), "PNG")
    begun, taken = [], []

    def content_of(item):
        begun.append(item)
        return b"" if item % 5 == 4 else file

    def endless():
        for item in itertools.count():
            taken.append(item)
            yield item

    batches = image_reading.read_ahead(endless(), content_of, 4, batch_size=10)
    for number in range(50):
        pixels, items, faults = next(batches)
        start = 10 * number
        assert items == [i for i in range(start, start + 10) if i % 5 != 4]
        assert faults == [(start + 4, "empty"), (start + 9, "empty")]
        assert pixels.shape == (8, 4, 4, 3)
        assert len(taken) <= start + 21
    batches.close()  # which waits for what has begun
    assert len(begun) <= len(taken)

    def broken(item):
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        next(image_reading.read_ahead([1], broken, 4))


def test_the_next_batch_is_read_while_one_is_used():
    file = encoded(photograph((4, 4)), "PNG")
    read = {item: threading.Event() for item in range(12)}

    def content_of(item):
        read[item].set()
        return file

    batches = image_reading.read_ahead(range(12), content_of, 4, batch_size=4)
    next(batches)
    for item in range(8):  # without another call
        assert read[item].wait(10)


@pytest.mark.skipif(os.name != "posix", reason="names of files are text elsewhere")
def test_names_that_are_not_utf_8_are_read_or_named(model, folder):
    path = os.fsdecode(os.fsencode(folder / "0") + b"/caf\xe9.png")
    try:
        os.link(folder / "0" / "1.png", path)
    except OSError:
        pytest.skip("this file system refuses such names")
    np.testing.assert_array_equal(
        model.encode([path]), model.encode([folder / "0" / "1.png"])
    )
    message = r"1 file: 0/caf\\udce9\.png \(a name that is not UTF-8\)"
    with pytest.raises(ValueError, match=message):
        kerashash.data.from_directory(folder)
    with pytest.warns(UserWarning, match=message):
        data = kerashash.data.from_directory(folder, corrupt="skip")
    assert len(data.x) == 16


@pytest.mark.parametrize(("size", "error"), [(10**9, ValueError), (None, TypeError)])
def test_a_wrong_size_is_named(size, error):
    with pytest.raises(error, match="`image_size` must be"):
        kerashash.data.read_images(["a.png"], size)
    if size is not None:
        with pytest.raises(error, match="`image_size` must be"):
            kerashash.data.EncodedImages(None, 1, size, stamp="")


@pytest.mark.parametrize(
    ("n", "choices", "message"),
    [
        (2, {"fit": "Crop"}, "`fit` must be one of"),
        (2, {"names": ["a.png"]}, "`names` must have n=2 names.* Received: 1"),
        (-1, {}, "`n` must be at least 0"),
        (2.0, {}, "`n` must be an integer"),
    ],
)
def test_wrong_arguments_of_encoded_images(n, choices, message):
    with pytest.raises((TypeError, ValueError), match=message):
        kerashash.data.EncodedImages(None, n, 8, stamp="", **choices)
