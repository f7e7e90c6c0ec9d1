"""Packaging of metamer_jax; every other tool's settings are in pyproject.toml."""

import pathlib

import setuptools

setuptools.setup(
    name="metamer_jax",
    version="0.2.0",
    description="Model metamers of auditory neural networks in JAX",
    long_description=pathlib.Path(__file__).with_name("README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=setuptools.find_packages(include=["metamer_jax", "metamer_jax.*"]),
    package_data={
        "metamer_jax": ["py.typed"],
        "metamer_jax.listening": ["page/*", "page/vendor/*"],
        "metamer_jax.listening.building": ["forms.gs"],
        "metamer_jax.report": ["templates/*"],
    },
    entry_points={"console_scripts": ["metamer-jax = metamer_jax.commands.__main__:main"]},
    python_requires=">=3.11",
    install_requires=[
        "absl-py",
        "array-record",
        "filelock",
        "flax>=0.12.8",  # nnx.capture
        "importlib_resources",
        "jax>=0.10",
        "jinja2",
        "librosa",
        "matplotlib",
        "numpy",
        "optax",
        "pandas",
        "platformdirs",
        "scipy",
        "soundfile",
        "tensorflow-datasets",
        "tqdm",
    ],
    extras_require={
        "cuda": ["jax[cuda13]"],
        "tpu": ["jax[tpu]"],
        "speech": ["espeakng-loader>=0.2.4"],
        "listening": ["starlette", "uvicorn"],  # The server of an experiment.
        "pilot": ["playwright"],  # A browser that takes an experiment by script.
        "statistics": ["mixedlm>=1.3", "statsmodels"],  # Analyses of answers.
        "torch": ["torch>=2.13,<2.14", "torchax>=0.0.13,<0.1"],
        # Of torchcrepe and resemblyzer, which scripts/environment.sh installs, what they need.
        "torch-tests": ["resampy", "transformers>=5,<6", "webrtcvad-wheels"],
        "notebook": ["ipykernel", "jupyterlab"],
        "docs": ["furo", "myst-parser", "sphinx"],
        "dev": [
            "axe-playwright-python==0.1.8",  # Brings axe 4.12.1; a newer one may have new rules.
            "check-jsonschema",
            "espeakng-loader>=0.2.4",
            "ipykernel",
            "mixedlm>=1.3",
            "nbclient",
            "nbformat",
            "playwright",
            "pyrefly==1.4.1",  # A newer one may have new complaints.
            "pytest",
            "pytest-cov",
            "pytest-xdist",
            "ruff",
            "starlette",
            "statsmodels",
            "uvicorn",
        ],
    },
)
