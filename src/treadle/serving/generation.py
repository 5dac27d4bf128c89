"""A generation: a snapshot with its models in memory, immutable, swapped as one.

`Loader` opens the bundles that a snapshot names, checks and tries each of them, and shares what an earlier generation holds already
(predictors by bundle, feature readers by the views they read), so that a champion switch loads one model and forgets no features.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from treadle.online.reader import OnlineReader
from treadle.packaging.bundle import open_bundle
from treadle.packaging.flavors import Predictor
from treadle.records.definitions import FeatureView
from treadle.records.digests import digest_of
from treadle.records.errors import TreadleError
from treadle.records.layout import GatewayLayout
from treadle.records.models import Bundle, Signature
from treadle.records.serving import ServedEndpoint, Snapshot, Variant

_Opened = dict[str, tuple[Bundle, Predictor]]


class ViewRead:
    """One read of the online store that a model needs."""

    __slots__ = ("entity", "features", "reader", "view")

    def __init__(self, view: FeatureView, reader: OnlineReader, wanted: tuple[str, ...]):
        self.view = view.name
        self.entity = view.entity
        self.reader = reader
        self.features = wanted


class Model:
    """A variant, ready to score. `reads` are the online reads its inputs need, `features` what they give; `known` the columns that have a
    declared type."""

    __slots__ = ("bundle", "features", "known", "predictor", "reads", "signature", "variant")

    def __init__(self, variant: Variant, bundle: Bundle, predictor: Predictor, reader: OnlineReader | None):
        self.variant = variant
        self.bundle = bundle
        self.predictor = predictor
        self.signature: Signature = bundle.signature
        wanted: dict[str, list[str]] = {}
        for column in self.signature.inputs:
            if column.origin == "view" and column.view:
                wanted.setdefault(column.view, []).append(column.name)
        views = {view.name: view for view in bundle.views}
        missing = sorted(set(wanted) - set(views))
        if missing:
            raise TreadleError(
                f"Bundle {variant.bundle_digest[:12]} reads the feature views {', '.join(missing)}, but does not hold their definitions.",
                remedy="Seal the bundle again with views=[…]: run its pipeline.",
                code="corrupt",
            )
        assert reader is not None or not wanted
        self.reads = tuple(ViewRead(views[name], reader, tuple(names)) for name, names in wanted.items() if reader is not None)
        self.features = frozenset(name for names in wanted.values() for name in names)
        self.known = frozenset(
            [c.name for c in self.signature.inputs] + [c.name for c in self.signature.keys] + [k for r in self.reads for k in r.entity]
        )


class Served:
    """An endpoint with its models, in one generation."""

    __slots__ = ("challenger", "champion", "endpoint", "generation", "known", "name")

    def __init__(self, endpoint: ServedEndpoint, generation: int, champion: Model | None, challenger: Model | None):
        self.endpoint = endpoint
        self.generation = generation
        self.name = endpoint.name
        self.champion = champion
        self.challenger = challenger
        known = {endpoint.unit} if endpoint.unit else set()
        self.known = frozenset(known.union(*(m.known for m in (champion, challenger) if m is not None)))


class Generation:
    """Everything that is served at one moment."""

    __slots__ = ("endpoints", "number", "snapshot")

    def __init__(self, snapshot: Snapshot, endpoints: Mapping[str, Served]):
        self.snapshot = snapshot
        self.number = snapshot.generation
        self.endpoints = endpoints


class Loader:
    """Makes generations from snapshots.

    Args:
        layout: the gateway's folder, where the bundles stand.
        online: the online store's file; it need not exist yet.
    """

    def __init__(self, layout: GatewayLayout, online: Path):
        self._layout = layout
        self._online = online
        self._opened: _Opened = {}
        self._readers: dict[str, OnlineReader] = {}

    def load(self, snapshot: Snapshot) -> Generation:
        """Open and try everything that `snapshot` names. What only earlier generations used is let go.

        Raises:
            TreadleError: whatever is wrong with a bundle; nothing has changed then.
        """
        opened: _Opened = {}
        readers: dict[str, OnlineReader] = {}
        endpoints = {
            e.name: Served(e, snapshot.generation, self._model(e.champion, opened, readers), self._model(e.challenger, opened, readers))
            for e in snapshot.endpoints
        }
        for key, reader in readers.items():
            if key not in self._readers:
                reader.refresh()  # fill its memory now, not in the first request
        left = [reader for key, reader in self._readers.items() if key not in readers]
        self._opened, self._readers = opened, readers
        for reader in left:
            reader.close()  # a request that still holds it would open the file again
        return Generation(snapshot, endpoints)

    def close(self) -> None:
        """Close the feature readers."""
        for reader in self._readers.values():
            reader.close()

    def _model(self, variant: Variant | None, opened: _Opened, readers: dict[str, OnlineReader]) -> Model | None:
        if variant is None:
            return None
        digest = variant.bundle_digest
        found = opened.get(digest) or self._opened.get(digest) or self._open(digest)
        opened[digest] = found
        bundle, predictor = found
        reader = None
        if bundle.views:
            key = digest_of(bundle.views)
            reader = readers.get(key) or self._readers.get(key) or OnlineReader(self._online, bundle.views)
            readers[key] = reader
        return Model(variant, bundle, predictor, reader)

    def _open(self, digest: str) -> tuple[Bundle, Predictor]:
        bundle, predictor = open_bundle(self._layout.bundles / digest)
        tried = predictor.predict(np.zeros((1, len(bundle.signature.inputs)), dtype=np.float64))  # the first call compiles; and fails here
        if tried.shape != (1,):
            raise TreadleError(
                f"Bundle {digest[:12]} answers one row with shape {tried.shape}; one number a row is served.",
                remedy="Seal a model whose predict gives one score a row.",
                code="corrupt",
            )
        return bundle, predictor
