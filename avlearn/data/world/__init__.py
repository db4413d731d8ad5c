"""The synthetic world: small scenes whose visible motion causes their sound, with exact ground truth."""

from avlearn.data.world.config import PRESETS, WorldConfig
from avlearn.data.world.make import make_world
from avlearn.data.world.objects import CLASSES, MOTIONS
from avlearn.data.world.scene import Scene, SceneSource, render_scene

__all__ = ["CLASSES", "MOTIONS", "PRESETS", "Scene", "SceneSource", "WorldConfig", "make_world", "render_scene"]
