import fractions
import itertools
import xml.etree.ElementTree

import matplotlib.colors
import matplotlib.image
import matplotlib.text
import numpy as np
import pytest

from kerashash.monitoring import plots


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 3)])
def test_relevant_neighbours_have_another_frame(tmp_path, shape):
    relevant = np.array([[True, False, True], [False, False, True]])
    path = tmp_path / "grid.png"
    figure = plots.retrieval_grid(
        np.zeros((2, *shape)), np.ones((2, 3, *shape)), relevant, path
    )
    frames = [
        matplotlib.colors.same_color(frame.get_edgecolor(), "tab:green")
        for frame in figure.axes[0].patches
        if frame.get_linewidth() > 2
    ]
    assert frames == relevant.ravel().tolist()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.texts] == ["relevant", "not relevant"]
    assert matplotlib.image.imread(path).shape[2] == 4


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 3)])
def test_zero_is_black(shape):
    black = np.zeros((1, *shape), np.uint8)
    figure = plots.retrieval_grid(black, 255 - black[:, None])
    colours = [
        image.to_rgba(image.get_array(), bytes=True) for image in figure.axes[0].images
    ]
    assert [colour[0, 0, :3].tolist() for colour in colours] == [[0] * 3, [255] * 3]


def test_a_figure_is_written_whole_under_its_own_name(tmp_path, monkeypatch):
    path = tmp_path / "bits"
    figure = plots.bit_correlations(np.eye(2), path=path)
    assert [file.name for file in tmp_path.iterdir()] == ["bits"]
    before = path.read_bytes()
    assert before.startswith(b"\x89PNG")
    plots.bit_correlations(np.eye(2), path=tmp_path / "bits.svg")
    assert b"<svg" in (tmp_path / "bits.svg").read_bytes()

    def fail(file, **_):
        file.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(type(figure), "savefig", lambda _, file, **__: fail(file))
    with pytest.raises(OSError, match="No space"):
        plots.bit_correlations(np.eye(2), path=path)
    assert path.read_bytes() == before
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ValueError, match=r"folder\.png"):
        plots.bit_correlations(np.eye(2), path=tmp_path / "folder.png")


def test_shapes_that_do_not_match_are_named():
    with pytest.raises(ValueError, match="`queries`, `neighbours` and `relevant`"):
        plots.retrieval_grid(
            np.zeros((2, 8, 8)), np.zeros((1, 3, 8, 8)), np.zeros((2, 3))
        )


def test_correlations_have_a_scale_on_which_zero_is_white(tmp_path):
    matrix = np.array([[1.0, -0.5], [-0.5, 1.0]])
    figure = plots.bit_correlations(matrix, "title", tmp_path / "bits.png")
    image = figure.axes[0].images[0]
    np.testing.assert_array_equal(image.get_array(), matrix)
    assert image.get_clim() == (-1, 1)
    np.testing.assert_allclose(image.to_rgba(0.0)[:3], 1, atol=0.05)
    assert figure.axes[0].get_title() == "title"
    with pytest.raises(ValueError, match=r"`correlations` must have shape"):
        plots.bit_correlations(matrix[:1])


def test_printed_and_measured_values_have_a_panel_a_method(tmp_path):
    bits = [12, 24, 48]
    methods = {
        "a": {"bits": bits, "measured": [0.3, 0.4, 0.5], "spread": [0.1, 0.0, 0.2]},
        "b": {"bits": bits, "printed": [0.2, np.nan, 0.6]},
    }
    figure = plots.against_bits(methods, "table", path=tmp_path / "bits.png")
    assert (tmp_path / "bits.png").stat().st_size > 1000
    a, b = figure.axes
    assert [axis.get_title() for axis in figure.axes] == ["a", "b"]
    assert a.get_xlabel() == b.get_xlabel() == "bits"
    assert a.get_ylim() == b.get_ylim()
    np.testing.assert_array_equal(a.lines[0].get_ydata(), [0.3, 0.4, 0.5])
    np.testing.assert_array_equal(b.lines[0].get_xdata(), [12, 48])
    # Told apart without colours.
    assert a.lines[0].get_linestyle() != b.lines[0].get_linestyle()
    figure.canvas.draw()
    boxes = [axis.get_tightbbox() for axis in figure.axes]
    boxes += [figure.legends[0].get_window_extent()]
    assert not any(x.overlaps(y) for x, y in itertools.combinations(boxes, 2))
    with pytest.raises(ValueError, match="`methods` must hold one or more"):
        plots.against_bits({})
    with pytest.raises(ValueError, match="`methods` must hold `bits`"):
        plots.against_bits({"a": {"bits": [1, 2], "printed": [0.1]}})


def test_values_of_close_lengths_have_no_numbers_that_touch(tmp_path):
    bits = [12, 16, 24, 32, 48, 64, 256]
    values = {"bits": bits, "measured": np.linspace(0.3, 0.9, 7)}
    figure = plots.against_bits(dict.fromkeys("abcd", values))
    figure.canvas.draw()
    for axis in figure.axes:
        boxes = [text.get_window_extent() for text in axis.get_xticklabels()]
        assert len(boxes) >= 2
        assert not any(x.overlaps(y) for x, y in itertools.combinations(boxes, 2))
        np.testing.assert_array_equal(axis.lines[0].get_xdata(), bits)


def test_the_first_ranks_are_shown_on_a_linear_axis():
    curve = {"ranks": [1, 500, 1000], "precision_at": [0.9, 0.88, 0.87]}
    axes = plots.retrieval_curves({"a": curve}, "pn", scale="linear", title="b").axes[0]
    assert axes.get_xscale() == "linear"
    assert axes.get_ylim()[0] > 0.8
    assert axes.get_title() == "b"
    assert plots.retrieval_curves({"a": curve}, "pn").axes[0].get_ylim()[0] == 0
    with pytest.raises(ValueError, match="`scale` must be one of"):
        plots.retrieval_curves({"a": curve}, "pn", scale="square")


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_ranks_on_an_axis_are_named_once(scale):
    curve = {"ranks": [1, 2, 3], "precision_at": [1, 0.9, 0.8]}
    figure = plots.retrieval_curves({"a": curve}, "pn", scale=scale)
    figure.draw_without_rendering()
    axis, (low, high) = figure.axes[0].xaxis, figure.axes[0].get_xlim()
    labels = [
        text.get_text()
        for which in (False, True)
        for text in axis.get_ticklabels(minor=which)
        if text.get_text() and low <= text.get_position()[0] <= high
    ]
    assert len(labels) == len({*labels})


def overlapping(figure, artists):
    """Pairs of artists that cover each other."""
    figure.draw_without_rendering()
    boxes = [artist.get_window_extent() for artist in artists]
    return [
        pair for pair in itertools.combinations(boxes, 2) if pair[0].overlaps(pair[1])
    ]


def test_codes_of_one_class_are_near_each_other_on_the_map(rng, tmp_path):
    centres = rng.choice([-1, 1], (9, 32))
    labels = np.repeat(np.arange(9), 12)
    codes = centres[labels] * rng.choice([-1, 1], (108, 32), p=[0.03, 0.97])
    names = [f"class {i}" for i in range(10)]  # there is no code of the last
    figure = plots.code_map(
        codes, labels, names, "title", tmp_path / "map.png", perplexity=10
    )
    assert matplotlib.image.imread(tmp_path / "map.png").shape[2] == 4
    axes = figure.axes[0]
    assert axes.get_title() == "title"
    points = [group.get_offsets() for group in axes.collections]
    assert [len(group) for group in points] == [12] * 9
    means = np.array([group.mean(axis=0) for group in points])
    for number, group in enumerate(points):
        distances = np.linalg.norm(group[:, None] - means, axis=-1)
        assert np.mean(distances.argmin(axis=1) == number) > 0.9
    # Each has a colour and a mark that no other has.
    looks = {
        (matplotlib.colors.to_hex(group.get_facecolor()[0]), str(group.get_paths()))
        for group in axes.collections
    }
    assert len(looks) == 9
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.texts] == names[:9]
    assert not overlapping(figure, axes.texts)
    assert {text.get_text() for text in axes.texts} <= {*names}
    # Packed codes and label rows give the same points.
    again = plots.code_map(
        np.packbits(codes > 0, axis=1),
        np.eye(10)[labels],
        names,
        bits=32,
        perplexity=10,
    )
    for group, other in zip(points, again.axes[0].collections, strict=True):
        np.testing.assert_array_equal(group, other.get_offsets())


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("bits", [1, 2, 8])
@pytest.mark.parametrize("kind", ["equal", "two"])
def test_codes_that_collapsed_have_a_map(bits, kind):
    codes = np.ones((20, bits))
    if kind == "two":
        codes[::2] = -1
    figure = plots.code_map(codes, np.arange(20) % 2, ["a", "b"], perplexity=5)
    for group in figure.axes[0].collections:
        assert np.isfinite(group.get_offsets()).all()


def test_codes_without_one_class_are_refused():
    codes = np.ones((20, 8))
    rows = np.eye(2)[np.arange(20) % 2]
    rows[3] = 1
    with pytest.raises(ValueError, match="`labels` must give one class to each"):
        plots.code_map(codes, rows, ["a", "b"])
    with pytest.raises(ValueError, match="`labels` must hold class ids"):
        plots.code_map(codes, np.arange(20), ["a", "b"])
    with pytest.raises(ValueError, match="`perplexity` must be above 0 and below"):
        plots.code_map(codes, np.zeros(20, int), ["a", "b"], perplexity=20)


def test_lines_between_codewords_are_the_wider_the_nearer(tmp_path):
    # a and b differ in 1 bit, c and d in 2; the pairs in 7 or more.
    codewords = np.ones((4, 10))
    codewords[1, 0] = -1
    codewords[2:, :8] = -1
    codewords[3, 8:] = -1
    path = tmp_path / "words.png"
    figure = plots.codeword_graph(codewords, [*"abcd"], "title", path)
    assert matplotlib.image.imread(path).shape[2] == 4
    (axes,) = figure.axes
    places = {text.get_text(): np.array(text.xy) / 1.07 for text in axes.texts}
    lines = {}
    for line in axes.lines:
        ends = np.stack(line.get_data(), axis=1)
        if line.get_linestyle() == "-":
            named = [
                name
                for end in ends
                for name, place in places.items()
                if np.allclose(end, place)
            ]
            lines["".join(sorted(named))] = line.get_linewidth()
    assert {*lines} == {"ab", "cd"}
    mean = np.mean([1, 2, 7, 8, 9, 10])
    assert lines["ab"] / lines["cd"] == pytest.approx((mean - 1) / (mean - 2))
    # The groups are those pairs: marks and colours, one of each a group.
    groups = [line for line in axes.lines if line.get_linestyle() == "None"]
    assert [len(group.get_xdata()) for group in groups] == [2, 2]
    assert len({group.get_marker() for group in groups}) == 2
    assert len({group.get_color() for group in groups}) == 2
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.texts] == ["1 bit", "2 bits"]
    widths = [line.get_linewidth() for line in legend.get_lines()]
    assert widths == pytest.approx([lines["ab"], lines["cd"]])


@pytest.mark.parametrize(
    ("n", "name"), [(3, "a"), (21, "reflection"), (81, "a long name")]
)
def test_names_of_many_codewords_do_not_overlap(n, name, rng):
    names = [f"{name} {i}" for i in range(n)]
    figure = plots.codeword_graph(rng.choice([-1, 1], (n, 48)), names, "title")
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.texts] == names
    # Along the radius: apart if their anchors are as far apart as they are high.
    figure.draw_without_rendering()
    pixels = axes.transData.transform([text.xy for text in axes.texts])
    distances = np.linalg.norm(pixels[:, None] - pixels, axis=-1)
    height = 10 * figure.dpi / 72
    assert distances[np.triu_indices(n, 1)].min() > height
    around = axes.title.get_window_extent(), figure.legends[0].get_window_extent()
    for text in axes.texts:
        box = text.get_window_extent()
        assert figure.bbox.contains(*box.min)
        assert figure.bbox.contains(*box.max)
        assert not any(box.overlaps(other) for other in around)
        assert -90 <= (text.get_rotation() + 180) % 360 - 180 <= 90  # none upside down


def test_many_classes_of_codes_are_in_the_legend(rng):
    labels = np.arange(80) % 40
    names = [f"class {i}" for i in range(40)]
    codes = rng.choice([-1, 1], (80, 16))
    figure = plots.code_map(codes, labels, names, "title", perplexity=5)
    (legend,) = figure.legends
    figure.draw_without_rendering()
    box = legend.get_window_extent()
    assert figure.bbox.contains(*box.min)
    assert figure.bbox.contains(*box.max)
    assert len(legend.texts) == 40
    assert not overlapping(figure, figure.axes[0].texts)


def test_codewords_need_names():
    with pytest.raises(ValueError, match="with a name in `class_names` for each"):
        plots.codeword_graph(np.ones((3, 4)), ["a", "b"])
    with pytest.raises(ValueError, match="`codewords` must contain only -1 and"):
        plots.codeword_graph(np.zeros((3, 4)), ["a", "b", "c"])
    # All at one distance: no lines, and each alone.
    figure = plots.codeword_graph(np.eye(4)[:3] * 2 - 1, ["a", "b", "c"])
    assert len(figure.axes[0].lines) == 3


def test_precision_of_neighbourhoods_stands_at_how_many_are_similar(tmp_path):
    curves = {
        "nearest": {
            "k": [5, 15, 50],
            "similar": [7.0, 20.0, 70.0],
            "precision": [0.9, 0.8, 0.5],
        },
        "expanded": {
            "k": [1, 4, 10],
            "similar": [20.0, 40.0, 80.0],
            "precision": [0.8, 0.75, 0.7],
        },
    }
    figure = plots.neighbourhood_precision(curves, "title", tmp_path / "pairs.png")
    assert matplotlib.image.imread(tmp_path / "pairs.png").shape[2] == 4
    axes = figure.axes[0]
    assert axes.get_title() == "title"
    for line, curve in zip(axes.lines, curves.values(), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), curve["similar"])
        np.testing.assert_array_equal(line.get_ydata(), curve["precision"])
    assert [text.get_text() for text in axes.texts] == ["5", "15", "50", "1", "4", "10"]
    assert not overlapping(figure, axes.texts)
    # Away from the other curve: above the higher of the two.
    sides = [text.get_verticalalignment() for text in axes.texts]
    assert sides == ["bottom", "bottom", "top", "top", "bottom", "bottom"]
    assert len({line.get_linestyle() for line in axes.lines}) == 2
    with pytest.raises(ValueError, match="`curves` must hold one or more"):
        plots.neighbourhood_precision({})
    with pytest.raises(ValueError, match=r"`curves` must hold the arrays \['k'"):
        plots.neighbourhood_precision({"a": {"k": [1], "similar": [1.0]}})


def test_names_of_the_user_are_drawn_as_they_are(rng, tmp_path):
    names = ["_a $x^{", "$\\b$"]
    curve = {"precision_at": [1.0, 0.5], "recall_at": [0.5, 1.0]}
    pairs = {"k": [5, 10], "similar": [7.0, 14.0], "precision": [0.9, 0.8]}
    codes, words = rng.choice([-1, 1], (20, 8)), rng.choice([-1, 1], (4, 8))
    bits = {"bits": [8], "measured": [0.5]}
    images = np.zeros((1, 2, 2)), np.zeros((1, 2, 2, 2))
    path = tmp_path / "names.png"
    figures = [
        plots.retrieval_curves(dict.fromkeys(names, curve), "pr", path, title="$_{"),
        plots.neighbourhood_precision(dict.fromkeys(names, pairs), "$_{", path),
        plots.code_map(codes, np.arange(20) % 2, names, "$_{", path, perplexity=5),
    ]
    for figure in figures:
        assert [text.get_text() for text in figure.legends[0].texts] == names
        # Not as a formula, without the signs.
        assert not any(text.get_parse_math() for text in figure.legends[0].texts)
    plots.codeword_graph(words, [*names, "_", "$"], "$_{$", path)
    plots.against_bits(dict.fromkeys(names, bits), "$_{$", "$_{$", path)
    plots.bit_correlations(np.eye(2), "$_{$", path)
    plots.retrieval_grid(*images, None, path, [["$_{$", "_"]], "$_{$")


def test_long_names_leave_room_for_the_figure(rng, tmp_path):
    codes, names = rng.choice([-1, 1], (40, 8)), ["tench, " * 20, "b\nb"]
    figure = plots.code_map(
        codes, np.arange(40) % 2, names, "of " * 99, tmp_path / "map.png", perplexity=5
    )
    shown = [text.get_text() for text in figure.legends[0].texts]
    assert shown == ["tench, tench, tench, tench, ten…", "b b"]
    title = figure.axes[0].get_title().split("\n")
    assert [len(line) <= 64 for line in title] == [True, True]
    assert figure.axes[0].get_position().width > 0.4  # the rest is the legend's


def test_headings_are_no_wider_than_their_panels():
    values = {"bits": [8, 16], "measured": [0.5, 0.6]}
    figure = plots.against_bits({"x" * 80: values, "b": values})
    figure.draw_without_rendering()
    for axis in figure.axes:
        heading = axis.title.get_window_extent()
        assert heading.width <= 1.1 * axis.get_window_extent().width


def test_panels_without_values_are_refused():
    with pytest.raises(ValueError, match="`measured` or `printed`"):
        plots.against_bits({"a": {"bits": [8], "value": [0.5]}})


@pytest.mark.parametrize("name", ["queries", "neighbours"])
@pytest.mark.parametrize(
    "image", [np.full((8, 8), 200), np.full((8, 8), 2.0), np.full((8, 8), np.nan)]
)
def test_images_that_would_be_saturated_are_refused(name, image):
    images = {"queries": np.zeros((1, 8, 8)), "neighbours": np.zeros((1, 1, 8, 8))}
    images[name] = np.broadcast_to(image, images[name].shape)
    with pytest.raises((TypeError, ValueError), match=f"`{name}` must be uint8, or"):
        plots.retrieval_grid(**images)


def test_each_array_of_images_has_its_own_scale():
    figure = plots.retrieval_grid(
        np.zeros((1, 8, 8), np.uint8), np.ones((1, 1, 8, 8), np.float32)
    )
    limits = [image.get_clim() for image in figure.axes[0].images]
    assert limits == [(0, 255), (0, 1)]


def test_a_grid_takes_time_in_proportion_to_its_images(tmp_path, monkeypatch):
    """Neither an axis for each nor a layout of them, nor are they joined for SVG."""
    monkeypatch.setattr("matplotlib.image.composite_images", None)
    engine = "matplotlib.layout_engine.ConstrainedLayoutEngine.execute"
    monkeypatch.setattr(engine, None)
    with matplotlib.rc_context({"figure.constrained_layout.use": True}):
        figure = draw("retrieval_grid", path=tmp_path / "grid.svg")
    assert len(figure.axes) == 1


@pytest.mark.parametrize(
    ("image", "neighbour"), [((8, 8), (8, 8)), ((8, 2), (2, 8, 3)), ((1, 9), (9, 1))]
)
def test_nothing_of_a_grid_lies_upon_another(image, neighbour):
    figure = plots.retrieval_grid(
        np.zeros((2, *image)),
        np.zeros((2, 3, *neighbour)),
        np.ones((2, 3), bool),
        captions=[["10 bits"] * 3] * 2,
        title="\n".join(["word " * 6] * 2),
    )
    figure.draw_without_rendering()
    (axis,) = figure.axes
    for drawn in axis.images:
        width, height = drawn.get_window_extent().size
        rows, columns = drawn.get_array().shape[:2]
        assert width / height == pytest.approx(columns / rows)
        assert max(width, height) == pytest.approx(0.82 * figure.dpi)
    texts = [text for text in axis.texts if text.get_text()]
    assert [text.get_text() for text in texts] == [
        *("query", "1", "10 bits", "2", "10 bits", "3", "10 bits"),
        *["10 bits"] * 3,
    ]
    drawn = [*axis.images, *texts, figure._suptitle, figure.legends[0]]
    boxes = [artist.get_window_extent() for artist in drawn]
    assert not any(x.overlaps(y) for x, y in itertools.combinations(boxes, 2))
    for box in boxes:
        assert figure.bbox.containsx(box.x0)
        assert figure.bbox.containsx(box.x1)
        assert figure.bbox.containsy(box.y0)
        assert figure.bbox.containsy(box.y1)


@pytest.mark.parametrize("shape", [(491, 1), (1, 601)])
def test_a_grid_that_is_too_large_to_draw_is_refused(shape):
    q, k = shape
    with pytest.raises(ValueError, match=f"`queries` must .*: {q}, and {k} for each"):
        plots.retrieval_grid(np.zeros((q, 1, 1)), np.zeros((q, k, 1, 1)))


def test_a_grid_needs_queries():
    with pytest.raises(ValueError, match="`queries` must hold one or more"):
        plots.retrieval_grid(np.zeros((0, 8, 8)), np.zeros((0, 3, 8, 8)))
    with pytest.raises(ValueError, match="`queries`, `neighbours` and `relevant`"):
        plots.retrieval_grid(np.zeros((1, 8, 8)), np.zeros((1, 3, 8, 8)), [True])


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"seed": -1}, "`seed` must be at least 0"),
        ({"seed": "x"}, "`seed` must be an integer"),
        ({"seed": 1.5}, "`seed` must be an integer"),
        ({"perplexity": "5"}, "`perplexity` must be a number"),
        ({"codes": np.ones((1, 8)), "perplexity": 0.5}, "`codes` must be 2 or more"),
    ],
)
def test_options_of_the_map_are_named(options, named):
    options = {"codes": np.ones((20, 8)), "perplexity": 5, **options}
    labels = np.zeros(len(options["codes"]), int)
    with pytest.raises((TypeError, ValueError), match=named):
        plots.code_map(labels=labels, class_names=["a"], **options)


def test_curves_without_names_or_values_are_named():
    for plot in (plots.retrieval_curves, plots.neighbourhood_precision):
        with pytest.raises(TypeError, match="`curves` must be a dict by name"):
            plot([{"k": [1]}])
        with pytest.raises(TypeError, match="`curves` must be a dict by name"):
            plot({"a": [1]})
    with pytest.raises(TypeError, match="`methods` must be a dict by name"):
        plots.against_bits([{"bits": [8]}])
    with pytest.raises(ValueError, match="`methods` must hold one or more values"):
        plots.against_bits({"a": {"bits": [], "measured": []}})


CURVE = {"precision_at": [1.0, 0.5], "recall_at": [0.5, 1.0], "ranks": [1, 2]}
PAIRS = {"k": [5, 10], "similar": [7.0, 14.0], "precision": [0.9, 0.8]}
BITS = {"bits": [8, 16], "measured": [0.5, 0.6]}
WORDS = [[1, 1, 1], [1, 1, -1], [-1, -1, 1]]
PLOTS = {
    "against_bits": {"methods": {"a": BITS}},
    "bit_correlations": {"correlations": np.eye(2)},
    "code_map": {"codes": WORDS, "labels": [0, 1, 2], "class_names": [*"abc"],
                 "perplexity": 1},
    "codeword_graph": {"codewords": WORDS, "class_names": [*"abc"]},
    "neighbourhood_precision": {"curves": {"a": PAIRS}},
    "retrieval_curves": {"curves": {"a": CURVE}},
    "retrieval_grid": {"queries": np.zeros((1, 2, 2)),
                       "neighbours": np.zeros((1, 2, 2, 2))},
}  # fmt: skip


def draw(name, **options):
    return getattr(plots, name)(**{**PLOTS[name], **options})


def masked(values):
    return np.ma.masked_array(values, [True, *[False] * (len(values) - 1)])


@pytest.mark.parametrize("name", PLOTS)
@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("fig.v1.2", r"`path` must end in .*\.png"),
        ("a.xyz", r"`path` must end in .*\.svg"),
        ("", "`path` must be a"),
        (".", "`path` must be a file"),
        ("nodir/x.png", "`path` must lie in a folder that exists"),
        ("file/x.png", "`path` must be one that a file can have"),
        (f"{'x' * 300}.png", "`path` must be one that a file can have"),
        ("folder", "`path` must be a file"),
        ("~nobody-of-this-name/x.png", "`path` must be a path"),
        (1, "`path` must be a path, a str"),
        (b"x.png", "`path` must be a path, a str"),
    ],
)
def test_paths_are_checked_before_the_work(name, path, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    monkeypatch.setattr("matplotlib.figure.Figure.subplots", None)  # fails if called
    monkeypatch.setattr("sklearn.manifold.TSNE.fit_transform", None)
    with pytest.raises((TypeError, ValueError), match=message):
        draw(name, path=path)


def test_a_figure_is_written_below_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    plots.bit_correlations(np.eye(2), path="~/bits.PNG")
    assert (tmp_path / "bits.PNG").read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def no_tsne(monkeypatch):
    def points(self, x):
        assert type(self.perplexity) is float  # as scikit-learn requires
        return x[:, :2]

    monkeypatch.setattr("sklearn.manifold.TSNE.fit_transform", points)


@pytest.mark.usefixtures("no_tsne")
@pytest.mark.parametrize("name", PLOTS)
def test_titles_are_drawn_or_named(name, tmp_path):
    path = tmp_path / "title.svg"
    draw(name, title=None, path=path)
    assert ">None<" not in path.read_text()
    assert "<!-- None -->" not in path.read_text()
    figure = draw(name, title="a\x01 \udcff", path=path)
    xml.etree.ElementTree.parse(path)
    shown = [text.get_text() for text in figure.findobj(matplotlib.text.Text)]
    assert r"a\x01 \udcff" in shown
    with pytest.raises(TypeError, match="`title` must be a str"):
        draw(name, title=b"a")


@pytest.mark.usefixtures("no_tsne")
def test_names_that_cannot_be_drawn_are_escaped(tmp_path):
    name = "\udcff\x01\ufffe"
    path = tmp_path / "names.svg"
    for plot, options in {
        "against_bits": {"methods": {name: BITS}, "label": name},
        "code_map": {"class_names": [name, "b", "c"]},
        "codeword_graph": {"class_names": [name, "b", "c"]},
        "neighbourhood_precision": {"curves": {name: PAIRS}},
        "retrieval_curves": {"curves": {name: CURVE}},
        "retrieval_grid": {"captions": [[name, "b"]]},
    }.items():
        figure = draw(plot, path=path, **options)
        xml.etree.ElementTree.parse(path)
        shown = [text.get_text() for text in figure.findobj(matplotlib.text.Text)]
        assert r"\udcff\x01\ufffe" in shown


@pytest.mark.usefixtures("no_tsne")
@pytest.mark.parametrize("name", ["code_map", "codeword_graph"])
@pytest.mark.parametrize(
    "names",
    [
        {*"abc"},
        {0: "a", 1: "b", 2: "c"},
        [b"a", b"b", b"c"],
        np.array([b"a", b"b", b"c"]),
        np.array("abc"),
        [0, 1, 2],
        [*"ab", None],
        "abc",
        None,
        iter("abc"),
    ],
)
def test_class_names_are_a_list_of_texts(name, names):
    with pytest.raises(TypeError, match="`class_names` must be a list of str"):
        draw(name, class_names=names)
    draw(name, class_names=np.array([*"abc"]))


def test_long_class_names_leave_a_figure_of_its_size():
    sizes = [
        draw("codeword_graph", class_names=["x" * n] * 3).get_size_inches()
        for n in (32, 5000)
    ]
    np.testing.assert_array_equal(*sizes)


@pytest.mark.usefixtures("no_tsne")
def test_perplexity_is_any_number():
    draw("code_map", perplexity=fractions.Fraction(1))


@pytest.mark.parametrize(
    "relevant",
    [
        [["False", "False"]],
        [[2, 0]],
        [[-1, 0]],
        [[np.nan, 1.0]],
        [[None, True]],
        np.ma.masked_array([[True, False]], [[True, False]]),
        [[True], [True, False]],
    ],
)
def test_relevance_is_true_or_false(relevant):
    with pytest.raises((TypeError, ValueError), match="`relevant` must"):
        draw("retrieval_grid", relevant=relevant)


def test_relevance_may_be_zero_and_one():
    figure = draw("retrieval_grid", relevant=[[1, 0]])
    styles = [frame.get_linestyle() for frame in figure.axes[0].patches[1:]]
    assert styles[0] == "-" != styles[1]


@pytest.mark.parametrize("captions", [[[b"a", b"b"]], [["a", None]], [["a"], "b"]])
def test_captions_are_texts(captions):
    with pytest.raises((TypeError, ValueError), match="`captions` must be"):
        draw("retrieval_grid", captions=captions)


WRONG = [["a", "b"], [None, 0.5], [0.5j, 0.5], masked([0.5, 0.5]), [[0.5], 0.5]]
NAN, INF = [np.nan, 0.5], [np.inf, 0.5]


@pytest.mark.parametrize(
    ("key", "values"),
    [
        *(("precision_at", v) for v in (*WRONG, NAN, INF, [50, 90], [-0.1, 0.5])),
        *(("recall_at", v) for v in (*WRONG, NAN, INF, [50, 90], [-0.1, 0.5])),
        *(("ranks", v) for v in (*WRONG, NAN, [np.inf, 1], [0, 1], [-1, 1])),
    ],
)
def test_values_of_retrieval_curves_are_checked(key, values):
    curves, kind = {"a": {**CURVE, key: values}}, "pn" if key == "ranks" else "pr"
    with pytest.raises((TypeError, ValueError), match=rf"`curves\['a'\]\['{key}'\]`"):
        plots.retrieval_curves(curves, kind)


@pytest.mark.parametrize(
    ("key", "values"),
    [
        *(("precision", v) for v in (*WRONG, NAN, INF, [50, 90])),
        *(("similar", v) for v in (*WRONG, NAN, INF, [0, 1], [-1, 1])),
        *(("k", v) for v in (*WRONG, NAN, INF)),
    ],
)
def test_values_of_neighbourhoods_are_checked(key, values):
    curves = {"a": {**PAIRS, key: values}, "b": PAIRS}
    with pytest.raises((TypeError, ValueError), match=rf"`curves\['a'\]\['{key}'\]`"):
        plots.neighbourhood_precision(curves)


@pytest.mark.parametrize(
    ("key", "values"),
    [
        *(("bits", v) for v in (*WRONG, NAN, INF, [0, 8], [-8, 8])),
        *(("measured", v) for v in (*WRONG, INF)),
        *(("printed", v) for v in (*WRONG, INF)),
        *(("spread", v) for v in (*WRONG, INF, [-0.1, 0.1])),
    ],
)
def test_values_against_bits_are_checked(key, values):
    methods = {"a": {**BITS, key: values}}
    with pytest.raises((TypeError, ValueError), match=rf"`methods\['a'\]\['{key}'\]`"):
        plots.against_bits(methods)


def test_curves_without_points_are_refused():
    with pytest.raises(ValueError, match="`curves` must hold arrays of one shape"):
        plots.retrieval_curves({"a": {"precision_at": [], "recall_at": []}})
    with pytest.raises(ValueError, match="`curves` must hold the arrays"):
        plots.neighbourhood_precision({"a": {key: [] for key in PAIRS}, "b": PAIRS})
    with pytest.raises(TypeError, match="`label` must be a str"):
        plots.against_bits({"a": BITS}, label=None)


@pytest.mark.parametrize(
    "matrix",
    [
        [["a"]],
        [[1j]],
        [[None]],
        [[1.0, 0.5], [0.5]],
        [[50.0]],
        [[np.inf]],
        np.zeros((0, 0)),
        0.5,
        np.ma.masked_array(np.eye(2), np.eye(2)),
    ],
)
def test_correlations_are_checked(matrix):
    with pytest.raises((TypeError, ValueError), match="`correlations` must"):
        plots.bit_correlations(matrix)


def test_values_may_be_rounded_or_unknown():
    plots.bit_correlations(np.array([[1 + 1e-6, np.nan], [np.nan, np.nan]], "f"))
    above = {**CURVE, "precision_at": [np.nextafter(1, 2), 0.5]}
    plots.retrieval_curves({"a": above})
    plots.against_bits({"a": {**BITS, "printed": [np.nan, 0.5], "spread": NAN}})


@pytest.mark.parametrize("name", ["queries", "neighbours"])
@pytest.mark.parametrize("image", [(), (2,), (2, 2, 2), (0, 2), (2, 2, 3, 1)])
def test_images_have_the_shape_of_images(name, image):
    first = (1,) if name == "queries" else (1, 2)
    with pytest.raises(ValueError, match=f"`{name}` must be an array of images"):
        draw("retrieval_grid", **{name: np.zeros((*first, *image))})
