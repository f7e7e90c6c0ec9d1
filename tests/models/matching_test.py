"""Controls of equal size: the counts, the choice of widths, the presets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metamer_jax import configs, models
from metamer_jax.models import matching

OTHERS = ("frequency_grouped", "frequency_local", "frequency_dense")


def match(*candidates, **options):
    return matching.match_networks("conv2d", candidates or OTHERS, num_words=8, **options)


@pytest.mark.parametrize("name", ["frequency_local", "frequency_grouped"])
def test_sizes_are_those_of_an_initialised_network(name):
    model = models.build_model({"name": name, "input_shape": (12, 10)}, 3)
    x = jnp.zeros((1, 12, 10))
    (_, stages), variables = jax.jit(model.init_with_output)(jax.random.key(0), x)
    parameters, sizes = matching.sizes(model)
    assert parameters == sum(p.size for p in jax.tree.leaves(variables["params"]))
    assert sizes == {name: a.size for name, a in stages.items() if name != "cochleagram"}


def test_parameters_agree_within_one_percent_and_keep_proportions():
    for name, found in zip(OTHERS, match(), strict=True):
        assert found.settings["name"] == name
        assert abs(found.parameter_distance) < 0.002
        model = models.build_model(name, 8)
        widths = (*found.settings["conv_features"], found.settings["dense_features"])
        ratios = np.divide(widths, (*model.conv_features, model.dense_features))
        assert ratios.max() < 1.1 * ratios.min()


def test_representation_alone_leaves_the_convolutions():
    for name, found in zip(OTHERS, match(parameters=False, representation="dense"), strict=True):
        assert found.stage_distances["dense"] == 0
        assert found.settings["conv_features"] == models.build_model(name, 8).conv_features


def test_both_at_once():
    for found in match(representation="dense"):
        assert abs(found.parameter_distance) < 0.002
        assert found.stage_distances["dense"] == 0


@pytest.mark.parametrize("parameters", [False, True])
def test_every_stage_is_exact_and_what_is_left_is_stated(parameters):
    # 30 x 960 = 30 x 30 x 32, 28 x 1792 = 28 x 28 x 64: every width is decided.
    found = match(parameters=parameters, representation="every stage")
    assert [m.settings["conv_features"] for m in found] == [(960, 1792), (32, 64), (960, 1792)]
    assert all(m.stage_distances == dict.fromkeys(configs.STAGES[1:], 0.0) for m in found)
    assert found[1].sizes.parameters == 2_134_280
    assert found[1].parameter_distance == pytest.approx(2_134_280 / 1_625_608 - 1)
    assert "frequency_local" in str(found[1])
    assert "2,134,280 parameters (+31.29%)" in str(found[1])


def test_a_distance_that_cannot_be_closed_is_stated():
    # conv1 of the grouped network has 3,840 numbers: 900 for each feature of conv2d's.
    (found,) = matching.match_networks(
        "frequency_grouped",
        ["conv2d"],
        num_words=8,
        parameters=False,
        representation="every stage",
    )
    assert found.settings["conv_features"] == (4, 18)
    assert found.stage_distances["conv1"] == pytest.approx(3600 / 3840 - 1)
    small = {"name": "conv2d", "conv_features": (1, 1), "dense_features": 1}
    (found,) = matching.match_networks(small, ["frequency_grouped"], num_words=8)
    assert found.settings["conv_features"] == (8, 16)  # The smallest with eight equal groups.
    assert found.parameter_distance > 1


def test_widths_suit_groups_and_other_settings_stay():
    for groups in (2, 5):
        candidate = {"name": "frequency_grouped", "groups": groups, "pooling": "hann"}
        (found,) = match(candidate, representation="dense")
        assert abs(found.parameter_distance) < 0.005
        assert all(width % groups == 0 for width in found.settings["conv_features"])
        assert found.settings["groups"] == groups
        assert models.build_model(found.settings, 8).pooling == "hann"


@pytest.mark.parametrize("conv_features", [(16,), (8, 12, 16)])
def test_any_depth(conv_features):
    deep = {"name": "frequency_local", "conv_features": conv_features}
    (found,) = match(deep)
    assert abs(found.parameter_distance) < 0.01
    with pytest.raises(ValueError, match="every stage of FrequencyLocal"):
        match(deep, representation="every stage")


@pytest.mark.parametrize(
    "suffix,options",
    [
        ("_parameter_matched", {}),
        ("_representation_matched", {"parameters": False, "representation": "dense"}),
        ("_matched", {"representation": "dense"}),
    ],
)
def test_presets_are_what_matching_returns(suffix, options):
    for name, found in zip(OTHERS, match(**options), strict=True):
        assert models.PRESETS[name + suffix] == found.settings


def test_every_preset_can_be_built_and_changed():
    assert set(models.MODELS) < set(models.PRESETS)
    for name, settings in models.PRESETS.items():
        assert isinstance(models.build_model(name, 8), models.MODELS[settings["name"]])
    changed = models.build_model({"name": "frequency_grouped_matched", "groups": 4}, 8)
    assert (changed.groups, changed.dense_features) == (4, 128)


def test_bad_requests_are_refused_by_name():
    with pytest.raises(ValueError, match="parameters or representation"):
        match(parameters=False)
    with pytest.raises(ValueError, match="representation must be one of"):
        match(representation="conv1")
    with pytest.raises(ValueError, match="'ear'"):
        match("ear")
    with pytest.raises(ValueError, match="candidates must be a list"):
        matching.match_networks("conv2d", "frequency_local", num_words=8)
