/* Screens before and after the sounds, which jsPsych has no part in. */
ListeningPage.makeScreens = (page, store, delivery, timeline) => {
  "use strict";

  const { E, JATOS, stage, escaped, plural, randomId, showProgress, urlParameter } = page;
  const { recall, keep, sessionKey, update, newSession, trialList } = store;
  const { usesServer, send, askCondition, download, asCsv } = delivery;
  const { initialize } = timeline;
  let run = null; // Given by experiment.js: what follows these screens.

  function screen(html) {
    stage.innerHTML = `<div class="screen">${html}</div>`;
    const heading = stage.querySelector("h1");
    if (heading) {
      heading.tabIndex = -1;
      heading.style.outline = "none";
      heading.focus(); // A screen reader begins to read here.
    }
    return stage.firstElementChild;
  }

  const contact = () => (E.contact ? ` Questions: ${escaped(E.contact)}.` : "");

  function consentScreen() {
    const minutes = Math.max(1, Math.round(
      (Object.values(E.conditions)[0].flat().length * 5.5 + E.headphone.length * 8 + 120) / 60));
    const known = urlParameter("PROLIFIC_PID", "participant", "id") || JATOS;
    const text = E.consent_html || `
      <p>In this study you hear short sounds and say which word you heard. Some are clear; others
      sound like noise, and there you make your best guess.</p>
      <ul>
        <li>It takes about ${plural(minutes, "minute")}. You need headphones and a quiet place.</li>
        <li>Each sound is played once.</li>
        <li>We record your answers, how long they took, and the type of your browser${
          known ? ", with the id in this page's address" : ""}. No cookies, no names.</li>
        <li>Taking part is voluntary, and you may stop at any time by closing this page.</li>
      </ul>`;
    const at = screen(`
      <h1>${escaped(E.title)}</h1>
      ${text}
      <form>
        ${known ? "" : `
        <details>
          <summary>For the experimenter</summary>
          <label for="code">Participant code (optional)</label>
          <input type="text" id="code" maxlength="100" autocomplete="off" spellcheck="false">
          <label for="condition">Condition</label>
          <select id="condition"><option value="">automatic</option>
            ${Object.keys(E.conditions).map((c) => `<option>${c}</option>`).join("")}</select>
        </details>`}
        <div class="row"><button class="main" type="submit">I agree and want to take part</button></div>
      </form>
      <p class="muted">${contact()}</p>`);
    at.querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      at.querySelector("form button").disabled = true;
      const code = known ? "" : at.querySelector("#code").value.trim();
      begin(code, known ? "" : at.querySelector("#condition").value);
    });
  }

  async function begin(code, chosenCondition) {
    initialize(); // First of all, within the click: Safari gives no sound otherwise.
    const fromUrl = urlParameter("PROLIFIC_PID", "participant", "id")
      || (JATOS && JATOS.workerId ? `jatos-${JATOS.workerId}` : "");
    const saved = code ? recall(sessionKey(code)) : null;
    if (saved) { // A code that was given before: that session goes on.
      keep("current", code);
      open(saved);
      return;
    }
    const given = chosenCondition
      ? { condition: Number(chosenCondition) }
      : await askCondition(fromUrl || code);
    const participant = fromUrl || code || `anonymous-${randomId().slice(0, 8)}`;
    store.session = newSession(participant, Boolean(code), given.condition, given.session_id);
    keep(sessionKey(participant), store.session);
    keep("current", participant);
    run();
  }

  function resumeScreen() {
    const total = trialList().length;
    const at = screen(`
      <h1>Welcome back</h1>
      <p>You have heard ${store.session.trials.length} of ${plural(total, "sound")}. ${
        store.session.trials.length < total
          ? "The session goes on with the next one; sounds that were played do not come again."
          : "There is one last question."}</p>
      <div class="row"><button class="main">Continue</button></div>
      ${store.session.participant_entered ? `<button class="plain">This is not ${
        escaped(store.session.participant)}: begin with another participant</button>` : ""}`);
    at.querySelector(".main").addEventListener("click", () => {
      initialize();
      run();
    });
    anotherParticipant(at);
  }

  function anotherParticipant(at) {
    const button = at.querySelector(".plain");
    if (button) {
      button.addEventListener("click", () => {
        keep("current", null);
        location.reload();
      });
    }
  }

  function endScreen() {
    showProgress(1, 1, "");
    const mustDownload = !JATOS && !usesServer();
    const at = screen(`
      <h1>Thank you!</h1>
      <p>That was the last sound. You have helped us to learn what computer models of hearing
      get right and what they miss.</p>
      <p id="sent" role="status"></p>
      <div class="row" id="actions">
        <button id="json">Download your answers</button>
        <button id="csv">As a table (CSV)</button>
      </div>
      ${store.session.participant_entered && !JATOS
        ? `<button class="plain">Begin with another participant</button>` : ""}`);
    const name = `${E.experiment_id}_${store.session.participant}_${store.session.session_id.slice(0, 8)}`
      .replace(/[^A-Za-z0-9_.-]+/g, "-");
    at.querySelector("#json").addEventListener("click", () =>
      download(`${name}.json`, "application/json", JSON.stringify(store.session, null, 1)));
    at.querySelector("#csv").addEventListener("click", () =>
      download(`${name}.csv`, "text/csv", asCsv()));
    anotherParticipant(at);
    const sent = at.querySelector("#sent");
    const finish = () => {
      if (!E.completion_url || at.querySelector("#finish")) return;
      at.querySelector("#actions").insertAdjacentHTML("afterbegin",
        `<a class="button main" id="finish" rel="noreferrer" href="${escaped(E.completion_url)}">Finish</a>`);
    };
    const failed = () => {
      sent.className = "warn";
      sent.textContent = "Your answers could not be sent. Please download them and hand them to "
        + `the experimenter${E.contact ? ` (${E.contact})` : ""}, or try again.`;
      if (!at.querySelector("#again")) {
        at.querySelector("#actions").insertAdjacentHTML("afterbegin",
          '<button class="main" id="again">Try again</button>');
        at.querySelector("#again").addEventListener("click", deliver);
      }
      finish();
    };
    function deliver() {
      sent.className = "";
      sent.textContent = "Sending your answers …";
      send().then(() => {
        sent.textContent = "Your answers were saved.";
        at.querySelector("#again")?.remove();
        if (JATOS) {
          if (E.completion_url) JATOS.endStudyAndRedirect(E.completion_url);
          else JATOS.endStudy();
        } else if (E.completion_url) {
          finish();
          location.assign(E.completion_url);
        }
      }, failed);
    }
    if (mustDownload) {
      at.querySelector("#json").className = "main";
      sent.textContent = "Your answers are kept in this browser only. Please download them and "
        + `hand the file to the experimenter${E.contact ? ` (${E.contact})` : ""}.`;
      finish();
    } else {
      deliver();
    }
  }

  function open(saved) {
    store.session = saved;
    if (store.session.complete) {
      endScreen();
      return;
    }
    update((s) => {
      s.reloads += 1;
      // What was playing when the page went away is lost, not repeated.
      s.trials.forEach((row) => { if (row.response === null) row.reloaded = true; });
    });
    const total = trialList().length;
    showProgress(store.session.trials.length, total, "");
    resumeScreen();
  }

  return {
    open, consentScreen, endScreen,
    set run(next) { run = next; },
  };
};
