"""Record the golden drafts anew: `cd tests && python -m golden_drafts [NAME …]`."""

import sys
import time
from functools import partial

from golden_drafts import product, record, runs

from mercury_lsp.config import surroundings


def main(names: list[str]) -> None:
    """Write the records called `names`, or all."""
    folder = surroundings().cache_dir
    double = product.tiny_in_double_precision
    tiny, mini = (partial(product.on_onnx, name, folder) for name in ("tiny", "mini"))
    every = {
        "tiny-float64": (double, runs.tiny(double)),
        "whole-float64": (double, runs.whole(double)),
        "tiny-onnx": (tiny, runs.tiny(tiny)),
        "mini-onnx": (mini, runs.mini(mini)),
    }
    for name in names or every:
        model, todo = every[name]
        began = time.monotonic()
        found = {run: do() for run, do in todo.items()}
        size = record.write(name, product.made_on(model()), found)
        seconds = time.monotonic() - began
        print(f"{name}: {len(found)} runs, {size / 1000:.0f} kB, {seconds:.0f} s")  # noqa: T201


main(sys.argv[1:])
