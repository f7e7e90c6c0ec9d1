/* One listener's session: in localStorage after every step, so that nothing is lost and nothing
   comes twice. */
ListeningPage.makeStore = (page) => {
  "use strict";

  const { E, now, randomId, shuffled, urlParameter } = page;
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
    if (store.withdrawn) return;
    store.session = recall(sessionKey(store.session.participant)) || store.session;
    change(store.session);
    keep(sessionKey(store.session.participant), store.session);
    showProgress();
  }

  /* All sessions of this experiment that this browser keeps. */
  function sessions() {
    try {
      return Object.keys(localStorage).filter((key) => key.startsWith(`${PREFIX}session:`))
        .map((key) => JSON.parse(localStorage.getItem(key)));
    } catch (error) {
      return store.session ? [store.session] : [];
    }
  }

  /* Leaves nothing of a session that was withdrawn, nor of those keys. */
  function forget(...keys) {
    store.withdrawn = true;
    for (const key of [sessionKey(store.session.participant), "current", ...keys]) {
      delete memory[key];
      try {
        localStorage.removeItem(PREFIX + key);
      } catch (error) { /* Nothing was kept. */ }
    }
  }

  function newSession(participant, entered, condition, sessionId) {
    return {
      schema_version: E.schema_version,
      experiment_id: E.experiment_id,
      design_sha256: E.design_sha256,
      session_id: sessionId || randomId(),
      participant,
      participant_entered: entered,
      condition,
      language: E.language,
      started: now(),
      finished: null,
      complete: false,
      consent: { version: E.consent_version, given: now() },
      user_agent: navigator.userAgent,
      prolific: {
        study_id: urlParameter("STUDY_ID") || null,
        session_id: urlParameter("SESSION_ID") || null,
      },
      browser: null,
      questionnaire: null,
      calibration_done: false,
      headphone: { attempts: 1, answers: [], passed: null, checks: {} },
      practice: [],
      choice_order: E.choice_order === "shuffled" ? shuffled(E.words) : [...E.words],
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

  /* The share of all steps that are done, from the first screen to the last. */
  function progress() {
    const s = store.session;
    const trials = s ? trialList().length : Object.values(E.conditions)[0].flat().length;
    const total = 3 + (E.questionnaire.length ? 1 : 0) + E.headphone.length + E.practice.length
      + trials;
    if (!s) return 0;
    if (s.complete) return 1;
    const checked = s.trials.length || s.practice.length // A second attempt is no way back.
      ? E.headphone.length : Math.min(s.headphone.answers.length, E.headphone.length);
    const done = 1 + (s.questionnaire ? 1 : 0) + (s.calibration_done ? 1 : 0) + checked
      + (s.trials.length ? E.practice.length : s.practice.length) + s.trials.length;
    return Math.min(1, done / total);
  }

  /* Shows how far it is, and where one is if that is given. */
  function showProgress(where) {
    const percent = Math.round(100 * progress());
    const bar = document.getElementById("progress");
    bar.setAttribute("aria-valuenow", percent);
    bar.firstElementChild.style.width = `${percent}%`;
    if (where !== undefined) document.getElementById("where").textContent = where;
  }

  const store = {
    session: null, withdrawn: false, recall, keep, sessionKey, sessions, update, forget,
    newSession, trialList, showProgress,
  };
  return store;
};
