"use strict";
(() => {
  // Shows each new snapshot as it comes. What the reader has opened, sorted or scrolled stays as it is.
  const main = document.querySelector("main");
  const state = document.querySelector("#state");
  const button = document.querySelector("#freeze");
  let frozen = false;
  let newest = null;
  const key = (element) => element.querySelector("summary, h3")?.textContent ?? "";
  const regions = () => main.querySelectorAll(".scroll");
  const show = (html) => {
    const open = new Map([...main.querySelectorAll("details")].map((details) => [key(details), details.open]));
    const tables = new Map([...regions()].map((region) => {
      const heads = [...region.querySelectorAll("th")];
      const sorted = heads.find((head) => head.hasAttribute("aria-sort"));
      const order = sorted && [sorted.textContent, sorted.getAttribute("aria-sort")];
      return [region.getAttribute("aria-label"), { left: region.scrollLeft, order }];
    }));
    main.replaceChildren(...new DOMParser().parseFromString(html, "text/html").body.childNodes);
    document.dispatchEvent(new Event("renewed"));
    for (const details of main.querySelectorAll("details")) details.open = open.get(key(details)) ?? details.open;
    for (const region of regions()) {
      const before = tables.get(region.getAttribute("aria-label"));
      if (!before) continue;
      region.scrollLeft = before.left;
      const head = before.order && [...region.querySelectorAll("th")].find((head) => head.textContent === before.order[0]);
      const sort = head?.querySelector("button");
      for (let turn = 0; sort && turn < 2 && head.getAttribute("aria-sort") !== before.order[1]; turn++) sort.click();
    }
  };
  button.hidden = false;
  button.addEventListener("click", () => {
    frozen = !frozen;
    button.textContent = frozen ? "Continue" : "Freeze";
    if (!frozen && newest !== null) show(newest);
  });
  const says = (text) => { if (state.textContent !== text) state.textContent = text; };
  const connect = () => {
    const events = new EventSource("/events?form=html");
    events.addEventListener("open", () => says("live"));
    events.addEventListener("error", () => {
      says("not connected: what you see is old");
      // After a lost connection the browser tries again by itself, and not after an answer that is no stream.
      if (events.readyState === EventSource.CLOSED) setTimeout(connect, 5000);
    });
    events.addEventListener("snapshot", (event) => {
      newest = JSON.parse(event.data);
      says(frozen ? "frozen" : "live");
      if (!frozen) show(newest);
    });
  };
  connect();
})();
