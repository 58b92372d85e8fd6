"""`python -m tasks.running`: see tasks/running/cli.py."""

import gc

from tasks.running import guard

if __name__ == "__main__":
    guard.enter()  # before the imports, so that the process that watches is a small one
    # What modules hold stays to the end: the collector that looks through it again and again took a tenth of the CPU.
    gc.disable()
    from tasks.core.errors import run_main
    from tasks.running.cli import main

    gc.freeze()
    gc.enable()
    run_main(main)
