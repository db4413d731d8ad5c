"""``python -m avlearn``."""

from avlearn.cli import main

main()
