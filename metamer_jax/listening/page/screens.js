/* Screens before and after the sounds, which jsPsych has no part in. */
ListeningPage.makeScreens = (page, store, delivery, timeline) => {
  "use strict";

  const {
    E, JATOS, stage, escaped, now, t, plain, sounds, contactInBrackets, randomId, urlParameter,
  } = page;
  const { recall, keep, sessionKey, update, newSession, trialList, showProgress } = store;
  const { usesServer, usesDataPipe, send, withdraw, askCondition, download, asCsv } = delivery;
  const { initialize } = timeline;
  const footer = document.getElementById("leave");
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

  const contact = () => (E.contact ? t("contact", { contact: E.contact }) : "");

  function consentScreen() {
    showProgress(plain("where_consent"));
    const minutes = Math.max(1, Math.round((Object.values(E.conditions)[0].flat().length
      * (E.confidence ? 8 : 5.5) + E.headphone.length * 8 + 120) / 60));
    const known = urlParameter("PROLIFIC_PID", "participant", "id") || JATOS;
    const text = E.consent_html
      || t("consent", { minutes: plain("minutes", { n: minutes }) })
      + (known ? `<p>${t("consent_id")}</p>` : "");
    const at = screen(`
      <h1>${escaped(E.title)}</h1>
      ${text}
      <form>
        ${known ? "" : `
        <details>
          <summary>${t("experimenter")}</summary>
          <label for="code">${t("participant_code")}</label>
          <input type="text" id="code" maxlength="100" autocomplete="off" spellcheck="false">
          <label for="condition">${t("condition")}</label>
          <select id="condition"><option value="">${t("automatic")}</option>
            ${Object.keys(E.conditions).map((c) => `<option>${c}</option>`).join("")}</select>
        </details>`}
        <div class="row"><button class="main" type="submit">${t("consent_agree")}</button></div>
      </form>
      <p class="muted">${contact()} ${t("consent_version", { version: E.consent_version })}</p>`);
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
    proceed();
  }

  /* What comes after consent, or after the welcome of a session that goes on. */
  function proceed() {
    footer.hidden = false;
    if (E.questionnaire.length && !store.session.questionnaire) questionsScreen();
    else run();
  }

  // Questions about the listener.

  function field(question, i) {
    const id = `q${i}`;
    const label = `${escaped(question.label)}${question.required ? " *" : ""}`;
    const common = `id="${id}" name="${escaped(question.name)}"${question.required ? " required" : ""}`;
    if (question.type === "choice") {
      return `<label for="${id}">${label}</label>
        <select ${common}><option value="">${t("choose")}</option>${question.choices.map((choice) =>
          `<option value="${escaped(choice.value)}">${escaped(choice.label)}</option>`).join("")}</select>`;
    }
    if (question.type === "number") {
      const limit = (name) => (question[name] === undefined ? "" : ` ${name}="${Number(question[name])}"`);
      return `<label for="${id}">${label}</label>
        <input type="number" inputmode="numeric" step="any" ${common}${limit("min")}${limit("max")}>`;
    }
    return `<label for="${id}">${label}</label>
      <input type="text" maxlength="500" autocomplete="off" ${common}>`;
  }

  function questionsScreen() {
    showProgress(plain("where_questions"));
    const at = screen(`
      <h1>${t("questions_heading")}</h1>
      ${t("questions_intro")}
      <form class="questions">${E.questionnaire.map(field).join("")}
        <div class="row"><button class="main" type="submit">${t("continue")}</button></div>
      </form>`);
    const form = at.querySelector("form");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      initialize(); // A reload may have led here: within the click, as above.
      const answers = Object.fromEntries(E.questionnaire.map((question, i) => {
        const text = form.querySelector(`#q${i}`).value.trim();
        const value = question.type === "number" ? Number(text) : text;
        return [question.name, text === "" ? null : value];
      }));
      update((s) => { s.questionnaire = { answered: now(), ...answers }; });
      run();
    });
  }

  function resumeScreen() {
    const total = trialList().length;
    const n = store.session.trials.length;
    const values = { n, of: total, sounds: sounds(total) };
    const at = screen(`
      <h1>${t("welcome_back")}</h1>
      <p>${t(n < total ? "resume_trials" : "resume_end", values)}</p>
      <div class="row"><button class="main">${t("continue")}</button></div>
      ${store.session.participant_entered ? `<button class="plain" id="other">${
        t("not_me", { participant: store.session.participant })}</button>` : ""}`);
    at.querySelector(".main").addEventListener("click", () => {
      initialize();
      proceed();
    });
    anotherParticipant(at);
  }

  function anotherParticipant(at) {
    const button = at.querySelector("#other");
    if (button) {
      button.addEventListener("click", () => {
        keep("current", null);
        location.reload();
      });
    }
  }

  // Withdrawal: asked once more, then nothing is left.

  function offerWithdrawal() {
    document.getElementById("withdraw").textContent = plain("withdraw");
    const dialog = document.getElementById("sure");
    dialog.innerHTML = `<h2>${t("withdraw_heading")}</h2>${t("withdraw_text")}
      <div class="row"><button id="yes">${t("withdraw_yes")}</button>
      <button id="no" class="main">${t("withdraw_no")}</button></div>`;
    document.getElementById("withdraw").addEventListener("click", () => {
      dialog.showModal();
      dialog.querySelector("#no").focus();
    });
    // Keys of the study do not answer for the dialog, nor the dialog's for the study.
    dialog.addEventListener("keydown", (event) => event.stopPropagation());
    dialog.querySelector("#no").addEventListener("click", () => dialog.close());
    dialog.querySelector("#yes").addEventListener("click", async () => {
      dialog.innerHTML = `<p role="status">${t("withdrawing")}</p>`;
      const told = { session: store.session.session_id, server: usesServer() || Boolean(JATOS) };
      told.deleted = await withdraw();
      try {
        sessionStorage.setItem("withdrawn", JSON.stringify(told));
        location.reload(); // Ends whatever plays or waits.
      } catch (error) {
        dialog.close();
        withdrawnScreen(told);
      }
    });
  }

  function withdrawnScreen({ session, server, deleted }) {
    footer.hidden = true;
    showProgress(plain("where_end"));
    const key = !deleted ? "withdrawn_failed" : server ? "withdrawn_text" : "withdrawn_here";
    screen(`<h1>${t("withdrawn_heading")}</h1>
      <p id="withdrawn">${t(key, { session, contact: contactInBrackets() })}</p>`);
  }

  /* Says so once, where a withdrawal has just been made in this window. */
  function justWithdrawn() {
    try {
      const told = JSON.parse(sessionStorage.getItem("withdrawn"));
      sessionStorage.removeItem("withdrawn");
      if (told) withdrawnScreen(told);
      return Boolean(told);
    } catch (error) {
      return false;
    }
  }

  function endScreen() {
    footer.hidden = false;
    showProgress(plain("where_end"));
    const mustDownload = !JATOS && !usesServer() && !usesDataPipe();
    const at = screen(`
      <h1>${t("thanks")}</h1>
      <p>${t("thanks_text")}</p>
      <p id="sent" role="status"></p>
      <div class="row" id="actions">
        <button id="json">${t("download_json")}</button>
        <button id="csv">${t("download_csv")}</button>
      </div>
      ${store.session.participant_entered && !JATOS
        ? `<button class="plain" id="other">${t("another_participant")}</button>` : ""}`);
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
        `<a class="button main" id="finish" rel="noreferrer" href="${escaped(E.completion_url)}">${t("finish")}</a>`);
    };
    const failed = () => {
      sent.className = "warn";
      sent.textContent = plain("not_sent", { contact: contactInBrackets() });
      if (!at.querySelector("#again")) {
        at.querySelector("#actions").insertAdjacentHTML("afterbegin",
          `<button class="main" id="again">${t("try_again")}</button>`);
        at.querySelector("#again").addEventListener("click", deliver);
      }
      window.addEventListener("online", deliver, { once: true });
      finish();
    };
    function deliver() {
      sent.className = "";
      sent.textContent = plain("sending");
      send().then(() => {
        if (store.withdrawn) return;
        sent.textContent = plain("saved");
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
      sent.textContent = plain("kept_here", { contact: contactInBrackets() });
      finish();
    } else {
      deliver();
    }
  }

  function open(saved) {
    store.session = saved;
    footer.hidden = false;
    if (store.session.complete) {
      endScreen();
      return;
    }
    update((s) => {
      s.reloads += 1;
      // What was playing when the page went away is lost, not repeated.
      s.trials.forEach((row) => { if (row.response === null) row.reloaded = true; });
    });
    showProgress("");
    resumeScreen();
  }

  return {
    open, consentScreen, endScreen, offerWithdrawal, justWithdrawn,
    set run(next) { run = next; },
  };
};
