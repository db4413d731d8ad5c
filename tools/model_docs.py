"""Write the table of encoders in the package, and docs/models.md, from their specs: python tools/model_docs.py"""

from pathlib import Path

from avlearn.models.listing import model_list
from avlearn.models.registry import TABLE, encoder_table

HEAD = """# Encoders

Printed by `python tools/model_docs.py` from the specs that tests hold the networks to. Parameters count the classifier
of the paper (400 classes where nothing else is said; encoders of our own have none); GMACs are 10^9 multiply-adds of
convolutions, linear maps and attention, for one input of the size beside them: frames, rows and columns; bins and
frames; or samples (those of audio networks are our own count). "published" is what the authors print,
where that differs or belongs to another input; "top-1" their accuracy on Kinetics-400. A clip takes every "stride"-th
frame of a video of about 30 a second, after its shorter side (or rows and columns) was scaled to "resize" pixels.
"weights" can be given by name, `create_model(NAME, weights="torchvision")`; `avlearn weights list NAME` has their
addresses.

"""


def document() -> str:
    """The whole file."""
    return HEAD + model_list().markdown() + "\n"


if __name__ == "__main__":
    TABLE.write_text(encoder_table())
    path = Path(__file__).parents[1] / "docs" / "models.md"
    path.write_text(document())
    print(f"wrote {TABLE} and {path}")
