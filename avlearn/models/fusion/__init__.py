"""Networks that classify clips by video and audio together. ``create_fusion(name, classes)`` makes one."""

from avlearn.models.fusion.registry import FusionSpec, create_fusion, fusion_spec, list_fusions

__all__ = ["FusionSpec", "create_fusion", "fusion_spec", "list_fusions"]
