"""Linear probe of a model: python tools/linear_probe.py MODEL MANIFEST [MANIFEST ...]

The same as ``avlearn linear-probe --model MODEL --data MANIFEST``: frozen features, a linear classifier whose
regularisation is chosen on validation clips, beside a random network and the majority class.
"""

import argparse
import json

from avlearn.errors import AvlearnError
from avlearn.evaluation.linear_probe import probe_manifests
from avlearn.files import write_text


def main() -> None:
    """Parse, call, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a model's name or folder")
    parser.add_argument("manifests", nargs="+", help="manifests, or folders laid out as Kinetics")
    parser.add_argument("--json", help="also write the result here")
    arguments = parser.parse_args()
    try:
        result = probe_manifests(arguments.model, arguments.manifests)
        print(result.text())
        if arguments.json:
            write_text(arguments.json, json.dumps(result.to_dict(), indent=1) + "\n")
    except AvlearnError as error:
        parser.exit(2, f"linear_probe: error: {error}\n")


if __name__ == "__main__":
    main()
