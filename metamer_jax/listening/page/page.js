/* What all parts of the page share: the experiment, where it runs, and small helpers. */
window.ListeningPage = {};

ListeningPage.makePage = () => {
  "use strict";

  const E = window.EXPERIMENT;
  const stage = document.getElementById("stage");
  const live = document.getElementById("live");
  const ON_FILE = location.protocol === "file:";
  const JATOS = typeof window.jatos === "undefined" ? null : window.jatos;

  const escaped = (text) => String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
  const now = () => new Date().toISOString();
  const soundFile = (id) => `audio/${id}.wav`;
  const say = (text) => { live.textContent = text; };
  const plural = (n, noun) => `${n} ${noun}${n === 1 ? "" : "s"}`;

  function randomId() {
    const bytes = crypto.getRandomValues(new Uint8Array(16)); // randomUUID is missing on plain http.
    return Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
  }

  function showProgress(done, total, where) {
    const percent = total ? Math.round((100 * done) / total) : 0;
    const bar = document.getElementById("progress");
    bar.setAttribute("aria-valuenow", percent);
    bar.firstElementChild.style.width = `${percent}%`;
    document.getElementById("where").textContent = where;
  }

  function urlParameter(...names) {
    const given = JATOS && JATOS.urlQueryParameters
      ? new URLSearchParams(JATOS.urlQueryParameters)
      : new URLSearchParams(location.search);
    for (const name of names) {
      const value = (given.get(name) || "").trim();
      if (value) return value.slice(0, 200);
    }
    return "";
  }

  return {
    E, stage, ON_FILE, JATOS, escaped, now, soundFile, say, plural, randomId, showProgress,
    urlParameter,
  };
};
