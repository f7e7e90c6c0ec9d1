"""Run folders to a table of accuracy under attack; the untrained network as any other."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import small_run

from metamer_jax import configs, figures, pipeline, runs, storage
from metamer_jax.comparison import robustness
from metamer_jax.training import attacks

ATTACK = configs.AdversarialConfig(epsilon=0.05, norm="l2", domain="cochleagram", num_steps=2)
CONFIG = configs.RobustnessConfig(
    epsilons=(0.02, 0.2), domains=("cochleagram",), num_steps=3, restarts=2, clips=5
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A robust and an untrained network, the latter with metamers that were verified."""
    root = tmp_path_factory.mktemp("robustness")
    small_run.write_recordings(root / "recordings")
    config = small_run.config(
        root / "recordings",
        root / "cache",
        stages=("logits",),
        synthesis=configs.SynthesisConfig(steps=5, chunk_steps=5),
    )
    robust = dataclasses.replace(config.training, epochs=2, adversarial=ATTACK)
    untrained = dataclasses.replace(config.training, epochs=0)
    for name, training in (("robust", robust), ("untrained", untrained)):
        settings = dataclasses.replace(config, training=training)
        with runs.open_run(root / name, settings) as run:
            recordings = pipeline.load_recordings(run)
            pipeline.train_networks(run, recordings)
            if name == "untrained":
                pipeline.synthesize_metamers(run, recordings)
                pipeline.verify_metamers(run, recordings)
    return root


@pytest.mark.slow
def test_an_untrained_network_goes_through_the_pipeline(folders):
    folder = folders / "untrained"
    result = storage.read_json(folder / "networks/frequency_grouped/result.json")
    assert result["best_epoch"] == result["epochs"] == 0
    assert np.sum(result["confusion"]) == 6 and result["validation_accuracy"] is None
    assert len(pd.read_csv(folder / "verification/metamers.csv")) == 4
    # The first weights of this run's key, with the normalisation of its clips.
    saved = storage.read_npz(folder / "networks/frequency_grouped/weights.npz")
    assert saved["normalization/count"] > 0 and saved["normalization/variance"] != 1
    assert not saved["params/logits/bias"].any()


def test_settings_from_before_there_were_attacks_still_load():
    old = dataclasses.asdict(configs.TrainingConfig(epochs=7))
    del old["adversarial"]
    assert configs.from_dict(configs.TrainingConfig, old) == configs.TrainingConfig(epochs=7)


@pytest.mark.slow
def test_a_table_of_every_network_and_size(folders, tmp_path, monkeypatch):
    opened = [runs.read_run(folders / name, needs=["networks"]) for name in ("robust", "untrained")]
    table = robustness.measure(opened, tmp_path, CONFIG)
    assert list(table.columns) == list(robustness.COLUMNS)
    by = table.set_index(["run", "norm", "epsilon"])
    # The size that one of them was trained at is measured of both, in that norm alone.
    assert len(table) == 2 * (3 + 4)
    assert by["trained"].sum() == 1 and by.loc[("robust", "l2", 0.05), "trained"]
    assert (table["clips"] == 5).all()
    assert (table["adversarial_accuracy"] <= table["clean_accuracy"]).all()
    for _, rows in table.groupby(["run", "norm"]):
        assert rows["adversarial_accuracy"].is_monotonic_decreasing
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "robustness.csv"), table)
    path = robustness.draw(table, tmp_path)
    assert path.read_bytes()[:4] == b"\x89PNG"
    panels = figures.accuracy_under_attack(table).axes
    assert [axis.get_title("left") for axis in panels] == ["cochleagram, l2", "cochleagram, linf"]

    # What is done stays; a part that is lost is made again, and is the same.
    lost = next((tmp_path / "parts").glob("*robust-*-cochleagram-l2.json"))
    lost.unlink()
    attacked = []
    evaluate = attacks.evaluate
    monkeypatch.setattr(
        attacks, "evaluate", lambda *a, **k: attacked.append(k["config"]) or evaluate(*a, **k)
    )
    pd.testing.assert_frame_equal(robustness.measure(opened, tmp_path, CONFIG), table)
    assert [a.norm for a in attacked] == ["l2"]
    lost.unlink()
    with pytest.raises(SystemExit):
        robustness.measure(opened, tmp_path, CONFIG, stop=lambda: True)
    with pytest.raises(ValueError, match="restarts: 2 before, 1 now"):
        robustness.measure(opened, tmp_path, dataclasses.replace(CONFIG, restarts=1))


@pytest.mark.slow
def test_what_is_no_trained_run_is_refused(folders, tmp_path):
    with pytest.raises(ValueError, match="must be the folder of a run"):
        runs.read_run(tmp_path, needs=["networks"])
    config = runs.read_run(folders / "robust", needs=["networks"]).config
    with runs.open_run(tmp_path / "new", config):
        pass
    with pytest.raises(ValueError, match="train the networks first"):
        runs.read_run(tmp_path / "new", needs=["networks"])
    with pytest.raises(ValueError, match="epsilons"):
        configs.RobustnessConfig(epsilons=(0.1, -0.1))
