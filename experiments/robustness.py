"""Measures accuracy under attack of trained networks, side by side.

  python -m experiments.robustness --runs=runs/standard,runs/robust --out=runs/robustness

Attacks every network of the run folders on the test split (projected gradient ascent, the strongest
of several restarts) at sizes relative to the input, beside random perturbations of the same sizes.
Leaves robustness.csv and robustness.png; continues where it was interrupted, and does not repeat
what it has when runs are added.
"""

from collections.abc import Sequence

from absl import app, flags

from experiments import drivers
from metamer_jax import configs, runs
from metamer_jax.comparison import robustness

_DEFAULT = configs.RobustnessConfig()
_RUNS = flags.DEFINE_list("runs", None, "Folders of runs with trained networks.", required=True)
_OUT = flags.DEFINE_string("out", "runs/robustness", "Folder for robustness.csv and .png.")
_EPSILONS = flags.DEFINE_list(
    "epsilons",
    [str(e) for e in _DEFAULT.epsilons],
    "Sizes: a perturbation's norm over the clip's ('l2'), or its largest value over the clip's "
    "rms ('linf'). Those that the networks were trained at are added.",
)
_DOMAINS = flags.DEFINE_list("domains", list(_DEFAULT.domains), "What is perturbed.")
_NORMS = flags.DEFINE_list("norms", list(_DEFAULT.norms), "How the size is measured.")
_STEPS = flags.DEFINE_integer("attack_steps", _DEFAULT.num_steps, "Steps of an attack.")
_STEP_SIZE = flags.DEFINE_float("step_size", _DEFAULT.step_size, "Step, as a part of epsilon.")
_RESTARTS = flags.DEFINE_integer(
    "restarts", _DEFAULT.restarts, "Random starts, of which the strongest counts."
)
_CLIPS = flags.DEFINE_integer("clips", None, "Clips of the test split. Unset: all.")
_SEED = flags.DEFINE_integer("attack_seed", 0, "Seed of the starts and the choice of clips.")


def main(argv: Sequence[str]) -> None:
    config, opened = drivers.begin(argv, _config_and_runs)
    with drivers.clear_errors(), runs.stop_on_sigterm() as stop:
        table = robustness.measure(opened, _OUT.value, config, stop=stop)
        path = robustness.draw(table, _OUT.value)
    print(table.drop(columns="clips").to_string(index=False, float_format=lambda x: f"{x:.3f}"))
    print(f"Written: {path}")


def _config_and_runs() -> tuple[configs.RobustnessConfig, list[runs.Run]]:
    """Reads the flags.

    Raises:
        ValueError: A setting has a value that cannot be, or a folder holds no trained networks.
    """
    config = configs.RobustnessConfig(
        epsilons=tuple(sorted(float(e) for e in _EPSILONS.value)),
        domains=tuple(_DOMAINS.value),
        norms=tuple(_NORMS.value),
        num_steps=_STEPS.value,
        step_size=_STEP_SIZE.value,
        restarts=_RESTARTS.value,
        clips=_CLIPS.value,
        seed=_SEED.value,
    )
    return config, [robustness.read_run(folder) for folder in _RUNS.value]


if __name__ == "__main__":
    app.run(main)
