/* The page of a listening experiment. What is played stands in trials.js, in the order of each
   condition; which word, network or layer a sound is, this page does not know. */
(() => {
  "use strict";

  const page = ListeningPage.makePage();
  const store = ListeningPage.makeStore(page);
  const delivery = ListeningPage.makeDelivery(page, store);
  const timeline = ListeningPage.makeTimeline(page, store, delivery);
  const screens = ListeningPage.makeScreens(page, store, delivery, timeline);
  const { E, JATOS, plain, urlParameter } = page;

  screens.run = async () => {
    if ((await timeline.play()) && !store.withdrawn) screens.endScreen();
  };

  function boot() {
    document.title = E.title;
    document.documentElement.lang = E.language;
    document.getElementById("title").textContent = E.title;
    document.getElementById("progress").setAttribute("aria-label", plain("progress"));
    document.addEventListener("click", (event) => {
      if (event.target.closest("[data-reload]")) location.reload();
    });
    screens.offerWithdrawal();
    delivery.sendLeftovers();
    if (screens.justWithdrawn()) return;
    const id = urlParameter("PROLIFIC_PID", "participant", "id")
      || (JATOS && JATOS.workerId ? `jatos-${JATOS.workerId}` : "") || store.recall("current");
    const saved = id ? store.recall(store.sessionKey(id)) : null;
    if (saved) screens.open(saved);
    else screens.consentScreen();
  }

  if (JATOS) JATOS.onLoad(boot);
  else boot();
})();
