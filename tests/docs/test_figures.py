"""Figures on the site are those of the model in the package, as its card has them."""

from pathlib import Path

import avlearn
from avlearn.models import list_models

ROOT = Path(__file__).resolve().parents[2]
CARD = Path(avlearn.__file__).parent / "models" / "zoo" / "default" / "README.md"


def test_rows_of_the_table_of_the_default_model_are_of_its_card():
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    table = page[page.index("```text\ntask ") :].split("```")[1]
    rows = [" ".join(line.split()) for line in table.splitlines()[3:]]
    assert len(rows) > 40
    card = {" ".join(line.split()) for line in CARD.read_text().splitlines()}
    assert [row for row in rows if row not in card] == []


def test_pages_count_the_encoders_that_there_are():
    count = len(list_models())
    assert f"# one of {count};" in (ROOT / "README.md").read_text()
    assert f"lists {count} networks" in (ROOT / "docs" / "encoders.md").read_text()
