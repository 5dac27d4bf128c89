"""The room's services, as the workshop gives them to the one door."""

from treadle.plugins.storage import BlobStore
from treadle.tracking.diagnosis import Insides
from treadle.tracking.experiments import ExperimentVerbs
from treadle.tracking.files import Files
from treadle.tracking.logged_models import ModelVerbs
from treadle.tracking.runs import RunVerbs
from treadle.tracking.search import SearchVerbs


def services(blobs: BlobStore) -> tuple[object, ...]:
    """Every service of the room: together they implement `operations/tracking.py`, but for removal, which spans rooms."""
    return (ExperimentVerbs(), RunVerbs(), ModelVerbs(), Files(blobs), SearchVerbs(), Insides(blobs))
