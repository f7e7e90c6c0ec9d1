"""How JAX compiles in the tests, their workers and the drivers that they start.

The suite's time is compilation: small programs, each run a few times. So LLVM's optimisations are
left out, as JAX's own tests leave them out (JAX_DISABLE_MOST_OPTIMIZATIONS=0 brings them back), and
what one process has compiled is there for all others of the same run.
"""

import os
import tempfile

import pytest


def pytest_configure(config: pytest.Config) -> None:
    os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # Workers inherit it.
        folder = tempfile.TemporaryDirectory(prefix="metamer_jax_tests_")
        config.add_cleanup(folder.cleanup)
        os.environ["JAX_COMPILATION_CACHE_DIR"] = folder.name
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
