// Charts are SVG pictures made on the server. The first time a pointer rests on one, Vega draws it anew in
// its place, so that it answers with its values; expressions run in Vega's own interpreter, because the
// page forbids eval. Where that fails the picture stays: the table under it has every number.
"use strict";

(() => {
  let loading = null;

  function loadVega(url) {
    loading ??= new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = url;
      script.addEventListener("load", () => resolve(window.vegaEmbed));
      script.addEventListener("error", () => reject(new Error(`${url} did not load`)));
      document.head.append(script);
    });
    return loading;
  }

  async function upgrade(figure) {
    if (figure.dataset.state) return;
    figure.dataset.state = "loading";
    const dark = window.matchMedia("(prefers-color-scheme: dark)").matches;
    const stage = document.createElement("div");
    stage.className = "vega-stage";
    stage.setAttribute("aria-hidden", "true"); // the picture's words and the table say the same
    try {
      const url = `${figure.dataset.spec}&theme=${dark ? "dark" : "light"}`;
      const [embed, answer] = await Promise.all([
        loadVega(figure.closest("[data-vega]").dataset.vega),
        fetch(url, { credentials: "same-origin" }),
      ]);
      if (!answer.ok) throw new Error(`${url}: ${answer.status}`);
      figure.querySelector("picture").after(stage);
      await embed(stage, await answer.json(), {
        ast: true,
        renderer: "canvas", // the SVG renderer writes style attributes, which the page forbids
        actions: false,
        defaultStyle: false,
        tooltip: { disableDefaultStyle: true, theme: dark ? "dark" : "light" },
      });
      figure.dataset.state = "live";
    } catch (error) {
      stage.remove();
      figure.dataset.state = "static";
      console.warn("chart stays a picture:", error.message);
    }
  }

  document.addEventListener("DOMContentLoaded", () => {
    if (!window.matchMedia("(hover: hover) and (min-width: 601px)").matches) return;
    for (const figure of document.querySelectorAll("figure[data-spec]")) {
      let resting = 0;
      figure.addEventListener("pointerenter", () => {
        resting = window.setTimeout(() => upgrade(figure), 120);
      });
      figure.addEventListener("pointerleave", () => window.clearTimeout(resting));
    }
  });
})();
