"""Names of weights that a paper's authors released with code of their own."""

from avlearn.models.importers.layout import Layout, Tensors, renamed


def _timesformer(tensors: Tensors) -> Tensors:
    return renamed(tensors, [(r"^head\.", "classifier.")])


LAYOUTS = (Layout("timesformer", r"^blocks\.0\.temporal_attn\.", _timesformer),)
