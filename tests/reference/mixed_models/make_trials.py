"""Makes trials.csv: listeners and recordings of known spread; NumPy 2.4.6's generator, seed 7.

python make_trials.py    # then: Rscript lme4_reference.R
"""

import numpy as np
import pandas as pd

LISTENERS, RECORDINGS, HEARD = 30, 30, 10
LISTENER_SD, LISTENER_MODEL_SD, ITEM_SD, METAMER_SD = 0.6, 0.4, 0.8, 0.7  # Logit.
LAYERS = {"conv1": 1.6, "conv2": 0.9, "dense": -0.5}
MODEL = {"a": 0.0, "b": 0.5}

rng = np.random.default_rng(7)
listener = rng.normal(0, LISTENER_SD, LISTENERS)
item = rng.normal(0, ITEM_SD, RECORDINGS)
metamer = rng.normal(0, METAMER_SD, (len(LAYERS), len(MODEL), RECORDINGS))
listener_model = rng.normal(0, LISTENER_MODEL_SD, (LISTENERS, 2))
rows = []
for who in range(LISTENERS):
    for depth, (layer, level) in enumerate(LAYERS.items()):
        for k, (model, effect) in enumerate(MODEL.items()):
            for target in rng.choice(RECORDINGS, HEARD, replace=False):
                logit = level + effect * (1 if layer == "dense" else 0.3)
                logit += listener[who] + listener_model[who, k] + item[target]
                logit += metamer[depth, k, target]
                correct = int(rng.random() < 1 / (1 + np.exp(-logit)))
                rows.append((f"p{who:02d}", model, layer, depth, f"t{target:02d}", correct))
columns = ["participant", "model", "layer", "layer_index", "target_id", "correct"]
pd.DataFrame(rows, columns=columns).to_csv("trials.csv", index=False)
