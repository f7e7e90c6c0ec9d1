(() => {
  "use strict";
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // Sounds and pictures shown a second time are not embedded a second time.
  for (const element of all("[data-like]")) {
    element.src = document.getElementById(element.dataset.like).src;
  }

  // Phones allow few media players at once: there each loads when it is played.
  const eager = !matchMedia("(pointer: coarse)").matches;
  const PAUSE_MS = 350;
  let current = null;
  let queue = [];
  let timer = 0;

  const audioOf = (button) => button.parentElement.querySelector("audio");

  function show() {
    if (!current) return;
    const audio = audioOf(current);
    const at = audio.duration ? audio.currentTime / audio.duration : 0;
    current.style.setProperty("--at", at.toFixed(4));
    if (!audio.paused) requestAnimationFrame(show);
  }

  function rest(button) {
    button.setAttribute("aria-pressed", "false");
    button.style.removeProperty("--at");
  }

  function stop() {
    clearTimeout(timer);
    queue = [];
    for (const button of all("[data-sequence][aria-pressed=true]")) {
      button.setAttribute("aria-pressed", "false");
    }
    if (current) {
      const audio = audioOf(current);
      audio.pause();
      rest(current);
      current = null;
    }
  }

  function start(button) {
    current = button;
    button.setAttribute("aria-pressed", "true");
    const audio = audioOf(button);
    if (audio.currentTime) audio.currentTime = 0;
    audio.play().then(show, () => { if (current === button) stop(); });
  }

  function ended(button) {
    if (current !== button) return;
    rest(button);
    current = null;
    const next = queue.shift();
    if (next) timer = setTimeout(() => start(next), PAUSE_MS);
    else stop();
  }

  const buttons = all("button.play");
  for (const button of buttons) {
    const audio = audioOf(button);
    audio.removeAttribute("controls");
    if (eager) audio.preload = "metadata";
    audio.addEventListener("ended", () => ended(button));
    button.addEventListener("click", () => {
      const playing = current === button;
      stop();
      if (!playing) start(button);
    });
  }

  // Any other player on the page gives way too.
  document.addEventListener("play", (event) => {
    for (const audio of all("audio")) if (audio !== event.target) audio.pause();
  }, true);

  for (const button of all("[data-sequence]")) {
    button.addEventListener("click", () => {
      const running = button.getAttribute("aria-pressed") === "true";
      stop();
      if (running) return;
      const row = button.closest(".row");
      const target = row.closest(".target-block").querySelector(".target button.play");
      queue = [target, ...all("button.play", row)].filter(Boolean);
      button.setAttribute("aria-pressed", "true");
      if (queue.length) start(queue.shift());
    });
  }

  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") return stop();
    if (event.key !== "ArrowRight" && event.key !== "ArrowLeft") return;
    if (!document.activeElement.matches("button.play")) return;
    const visible = buttons.filter((button) => button.offsetParent);
    const step = event.key === "ArrowRight" ? 1 : -1;
    const next = visible[visible.indexOf(document.activeElement) + step];
    if (next) { next.focus(); event.preventDefault(); }
  });

  // Show one network, or all of them.
  const choices = all("[data-network-choice]");
  for (const choice of choices) {
    choice.addEventListener("click", () => {
      stop();
      const network = choice.dataset.networkChoice;
      for (const other of choices) other.setAttribute("aria-pressed", String(other === choice));
      for (const row of all(".row[data-network]")) {
        row.hidden = network !== "" && row.dataset.network !== network;
      }
    });
  }

  // Whatever is shown can be saved: a figure, a table, a sound as it is played.
  const LIGHT = {{ light | tojson }};  // Figures are saved in the colours of paper.

  function save(blob, name) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  function drawing(figure) {
    const svg = figure.querySelector("svg").cloneNode(true);
    const [, , width, height] = svg.getAttribute("viewBox").split(" ").map(Number);
    svg.setAttribute("xmlns", "http://www.w3.org/2000/svg");
    svg.setAttribute("width", width + "pt");
    svg.setAttribute("height", height + "pt");
    svg.removeAttribute("style");
    let text = new XMLSerializer().serializeToString(svg);
    for (const [name, color] of Object.entries(LIGHT)) text = text.replaceAll(`var(${name})`, color);
    text = text.replaceAll("inherit", "Helvetica, Arial, 'Liberation Sans', sans-serif");
    return { text, width, height };
  }

  function savePng(figure, name) {
    const { text, width, height } = drawing(figure);
    const image = new Image();
    image.onload = () => {
      const canvas = document.createElement("canvas");
      const scale = 200 / 72;  // Dots per point.
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
      const context = canvas.getContext("2d");
      context.fillStyle = "#fff";
      context.fillRect(0, 0, canvas.width, canvas.height);
      context.drawImage(image, 0, 0, canvas.width, canvas.height);
      canvas.toBlob((blob) => save(blob, name), "image/png");
    };
    image.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(text);
  }

  function csv(table) {
    const whole = table.parentElement.querySelector("template.csv");
    if (whole) return whole.content.textContent;
    const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
    const cells = (row) => [...row.cells].flatMap((cell) => [
      quoted(cell.textContent.trim().replace(/\s+/g, " ")),
      ...Array(cell.colSpan - 1).fill(""),
    ]);
    return [...table.rows].map((row) => cells(row).join(",")).join("\n") + "\n";
  }

  function bytesOf(uri) {
    const text = atob(uri.slice(uri.indexOf(",") + 1));
    return Uint8Array.from(text, (character) => character.charCodeAt(0));
  }

  function saver(text, label, action) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "save";
    button.textContent = text;
    button.setAttribute("aria-label", label);
    button.addEventListener("click", action);
    return button;
  }

  function line(...buttons) {
    const made = document.createElement("p");
    made.className = "saves";
    made.append(...buttons);
    return made;
  }

  for (const figure of all("figure[data-save]")) {
    const name = figure.dataset.save;
    const what = figure.querySelector("svg").getAttribute("aria-label");
    figure.append(line(
      saver("SVG", `Save as SVG: ${what}`,
        () => save(new Blob([drawing(figure).text], { type: "image/svg+xml" }), name + ".svg")),
      saver("PNG", `Save as PNG: ${what}`, () => savePng(figure, name + ".png")),
    ));
  }
  for (const table of all("table[data-save]")) {
    const name = table.dataset.save + ".csv";
    table.after(line(saver("CSV", `Save the table ${name}`,
      () => save(new Blob([csv(table)], { type: "text/csv" }), name))));
  }
  for (const audio of all("audio[data-save]")) {
    const sound = audio.closest(".sound");
    sound.append(line(saver("WAV", `Save the sound ${audio.dataset.save}`,
      () => save(new Blob([bytesOf(audio.src)], { type: "audio/wav" }), audio.dataset.save))));
  }

  // A figure is not shrunk until it cannot be read: it scrolls.
  const LEAST = 0.7;
  for (const svg of all("figure.chart > svg")) {
    const box = document.createElement("div");
    svg.before(box);
    box.append(svg);
  }
  function legible() {
    for (const svg of all("figure.chart > div > svg")) {
      const box = svg.parentElement;
      if (LEAST * parseFloat(svg.style.width) > box.clientWidth) {
        box.className = "scroll";
        box.tabIndex = 0;
        box.setAttribute("role", "region");
        box.setAttribute("aria-label", `Scrolls sideways: ${svg.getAttribute("aria-label")}`);
      } else {
        for (const name of ["class", "tabindex", "role", "aria-label"]) box.removeAttribute(name);
      }
    }
  }

  // What is wider than the screen says so.
  function sideways() {
    legible();
    for (const told of all(".sideways")) if (!told.nextElementSibling.matches(".scroll")) told.remove();
    for (const box of all(".scroll")) {
      const hidden = box.scrollWidth > box.clientWidth + 1;
      let told = box.previousElementSibling;
      if (!told || !told.classList.contains("sideways")) {
        if (!hidden) continue;
        told = document.createElement("p");
        told.className = "sideways";
        told.textContent = `↔ This ${box.querySelector("table") ? "table" : "figure"} scrolls sideways.`;
        box.before(told);
      }
      told.hidden = !hidden;
    }
  }
  addEventListener("resize", sideways);
  for (const box of all("details")) box.addEventListener("toggle", sideways);
  sideways();

  // Folded parts are printed too.
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = all("details:not([open])");
    for (const box of folded) box.open = true;
  });
  addEventListener("afterprint", () => { for (const box of folded) box.open = false; });

  // The navigation follows the reader.
  const links = new Map(all("nav.top a[href^='#']").map((a) => [a.hash.slice(1), a]));
  const nav = document.querySelector("nav.top .inner");
  function follow() {
    let here = null;
    for (const id of links.keys()) {
      const section = document.getElementById(id);
      if (section && section.getBoundingClientRect().top < innerHeight / 3) here = id;
    }
    for (const [id, link] of links) {
      if ((id === here) === link.hasAttribute("aria-current")) continue;
      if (id !== here) { link.removeAttribute("aria-current"); continue; }
      link.setAttribute("aria-current", "true");
      nav.scrollTo({ left: link.offsetLeft - 80 });
    }
  }
  let waiting = false;
  addEventListener("scroll", () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; follow(); });
  }, { passive: true });
  follow();
})();
