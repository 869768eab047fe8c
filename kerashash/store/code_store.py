"""CodeStore: hash codes that last, with keys and metadata."""

import contextlib
import dataclasses
import os
import pathlib
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from kerashash import files
from kerashash.checks import as_array, check_choices, check_flag, check_integer, said
from kerashash.codes import as_packed, packed_width
from kerashash.forks import is_forked
from kerashash.store import inputs
from kerashash.store.folder import FolderEngine
from kerashash.store.identity import check_is_model, model_identity
from kerashash.store.rows import (
    MOST_BITS,
    Columns,
    Compacted,
    Neighbours,
    Version,
    as_mapping,
    checked_ids,
    not_new,
)
from kerashash.store.scan import Scan

if TYPE_CHECKING:
    from kerashash.methods import HashModel
    from kerashash.retrieval import HammingRanker

_Ranker: TypeAlias = "HammingRanker | Scan"

# Rows that are encoded between two commits.
_COMMIT_ROWS = 4096
# Queries that are answered before a ranker is made for them.
_FEW = 8
ENGINES = ("folder", "lance")


class CodeStore:
    """Hash codes on disk, with a key and metadata for each, and their exact search.

    A store is a folder. It remembers which model makes its codes, and refuses to encode
    with another. Codes that are added as such are taken as they are.

    A commit is whole or absent: a process that is killed, or a disk that is full, loses
    the commit that was being written, and nothing else. Processes may read and write
    one store at a time; writers take turns.

    Rows have numbers in order of addition. Search is exact, in memory, in order of
    (distance, row): by a `kerashash.HammingRanker`, or, in a process that has not
    imported TensorFlow or was forked after it has run, and for the first few queries,
    by a scan of the codes, which needs no preparation and less memory. LanceDB has an
    approximate index as well, for those who ask for it.

    Two engines hold the rows. "folder", the default, needs nothing but Python: codes
    that are mapped into memory, and SQLite. "lance" is LanceDB, for stores on object
    storage (``pip install 'kerashash[store]'``); one store is of one engine.

    Make a store by `create` or `open`, not by the constructor.

    Args:
        engine: object; what holds the rows.
        path: str; the folder or URL.
        model: `HashModel` or None.

    Attributes:
        path: str; the folder or URL.
        bits: int; the code length.

    Example:
        >>> import keras, kerashash, numpy as np
        >>> net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8)])
        >>> model = kerashash.AdaLabelHash(net, bits=12, num_classes=3)
        >>> store = kerashash.CodeStore.create("vectors.khs", model=model)
        >>> x = np.random.default_rng(0).normal(size=(20, 4)).astype("float32")
        >>> store.add(x, columns={"label": np.arange(20) % 3})
        >>> store.search(x[:2], k=5, where="label = 0")
        Neighbours(2 queries, 10 rows)
    """

    def __init__(self, engine: Any, path: str, model: "HashModel | None") -> None:
        self._engine, self.path, self.bits = engine, path, int(engine.bits)
        self._model = model
        # What searches all rows of the latest snapshot, and its identity.
        self._ranked: tuple[Any, _Ranker | None, npt.NDArray[np.int64]] | None = None
        self._ranking = threading.Lock()

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        model: "HashModel | str | None" = None,
        bits: int | None = None,
        engine: str | None = None,
    ) -> Self:
        """Make an empty store.

        Args:
            path: path of a folder that does not exist; by convention ``NAME.khs``. Or a
                URL of object storage, such as ``s3://bucket/photos.khs``.
            model: `HashModel`, or the name of an entry of the zoo, which makes the
                codes; or None if only codes are added.
            bits: int; the code length, if there is no model.
            engine: str; "folder" or "lance". None is "folder" for a path, "lance" for a
                URL.

        Returns:
            `CodeStore`.

        Raises:
            FileExistsError: if there is something at `path`.
            ValueError: if an argument is wrong.
            OSError: if the store cannot be written.
            ImportError: if the engine is not installed.
        """
        location = _location(path)
        engine = engine or ("lance" if _is_url(path) else "folder")
        check_choices({"engine": ENGINES}, engine=engine)
        name = None
        if isinstance(model, str):
            name, model = model, _loaded(model)
        if model is None:
            if bits is None:
                raise ValueError("`bits` or `model` must be given. Received: neither.")
            identity = None
        else:
            check_is_model(model)
            if bits is not None and bits != model.bits:
                raise ValueError(
                    f"`bits` must be the model's, {model.bits}. Received: {bits!r:.40}."
                )
            bits, identity = model.bits, model_identity(model, name or model.entry)
        bits = check_integer("bits", bits, most=MOST_BITS)
        made = _engine_class(engine, path).create(location, bits, identity)
        return cls(made, os.fspath(path), model)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        model: "HashModel | str | None" = None,
        version: int | None = None,
    ) -> Self:
        """Open a store.

        Args:
            path: path or URL of the store.
            model: `HashModel` that made its codes, to encode more, or the name of an
                entry of the zoo. None loads it from the zoo when it is needed, if the
                store was created with the name of an entry.
            version: int or None; one of `versions`, to read the store as it was then.

        Returns:
            `CodeStore`.

        Raises:
            FileNotFoundError: if there is no store.
            ValueError: if there is no whole store at `path`, it has no such version, or
                another model made its codes.
            ImportError: if its engine is not installed.
        """
        location = _location(path)
        if isinstance(location, pathlib.Path):
            is_lance = (location / "codes.lance").exists()
        else:
            is_lance = True
        if version is not None:
            version = check_integer("version", version, least=0, most=2**63 - 1)
        engine = _engine_class("lance" if is_lance else "folder", path)
        store = cls(engine(location, version), os.fspath(path), None)
        if isinstance(model, str):
            model = _loaded(model)
        if model is not None:
            check_is_model(model)
            store._check_model(model)
            store._model = model
        return store

    def __repr__(self) -> str:
        made_by = (self._engine.model or {}).get("name")
        by = f", model={made_by!r}" if made_by else ""
        try:
            rows = f"{len(self)} rows"
        except Exception:  # a debugger must be able to show what is gone or damaged
            rows = "unreadable"
        return f"{type(self).__name__}({self.path!r}, {rows}{by})"

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy opens the same folder, whatever its working directory is.
        engine = self._engine
        in_zoo = (engine.model or {}).get("in_zoo")
        model = None if in_zoo else self._model  # the copy loads it if it needs it
        return type(self).open, (engine.location, model, engine.version)

    def __len__(self) -> int:
        return int(self._engine.count())

    def __contains__(self, key: object) -> bool:
        try:
            ids = checked_ids([key], 1)
        except (TypeError, ValueError):  # no store can have it
            return False
        return bool(self._engine.known(ids))

    @property
    def model_identity(self) -> dict[str, Any] | None:
        """What is known of the model that makes the codes.

        It needs no model. None if the store takes codes only; else a dict: "name";
        "in_zoo", whether the name is one of the zoo; "method", "bits", "input", the
        shape or image size of inputs; and "weights", the SHA-256 of the network.
        """
        identity = self._engine.model
        return None if identity is None else dict(identity)

    @property
    def model(self) -> "HashModel":
        """The model that makes the codes.

        Raises:
            ValueError: if the store does not know where to load it from.
        """
        if self._model is None:
            identity = self._engine.model
            if identity is None:
                raise ValueError(
                    f"'{self.path}' was created without a model, and takes codes only."
                )
            if not identity["in_zoo"]:
                raise ValueError(
                    f"'{self.path}' needs its model, {identity['name']!r}: "
                    "CodeStore.open(path, model=model), or `--model FILE`."
                )
            from kerashash import zoo

            model = zoo.load(identity["name"])
            self._check_model(model)
            self._model = model
        return self._model

    # ----------------------------------------------------------------- writing

    def add(
        self,
        x: Any,
        ids: Sequence[Any] | None = None,
        columns: Mapping[str, Any] | None = None,
    ) -> None:
        """Append rows.

        What is encoded is committed every 4,096 rows, codes in one commit.

        Args:
            x: list of paths of image files, or one path; array of inputs; or
                `tf.data.Dataset`, `keras.utils.PyDataset` or generator of batches ``x``
                or ``(x, y)``, as for `HashModel.encode`. Or codes: uint8 array ``(n,
                ceil(bits / 8))`` of packed ones, or int8 array ``(n, bits)`` over {-1,
                +1}.
            ids: sequence of n distinct keys, all str or paths, or all int. None is the
                paths, or the numbers of the rows.
            columns: dict of metadata by name, each with n values: str, bytes, numbers,
                or rows of numbers. The y of batches is added as "label", or by name if
                it is a dict; text of a `tf.data.Dataset`, which are bytes of UTF-8, as
                str.

        Raises:
            TypeError, ValueError: if a key is in the store already or occurs twice, or
                an argument is wrong.
            OSError: if the store cannot be written.
        """
        self._write(x, ids, columns, replace=False)

    def upsert(
        self,
        x: Any,
        ids: Sequence[Any] | None = None,
        columns: Mapping[str, Any] | None = None,
        keep: bool = False,
    ) -> None:
        """Append rows, and remove the rows that have had their keys.

        Args:
            x, ids, columns: as for `add`; `ids` may be None only for paths.
            keep: bool; whether a row keeps the metadata of the one that it replaces, in
                those columns that are not given. Else it has no values there.

        Raises:
            TypeError, ValueError, OSError: as for `add`.

        Example:
            >>> import kerashash
            >>> store = kerashash.CodeStore.create("kept.khs", bits=8)
            >>> code = np.zeros((1, 1), np.uint8)
            >>> store.add(code, ids=["a.jpg"], columns={"year": [2024]})
            >>> store.upsert(code + 1, ids=["a.jpg"], keep=True)
            >>> store.columns()["year"].tolist()
            [2024]
        """
        check_flag(keep=keep)
        self._write(x, ids, columns, replace=True, keep=keep)

    def delete(self, where: str) -> int:
        """Remove rows; `compact` frees their space.

        Args:
            where: str; an SQL condition on "id" and the metadata, such as ``"label = 3
                AND id LIKE '%.png'"``: text in single quotes, names in double ones or
                none, and no SELECT.

        Returns:
            int; how many rows were removed.

        Raises:
            ValueError: if `where` is no condition on the columns.
            OSError: if the store cannot be written.
        """
        return int(self._engine.delete(where))

    def compact(self) -> None:
        """Free the space of removed rows, and drop older versions.

        A killed `compact` leaves the store as it was. In LanceDB, versions of the last
        hour are kept, for readers that are at work.

        Raises:
            OSError: if the store cannot be written.
        """
        self._engine.compact()

    def versions(self) -> list[Version]:
        """The versions that `open` can read, oldest first; each commit makes one.

        Returns:
            list of `Version`.
        """
        return list(self._engine.versions())

    def check(self) -> None:
        """Compare the codes with their checksums, and look through the rows.

        Keys and metadata have no checksums: of them, SQLite and LanceDB find what they
        cannot read, not every value that has changed. In LanceDB, a checksum is of a
        code and its key; rows that were added before there were checksums have none.

        Raises:
            ValueError: if it is damaged; the error says what.
        """
        self._engine.check()

    # ----------------------------------------------------------------- reading

    def search(
        self,
        x: Any,
        k: int = 10,
        where: str | None = None,
        nprobes: int | None = None,
    ) -> Neighbours:
        """Find the k nearest rows of each query.

        Args:
            x: inputs or codes, as for `add`; or the path of one image file.
            k: int; the number of rows. If the store has fewer, all of them.
            where: str or None; an SQL condition that the rows meet, as for `delete`.
            nprobes: int or None. None finds the nearest rows, exactly. A number finds
                most of them by the index of `create_index`, which cuts the codes into
                partitions: it is how many of these to search at least. More take more
                time, and miss less; `recall` measures how much.

        Returns:
            `Neighbours`, in order of (distance, row).

        Raises:
            TypeError, ValueError: if an argument is wrong, or `nprobes` is given and
                the store has no index.
        """
        k = check_integer("k", k)
        if nprobes is not None:
            nprobes = self._checked_nprobes(nprobes)
        queries, paths = self._queries(x)
        found = self._with_snapshot(
            lambda snapshot: self._nearest(snapshot, queries, k, where, nprobes)
        )
        return dataclasses.replace(found, queries=paths)

    def _nearest(
        self,
        snapshot: Any,
        queries: npt.NDArray[np.uint8],
        k: int,
        where: str | None,
        nprobes: int | None,
    ) -> Neighbours:
        if nprobes is not None:
            distances, columns = snapshot.nearest(queries, k, nprobes, where)
        else:
            ranker, rows = self._searched(snapshot, where, len(queries))
            indices = distances = np.zeros((len(queries), 0), np.int32)
            if ranker is not None:
                distances, indices = ranker.top_k(queries, min(k, len(rows)))
            columns = snapshot.columns(rows[indices].ravel())
        columns = {
            name: values.reshape((*distances.shape, *values.shape[1:]))
            for name, values in columns.items()
        }
        return Neighbours(columns.pop("id"), distances, columns)

    def create_index(self, partitions: int | None = None) -> None:
        """Build an index for the approximate search of a store in LanceDB.

        It is LanceDB's inverted file: codes are cut into partitions around centres, by
        Hamming distance. Rows that are added later are found all the same, and take
        more time until `compact` puts them into the index. Another call builds the
        index anew.

        Args:
            partitions: int or None; how many there are. None is LanceDB's choice, one
                for some thousand rows.

        Raises:
            ValueError: if the store is empty, or its engine is "folder".
            OSError: if the store cannot be written.

        Example:
            >>> import kerashash
            >>> store = kerashash.CodeStore.create("i.khs", bits=8, engine="lance")
            >>> codes = np.random.default_rng(0).integers(0, 256, (300, 1), np.uint8)
            >>> store.add(codes)
            >>> store.create_index(partitions=8)
            >>> store.search(codes[:2], k=5, nprobes=2)
            Neighbours(2 queries, 10 rows)
            >>> store.recall(codes[:2], k=5, nprobes=8)
            1.0
        """
        self._check_has_index("create_index")
        if partitions is not None:
            partitions = check_integer("partitions", partitions)
        self._engine.create_index(partitions)

    def recall(
        self, x: Any, k: int = 10, nprobes: int = 20, where: str | None = None
    ) -> float:
        """Measure the approximate search of a store in LanceDB against the exact one.

        A row that is found counts if it is as near as the k-th nearest one, whichever
        of the rows at that distance it is.

        Args:
            x: inputs or codes, as for `add`; queries like those to come. Rows of the
                store itself find more than others do.
            k: int; as for `search`.
            nprobes: int; as for `search`.
            where: str or None; as for `search`.

        Returns:
            float; the mean part of the k nearest rows that is found.

        Raises:
            TypeError, ValueError: as for `search`; or if no row is selected, or `x` is
                empty.
        """
        k, nprobes = check_integer("k", k), self._checked_nprobes(nprobes)
        queries = self._codes(x)

        def measure(snapshot: Any) -> float:
            found, exact = (
                self._nearest(snapshot, queries, k, where, probes).distances
                for probes in (nprobes, None)
            )
            if not exact.size:
                raise ValueError(
                    "`x` and `where` must leave queries and rows. Received: "
                    f"{exact.shape[0]} queries, {where!r}."
                )
            return float((found <= exact[:, -1:]).sum() / exact.size)

        return float(self._with_snapshot(measure))

    def within(self, x: Any, radius: int, where: str | None = None) -> Neighbours:
        """Find all rows within a Hamming radius of each query, exactly.

        Args:
            x: as for `search`.
            radius: int; from 0 to `bits`.
            where: str or None; as for `search`.

        Returns:
            `Neighbours` of lists: rows differ in number from query to query.

        Raises:
            TypeError, ValueError: if an argument is wrong.
        """
        radius = check_integer("radius", radius, least=0, most=self.bits)
        queries, paths = self._queries(x)

        def search(snapshot: Any) -> Neighbours:
            ranker, rows = self._searched(snapshot, where)
            distances = indices = [np.zeros(0, np.int32) for _ in queries]
            if ranker is not None:
                distances, indices = ranker.within(queries, radius)
            joined = np.concatenate([np.zeros(0, np.int32), *indices])
            ends = np.cumsum([len(index) for index in indices])
            columns = {
                name: np.split(values, ends)[:-1]
                for name, values in snapshot.columns(rows[joined]).items()
            }
            return Neighbours(columns.pop("id"), distances, columns, paths)

        return self._with_snapshot(search)

    def duplicates(self, radius: int = 0, where: str | None = None) -> list[list[Any]]:
        """Find groups of rows whose codes are equal or nearly so.

        A group is what pairs within the radius join: each of its rows is within the
        radius of another one, not of all of them. Codes of trained models collapse:
        what they were trained to hold alike is one group, so codes of many bits and a
        small radius serve best to find copies of one photograph.

        Args:
            radius: int; the Hamming radius of a pair, from 0 to `bits`.
            where: str or None; as for `search`.

        Returns:
            list of lists of keys: groups of two or more, in order of their first rows.

        Raises:
            TypeError, ValueError: if an argument is wrong.
        """
        from kerashash.store.duplicates import groups_within

        radius = check_integer("radius", radius, least=0, most=self.bits)

        def search(snapshot: Any) -> list[list[Any]]:
            codes, rows = snapshot.select(where)
            ids = snapshot.columns(rows, ["id"])["id"]
            groups = groups_within(np.asarray(codes), self.bits, radius)
            return [ids[group].tolist() for group in groups]

        return cast(list[list[Any]], self._with_snapshot(search))

    def ranker(self) -> "HammingRanker":
        """Return the exact in-memory ranker of all rows.

        Its index i is row i of `columns`. It does not follow later changes.

        Returns:
            `kerashash.HammingRanker`.

        Raises:
            ValueError: if the store is empty.
        """
        from kerashash.retrieval import HammingRanker

        ranker, _ = self._searched(self._engine.snapshot(), None)
        if not isinstance(ranker, HammingRanker):
            raise ValueError(f"'{self.path}' must have rows to rank. It is empty.")
        return ranker

    def codes(self, where: str | None = None) -> npt.NDArray[np.uint8]:
        """Return packed codes, in order of row.

        Args:
            where: str or None; as for `search`.

        Returns:
            uint8 array ``(n, ceil(bits / 8))``; in a folder, mapped into memory if
            nothing has been removed.
        """
        return self._with_snapshot(lambda snapshot: snapshot.select(where)[0])

    def columns(
        self, where: str | None = None, names: Sequence[str] | None = None
    ) -> dict[str, npt.NDArray[Any]]:
        """Return keys and metadata, in order of row.

        Args:
            where: str or None; as for `search`.
            names: list or tuple of str, or None; the columns to read, of "id" and the
                metadata. None is all of them. The others, such as long rows of numbers,
                take neither time nor memory.

        Returns:
            dict of arrays by name, in the order of `names`; all are "id", and then the
            metadata in the order in which they came into the store. If `names` is
            empty, so is the dict.

        Raises:
            TypeError, ValueError: if `where` is no condition on the columns, or
                `names` has one that the store has not.

        Example:
            >>> import kerashash
            >>> store = kerashash.CodeStore.create("years.khs", bits=8)
            >>> years = {"year": [2024, 2025], "place": ["Bern", "Graz"]}
            >>> store.add(np.zeros((2, 1), np.uint8), columns=years)
            >>> store.columns("place = 'Graz'", names=["year"])
            {'year': array([2025])}
        """
        return self._with_snapshot(
            lambda snapshot: snapshot.columns(snapshot.select(where)[1], names)
        )

    # ---------------------------------------------------------------- plumbing

    def _with_snapshot(self, read: Callable[[Any], Any]) -> Any:
        """The result of a function of a snapshot, again if it is compacted under it."""
        while True:
            try:
                return read(self._engine.snapshot())
            except Compacted:
                continue

    def _check_has_index(self, name: str) -> None:
        """Check that the engine has an approximate index."""
        if isinstance(self._engine, FolderEngine):
            raise ValueError(
                f"`{name}` is for a store of engine='lance', which has an approximate "
                f"index. Received: '{self.path}', of engine='folder', whose search is "
                "exact alone. Add its codes(), with columns(), to a store of the other."
            )

    def _checked_nprobes(self, nprobes: Any) -> int:
        self._check_has_index("nprobes")
        return check_integer("nprobes", nprobes)

    def _searched(
        self, snapshot: Any, where: str | None, queries: int | None = None
    ) -> tuple["_Ranker | None", npt.NDArray[np.int64]]:
        """What searches the selected rows, or None if there are none, and the rows."""
        kind: type[_Ranker] = Scan
        # A condition may be read for long: others search in the meantime.
        with self._ranking if where is None else contextlib.nullcontext():
            # Few queries have been answered by a scan before a ranker is made. What has
            # been searched once will be searched again.
            again = where is None and self._ranked is not None
            few = queries is not None and queries <= _FEW
            # A fork may have no use for a ranker; `ranker` makes one all the same.
            forked = queries is not None and is_forked()
            if "tensorflow" in sys.modules and not forked and (again or not few):
                from kerashash.retrieval import HammingRanker as kind
            if where is None and self._ranked and self._ranked[0] == snapshot.identity:
                ranker, rows = self._ranked[1:]
                if ranker is None or isinstance(ranker, kind):
                    return ranker, rows
            codes, rows = snapshot.select(where)
            try:
                ranker = kind(codes, self.bits) if len(rows) else None
            except ValueError as error:
                raise ValueError(
                    f"`path` must be a whole store. '{self.path}': {said(error)}."
                ) from error
            if where is None:
                self._ranked = (snapshot.identity, ranker, rows)
            return ranker, rows

    def _are_codes(self, x: Any) -> bool:
        """Whether `x` holds codes, and not what is to be encoded."""
        if not isinstance(x, np.ndarray) or x.ndim != 2:
            return False
        if x.dtype == np.uint8:
            return x.shape[1] == packed_width(self.bits)
        return x.dtype == np.int8 and x.shape[1] == self.bits

    def _codes(self, x: Any) -> npt.NDArray[np.uint8]:
        if self._are_codes(x):
            return as_packed(x, self.bits, "x")[0]
        if (
            isinstance(x, list | tuple)
            and any(map(inputs.is_path, x))
            and not inputs.are_paths(x)
        ):
            other = next(item for item in x if not inputs.is_path(item))
            raise TypeError(
                "`x` must hold paths alone, or none. Received: paths and a value of "
                f"type {type(other).__name__}."
            )
        if self._engine.model is None:
            raise ValueError(
                f"`x` must be codes of {self.bits} bits: uint8 array (n, "
                f"{packed_width(self.bits)}) or int8 array (n, {self.bits}), as the "
                f"store has no model. Received: {inputs.described(x)}."
            )
        return self.model.encode(x, verbose=0)

    def _queries(self, x: Any) -> tuple[npt.NDArray[np.uint8], list[Any] | None]:
        """The codes of queries and, of image files, their paths."""
        x = inputs.listed(x)
        return self._codes(x), x if inputs.are_paths(x) else None

    def _write(
        self,
        x: Any,
        ids: Sequence[Any] | None,
        columns: Mapping[str, Any] | None,
        replace: bool,
        keep: bool = False,
    ) -> None:
        x = inputs.listed(x)
        if ids is None and inputs.are_paths(x):
            ids = x
        if ids is None and replace:
            raise ValueError(
                "`ids` must be given for what has no paths. Received: None."
            )
        inputs.check_is_input(x)
        count = None if inputs.is_stream(x) else len(x)
        if ids is not None:
            ids = checked_ids(ids, count)
            # Before hours of encoding, not after them.
            present = [] if replace else self._engine.known(ids)
            if present:
                raise not_new(present[0])
        columns = as_mapping(columns)
        given = None if count is None else Columns(columns, count)
        if count is None and columns:
            raise ValueError(
                "`columns` must be None for a data set, whose y holds them. Received: "
                f"{[*columns]}."
            )
        if not self._are_codes(x) and count != 0 and ids != []:
            self._check_addition(ids, given.specification if given else {})
        start = 0
        for codes, labels in self._encoded(x):
            stop = start + len(codes)
            if ids is not None and len(ids) < stop:
                raise ValueError(
                    f"`ids` must have a key for each row. Received: {len(ids)} keys, "
                    f"{stop} rows or more."
                )
            block = Columns(labels, len(codes)) if given is None else given[start:stop]
            self._engine.add(
                codes, None if ids is None else ids[start:stop], block, replace, keep
            )
            start = stop
        if ids is not None and len(ids) != start:
            raise ValueError(
                f"`ids` must have a key for each row. Received: {len(ids)} keys for "
                f"{start} rows, which were added."
            )

    def _check_addition(
        self, ids: Sequence[Any] | None, specification: dict[str, Any]
    ) -> None:
        """Check before hours of encoding that the store will take their rows.

        Args:
            ids: keys, one at least; None stands for numbers.
            specification: dict; the types of metadata, as `Columns` has them.

        Raises:
            ValueError, OSError: as the engine's `add`.
        """
        self._engine.check_addition(ids, specification)

    def _encoded(self, x: Any) -> Iterator[tuple[npt.NDArray[np.uint8], Any]]:
        """Yield the packed codes of one commit after the other, and their labels."""
        if self._are_codes(x):
            if len(x):
                yield self._codes(x), None
        elif not inputs.is_stream(x):
            for start in range(0, len(x), _COMMIT_ROWS):
                yield self._codes(x[start : start + _COMMIT_ROWS]), None
        else:
            waiting: list[tuple[Any, dict[str, Any]]] = []
            rows = 0  # that wait
            names: set[Any] | None = None
            for number, batch in enumerate(inputs.batches(x)):
                given, labels = inputs.parts(batch)
                codes = self._codes(as_array(given, "x"))
                if names is not None and labels.keys() != names:
                    raise ValueError(
                        "`x` must yield batches with the same y, or all without. "
                        f"Received: {sorted(map(str, labels))} in batch {number}, "
                        f"{sorted(map(str, names))} before."
                    )
                names = {*labels}
                labels = inputs.checked_labels(labels, len(codes), number)
                if not len(codes):  # as of a last batch, cut short
                    continue
                waiting.append((codes, labels))
                rows += len(codes)
                if rows >= _COMMIT_ROWS:
                    yield inputs.joined(waiting)
                    waiting, rows = [], 0
            if waiting:
                yield inputs.joined(waiting)

    def _check_model(self, model: "HashModel") -> None:
        """Check that the codes of the store are those of a model."""
        stored = self._engine.model
        if stored is None:
            raise ValueError(
                f"`model` must be None: '{self.path}' was created without one. "
                f"Received: {model.name!r}."
            )
        received = model_identity(model)
        for field in ("method", "bits", "input", "weights"):
            if stored[field] != received[field]:
                raise ValueError(
                    f"`model` must be {stored['name']!r}, which made the codes of "
                    f"'{self.path}'. Received: {received['name']!r}, of another "
                    f"{field}: {str(received[field])[:20]}, not "
                    f"{str(stored[field])[:20]}."
                )


def _loaded(name: str) -> "HashModel":
    """The model of an entry of the zoo."""
    from kerashash import zoo

    try:
        return zoo.load(name)
    except ValueError as error:
        if not str(error).startswith("`name`"):
            raise
        raise ValueError(
            "`model` must be a HashModel, as kerashash.load_model reads one from a "
            f"file, or an entry of the zoo. {str(error).partition('. ')[2]}"
        ) from error


def open_or_create(
    path: str | os.PathLike[str],
    model: "HashModel | None",
    new: "HashModel | str | None",
) -> CodeStore:
    """Open a store, or make it where there is nothing.

    Of two processes that do so at the same time, one makes it.

    Args:
        path: as for `CodeStore.open`.
        model: `HashModel` or None, to open the store with.
        new: `HashModel`, or the name of an entry of the zoo, to make it with.

    Returns:
        `CodeStore`.

    Raises:
        TypeError, ValueError, OSError, ImportError: as `CodeStore.open` and `create`.

    Example:
        >>> import keras, kerashash
        >>> net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8)])
        >>> model = kerashash.AdaLabelHash(net, bits=12, num_classes=3)
        >>> len(open_or_create("new.khs", model, model))
        0
    """
    try:
        return CodeStore.open(path, model)
    except FileNotFoundError:
        try:
            return CodeStore.create(path, new)
        except FileExistsError:  # made just now
            return CodeStore.open(path, model)


def _is_url(path: str | os.PathLike[str]) -> bool:
    return "://" in os.fspath(path)


def _location(path: str | os.PathLike[str]) -> Any:
    """A URL as it is, or a `pathlib.Path` in which ``~`` is the home folder."""
    text = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(text, str):
        raise TypeError(f"`path` must be a path or a URL. Received: {path!r:.200}.")
    if not text or "\0" in text:
        raise ValueError(
            "`path` must be a path or a URL, of at least one character and without a "
            f"null character. Received: {path!r:.200}."
        )
    return text if _is_url(text) else files.as_path(text)


def _engine_class(engine: str, path: str | os.PathLike[str]) -> Any:
    if engine == "folder":
        if _is_url(path):
            raise ValueError(
                "`engine` must be 'lance' for a URL. Received: 'folder', "
                f"{os.fspath(path)!r}."
            )
        return FolderEngine
    from kerashash.store.lance import LanceEngine

    return LanceEngine
