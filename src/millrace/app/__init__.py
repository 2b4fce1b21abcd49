"""Where everything is put together and meets the outside: CLI, HTTP, processes, wiring. No feed logic."""

import os

# Before NumPy is imported: a serving process uses one core, and its forks must not lose BLAS's idle threads.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
