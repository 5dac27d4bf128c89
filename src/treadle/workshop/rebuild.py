"""Fill an environment's online store from the datasets: after ingestion, a restore, or a new feature view."""

import datetime as dt

from treadle.online.store import SqliteOnline
from treadle.operations.workshop import GetApplied
from treadle.records.calls import SYSTEM
from treadle.records.clock import micros
from treadle.workshop.feed import Pusher
from treadle.workshop.home import Workshop


def rebuild_online(shop: Workshop, project: str, environment: str, *, now: dt.datetime) -> int:
    """Push everything known by `now` into a cleared online store; returns the rows pushed."""
    definitions = shop.dispatch(GetApplied(project=project, environment=environment), actor=SYSTEM)
    datasets = {d.name: d for d in definitions.datasets}
    sources = {v.source for v in definitions.feature_views}
    frames = {}
    for name in sources:
        time = datasets[name].time
        if time and shop.data.newest(project, name) is not None:
            frames[name] = shop.data.read(project, name).sort(time).collect()
    with SqliteOnline(shop.layout.online(project, environment)) as store, store.batch():
        store.clear()
        Pusher(store, definitions.feature_views, datasets).feed(frames).advance(micros(now))
    return sum(frame.height for frame in frames.values())
