"""What callbacks write for TensorBoard, read by TensorBoard's own server."""

import collections
import dataclasses
import io
import itertools
import urllib.parse

import keras
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
import werkzeug.test
from conftest import mlp
from tensorboard import program
from tensorboard.backend import application
from tensorboard.backend.event_processing import data_ingester
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.core import core_plugin
from tensorboard.plugins.histogram import histograms_plugin
from tensorboard.plugins.hparams import hparams_plugin
from tensorboard.plugins.image import images_plugin
from tensorboard.plugins.projector import projector_plugin
from tensorboard.plugins.scalar import scalars_plugin

import kerashash
from kerashash.data.images import EncodedImages
from kerashash.evaluation import choices
from kerashash.monitoring import (
    all_callbacks,
    code_health,
    epoch_callback,
    event_files,
    hyperparameters,
    thumbnails,
)
from kerashash.monitoring.callbacks import (
    CodeHealth,
    CodeProjector,
    EpochCodes,
    HParams,
    RetrievalEvaluation,
    RetrievalGrid,
    monitor,
)

PLUGINS = [
    core_plugin.CorePluginLoader,
    histograms_plugin.HistogramsPlugin,
    hparams_plugin.HParamsPlugin,
    images_plugin.ImagesPlugin,
    projector_plugin.ProjectorPlugin,
    scalars_plugin.ScalarsPlugin,
]
CLASSES = ("red", "green", "blue")
EPOCHS = 2
METRICS = [
    "mAP@ALL",
    "mAP@ALL (adalabelhash-cifar10)",  # of the paper of the method
    "bit_imbalance",
    "bit_flips",
    "quantization_error",
]


class Server:
    """TensorBoard's server for a folder, asked without a port."""

    def __init__(self, folder):
        board = program.TensorBoard(plugins=PLUGINS)
        options = {"reload_interval": 0, "reload_task": "blocking"}
        board.configure(logdir=str(folder), **options)
        ingester = data_ingester.LocalDataIngester(board.flags)
        ingester.start()
        app = application.TensorBoardWSGIApp(
            board.flags,
            board.plugin_loaders,
            ingester.data_provider,
            deprecated_multiplexer=ingester.deprecated_multiplexer,
        )
        self.client = werkzeug.test.Client(app)

    def get(self, path, **query):
        answer = self.client.get(f"/data/{path}", query_string=query)
        assert answer.status_code == 200, answer.text
        return answer

    def json(self, path, **query):
        return self.get(f"plugin/{path}", **query).json


@pytest.fixture(scope="module")
def colours():
    """Images of three colours, and some of two of them."""
    rng = np.random.default_rng(0)
    labels = np.eye(3, dtype=np.uint8)[np.arange(60) % 3]
    labels[:4, 0] = 1
    x = 40 + 150 * labels[:, None, None] + rng.integers(0, 60, (60, 8, 8, 3))
    rows = rng.permutation(60)
    splits = {"train": rows[12:], "database": rows[12:], "query": rows[:12]}
    names = np.array([f"{row}.png" for row in range(60)])
    return kerashash.data.RetrievalData(
        "cifar10", "drawn", 0, CLASSES, splits, x.astype(np.uint8), labels, names
    )


def model_of(method=kerashash.AdaLabelHash, **options):
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Flatten(), keras.layers.Rescaling(1 / 255)]
    net = keras.Sequential([keras.Input((8, 8, 3)), *layers, keras.layers.Dense(8)])
    model = method(net, bits=8, num_classes=3, **options)
    model.compile(keras.optimizers.Adam(0.01), run_eagerly=True)
    return model


@pytest.fixture(scope="module")
def trained(colours, tmp_path_factory):
    """A training that everything watches: its model, history, folder and the numbers of
    rows that were encoded."""
    folder, encoded = tmp_path_factory.mktemp("logs"), []
    model = model_of()
    original = model.continuous_codes

    def continuous_codes(x, *args, **options):
        encoded.append(int(x.cardinality()))
        return original(x, *args, **options)

    object.__setattr__(model, "continuous_codes", continuous_codes)
    history = model.fit(
        colours.train.batch(16),
        epochs=EPOCHS,
        callbacks=monitor(
            colours, folder / "run", every=2, queries=2, top=3, hparams={"batch": 16}
        ),
        verbose=0,
    ).history
    return model, history, folder, encoded


@pytest.fixture(scope="module")
def server(trained):
    return Server(trained[2])


def test_queries_and_database_are_encoded_once_an_epoch(trained):
    assert trained[3] == [48, 12, 48, 12, 48]  # before epoch 1; after 1 and 2


def test_scalars_are_those_of_the_history_and_say_of_how_many(trained, server):
    _, history, _, _ = trained
    tags = server.json("scalars/tags")
    assert {*tags} == {"run/train", "run/retrieval"}
    # Nothing is there twice.
    assert {*tags["run/train"]} == {"epoch_loss", "epoch_learning_rate"}
    for name in METRICS:
        tag = f"retrieval/{name}"
        values = server.json("scalars/scalars", run="run/retrieval", tag=tag)
        assert [step for _, step, _ in values] == [0, 1]
        np.testing.assert_allclose([v for *_, v in values], history[name], rtol=1e-6)
        description = tags["run/retrieval"][tag]["description"]
        assert "12 of 12 queries and 48 of 48 database items" in description


def test_statistics_are_those_of_the_codes(trained, server, colours):
    model, _, _, _ = trained
    codes = model.encode(colours.database, packed=False)
    distances = (model.encode(colours.query, packed=False)[:, None] != codes).sum(2)
    expected = {
        "bit correlation": code_health.mean_correlation(
            code_health.correlations(codes)
        ),
        **code_health.usage(codes),
        "ties": np.mean([share_of_ties(row) for row in distances]),
    }
    for name, value in expected.items():
        tag = f"statistics/{name}"
        values = server.json("scalars/scalars", run="run/retrieval", tag=tag)
        assert values[-1][2] == pytest.approx(value, rel=1e-6)
    assert {*server.json("histograms/tags")["run/retrieval"]} == {
        "statistics/means of bits",
        "statistics/absolute continuous codes",
    }
    buckets = server.json(
        "histograms/histograms",
        run="run/retrieval",
        tag="statistics/absolute continuous codes",
    )[-1][2]
    u = np.abs(model.continuous_codes(colours.database))
    assert sum(count for *_, count in buckets) == u.size
    assert [buckets[0][0], buckets[-1][1]] == pytest.approx([u.min(), u.max()])


def test_images_can_be_seen(server):
    tags = server.json("images/tags")["run/retrieval"]
    assert {*tags} == {
        "retrieval/precision and recall",
        "retrieval/precision at N",
        "retrieval/neighbours",
        "statistics/correlations of bits",
    }
    for tag in tags:
        images = server.json("images/images", run="run/retrieval", tag=tag, sample=0)
        assert [image["step"] for image in images] == [0, 1]
        query = urllib.parse.parse_qs(images[-1]["query"])
        content = server.get("plugin/images/individualImage", **query).data
        image = PIL.Image.open(io.BytesIO(content))
        assert min(image.size) >= 250
        assert len(image.getcolors(image.width * image.height)) > 20


def test_projector_shows_codes_with_labels_names_and_images(trained, server, colours):
    model, _, _, _ = trained
    run = "run/retrieval"
    assert server.json("projector/runs") == [run]
    codes, words = server.json("projector/info", run=run)["embeddings"]
    assert codes["tensorShape"] == [48, 8]
    assert words["tensorShape"] == [3, 8]
    for embedding, expected in (
        (codes, model.encode(colours.database, packed=False)),
        (words, model.codewords.hash_codes().numpy()),
    ):
        name = embedding["tensorName"]
        assert "epoch 2" in name
        data = server.get("plugin/projector/tensor", run=run, name=name).data
        tensor = np.frombuffer(data, np.float32).reshape(embedding["tensorShape"])
        np.testing.assert_array_equal(tensor, expected)
    table = server.get("plugin/projector/metadata", run=run, name=codes["tensorName"])
    head, *rows = [line.split("\t") for line in table.text.splitlines()]
    assert head == ["labels", "first label", "row", "name"]
    for (labels, first, row, name), i in zip(
        rows, colours.splits["database"], strict=True
    ):
        own = [CLASSES[c] for c in np.flatnonzero(colours.labels[i])]
        assert (labels, first, row) == (", ".join(own), own[0], str(i))
        assert name == f"{i}.png"
    table = server.get("plugin/projector/metadata", run=run, name=words["tensorName"])
    assert table.text.split() == [*CLASSES]
    sprite = server.get(
        "plugin/projector/sprite_image", run=run, name=codes["tensorName"]
    )
    assert codes["sprite"]["singleImageDim"] == [8, 8]
    sheet = np.asarray(PIL.Image.open(io.BytesIO(sprite.data)))
    assert sheet.shape == (56, 56, 3)  # 7 x 7 images of 8 x 8 pixels
    for number, row in enumerate(colours.splits["database"]):
        y, x = divmod(number, 7)
        np.testing.assert_array_equal(
            sheet[8 * y : 8 * y + 8, 8 * x : 8 * x + 8], colours.x[row]
        )


def test_projector_is_shown_without_other_callbacks(colours, tmp_path):
    projector = CodeProjector(colours, tmp_path, max_items=10, image_side=4)
    model = model_of(Learner, num_train=48)
    model.fit(colours.train.batch(16), callbacks=projector, verbose=0)
    server = Server(tmp_path)
    assert server.json("projector/runs") == ["retrieval"]
    (codes,) = server.json("projector/info", run="retrieval")["embeddings"]
    assert codes["tensorShape"] == [10, 8]
    assert codes["sprite"]["singleImageDim"] == [4, 4]
    texts = events_of(tmp_path / "retrieval").Tensors("statistics/projector")
    assert [tf.make_ndarray(text.tensor_proto).tolist() for text in texts] == [
        b"The tab Projector shows 10 of 48 database items."
    ]


def test_only_the_latest_codes_are_kept(trained):
    files = [path.name for path in (trained[2] / "run" / "retrieval").iterdir()]
    assert sorted(name for name in files if name.startswith("embeddings")) == [
        "embeddings-2.data-00000-of-00001",
        "embeddings-2.index",
    ]


def test_hyperparameters_stand_beside_what_was_measured(trained, server):
    _, history, _, _ = trained
    experiment = server.client.post("/data/plugin/hparams/experiment", json={}).json
    metrics = [info["name"]["tag"] for info in experiment["metricInfos"]]
    body = {
        "allowedStatuses": ["STATUS_SUCCESS"],
        "colParams": [{"metric": {"tag": tag}} for tag in metrics],
        "sliceSize": 10,
    }
    answer = server.client.post("/data/plugin/hparams/session_groups", json=body).json
    (group,) = answer["sessionGroups"]
    assert group["hparams"] == {
        "method": "AdaLabelHash",
        "bits": 8.0,
        "margin": 2.0,
        "floor": True,
        "balance_weight": 0.0,
        "optimizer": "Adam",
        "learning rate": pytest.approx(0.01),
        "epochs": 2.0,
        "data": "cifar10",
        "protocol": "drawn",
        "batch": 16.0,
    }
    values = {m["name"]["tag"]: m["value"] for m in group["metricValues"]}
    assert values["retrieval/mAP@ALL"] == pytest.approx(history["mAP@ALL"][-1])


# ------------------------------------------------------------------------- statistics


def share_of_ties(distances):
    pairs = [*itertools.combinations(distances, 2)]
    return sum(a == b for a, b in pairs) / len(pairs)


def test_statistics_equal_brute_force(rng):
    codes = np.where(rng.random((50, 6)) < [0.5, 0.2, 0.9, 0.5, 0.4, 0.5], 1, -1)
    codes[:, 3] = -codes[:, 0]
    codes = np.repeat(codes, rng.integers(1, 4, 50), axis=0).astype(np.int8)
    matrix = code_health.correlations(codes)
    expected = np.corrcoef(codes, rowvar=False)
    np.testing.assert_allclose(matrix, expected, atol=1e-12)
    assert matrix[0, 3] == pytest.approx(-1)
    pairs = [abs(expected[i, j]) for i in range(6) for j in range(i)]
    assert code_health.mean_correlation(matrix) == pytest.approx(np.mean(pairs))
    counts = collections.Counter(map(tuple, codes.tolist()))
    shares = np.array([*counts.values()]) / len(codes)
    alone = sum(counts[tuple(code)] == 1 for code in codes.tolist())
    assert code_health.usage(codes) == {
        "entropy": pytest.approx(-np.sum(shares * np.log2(shares))),
        "distinct codes": len(counts),
        "collisions": pytest.approx(1 - alone / len(codes)),
    }
    distances = rng.integers(0, 7, (5, 30))
    total = np.stack([np.bincount(row, minlength=7) for row in distances])
    expected = np.mean([share_of_ties(row) for row in distances])
    assert code_health.ties(total) == pytest.approx(expected)


def test_statistics_of_codes_that_say_nothing():
    codes = np.ones((5, 3), np.int8)
    codes[0, 2] = -1
    matrix = code_health.correlations(codes)
    assert np.isnan(matrix[:2]).all()
    assert matrix[2, 2] == 1
    assert code_health.mean_correlation(matrix) == 0  # no pair of bits changes
    assert code_health.usage(codes[1:]) == {
        "entropy": 0.0,
        "distinct codes": 1.0,
        "collisions": 1.0,
    }
    assert code_health.ties(np.array([[0, 1]])) == 0


# ----------------------------------------------------------------- samples, protocols


def events_of(folder):
    return EventAccumulator(str(folder), {"tensors": 0}).Reload()


def values_of(folder, tag):
    """Steps and values of a scalar."""
    events = events_of(folder).Tensors(tag)
    return [e.step for e in events], [
        float(tf.make_ndarray(e.tensor_proto)) for e in events
    ]


class Learner(kerashash.HashModel):
    """Learns codes for its training rows: in each epoch, more of them are +1."""

    def train_step(self, data):
        return self.report(loss=tf.zeros(()))

    def epoch_step(self):
        self.epochs += 1
        codes = np.full((48, 8), -1)
        codes[: 2 * self.epochs**2] = 1
        self.train_codes.assign(codes)
        return {}

    def prepare(self, batches, verbose):
        self.epochs = 0
        self.epoch_step()


def test_learned_codes_are_ranked_and_their_flips_counted(colours, tmp_path):
    model = model_of(Learner, num_train=48)
    callbacks = [
        RetrievalEvaluation(colours, protocol="dcdh"),
        CodeHealth(colours, tmp_path, every=5),
    ]
    history = model.fit(
        colours.train.batch(16), epochs=3, callbacks=callbacks, verbose=0
    ).history
    expected = kerashash.evaluate(model, colours, "dcdh", verbose=0)["mAP@ALL"]
    assert history["mAP@ALL (dcdh)"][-1] == pytest.approx(expected)
    assert abs(expected - history["mAP@ALL"][-1]) > 0.01
    steps, values = values_of(tmp_path / "retrieval", "statistics/learned bit flips")
    assert steps == [0, 2]
    # 2 of 48 rows are +1 before the first epoch, then 8, 18 and 32.
    assert values == pytest.approx([6 / 48, 24 / 48 / 2])


def test_papers_measure_their_data_sets_by_their_protocols():
    for method in ("AdaLabelHash", "DCDH", "DDH", "DSRE"):
        for data in kerashash.data.list():
            for protocol in kerashash.data.list()[data]:
                name = choices.paper_protocol(method, data, protocol)
                if name is not None:
                    assert name in kerashash.evaluation.PROTOCOLS
                    assert name.startswith(method.lower())
    assert choices.paper_protocol("DSRE", "nus_wide", "21-full") == "dsre-nuswide-full"
    assert choices.paper_protocol("DSRE", "nus_wide", "x") == "dsre-nuswide"
    assert choices.paper_protocol("DSRE", "digits", "default") is None


def test_samples_are_measured_like_data_of_their_size(colours, tmp_path):
    callback = RetrievalEvaluation(
        colours, tmp_path, at=24, max_queries=5, max_database=20
    )
    model = model_of()
    history = model.fit(colours.train.batch(16), callbacks=callback, verbose=0).history
    sample = callback.codes.sample
    assert (sample.num_query, sample.num_database) == (5, 20)
    assert {*sample.splits["database"]} < {*colours.splits["database"]}
    # 24 of 48 ranks are 10 of 20.
    expected = kerashash.evaluate(model, sample, at=10, verbose=0)["mAP@10"]
    assert history["mAP@24"] == [pytest.approx(expected)]
    events = events_of(tmp_path / "retrieval")
    description = events.SummaryMetadata("retrieval/mAP@24").summary_description
    assert "first 10 ranks" in description
    assert "5 of 12 queries and 20 of 48 database items" in description
    other = EpochCodes(colours, max_database=20, seed=1).sample
    assert {*other.splits["database"]} != {*sample.splits["database"]}


def test_images_pass_once_through_frozen_layers(colours):
    files, read = [tf.io.encode_png(x).numpy() for x in colours.x], []

    def contents(rows):
        read.extend(rows)
        return [files[row] for row in rows]

    data = dataclasses.replace(colours, x=EncodedImages(contents, 60, 8, "", "squash"))
    model = model_of()
    model.backbone.trainable = False
    net = keras.Sequential([*model.backbone.layers, keras.layers.Dense(8, "relu")])
    model = kerashash.AdaLabelHash(net, bits=8, num_classes=3)
    model.compile(keras.optimizers.Adam(0.01), run_eagerly=True)
    history = model.fit(
        data.train.batch(16),
        epochs=2,
        callbacks=RetrievalEvaluation(data),
        verbose=0,
        cache_features=True,
    ).history
    counts = np.bincount(read, minlength=60)
    assert {*counts[data.splits["query"]]} == {1}
    # `fit` reads training images for their features, and in each epoch for their order.
    assert {*counts[data.splits["database"]]} == {1 + 1 + 2}
    u = model.continuous_codes(colours.query)
    error = np.mean((np.abs(u) - 1) ** 2)
    assert history["quantization_error"][-1] == pytest.approx(error, rel=1e-5)
    assert history["quantization_error"][0] != pytest.approx(error)


# ------------------------------------------------------------------------ interruptions


class Interrupt(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt


@pytest.mark.slow
def test_resumed_training_goes_on_where_it_was(colours, tmp_path):
    for stop in ([Interrupt()], []):
        # An epoch is written, and then it is lost.
        backup = kerashash.callbacks.Backup(tmp_path / "backup")
        callbacks = [
            *monitor(colours, tmp_path / "logs", queries=1, top=1),
            *stop,
            backup,
        ]
        try:
            model_of().fit(
                colours.train.batch(16), epochs=2, callbacks=callbacks, verbose=0
            )
        except KeyboardInterrupt:
            assert stop
    for run, tags in {
        "train": ["epoch_loss"],
        "retrieval": [
            "retrieval/mAP@ALL",
            "statistics/entropy",
            "retrieval/neighbours",
        ],
    }.items():
        events = events_of(tmp_path / "logs" / run)
        for tag in tags:
            assert [e.step for e in events.Tensors(tag)] == [0, 1]


def test_a_file_that_was_cut_is_read_up_to_there(tmp_path):
    with event_files.writer(tmp_path, step=0).as_default():
        for step in range(4):
            tf.summary.scalar("x", step, step=step)
    event_files.close(tmp_path)
    (path,) = event_files.earlier_files(str(tmp_path / "retrieval"))
    path.write_bytes(path.read_bytes()[:-5])  # in step 3
    event_files.forget([path], step=4)
    assert values_of(tmp_path / "retrieval", "x") == ([0, 1, 2], [0, 1, 2])
    event_files.forget([path], step=2)
    assert values_of(tmp_path / "retrieval", "x") == ([0, 1], [0, 1])


def test_only_the_first_process_writes(colours, tmp_path, monkeypatch):
    for module in (all_callbacks, epoch_callback, hyperparameters):
        monkeypatch.setattr(module, "is_chief", lambda strategy: False)
    history = (
        model_of()
        .fit(
            colours.train.batch(16),
            callbacks=monitor(colours, tmp_path, queries=1, top=1),
            verbose=0,
        )
        .history
    )
    assert history["mAP@ALL"]
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_options_are_read_from_models_on_several_devices():
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        model = model_of()
        options = hyperparameters._options(model)
    assert options["learning rate"] == pytest.approx(0.01)


# ---------------------------------------------------------------------------- arguments


def test_what_data_cannot_show_is_left_out(digits, tmp_path):
    kinds = [type(callback) for callback in monitor(digits, tmp_path)]
    assert RetrievalGrid not in kinds
    assert CodeProjector in kinds
    with pytest.raises(ValueError, match=r"`data` must have images.*\(1797, 64\)"):
        RetrievalGrid(digits, tmp_path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d: EpochCodes(d.x), "`data` must be a RetrievalData.*ndarray"),
        (lambda d: EpochCodes(d, max_queries=0), "`max_queries` must be at least 1"),
        (
            lambda d: EpochCodes(d, max_database=1.5),
            "`max_database` must be an integer",
        ),
        (lambda d: EpochCodes(d, seed=-1), "`seed` must be"),
        (lambda d: CodeHealth(d.x, "logs"), "`data` must be a RetrievalData.*ndarray"),
        (lambda d: CodeHealth(d, "logs", every=0), "`every` must be at least 1"),
        (lambda d: CodeProjector(d, "logs", max_items=0), "`max_items` must be at"),
        (lambda d: CodeProjector(d, "logs", image_side=0), "`image_side` must be at"),
        (lambda d: CodeProjector(d, "gs://logs"), "`log_dir` must be a folder of this"),
        (lambda d: RetrievalGrid(d, "logs", queries=0), "`queries` must be at least 1"),
        (lambda d: RetrievalGrid(d, "logs", top=0), "`top` must be at least 1"),
        (lambda d: HParams(d.x, "logs"), "`data` must be a RetrievalData.*ndarray"),
        (lambda d: HParams(d, "logs", {"a": [1]}), r"`values` must be .* 'a': \[1\]"),
        (lambda d: monitor(d, "logs", at=49), "`at` must be between 1 and .* 48"),
        (lambda d: monitor(d, "logs", protocol="x"), "`protocol` must be one of"),
        (
            lambda d: RetrievalEvaluation(EpochCodes(d), max_queries=3),
            "`max_queries` must be given to `EpochCodes`",
        ),
    ],
)
def test_bad_arguments_are_named(colours, make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make(colours)


def test_models_that_do_not_fit_are_named_before_training(colours, tmp_path):
    plain = mlp(6, (3,))
    plain.compile("sgd", "mse")
    for callback in (HParams(colours, tmp_path), CodeHealth(colours, tmp_path)):
        with pytest.raises(TypeError, match=r"HashModel.*Sequential"):
            plain.fit(np.zeros((3, 6)), np.eye(3), callbacks=callback, verbose=0)
    callback = RetrievalEvaluation(colours, protocol="dcdh")
    with pytest.raises(ValueError, match=r"`protocol` must not be 'dcdh'.*48.*with 0"):
        model_of().fit(colours.train.batch(16), callbacks=callback, verbose=0)


# --------------------------------------------------------------------------- thumbnails


def test_thumbnails_of_gray_images_and_of_floats(colours):
    gray = np.linspace(0, 1, 2 * 6 * 4, dtype=np.float32).reshape(2, 6, 4, 1)
    data = dataclasses.replace(colours, x=np.tile(gray, (30, 1, 1, 1)))
    images = thumbnails.thumbnails(data, np.array([1, 0]), side=3)
    assert images.shape == (2, 3, 3, 3)
    np.testing.assert_array_equal(images[..., 0], images[..., 2])
    assert images[0].min() > images[1].max()
    assert images[0].max() > 240
    np.testing.assert_array_equal(
        thumbnails.thumbnails(colours, np.arange(60), side=48), colours.x
    )


def test_thumbnails_of_files_are_decoded_in_their_size(colours):
    files = [tf.io.encode_png(x).numpy() for x in colours.x]
    sizes = []

    class Files(EncodedImages):
        def as_taken(self, size, fit):
            sizes.append(size)
            return super().as_taken(size, fit)

    x = Files(lambda rows: [files[row] for row in rows], 60, None, "")
    data = dataclasses.replace(colours, x=x)
    images = thumbnails.thumbnails(data, np.array([7, 3]), side=8)
    np.testing.assert_array_equal(images, colours.x[[7, 3]])
    assert sizes == [8]


@pytest.mark.parametrize(
    "name", ["RetrievalEvaluation", "CodeHealth", "CodeProjector", "HParams"]
)
def test_a_log_folder_that_cannot_be_is_refused_before_the_training(
    name, colours, tmp_path
):
    file = tmp_path / "file"
    file.write_text("")
    callback = getattr(kerashash.callbacks, name)(colours, log_dir=file)
    check_refused([callback], colours)


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    rows = dict.fromkeys(("train", "query", "database"), np.arange(4))
    x, y = np.ones((4, 3)), np.eye(2, dtype=np.uint8)[[0, 1, 0, 1]]
    data = kerashash.data.RetrievalData("own", "", 0, ("a", "b"), rows, x, y)
    model = kerashash.AdaLabelHash("features", bits=8, num_classes=2)
    model.compile("adam")
    model.fit(x, y, callbacks=kerashash.callbacks.monitor(data, "~/logs"), verbose=0)
    written = {path.name for path in (tmp_path / "logs").iterdir()}
    assert written == {"retrieval", "train"}


def test_all_callbacks_refuse_a_log_folder_that_cannot_be(colours, tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    check_refused(kerashash.callbacks.monitor(colours, file), colours)


def check_refused(callbacks, data):
    model = kerashash.AdaLabelHash(
        keras.Sequential([keras.Input(data.x.shape[1:]), keras.layers.Flatten()]),
        bits=8,
        num_classes=data.num_classes,
    )
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    steps = []
    count = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda *_: steps.append(1)
    )
    with pytest.raises(ValueError, match="`log_dir` must be a folder in which one can"):
        model.fit(data.train.batch(8), callbacks=[count, *callbacks], verbose=0)
    assert not steps
