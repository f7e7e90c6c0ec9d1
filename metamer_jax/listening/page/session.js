/* One listener's session: in localStorage after every step, so that nothing is lost and nothing
   comes twice. */
ListeningPage.makeStore = (page) => {
  "use strict";

  const { E, now, randomId, urlParameter } = page;
  const PREFIX = `metamer_jax:${E.experiment_id}:${E.design_sha256.slice(0, 12)}:`;
  const memory = {}; // Where the browser keeps nothing (some private windows, a full disk).
  let keeps = true;

  function recall(key) {
    if (keeps) {
      try {
        return JSON.parse(localStorage.getItem(PREFIX + key));
      } catch (error) { /* As below. */ }
    }
    return memory[key] ? JSON.parse(memory[key]) : null;
  }

  function keep(key, value) {
    memory[key] = JSON.stringify(value);
    try {
      localStorage.setItem(PREFIX + key, memory[key]);
    } catch (error) {
      keeps = false; // Memory has it; a reload would lose it.
    }
  }

  const sessionKey = (participant) => `session:${participant}`;

  /* Reads the stored session again before changing it: another tab may have gone on with it. */
  function update(change) {
    store.session = recall(sessionKey(store.session.participant)) || store.session;
    change(store.session);
    keep(sessionKey(store.session.participant), store.session);
  }

  function newSession(participant, entered, condition, sessionId) {
    const words = [...E.words];
    if (E.choice_order === "shuffled") {
      for (let i = words.length - 1; i > 0; i--) {
        const j = Math.floor(Math.random() * (i + 1));
        [words[i], words[j]] = [words[j], words[i]];
      }
    }
    return {
      schema_version: E.schema_version,
      experiment_id: E.experiment_id,
      design_sha256: E.design_sha256,
      session_id: sessionId || randomId(),
      participant,
      participant_entered: entered,
      condition,
      started: now(),
      finished: null,
      complete: false,
      user_agent: navigator.userAgent,
      prolific: {
        study_id: urlParameter("STUDY_ID") || null,
        session_id: urlParameter("SESSION_ID") || null,
      },
      browser: null,
      calibration_done: false,
      headphone: { answers: [], passed: null, checks: {} },
      practice: [],
      choice_order: words,
      reloads: 0,
      trials: [],
      comments: "",
    };
  }

  /* The sounds of the session's condition, in order. */
  function trialList() {
    const batches = E.conditions[String(store.session.condition)];
    let trial = 0;
    return batches.flatMap((ids, batch) =>
      ids.map((id, i) => ({ trial: ++trial, id, batch, lastOfBatch: i === ids.length - 1 })));
  }

  const store = { session: null, recall, keep, sessionKey, update, newSession, trialList };
  return store;
};
