"""`python -m local.program HOME PORT COMMAND...` becomes the command, after it has ended what an earlier start of it left on its port.

supervisord starts a program again that was killed. A child of the killed one may live on and hold the port, as MLflow's server does:
then no later start could listen, and each would try in vain.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from local import processes


def main() -> None:
    """End this home's leftovers on the port, then become the command."""
    home, port, *command = sys.argv[1:]
    left = [process for process in processes.ours(Path(home)) if processes.holds(process, int(port))]
    if left:
        print(
            f"ends {', '.join(str(process.pid) for process in left)}, left on port {port} by an earlier start",
            flush=True,
        )
        processes.end(left)
    os.execvp(command[0], command)  # noqa: S606 - a shell would only stay between supervisord's signals and the program


if __name__ == "__main__":
    main()
