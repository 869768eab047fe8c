"""Make the documentation's pictures, or a folder of photographs that may be shown.

    python scripts/docs_pictures.py --figures

draws the figures of `FIGURES` into docs/images, from entries; one of them reads
CIFAR-10.

    pip install scikit-image
    python scripts/docs_pictures.py photos query.jpg
    kerashash encode photos --model dcdh-ap-mirflickr-48 --out photos.khs
    kerashash search query.jpg --in photos.khs --top 8 --png docs/images/search.png

Twelve photographs come with scikit-image and scikit-learn: those of NASA are in the
public domain, "china" is by danielbuechele and "flower" by vultilion, both on Flickr
under CC BY 2.0, and all others are CC0. Each is cut in eight ways; the eighth cut of
"chelsea" is the query and is not in the folder.
"""

import pathlib
import sys

import numpy as np
import PIL.Image

from kerashash import cli

IMAGES = pathlib.Path(__file__).resolve().parent.parent / "docs" / "images"
FIGURES = {
    "codes.png": "adalabel-cifar10-48 --kind tsne",
    "codewords.png": "adalabel-nuswide-48 --kind codewords",
    "neighbourhoods.png": "ddh-cifar10-32 --kind neighbours",
}
COLOURS = 64
CUTS = 8
QUERY = "chelsea"
OF_SKIMAGE = (
    *("astronaut.png", "brick.png", "camera.png", "chelsea.png", "clock_motion.png"),
    *("coffee.png", "grass.png", "gravel.png", "hubble_deep_field.jpg", "rocket.jpg"),
)
OF_SKLEARN = ("china.jpg", "flower.jpg")


def cuts(image, rng):
    """Yield parts of an image, some of them mirrored, darker or brighter."""
    width, height = image.size
    for number in range(CUTS):
        share = rng.uniform(0.55, 0.85)
        w, h = int(share * width), int(share * height)
        x, y = int(rng.integers(width - w)), int(rng.integers(height - h))
        part = image.crop((x, y, x + w, y + h))
        if number % 2:
            part = part.transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT)
        part.thumbnail((320, 320))
        light = rng.uniform(0.85, 1.15)
        yield PIL.Image.fromarray(np.uint8(np.clip(light * np.asarray(part), 0, 255)))


def draw_figures():
    """Draw the figures of entries, in few colours, which makes small files."""
    for name, words in FIGURES.items():
        file = IMAGES / name
        if cli.main(["plot", *words.split(), "--out", str(file)]):
            sys.exit(f"{name} was not drawn.")
        image = PIL.Image.open(file).convert("RGB")
        image.quantize(COLOURS, dither=PIL.Image.Dither.NONE).save(file, optimize=True)


def main():
    """Draw the figures, or write the folder and the query that the command names."""
    if sys.argv[1:] == ["--figures"]:
        draw_figures()
        return
    # For the photographs that come with them.
    import skimage
    import sklearn

    folder, query = map(pathlib.Path, sys.argv[1:])
    folder.mkdir()
    rng = np.random.default_rng(0)
    skimage_data = pathlib.Path(skimage.__file__).parent / "data"
    sklearn_data = pathlib.Path(sklearn.__file__).parent / "datasets" / "images"
    sources = [skimage_data / name for name in OF_SKIMAGE]
    sources += [sklearn_data / name for name in OF_SKLEARN]
    for source in sources:
        *parts, last = cuts(PIL.Image.open(source).convert("RGB"), rng)
        if source.stem == QUERY:
            last.save(query, quality=90)
        else:
            parts.append(last)
        for number, part in enumerate(parts, start=1):
            part.save(folder / f"{source.stem}-{number}.jpg", quality=90)
    # What duplicates are often: the same photograph, smaller, saved once more.
    copy = PIL.Image.open(folder / "rocket-1.jpg")
    copy.resize((copy.width // 2, copy.height // 2)).save(
        folder / "rocket-1-small.jpg", quality=70
    )


if __name__ == "__main__":
    main()
