/* Where the answers go, and where the condition comes from: JATOS, our server, DataPipe, a file. */
ListeningPage.makeDelivery = (page, store) => {
  "use strict";

  const { E, ON_FILE, JATOS, now, soundFile, plain, urlParameter } = page;
  const POST_TRIES_MS = [0, 1000, 4000];
  const DATAPIPE = "https://pipe.jspsych.org/api/data/";

  const usesDataPipe = () => Boolean(E.datapipe_experiment) && !JATOS;
  const usesServer = () => E.server && !ON_FILE && !JATOS && !usesDataPipe();

  /* Posts until the server takes it; says whether it did. */
  async function post(path, body) {
    for (const wait of POST_TRIES_MS) {
      await new Promise((resolve) => setTimeout(resolve, wait));
      try {
        const reply = await fetch(path, {
          method: "POST", headers: { "Content-Type": "application/json" }, body,
        });
        if (reply.ok) return await reply.json();
        if (reply.status >= 400 && reply.status < 500) break; // It would be refused again.
      } catch (error) { /* No connection: try again. */ }
    }
    return {};
  }

  // DataPipe takes a session once, when it is complete, under a name that is its own.

  const sentKey = (session) => `sent:${session.session_id}`;
  const underway = {}; // Of each session, the promise that says whether it was taken.

  function pipe(session) {
    const id = session.session_id;
    const taken = (store.recall(sentKey(session)) || {}).taken;
    if (taken) return Promise.resolve(true);
    underway[id] = underway[id] || tryPipe(session).finally(() => { delete underway[id]; });
    return underway[id];
  }

  async function tryPipe(session) {
    const body = JSON.stringify({
      experimentID: E.datapipe_experiment,
      filename: `${E.experiment_id}_${session.session_id}.json`,
      data: JSON.stringify(session),
    });
    for (const wait of POST_TRIES_MS) {
      await new Promise((resolve) => setTimeout(resolve, wait));
      if (store.withdrawn) return false;
      store.keep(sentKey(session), { tried: now(), taken: null });
      try {
        const reply = await fetch(DATAPIPE, {
          method: "POST", headers: { "Content-Type": "application/json", Accept: "*/*" }, body,
        });
        // A file of that name can only be this session: an earlier answer did not reach us.
        const there = reply.ok || /FILE_EXISTS/.test((await reply.json()).error);
        if (there) {
          if (!store.withdrawn) store.keep(sentKey(session), { tried: now(), taken: now() });
          return true;
        }
      } catch (error) { /* No connection, or no answer of DataPipe's: try again. */ }
    }
    return false;
  }

  /* Sends what could not be sent when it was finished, by whoever took part in this browser. */
  function sendLeftovers() {
    if (usesDataPipe()) store.sessions().filter((s) => s.complete).forEach(pipe);
  }

  async function send() {
    if (store.withdrawn) return;
    const body = JSON.stringify(store.session);
    if (JATOS) {
      await JATOS.submitResultData(body);
    } else if (usesDataPipe()) {
      if (!(await pipe(store.session))) throw new Error("the answers could not be sent");
    } else if (!(await post("api/session", body)).stored) {
      throw new Error("the answers could not be sent");
    }
  }

  function sendInBackground() {
    // All of it is sent again at the end.
    if (JATOS || usesServer() || (usesDataPipe() && store.session.complete)) send().catch(() => {});
  }

  /* Has everything deleted that was sent; says whether that is known to be so. */
  async function withdraw() {
    const { session_id: session, participant, condition } = store.session;
    const piped = Boolean(store.recall(sentKey(store.session)));
    store.forget(sentKey(store.session));
    if (JATOS) {
      await JATOS.abortStudy(plain("withdrawn_heading")); // Deletes what was submitted.
      return true;
    }
    if (!usesServer()) return !piped; // DataPipe deletes nothing.
    const body = JSON.stringify({ session_id: session, participant, condition });
    return Boolean((await post("api/withdraw", body)).deleted);
  }

  async function askCondition(participant) {
    const numbers = Object.keys(E.conditions).map(Number);
    const wanted = Number(urlParameter("condition"));
    if (numbers.includes(wanted)) return { condition: wanted };
    if (JATOS) {
      // Ids of results count up: conditions take turns.
      return { condition: numbers[Number(JATOS.studyResultId || 0) % numbers.length] };
    }
    if (usesServer()) {
      try {
        const reply = await fetch(`api/condition?participant=${encodeURIComponent(participant)}`);
        if (reply.ok) {
          const given = await reply.json();
          if (numbers.includes(given.condition)) return given;
        }
      } catch (error) { /* A static host: the page goes on alone. */ }
    }
    return { condition: numbers[Math.floor(Math.random() * numbers.length)] };
  }

  function download(name, type, text) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  /* As jsPsych writes its data: `response` is the number of the button, from 0. */
  function asCsv() {
    const shared = ["experiment_id", "design_sha256", "session_id", "participant", "condition"];
    const rows = store.session.trials.map((row) => ({
      ...Object.fromEntries(shared.map((name) => [name, store.session[name]])),
      trial_type: "audio-button-response",
      task: "test",
      trial: row.trial,
      stimulus_id: row.stimulus_id,
      stimulus: soundFile(row.stimulus_id),
      response: row.response === null ? null : row.choice_order.indexOf(row.response),
      response_word: row.response,
      choice_order: JSON.stringify(row.choice_order),
      rt: row.rt_ms,
      rt_ms: row.rt_ms,
      confidence: row.confidence === undefined ? null : row.confidence,
      played_at: row.played_at,
      reloaded: row.reloaded,
      headphone_passed: store.session.headphone.passed,
    }));
    if (!rows.length) return "";
    // A spreadsheet runs what begins like a formula; an apostrophe makes it text.
    const cell = (value) => String(value === null ? "" : value).replace(/^(?='*[=+\-@\t\r])/, "'");
    const quoted = (value) => `"${cell(value).replace(/"/g, '""')}"`;
    const lines = [Object.keys(rows[0]), ...rows.map((row) => Object.values(row))];
    return lines.map((line) => line.map(quoted).join(",")).join("\r\n") + "\r\n";
  }

  return {
    usesServer, usesDataPipe, send, sendInBackground, sendLeftovers, withdraw, askCondition, download,
    asCsv,
  };
};
