/* One screen of jsPsych at a time: a message, a sound with buttons, a sound with a typed answer. */
ListeningPage.makePresentation = (page, host) => {
  "use strict";

  const { E, escaped, soundFile, say, t, plain } = page;
  // A sound that has not ended by then has not played.
  const STALLED_MS = 1000 * E.longest_s + 5000;
  const TIMES = 3; // How often one is tried that does not play.
  const SUGGESTIONS = 8;

  const button = (className) => (choice) =>
    `<button type="button" class="jspsych-btn ${className}">${choice}</button>`;

  function message(html, choices = [t("continue")]) {
    return {
      type: jsPsychHtmlButtonResponse,
      stimulus: () => `<div class="head">${typeof html === "function" ? html() : html}</div>`,
      choices,
      button_html: button("main"),
      on_load: () => {
        const first = document.querySelector("#jspsych-html-button-response-btngroup button");
        if (first) first.focus({ preventScroll: true });
      },
    };
  }

  function columnsFor(count) {
    if (count <= 3) return count;
    return count > 16 ? 5 : count % 4 === 0 || count > 9 ? 4 : 3;
  }

  /* Keys 1 to 9 press the buttons of a group, once they are unlocked. */
  function withKeys(group) {
    const onKey = (event) => {
      if (event.repeat || event.ctrlKey || event.altKey || event.metaKey) return;
      const wanted = group.querySelectorAll("button")[Number(event.key) - 1];
      if (!/^[1-9]$/.test(event.key) || !wanted || wanted.disabled) return;
      event.preventDefault(); // Or the next screen's text field would get the digit.
      wanted.click();
    };
    document.addEventListener("keydown", onKey);
    return () => document.removeEventListener("keydown", onKey);
  }

  const playButton = () =>
    `<button type="button" class="jspsych-btn main" data-play>&#9654;&#xFE0E; ${t("play")}</button>`;

  const numbered = (labels) => (choice, i) =>
    `${labels.length <= 9 ? `<kbd aria-hidden="true">${i + 1}</kbd>` : ""}${escaped(labels[i])}`;

  /* A Play button, then the sound, once, then the answer.
     `claim` is asked right before the sound and may say that it was played already. `answered`
     gets the place of the choice (null: the sound could not be played), the time since the sound
     began, and how often the sound had to be tried. */
  function heard({ id, choices, labels = choices, head, question, claim = () => true, answered }) {
    const typed = choices.length > E.typed_beyond;
    const columns = columnsFor(choices.length);
    const grid = `--columns: ${columns}; --narrow: ${columns <= 3 ? columns : 2}`;
    let tries = 0;
    let failed = false;
    const play = {
      ...message(head, [t("play")]),
      stimulus: () => `<div class="head">${head()}<p>${question}</p></div>${typed ? "" : `
        <div class="grid" aria-hidden="true" style="${grid}">${choices
          .map((c, i) => `<button type="button" disabled tabindex="-1">${numbered(labels)(c, i)}</button>`)
          .join("")}</div>`}`,
      button_html: playButton,
    };
    const repeat = {
      timeline: [{
        ...message(() => `${head()}<p class="warn" role="alert">${t("not_played")}</p>`),
        choices: [t("play_again")],
      }],
      conditional_function: () => failed,
    };
    const given = (data, place, rt) => {
      failed = place === null && tries < TIMES - 1;
      tries += 1;
      if (!failed) answered(data, place, rt, tries);
    };
    const setup = { id, choices, labels, head, question, grid, given };
    return {
      timeline: [play, {
        timeline: [repeat, typed ? typedAnswer(setup) : buttonAnswer(setup)],
        conditional_function: claim,
        loop_function: () => failed,
      }],
    };
  }

  /* Calls `fail` once unless the returned function is called in time: the sound does not play. */
  function watch(fail) {
    let over = false;
    const end = () => { over = true; clearTimeout(late); clearInterval(asleep); };
    const failing = () => { if (!over) { end(); fail(); } };
    const late = setTimeout(failing, STALLED_MS);
    const context = host.jsPsych.pluginAPI.audioContext();
    let silent = 0; // A context that another application holds stays suspended.
    const asleep = setInterval(() => {
      silent = context && context.state !== "running" ? silent + 1 : 0;
      if (silent > 4) failing();
    }, 500);
    return { end, fail: failing };
  }

  function buttonAnswer({ id, choices, labels, head, question, grid, given }) {
    let removeKeys = () => {};
    let watched = null;
    const label = numbered(labels);
    return {
      type: jsPsychAudioButtonResponse,
      stimulus: soundFile(id),
      choices,
      response_allowed_while_playing: false,
      button_html: (choice, i) =>
        `<button type="button" class="jspsych-btn" disabled>${label(choice, i)}</button>`,
      prompt: () => `<div class="head">${head()}<p>${question}</p></div>
        <div class="status"><i></i><span>${t("listen")}</span></div>`,
      on_start: () => {
        watched = watch(() => {
          host.jsPsych.pluginAPI.getAudioPlayer(soundFile(id)).then((p) => p.stop()).catch(() => {});
          host.jsPsych.finishTrial({ response: null, rt: null });
        });
        // A promise that fails within the plugin is nobody's: it is asked here too.
        host.jsPsych.pluginAPI.getAudioPlayer(soundFile(id)).catch(watched.fail);
      },
      on_load: () => {
        const group = document.getElementById("jspsych-audio-button-response-btngroup");
        const status = document.querySelector(".status");
        group.setAttribute("style", grid);
        group.setAttribute("role", "group");
        group.setAttribute("aria-label", question);
        removeKeys = withKeys(group);
        say(plain("listen"));
        const observer = new MutationObserver(() => {
          watched.end();
          observer.disconnect();
          status.classList.add("open");
          status.lastElementChild.textContent = plain("choose_answer");
          say(`${question} ${plain("keys", { n: Math.min(9, choices.length) })}`);
        });
        observer.observe(group, { attributes: true, subtree: true, attributeFilter: ["disabled"] });
      },
      on_finish: (data) => {
        removeKeys();
        watched.end();
        data.response_word = data.response === null ? null : choices[data.response];
        given(data, data.response, data.rt);
      },
    };
  }

  const folded = (text) =>
    text.normalize("NFD").replace(/\p{M}/gu, "").toLocaleLowerCase().trim();

  /* Words that begin as was typed, then those that hold it; the word itself before all. */
  function makeSuggest(labels) {
    const keys = labels.map(folded);
    return (text) => {
      const wanted = folded(text);
      if (!wanted) return [];
      const rank = (key) => (key === wanted ? 0 : key.startsWith(wanted) ? 1 : key.includes(wanted) ? 2 : 3);
      return keys.map((key, i) => [rank(key), i]).filter(([r]) => r < 3)
        .sort((a, b) => a[0] - b[0] || a[1] - b[1]).map(([, i]) => i);
    };
  }

  /* A text field with suggestions, for vocabularies too large for buttons. */
  function typedAnswer({ id, labels, head, question, given }) {
    const suggest = makeSuggest(labels);
    return {
      type: jsPsychCallFunction,
      async: true,
      func: (done) => {
        const at = host.jsPsych.getDisplayElement();
        at.innerHTML = `<div class="jspsych-content-wrapper"><div class="jspsych-content">
          <div class="head">${head()}<p>${question}</p></div>
          <div class="status"><i></i><span>${t("listen")}</span></div>
          <form id="typed" autocomplete="off">
            <label for="word">${t("typed_label")}</label>
            <input type="text" id="word" role="combobox" aria-expanded="false" aria-controls="found"
              aria-autocomplete="list" autocapitalize="none" spellcheck="false" disabled>
            <ul id="found" role="listbox" aria-label="${escaped(plain("typed_label"))}"></ul>
            <p class="warn" role="alert" hidden>${t("typed_unknown")}</p>
            <button type="submit" class="main" disabled>${t("typed_send")}</button>
          </form></div></div>`;
        say(plain("listen"));
        const form = at.querySelector("form");
        const field = at.querySelector("#word");
        const list = at.querySelector("#found");
        const warning = form.querySelector(".warn");
        const status = at.querySelector(".status");
        let began = performance.now();
        let shown = [];
        let chosen = -1;
        const draw = () => {
          list.replaceChildren(...shown.map((place, i) => {
            const item = document.createElement("li");
            item.id = `found${i}`;
            item.setAttribute("role", "option");
            item.setAttribute("aria-selected", i === chosen);
            item.textContent = labels[place];
            item.addEventListener("mousedown", (event) => event.preventDefault());
            item.addEventListener("click", () => finish(place));
            return item;
          }));
          field.setAttribute("aria-expanded", shown.length > 0);
          if (chosen >= 0) field.setAttribute("aria-activedescendant", `found${chosen}`);
          else field.removeAttribute("aria-activedescendant");
        };
        field.addEventListener("input", () => {
          const found = suggest(field.value);
          shown = found.slice(0, SUGGESTIONS);
          chosen = -1;
          warning.hidden = true;
          say(plain("typed_found", { n: found.length }));
          draw();
        });
        field.addEventListener("keydown", (event) => {
          const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
          if (!step || !shown.length) return;
          event.preventDefault();
          chosen = (chosen + step + shown.length) % shown.length;
          draw();
        });
        form.addEventListener("submit", (event) => {
          event.preventDefault();
          const same = suggest(field.value).find((i) => folded(labels[i]) === folded(field.value));
          const place = chosen >= 0 ? shown[chosen] : same !== undefined ? same
            : shown.length === 1 ? shown[0] : undefined;
          if (place === undefined) warning.hidden = false;
          else finish(place);
        });
        let player = null;
        const end = () => {
          watched.end();
          if (player) { player.removeEventListener("ended", unlock); player.stop(); }
        };
        const finish = (place) => {
          end();
          done({ response: place, rt: Math.round(performance.now() - began) });
        };
        const watched = watch(() => { end(); done({ response: null, rt: null }); });
        const unlock = () => {
          watched.end();
          status.classList.add("open");
          status.lastElementChild.textContent = plain("choose_answer");
          field.disabled = false;
          form.querySelector("button").disabled = false;
          field.focus({ preventScroll: true });
        };
        host.jsPsych.pluginAPI.getAudioPlayer(soundFile(id)).then((found) => {
          player = found;
          player.addEventListener("ended", unlock);
          began = performance.now();
          player.play();
        }).catch(watched.fail);
      },
      on_finish: (data) => {
        const { response, rt } = data.value;
        Object.assign(data, { response, rt });
        given(data, response, rt);
      },
    };
  }

  /* Five buttons, from guessed to certain. */
  function confidence(head, rated) {
    const levels = [1, 2, 3, 4, 5];
    const labels = levels.map((level) => plain(`confidence_${level}`));
    let removeKeys = () => {};
    return {
      ...message(() => `${head()}<p>${t("confidence_question")}</p>`),
      choices: labels,
      button_html: (choice, i) =>
        `<button type="button" class="jspsych-btn">${numbered(labels)(choice, i)}</button>`,
      on_load: () => {
        const group = document.getElementById("jspsych-html-button-response-btngroup");
        group.classList.add("rating");
        group.setAttribute("role", "group");
        group.setAttribute("aria-label", plain("confidence_question"));
        removeKeys = withKeys(group);
      },
      on_finish: (data) => {
        removeKeys();
        rated(levels[data.response]);
      },
    };
  }

  return { message, heard, confidence };
};
