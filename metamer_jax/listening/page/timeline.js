/* What jsPsych plays: the check of the browser, volume, headphones, practice, trials, comments. */
ListeningPage.makeTimeline = (page, store, delivery) => {
  "use strict";

  const { E, ON_FILE, stage, escaped, now, soundFile, say, plural, showProgress } = page;
  const { update, trialList } = store;
  const { sendInBackground } = delivery;
  const STALLED_MS = 15000; // A sound that has not ended by then has got stuck.
  let jsPsych = null;
  let usable = true; // Whether this browser can play sounds.

  function initialize() {
    if (jsPsych) return;
    stage.innerHTML = "";
    jsPsych = initJsPsych({
      display_element: stage,
      use_webaudio: !ON_FILE, // A file may not fetch its neighbours; an audio element plays them.
      override_safe_mode: true,
      on_trial_start: () => say(""),
    });
    // The preload plugin (2.1.0) trips over an error of another shape, and would load for ever.
    const preloadAudio = jsPsych.pluginAPI.preloadAudio;
    jsPsych.pluginAPI.preloadAudio = (files, complete, load, fail) =>
      preloadAudio(files, complete, load, (e) => fail({ source: "", error: { statusText: `${e}` } }));
    // Within the click that led here: Safari keeps a context silent that was made without one.
    const context = jsPsych.pluginAPI.audioContext();
    if (context) context.resume();
  }

  const button = (className) => (choice) =>
    `<button type="button" class="jspsych-btn ${className}">${choice}</button>`;

  function message(html, choices = ["Continue"]) {
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

  /* A Play button, then the sound, once, then the choices.
     `claim` is asked right before the sound and may say that it was played already. */
  function heard({ id, choices, head, question, claim = () => true, answered }) {
    const columns = columnsFor(choices.length);
    const narrow = columns <= 3 ? columns : 2; // On a telephone.
    const label = (choice, i) =>
      `${choices.length <= 9 ? `<kbd aria-hidden="true">${i + 1}</kbd>` : ""}${escaped(choice)}`;
    let removeKeys = () => {};
    let stalled = false;
    const play = {
      ...message(() => head(), ["Play"]),
      stimulus: () => `<div class="head">${head()}<p>${question}</p></div>
        <div class="grid" aria-hidden="true" style="--columns: ${columns}; --narrow: ${narrow}">${choices
          .map((c, i) => `<button type="button" disabled tabindex="-1">${label(c, i)}</button>`)
          .join("")}</div>`,
      button_html: () => '<button type="button" class="jspsych-btn main">&#9654;&#xFE0E; Play the sound</button>',
    };
    const listen = {
      type: jsPsychAudioButtonResponse,
      stimulus: soundFile(id),
      choices,
      response_allowed_while_playing: false,
      button_html: (choice, i) =>
        `<button type="button" class="jspsych-btn" disabled>${label(choice, i)}</button>`,
      prompt: () => `<div class="head">${head()}<p>${question}</p></div>
        <div class="status"><i></i><span>Listen …</span></div>`,
      on_load: () => {
        const group = document.getElementById("jspsych-audio-button-response-btngroup");
        const status = document.querySelector(".status");
        group.style.setProperty("--columns", columns);
        group.style.setProperty("--narrow", narrow);
        group.setAttribute("role", "group");
        group.setAttribute("aria-label", question);
        removeKeys = withKeys(group);
        say("Listen");
        const unlocked = () => {
          clearTimeout(timer);
          observer.disconnect();
          status.classList.add("open");
          status.lastElementChild.textContent = "Choose your answer.";
          say(`${question} Keys 1 to ${Math.min(9, choices.length)}, or the buttons.`);
        };
        const observer = new MutationObserver(unlocked);
        observer.observe(group, { attributes: true, subtree: true, attributeFilter: ["disabled"] });
        const timer = setTimeout(() => {
          stalled = true;
          group.querySelectorAll("button").forEach((b) => b.removeAttribute("disabled"));
        }, STALLED_MS);
      },
      on_finish: (data) => {
        removeKeys();
        data.response_word = choices[data.response];
        answered(data, stalled);
      },
    };
    return { timeline: [play, { timeline: [listen], conditional_function: claim }] };
  }

  function calibration() {
    return {
      ...message(`<h1>Set the volume</h1>
        <p>Please put on your headphones and stay in a quiet place.</p>
        <p>Turn the volume of your computer down to a quarter, play the noise, and turn it up until
        the noise is loud but comfortable. The sounds of the study are as loud as it. You may play
        it as often as you like; afterwards please leave the volume as it is.</p>
        <div class="row"><button type="button" id="noise">&#9654;&#xFE0E; Play the noise</button></div>`,
      ["The volume is comfortable"]),
      on_load: async () => {
        const next = document.querySelector("#jspsych-html-button-response-btngroup button");
        const noise = document.getElementById("noise");
        next.disabled = true;
        noise.focus({ preventScroll: true });
        const player = await jsPsych.pluginAPI.getAudioPlayer(soundFile(E.calibration));
        let started = false;
        noise.addEventListener("click", () => {
          jsPsych.pluginAPI.audioContext();
          if (started) player.stop();
          player.play();
          started = true;
          next.disabled = false;
        });
        calibration.stop = () => { if (started) player.stop(); };
      },
      on_finish: () => {
        calibration.stop();
        update((s) => { s.calibration_done = true; });
      },
    };
  }

  const CHECKS = {
    antiphase: {
      intro: `<p>You hear three tones in a row. Say which one is the <strong>quietest</strong>.</p>`,
      question: "Which tone is the quietest?",
      choices: ["first", "second", "third"],
    },
    huggins: {
      intro: `<p>You hear three noises in a row. In one of them a <strong>faint tone</strong> is
        hidden. Say in which.</p>`,
      question: "Which noise has the faint tone?",
      choices: ["first", "second", "third"],
    },
  };

  function headphoneCheck() {
    const timeline = [];
    const done = store.session.headphone.answers.length;
    const kinds = [...new Set(E.headphone.map((t) => t.check))];
    E.headphone.slice(done).forEach((trial, i, rest) => {
      const check = CHECKS[trial.check];
      const same = E.headphone.filter((t) => t.check === trial.check);
      const number = same.indexOf(trial) + 1;
      if (i === 0 || rest[i - 1].check !== trial.check) {
        const part = kinds.length > 1 ? `, part ${kinds.indexOf(trial.check) + 1} of ${kinds.length}` : "";
        timeline.push(message(`<h1>Headphone check${part}</h1>${check.intro}
          <p>There are ${plural(same.length - number + 1, "such sound")}. Without headphones this
          is hard; please keep them on.</p>`));
      }
      timeline.push(heard({
        id: trial.stimulus_id,
        choices: check.choices,
        head: () => `<h1>Headphone check: sound ${number} of ${same.length}</h1>`,
        question: check.question,
        answered: (data) => {
          data.task = "headphone";
          update((s) => {
            s.headphone.answers.push({
              check: trial.check, stimulus_id: trial.stimulus_id, answer: data.response + 1,
              rt_ms: data.rt,
            });
            scoreHeadphones(s.headphone);
          });
        },
      }));
    });
    return timeline;
  }

  function scoreHeadphones(headphone) {
    for (const [check, limit] of Object.entries(E.headphone_limits)) {
      const trials = E.headphone.filter((t) => t.check === check);
      const right = trials.filter((t) => headphone.answers.some(
        (a) => a.stimulus_id === t.stimulus_id && a.answer === t.correct)).length;
      headphone.checks[check] = { right, of: trials.length, passed: right >= limit };
    }
    if (headphone.answers.length === E.headphone.length) {
      headphone.passed = Object.values(headphone.checks).every((check) => check.passed);
    }
  }

  function practice() {
    const left = E.practice.slice(store.session.practice.length);
    if (!left.length) return [];
    const timeline = [message(`<h1>Practice</h1>
      <p>You hear ${plural(left.length, "spoken word")}, one at a time. Press <strong>Play</strong>
      (or the space bar), listen, and then choose the word that you heard: with the mouse, or with
      the number keys. Each sound is played only once.</p>
      <p>In practice you are told the right answer.</p>`)];
    left.forEach((trial) => {
      let given = null;
      const number = E.practice.indexOf(trial) + 1;
      timeline.push(heard({
        id: trial.stimulus_id,
        choices: store.session.choice_order,
        head: () => `<h1>Practice: sound ${number} of ${E.practice.length}</h1>`,
        question: "Which word do you hear?",
        answered: (data) => {
          Object.assign(data, { task: "practice", stimulus_id: trial.stimulus_id });
          given = data.response_word;
          update((s) => {
            s.practice.push({ stimulus_id: trial.stimulus_id, response: given, rt_ms: data.rt });
          });
        },
      }));
      timeline.push(message(() => `<h1>Practice</h1>
        <p class="answer" role="status">${given === trial.word
          ? `&#10003; Right: the word was <strong>${escaped(trial.word)}</strong>.`
          : `The word was <strong>${escaped(trial.word)}</strong>; you chose ${escaped(given)}.`}</p>`));
    });
    return timeline;
  }

  function test() {
    const trials = trialList();
    const heardBefore = new Set(store.session.trials.map((row) => row.trial));
    const left = trials.filter((t) => !heardBefore.has(t.trial));
    if (!left.length) return [];
    const batches = trials[trials.length - 1].batch + 1;
    let reloaded = store.session.reloads > 0 && store.session.trials.length > 0;
    const timeline = [];
    if (!heardBefore.size) {
      timeline.push(message(`<h1>The study</h1>
        <p>Now ${plural(trials.length, "sound")}${batches > 1 ? `, in ${batches} parts with breaks between them` : ""}.
        Many are hard to make out. Choose the word that comes closest; if you have no idea, guess.</p>
        <p>Each sound is played only once, and you are no longer told the right answer.</p>`,
      ["Begin"]));
    }
    const position = () => store.session.trials.length;
    left.forEach((trial) => {
      const where = batches > 1 ? `Part ${trial.batch + 1} of ${batches}` : "";
      timeline.push(heard({
        id: trial.id,
        choices: store.session.choice_order,
        head: () => {
          showProgress(position(), trials.length, where);
          return `<h1>Sound ${trial.trial} of ${trials.length}</h1>`;
        },
        question: "Which word do you hear?",
        // The row is there before the sound begins: whatever happens, it does not come again.
        claim: () => {
          let mine = true;
          update((s) => {
            mine = !s.trials.some((row) => row.trial === trial.trial);
            if (mine) {
              s.trials.push({
                trial: trial.trial, stimulus_id: trial.id, response: null,
                choice_order: s.choice_order, rt_ms: null, played_at: now(), reloaded,
              });
            }
          });
          reloaded = false;
          return mine;
        },
        answered: (data, stalled) => {
          update((s) => {
            const row = s.trials.find((r) => r.trial === trial.trial);
            row.response = data.response_word;
            row.rt_ms = data.rt;
            if (stalled) row.stalled = true;
            const { response, ...rest } = row; // In jsPsych's data that is the button's number.
            Object.assign(data, rest, { task: "test", headphone_passed: s.headphone.passed });
          });
          showProgress(position(), trials.length, where);
        },
      }));
      if (trial.lastOfBatch) {
        timeline.push({ type: jsPsychCallFunction, func: sendInBackground });
        if (trial.trial < trials.length) {
          timeline.push(message(() => `<h1>Time for a break</h1>
            <p>${trial.batch + 1} of ${batches} parts are done. Rest your ears as long as you like,
            and go on when you are ready.</p>`));
        }
      }
    });
    return timeline;
  }

  function comments() {
    return {
      type: jsPsychSurveyHtmlForm,
      html: `<h1>Almost done</h1>
        <label for="comments">Is there anything we should know? Did you hear every sound, was the
        volume right? (optional)</label>
        <textarea id="comments" name="comments" rows="5" maxlength="5000"></textarea>`,
      button_label: "Send",
      autofocus: "comments",
      on_finish: (data) => update((s) => { s.comments = data.response.comments; }),
    };
  }

  function preload() {
    const upcoming = [
      ...(store.session.calibration_done ? [] : [E.calibration]),
      ...E.headphone.slice(store.session.headphone.answers.length).map((t) => t.stimulus_id),
      ...E.practice.slice(store.session.practice.length).map((t) => t.stimulus_id),
      ...trialList().filter((t) => !store.session.trials.some((row) => row.trial === t.trial))
        .map((t) => t.id),
    ];
    return {
      type: jsPsychPreload,
      audio: upcoming.map(soundFile),
      message: "<h1>Loading the sounds …</h1>",
      error_message: `<h1>The sounds could not be loaded</h1>
        <p>Please check your connection.</p>
        <div class="row"><button class="main" onclick="location.reload()">Try again</button></div>`,
      max_load_time: null,
      show_detailed_errors: false,
    };
  }

  function browserCheck() {
    return {
      type: jsPsychBrowserCheck,
      features: ["width", "height", "webaudio", "mobile"],
      inclusion_function: (found) => {
        usable = Boolean(found.webaudio) && typeof Audio === "function";
        return usable;
      },
      exclusion_message: () => `<h1>This browser cannot play the sounds</h1>
        <p>Please open this page in a current Firefox, Chrome, Edge or Safari.</p>`,
      on_finish: (data) => update((s) => {
        s.browser = { width: data.width, height: data.height, mobile: data.mobile };
      }),
    };
  }

  /* Runs what is left of the session; says whether the browser could play it. */
  async function play() {
    stage.innerHTML = "";
    const timeline = [browserCheck(), preload()];
    if (E.fullscreen) {
      timeline.push({
        type: jsPsychFullscreen,
        fullscreen_mode: true,
        message: "<h1>Full screen</h1><p>The study fills the screen; Esc leaves it.</p>",
        button_label: "Continue",
        delay_after: 200,
      });
    }
    jsPsych.data.addProperties({ // For hosts that keep jsPsych's own data.
      experiment_id: E.experiment_id, design_sha256: E.design_sha256,
      session_id: store.session.session_id, participant: store.session.participant,
      condition: store.session.condition,
    });
    const begun = store.session.trials.length > 0;
    if (!store.session.calibration_done) timeline.push(calibration());
    if (!begun) timeline.push(...headphoneCheck(), ...practice());
    timeline.push(...test(), comments());
    await jsPsych.run(timeline);
    if (!usable) return false; // The reason is on the screen.
    if (document.fullscreenElement) await document.exitFullscreen().catch(() => {});
    return true;
  }

  return { initialize, play };
};
