"""The embedded Prefect server: `python -m flows.serve`, started by flows/server.py and never by hand.

Listens on a free port of this machine only, writes that port to stdout, and ends when its stdin closes: so it
never outlives the process that started it, however that ended.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading


def main() -> None:
    """Serve until stdin closes."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)  # who connects while Prefect is still being imported waits
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()

    import uvicorn
    from prefect.server.api.server import create_app

    def follow_parent() -> None:
        sys.stdin.read()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=follow_parent, daemon=True).start()
    app = create_app(ephemeral=True, final=True)
    uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="on")).run(sockets=[listener])


if __name__ == "__main__":
    main()
