// Refreshes the page when something was decided, and shows why beside what was clicked. Without it every page is whole, and
// every link leads somewhere.
"use strict";
(() => {
  const source = document.body.dataset.events;
  const live = document.getElementById("live");
  const panel = document.getElementById("panel");
  const PAUSE = 400; // Not more often than that, however much is decided.
  const ANYWAY = 10000; // Ages grow though nothing happens.

  const say = (word, kind) => {
    if (live && live.textContent !== word) {
      live.textContent = word;
      live.className = kind;
    }
  };

  const page = async (url) => {
    const answer = await fetch(url, { headers: { accept: "text/html" }, cache: "no-store" });
    if (!answer.ok) throw new Error(String(answer.status));
    return new DOMParser().parseFromString(await answer.text(), "text/html");
  };

  // What a reader has opened or is writing stays as it is.
  const kept = new Set(["live", "panel"]);
  const change = (old, fresh) =>
    // An element as such would be put inside the old one.
    Idiomorph.morph(old, [...fresh.childNodes], {
      morphStyle: "innerHTML",
      ignoreActiveValue: true,
      callbacks: {
        beforeNodeMorphed: (node) => !(node.id && kept.has(node.id)) && !(node.tagName === "FORM" && node.contains(document.activeElement)),
        beforeAttributeUpdated: (name, node) => !(name === "open" && node.tagName === "DETAILS"),
        beforeNodeRemoved: (node) => !(node.id && kept.has(node.id)),
      },
    });

  let opened = null;
  let asked = null;
  let busy = false;
  let again = false;
  const refresh = async () => {
    if (busy) {
      again = true;
      return;
    }
    busy = true;
    try {
      const fresh = await page(location.href);
      document.title = fresh.title;
      change(document.body, fresh.body);
      if (opened) await fill(opened, false);
      say("live", "on");
    } catch {
      say("connection lost; what is shown may be old", "off");
    }
    busy = false;
    if (again) {
      again = false;
      soon();
    }
  };
  const soon = () => {
    if (asked === null) {
      asked = setTimeout(() => {
        asked = null;
        refresh();
      }, PAUSE);
    }
  };

  // A browser has few connections to one host, so a page that nobody looks at keeps none.
  let stream = null;
  const listen = () => {
    if (stream || document.hidden) return;
    stream = new EventSource(source);
    stream.addEventListener("hello", () => say("live", "on"));
    stream.addEventListener("decided", soon);
    stream.addEventListener("reset", soon);
    stream.onerror = () => {
      say("connection lost; what is shown may be old", "off");
      if (stream && stream.readyState === EventSource.CLOSED) {
        stream = null;
        setTimeout(listen, 5000);
      }
    };
  };
  if (source) {
    listen();
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) {
        if (stream) stream.close();
        stream = null;
      } else {
        listen();
        soon();
      }
    });
    setInterval(() => {
      if (!document.hidden) soon();
    }, ANYWAY);
  }

  const fill = async (link, focus) => {
    const fresh = await page(link);
    const why = fresh.getElementById("why");
    const title = fresh.querySelector("h1");
    if (!why || !title) throw new Error("no why");
    const close = document.createElement("button");
    close.className = "close";
    close.textContent = "Close";
    const more = document.createElement("p");
    const whole = document.createElement("a");
    whole.href = link;
    whole.textContent = "Everything about it";
    more.append(whole);
    why.removeAttribute("id");
    title.tabIndex = -1;
    const content = document.createElement("aside");
    content.append(close, title, why, more);
    content.querySelectorAll("[id]").forEach((named) => named.removeAttribute("id"));
    if (focus) {
      panel.replaceChildren(...content.childNodes);
      panel.hidden = false;
      title.focus();
    } else {
      change(panel, content);
    }
  };
  let from = null;
  const shut = () => {
    panel.hidden = true;
    panel.replaceChildren();
    opened = null;
    if (from && from.isConnected) from.focus();
  };
  document.addEventListener("click", (event) => {
    if (event.target.closest("#panel .close")) return shut();
    const link = event.target.closest("a[data-panel]");
    if (!link || !panel || event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
    event.preventDefault();
    const href = link.getAttribute("href");
    if (!panel.contains(link)) from = link;
    opened = href;
    fill(href, true).catch(() => {
      location.href = href;
    });
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && panel && !panel.hidden) shut();
  });
})();
