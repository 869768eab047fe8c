import itertools

import matplotlib.colors
import matplotlib.image
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
        matplotlib.colors.same_color(axis.spines["top"].get_edgecolor(), "tab:green")
        for axis in figure.axes
        if axis.spines["top"].get_linewidth() > 2
    ]
    assert frames == relevant.ravel().tolist()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.texts] == ["relevant", "not relevant"]
    assert matplotlib.image.imread(path).shape[2] == 4


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
