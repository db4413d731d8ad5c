"""Where work over many items is done: by processes here, or by the workers of a cluster."""

from collections.abc import Callable, Generator, Sequence
from typing import Any

from avlearn.data.cluster import Cluster
from avlearn.data.pool import Limit, endless
from avlearn.data.processes import in_processes

# So many processes here (None: a process a core), or the workers of a cluster.
Workers = int | Cluster | None


def in_workers(
    work: Callable[[Any], Any], items: Sequence[Any], workers: Workers = None, limit: Limit = endless
) -> Generator[tuple[int, Any], None, None]:
    """Do the items, several at a time; close the generator to end the work at once.

    Args:
        work: a function of a module; what it raises is raised here.
        items: what it is called with.
        workers: who does them.
        limit: seconds that an item may take; 0, the default: all it takes.

    Raises:
        AvlearnError: there is nobody to do them.

    Yields:
        Number of an item and its result, as they get done; `avlearn.data.pool.Died` for one that kills the process
        that does it, or that hangs.
    """
    if isinstance(workers, Cluster):
        return workers.run(work, items, limit)
    return in_processes(work, items, workers, limit)
