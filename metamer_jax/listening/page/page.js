/* What all parts of the page share: the experiment, where it runs, its texts, and small helpers. */
window.ListeningPage = {};

ListeningPage.makePage = () => {
  "use strict";

  const E = window.EXPERIMENT;
  const stage = document.getElementById("stage");
  const live = document.getElementById("live");
  const ON_FILE = location.protocol === "file:";
  const JATOS = typeof window.jatos === "undefined" ? null : window.jatos;
  const plurals = new Intl.PluralRules(E.language);

  const escaped = (text) => String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
  const now = () => new Date().toISOString();
  const soundFile = (id) => `audio/${id}.wav`;
  const say = (text) => { live.textContent = text; };

  /* A text of the page as HTML: {name} stands for a value, and `n` chooses among plural forms. */
  function t(key, values = {}) {
    const found = E.texts[key];
    const text = typeof found === "string" ? found : found[plurals.select(values.n)] || found.other;
    return text.replace(/\{(\w+)\}/g, (_, name) => escaped(name in values ? values[name] : ""));
  }

  /* The same where no HTML is read: attributes are escaped by whoever sets them. */
  function plain(key, values) {
    const element = document.createElement("span");
    element.innerHTML = t(key, values);
    return element.textContent;
  }

  const sounds = (n) => plain("sounds", { n });
  const contactInBrackets = () => (E.contact ? ` (${E.contact})` : "");
  /* What an answer is called: a word by itself, others by the page's texts. */
  const answerLabel = (answer) => (E.task === "words" ? answer : plain(`answer_${answer}`));

  function randomId() {
    const bytes = crypto.getRandomValues(new Uint8Array(16)); // randomUUID is missing on plain http.
    return Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
  }

  function shuffled(values) {
    const list = [...values];
    for (let i = list.length - 1; i > 0; i--) {
      const j = Math.floor(Math.random() * (i + 1));
      [list[i], list[j]] = [list[j], list[i]];
    }
    return list;
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
    E, stage, ON_FILE, JATOS, escaped, now, soundFile, say, t, plain, sounds, contactInBrackets,
    answerLabel, randomId, shuffled, urlParameter,
  };
};
