"""Metamers in one call: what comes out, how it shows itself, what is refused."""

import html.parser

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metamer_jax as mj

RATE_HZ = 4000
RNG = np.random.default_rng(0)


def voice(pitch_hz, formant_hz):
    time = np.arange(RATE_HZ // 4) / RATE_HZ
    partials = pitch_hz * np.arange(1, int(RATE_HZ / 2 / pitch_hz))
    levels = np.exp(-(((partials - formant_hz) / 300) ** 2)) + 0.05
    phases = RNG.uniform(0, 2 * np.pi, len(partials))
    sound = (levels * np.sin(2 * np.pi * np.outer(time, partials) + phases)).sum(1)
    return mj.audio.normalize(sound + 0.01 * RNG.standard_normal(len(time)))


RECORDINGS = np.stack([voice(*RNG.uniform((80, 300), (240, 1800))) for _ in range(48)])
WEIGHTS = {
    "kernel": RNG.standard_normal((50, 16)).astype(np.float32) / 7,
    "readout": RNG.standard_normal((16, 3)).astype(np.float32),
}


def network(weights, waveform):
    hidden = jnp.maximum(waveform.reshape(-1, 50) @ weights["kernel"], 0)
    return {"hidden": hidden, "classes": hidden.mean(0) @ weights["readout"]}


SETTINGS = mj.SynthesisConfig(steps=30, learning_rate=1e-2, chunk_steps=10, seeds=(0, 1))


@pytest.fixture(scope="module")
def found():
    return mj.make_metamers(
        network,
        RECORDINGS[:3],
        ["hidden", "classes"],
        variables=WEIGHTS,
        recordings=RECORDINGS,
        logits="classes",
        class_names=["ba", "da", "<ga>"],
        sample_rate_hz=RATE_HZ,
        config=SETTINGS,
        target_ids=[4, 5, 9],
        show_progress=False,
    )


def test_they_are_those_of_the_longer_way(found):
    model, variables = mj.wrap_model(network, WEIGHTS, num_samples=1000)
    made = mj.synthesize(
        jax.random.key(0),
        RECORDINGS[:3],
        [4, 5, 9],
        stage_fn=mj.stage_fn(model, "hidden"),
        variables=variables,
        config=SETTINGS,
    )
    np.testing.assert_array_equal(found.made["hidden"].waveform, made.waveform)
    checked = mj.verify(
        model,
        variables,
        "hidden",
        made,
        RECORDINGS[:3],
        RECORDINGS,
        logits="classes",
        sample_rate_hz=RATE_HZ,
        level=mj.audio.RMS,
        target_ids=[4, 5, 9],
        seeds=(0, 1),
    )
    table = found.table
    rows = table[table["stage"] == "hidden"]
    called = np.array(["ba", "da", "<ga>"])
    for name, column in checked.table.items():
        column = called[column] if name.endswith("prediction") else column
        assert list(rows[name]) == list(column), name
    classes = np.argmax([network(WEIGHTS, sound)["classes"] for sound in RECORDINGS[:3]], axis=1)
    assert found.words == tuple(called[classes])
    assert list(rows["word"]) == [word for word in found.words for _ in range(2)]
    assert repr(found).startswith("hidden: 6 metamers, median relative error")
    assert "(null distribution of 1,128 pairs)" in repr(found)


class Page(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.texts = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.texts.append(data)


def test_a_notebook_shows_players_pictures_and_verdicts(found):
    page = Page(found._repr_html_())
    players = [a["src"] for tag, a in page.tags if tag == "audio"]
    assert len(players) == len(set(players)) == 9  # Original and two stages of three targets.
    assert all(src.startswith("data:audio/wav;base64,") for src in players)
    assert sum(tag == "img" for tag, _ in page.tags) == 9
    assert "of 2 seeds the first is shown" in page.texts
    errors = found.table.query("seed == 0 and stage == 'classes'")["relative_error"]
    for error in errors:
        assert any(f"relative error {error:.3g}" in text for text in page.texts)
    for word in found.words:  # Escaped, and read back whole.
        assert word in page.texts


def test_recipe_fast_and_a_wrapped_model_with_a_cochleagram():
    ears = mj.CochleagramConfig(
        sample_rate_hz=RATE_HZ,
        duration_s=0.25,
        envelope_rate_hz=100,
        high_hz=2000,
        num_filters=10,
        sample_factor=1,
        lowpass_taps=101,
        method="multirate",
    )
    wrapped = mj.wrap_model(lambda heard: {"means": heard.mean(-1)}, cochleagram=ears)
    found = mj.make_metamers(wrapped, RECORDINGS[:2], "means", verify=False, show_progress=False)
    assert found.config == mj.SYNTHESIS_RECIPES["fast"] and found.sample_rate_hz == RATE_HZ
    assert found.words == ("0", "1") and not found.verified
    assert found.table["relative_error"].max() < 0.01
    assert repr(found) == (
        f"means: 2 metamers, median relative error {found.table['relative_error'].median():.3g}"
    )
    page = Page(found._repr_html_())
    assert sum(tag == "audio" for tag, _ in page.tags) == 4


def test_what_does_not_fit_is_refused():
    wrapped = mj.wrap_model(network, WEIGHTS, num_samples=1000)

    def refused(match, model=wrapped, sounds=RECORDINGS[:2], stages="hidden", **settings):
        settings = {"sample_rate_hz": RATE_HZ, "recordings": RECORDINGS, **settings}
        with pytest.raises(ValueError, match=match):
            mj.make_metamers(model, sounds, stages, show_progress=False, **settings)

    refused("both of what wrap_model returned", model=wrapped[0])
    refused("a wrapped model takes no .'batch_axis'", batch_axis=True)
    refused("sample_rate_hz must be given", sample_rate_hz=None)
    refused("stage must be one of", stages=["hidden", "conv1"])
    refused("must be settings or one of .'paper'", config="quick")
    refused(r"recordings must be 46 natural sounds .* got 2", recordings=None)
    refused(r"sounds must be \[sound, time\] of 1000", sounds=RECORDINGS[:2, :500])
    refused("words must be 2, one a sound, got 1", words=["ba"])
    refused(
        r"class_names must be one a class of 'classes', of shape \(3,\), got 2",
        class_names=["ba", "da"],
        logits="classes",
    )
