/* What jsPsych goes through: browser, volume, headphones, practice, trials, comments, debrief. */
ListeningPage.makeTimeline = (page, store, delivery) => {
  "use strict";

  const { E, ON_FILE, stage, escaped, now, soundFile, say, t, plain, sounds, answerLabel } = page;
  const { update, trialList, showProgress } = store;
  const { sendInBackground } = delivery;
  const host = { jsPsych: null }; // There once something was clicked.
  const { message, heard, confidence } = ListeningPage.makePresentation(page, host);
  const question = plain(`${E.task}_question`);
  let usable = true; // Whether this browser can play sounds.

  function initialize() {
    if (host.jsPsych) return;
    stage.innerHTML = "";
    host.jsPsych = initJsPsych({
      display_element: stage,
      use_webaudio: !ON_FILE, // A file may not fetch its neighbours; an audio element plays them.
      override_safe_mode: true,
      on_trial_start: () => say(""),
    });
    // The preload plugin (2.1.0) trips over an error of another shape, and would load for ever.
    const api = host.jsPsych.pluginAPI;
    const preloadAudio = api.preloadAudio;
    api.preloadAudio = (files, complete, load, fail) =>
      preloadAudio(files, complete, load, (e) => fail({ source: "", error: { statusText: `${e}` } }));
    // Within the click that led here: Safari keeps a context silent that was made without one.
    const context = api.audioContext();
    if (context) context.resume();
  }

  const at = (where, values) => ({
    type: jsPsychCallFunction, func: () => showProgress(plain(where, values)),
  });

  function calibration() {
    let stop = () => {};
    return {
      ...message(`${t("volume")}
        <div class="row"><button type="button" id="noise">&#9654;&#xFE0E; ${t("volume_play")}</button></div>`,
      [t("volume_done")]),
      on_load: async () => {
        const next = document.querySelector("#jspsych-html-button-response-btngroup button");
        const noise = document.getElementById("noise");
        next.disabled = true;
        noise.focus({ preventScroll: true });
        const player = await host.jsPsych.pluginAPI.getAudioPlayer(soundFile(E.calibration));
        let started = false;
        noise.addEventListener("click", () => {
          host.jsPsych.pluginAPI.audioContext();
          if (started) player.stop();
          player.play();
          started = true;
          next.disabled = false;
        });
        stop = () => { if (started) player.stop(); };
      },
      on_finish: () => {
        stop();
        update((s) => { s.calibration_done = true; });
      },
    };
  }

  // The headphone check: an attempt, and where it fails, advice and one more.

  const inAttempt = (headphone, attempt) =>
    headphone.answers.filter((a) => (a.attempt || 1) === attempt);

  function headphoneCheck() {
    const { attempts, passed } = store.session.headphone;
    if (!E.headphone.length || passed !== null) return [];
    const again = {
      timeline: [message(t("headphones_retry")), ...headphoneAttempt(2)],
      conditional_function: () =>
        store.session.headphone.attempts === 2 && store.session.headphone.passed === null,
    };
    return [at("where_headphones"), ...(attempts === 1 ? headphoneAttempt(1) : []), again];
  }

  function headphoneAttempt(attempt) {
    const done = inAttempt(store.session.headphone, attempt).length;
    const kinds = [...new Set(E.headphone.map((trial) => trial.check))];
    return E.headphone.slice(done).flatMap((trial, i, rest) => {
      const same = E.headphone.filter((other) => other.check === trial.check);
      const number = same.indexOf(trial) + 1;
      const asked = plain(`${trial.check}_question`);
      const task = heard({
        id: trial.stimulus_id,
        choices: ["first", "second", "third"],
        labels: ["first", "second", "third"].map((key) => plain(key)),
        head: () => `<h1>${t("headphones_number", { number, of: same.length })}</h1>`,
        question: asked,
        answered: (data, place, rt) => {
          data.task = "headphone";
          update((s) => {
            s.headphone.answers.push({
              check: trial.check, stimulus_id: trial.stimulus_id, attempt,
              answer: place === null ? null : place + 1, rt_ms: rt,
            });
            scoreHeadphones(s.headphone, attempt);
          });
        },
      });
      if (i > 0 && rest[i - 1].check === trial.check) return [task];
      const heading = kinds.length > 1
        ? t("headphones_heading_part", { part: kinds.indexOf(trial.check) + 1, parts: kinds.length })
        : t("headphones_heading");
      const intro = message(`<h1>${heading}</h1>${t(`${trial.check}_intro`)}
        ${t("headphones_intro", { n: same.length - number + 1 })}`);
      return [intro, task];
    });
  }

  /* An attempt's result, once all of it is answered; `passed` waits for the last attempt. */
  function scoreHeadphones(headphone, attempt) {
    const answers = inAttempt(headphone, attempt);
    for (const [check, limit] of Object.entries(E.headphone_limits)) {
      const trials = E.headphone.filter((trial) => trial.check === check);
      const right = trials.filter((trial) => answers.some(
        (a) => a.stimulus_id === trial.stimulus_id && a.answer === trial.correct)).length;
      headphone.checks[check] = { right, of: trials.length, passed: right >= limit };
    }
    if (answers.length < E.headphone.length) return;
    const passed = Object.values(headphone.checks).every((check) => check.passed);
    if (passed || attempt > 1 || !E.headphone_retry) headphone.passed = passed;
    else Object.assign(headphone, { attempts: 2, first_checks: headphone.checks, checks: {} });
  }

  function practice() {
    const left = E.practice.slice(store.session.practice.length);
    if (!left.length) return [];
    const timeline = [at("where_practice"), message(`<h1>${t("practice_heading")}</h1>
      ${t("practice_intro", { sounds: sounds(left.length) })}
      ${E.task === "words" ? "" : t(`${E.task}_intro`)}`)];
    left.forEach((trial) => {
      let given = null;
      const number = E.practice.indexOf(trial) + 1;
      timeline.push(heard({
        id: trial.stimulus_id,
        choices: store.session.choice_order,
        labels: store.session.choice_order.map(answerLabel),
        head: () => `<h1>${t("practice_number", { number, of: E.practice.length })}</h1>`,
        question,
        answered: (data, place, rt) => {
          given = place === null ? null : store.session.choice_order[place];
          Object.assign(data, { task: "practice", stimulus_id: trial.stimulus_id });
          update((s) => {
            s.practice.push({ stimulus_id: trial.stimulus_id, response: given, rt_ms: rt });
          });
        },
      }));
      timeline.push(message(() => `<h1>${t("practice_heading")}</h1>
        <p class="answer" role="status">${given === null ? t("not_played_at_all") : t(
          given === trial.word ? "practice_right" : "practice_wrong",
          { answer: answerLabel(trial.word), given: answerLabel(given) })}</p>`));
    });
    return timeline;
  }

  function test() {
    const trials = trialList();
    const heardBefore = new Set(store.session.trials.map((row) => row.trial));
    const left = trials.filter((trial) => !heardBefore.has(trial.trial));
    if (!left.length) return [];
    const parts = trials[trials.length - 1].batch + 1;
    let reloaded = store.session.reloads > 0 && store.session.trials.length > 0;
    const timeline = [];
    if (!heardBefore.size) {
      const size = { sounds: sounds(trials.length), parts };
      timeline.push(message(`<h1>${t("trials_heading")}</h1>
        ${t(parts > 1 ? "trials_intro_parts" : "trials_intro", size)}
        ${t(`${E.task}_intro`)}${t("trials_once")}`, [t("begin")]));
    }
    left.forEach((trial) => {
      const where = parts > 1 ? plain("where_part", { part: trial.batch + 1, parts }) : plain("where_trials");
      const row = (s) => s.trials.find((r) => r.trial === trial.trial);
      const head = () => {
        showProgress(where);
        return `<h1>${t("trial_number", { number: trial.trial, of: trials.length })}</h1>`;
      };
      timeline.push(heard({
        id: trial.id,
        choices: store.session.choice_order,
        labels: store.session.choice_order.map(answerLabel),
        head,
        question,
        // The row is there before the sound begins: whatever happens, it does not come again.
        claim: () => {
          let mine = true;
          update((s) => {
            mine = !row(s);
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
        answered: (data, place, rt, tries) => {
          update((s) => {
            const mine = row(s);
            mine.response = place === null ? null : s.choice_order[place];
            mine.rt_ms = rt;
            if (tries > 1) mine.played_times = tries;
            if (place === null) mine.failed = true;
            const { response, ...rest } = mine; // In jsPsych's data that is the button's number.
            Object.assign(data, rest, { task: "test", headphone_passed: s.headphone.passed });
          });
        },
      }));
      if (E.confidence) {
        timeline.push({
          timeline: [confidence(head, (level) => update((s) => { row(s).confidence = level; }))],
          conditional_function: () => {
            const mine = row(store.session);
            return mine && mine.response !== null && mine.confidence === undefined;
          },
        });
      }
      if (trial.lastOfBatch) {
        timeline.push({ type: jsPsychCallFunction, func: sendInBackground });
        if (trial.trial < trials.length) {
          timeline.push(message(t("break", { part: trial.batch + 1, parts })));
        }
      }
    });
    return timeline;
  }

  function comments() {
    return {
      type: jsPsychSurveyHtmlForm,
      html: `<h1>${t("comments_heading")}</h1>
        <label for="comments">${t("comments_label")}</label>
        <textarea id="comments" name="comments" rows="5" maxlength="5000"></textarea>`,
      button_label: plain("send"),
      autofocus: "comments",
      on_finish: (data) => update((s) => {
        s.comments = data.response.comments;
        s.finished = now();
        s.complete = true;
      }),
    };
  }

  /* What was answered is on its way before there is something to read. */
  function debrief() {
    return [
      { type: jsPsychCallFunction, func: sendInBackground },
      at("where_end"),
      message(`<h1>${t("debrief_heading")}</h1>${E.debrief_html || t("debrief")}`, [t("debrief_done")]),
    ];
  }

  function preload() {
    const { headphone, practice: practised, trials, calibration_done: calibrated } = store.session;
    const upcoming = [
      ...(calibrated ? [] : [E.calibration]),
      ...(headphone.passed === null && !trials.length ? E.headphone.map((c) => c.stimulus_id) : []),
      ...E.practice.slice(practised.length).map((trial) => trial.stimulus_id),
      ...trialList().filter((trial) => !trials.some((row) => row.trial === trial.trial))
        .map((trial) => trial.id),
    ];
    return {
      type: jsPsychPreload,
      audio: upcoming.map(soundFile),
      message: t("loading"),
      error_message: `${t("loading_failed")}
        <div class="row"><button class="main" data-reload>${t("try_again")}</button></div>`,
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
      exclusion_message: () => t("browser_bad"),
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
        message: t("fullscreen"),
        button_label: plain("continue"),
        delay_after: 200,
      });
    }
    host.jsPsych.data.addProperties({ // For hosts that keep jsPsych's own data.
      experiment_id: E.experiment_id, design_sha256: E.design_sha256,
      session_id: store.session.session_id, participant: store.session.participant,
      condition: store.session.condition,
    });
    const begun = store.session.trials.length > 0;
    if (!store.session.calibration_done) timeline.push(at("where_volume"), calibration());
    if (!begun) timeline.push(...headphoneCheck(), ...practice());
    timeline.push(...test(), comments(), ...debrief());
    await host.jsPsych.run(timeline);
    if (!usable) return false; // The reason is on the screen.
    if (document.fullscreenElement) await document.exitFullscreen().catch(() => {});
    return true;
  }

  return { initialize, play };
};
