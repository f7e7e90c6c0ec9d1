"""Measures accuracy under attack of trained networks, side by side.

  python -m experiments.robustness --runs=runs/standard,runs/robust --out=runs/robustness

Attacks every network of the run folders on the test split (projected gradient ascent, the strongest
of several restarts) at sizes relative to the input, beside random perturbations of the same sizes.
Leaves robustness.csv and robustness.png; continues where it was interrupted, and does not repeat
what it has when runs are added.
"""

import dataclasses
from collections.abc import Sequence

from absl import flags

from metamer_jax import configs, runs
from metamer_jax.commands import drivers
from metamer_jax.comparison import robustness

_RUNS = flags.DEFINE_list("runs", None, "Folders of runs with trained networks.", required=True)
_OUT = flags.DEFINE_string("out", "runs/robustness", "Folder for robustness.csv and .png.")
_changed = drivers.setting_flags(
    configs.RobustnessConfig(),
    {
        "epsilons": "epsilons",
        "domains": "domains",
        "norms": "norms",
        "attack_steps": "num_steps",
        "step_size": "step_size",
        "restarts": "restarts",
        "clips": "clips",
        "attack_seed": "seed",
    },
)


def main(argv: Sequence[str]) -> None:
    config, opened = drivers.begin(_config_and_runs)
    with runs.stop_on_sigterm() as stop:
        table = robustness.measure(opened, _OUT.value, config, stop=stop)
        path = robustness.draw(table, _OUT.value)
    print(table.drop(columns="clips").to_string(index=False, float_format=lambda x: f"{x:.3f}"))
    print(f"Written: {path}")


def _config_and_runs() -> tuple[configs.RobustnessConfig, list[runs.Run]]:
    """Reads the flags.

    Raises:
        ValueError: A setting has a value that cannot be, or a folder holds no trained networks.
    """
    config = _changed(configs.RobustnessConfig())
    config = dataclasses.replace(config, epsilons=tuple(sorted(config.epsilons)))
    return config, [runs.read_run(folder, needs=["networks"]) for folder in _RUNS.value]


if __name__ == "__main__":
    drivers.run(main)
