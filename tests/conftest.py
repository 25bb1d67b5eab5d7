"""What every test starts from: one thread a library, no state of the user's, no Prefect outside a temporary folder."""

from __future__ import annotations

import os

# Before anything imports them: two processes with one thread each beat one with two, and results do not
# depend on it. (The Dask nanny does the same for its workers.)
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
for _name in [name for name in os.environ if name.startswith(("RESURVEY_", "PREFECT_"))]:
    del os.environ[_name]

from hypothesis import settings  # noqa: E402 (it must not load anything before the lines above)

# A kernel is compiled and a library loaded in the first example that needs it; hangs are caught by the timeout.
settings.register_profile("project", deadline=None)
settings.load_profile("project")
