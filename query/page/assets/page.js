// Adds to a page that works without it: rows that open in place, names that complete, keys, the browser's own time zone.
(() => {
  "use strict";
  const $ = (selector, root = document) => root.querySelector(selector);
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

  // Rows. A link that opens the entry becomes a button that does so in place.
  const setOpen = (seq) => {
    const url = new URL(location.href);
    if (seq) url.searchParams.set("open", seq); else url.searchParams.delete("open");
    url.hash = "";
    history.replaceState(null, "", url);
  };
  const close = (button) => {
    const row = button.closest("tr");
    const detail = document.getElementById("d" + button.dataset.seq);
    if (detail) detail.remove();
    row.classList.remove("open");
    button.setAttribute("aria-expanded", "false");
    button.removeAttribute("aria-controls");
    setOpen("");
  };
  const open = async (button) => {
    const seq = button.dataset.seq, row = button.closest("tr");
    row.classList.add("open");
    button.setAttribute("aria-expanded", "true");
    const detail = document.createElement("tr");
    detail.className = "detail";
    detail.id = "d" + seq;
    const cell = detail.insertCell();
    cell.colSpan = 6;
    cell.innerHTML = "<p class='loading' role='status'>Loading…</p>";
    row.after(detail);
    button.setAttribute("aria-controls", detail.id);
    setOpen(seq);
    const url = new URL("/entries/" + seq, location.href);
    url.searchParams.set("fragment", "1");
    const zone = new URLSearchParams(location.search).get("tz");
    if (zone) url.searchParams.set("tz", zone);
    try {
      const response = await fetch(url, {headers: {Accept: "text/html"}});
      if (response.status === 401) { location.reload(); return; }
      if (!response.ok) throw new Error(response.statusText);
      cell.innerHTML = await response.text();
      wire(cell);
    } catch (error) {
      cell.textContent = "The entry could not be loaded (" + error.message + "). Close it and try again.";
    }
  };
  const toggle = (button) => button.getAttribute("aria-expanded") === "true" ? close(button) : open(button);
  const toggles = $$("a.toggle").map((a) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "toggle";
    button.dataset.seq = a.closest("tr").id.slice(1);
    button.setAttribute("aria-label", a.getAttribute("aria-label"));
    button.setAttribute("aria-expanded", String("open" in a.dataset));
    if ("open" in a.dataset) button.setAttribute("aria-controls", "d" + button.dataset.seq);
    button.addEventListener("click", () => toggle(button));
    a.replaceWith(button);
    button.closest("tr").addEventListener("click", (event) => {
      if (event.target.closest("a, button, input, summary") || String(getSelection())) return;
      toggle(button);
    });
    return button;
  });

  // What is only of use with a script.
  const wire = (root) => {
    $$(".js", root).forEach((element) => { element.hidden = false; });
    $$("[data-copy]", root).forEach((button) => button.addEventListener("click", async () => {
      const link = new URL(button.dataset.copy, location.href).href;
      try { await navigator.clipboard.writeText(link); button.textContent = "Copied"; } catch { button.textContent = link; }
    }));
  };
  wire(document);
  const keys = $("#keys");
  $$("[data-help]").forEach((button) => button.addEventListener("click", () => keys.showModal()));
  $$("[data-print]").forEach((button) => button.addEventListener("click", () => print()));

  // The browser's own zone, which the server cannot know.
  const own = Intl.DateTimeFormat().resolvedOptions().timeZone;
  $$("a.local").forEach((a) => {
    if (!own || own === a.dataset.zone || own === "UTC" && a.dataset.zone === "UTC") return;
    a.href = a.dataset.href.replace("ZONE", encodeURIComponent(own));
    a.textContent = "Show " + own;
    a.hidden = false;
  });

  // An address holds what was filled in, and nothing else.
  const form = $("#filter");
  if (form) form.addEventListener("submit", () => {
    $$("input, select", form).forEach((field) => { field.disabled = field.value === ""; });
    setTimeout(() => $$("input, select", form).forEach((field) => { field.disabled = false; }));
  });
  addEventListener("pageshow", () => { if (form) $$("input, select", form).forEach((field) => { field.disabled = false; }); });

  // Names that complete while they are typed: a combobox after the ARIA practices.
  const suggest = (input) => {
    const id = $("#record_id"), isRecord = input.name === "record";
    const list = document.createElement("ul");
    list.className = "choices";
    list.id = input.id + "-choices";
    list.hidden = true;
    list.setAttribute("role", "listbox");
    list.setAttribute("aria-label", isRecord ? "Records" : "Users");
    input.after(list);
    const status = document.createElement("span");
    status.className = "hide";
    status.setAttribute("role", "status");
    list.after(status);
    input.setAttribute("role", "combobox");
    input.setAttribute("aria-expanded", "false");
    input.setAttribute("aria-controls", list.id);
    input.setAttribute("aria-autocomplete", "list");
    let items = [], at = -1, wait = 0, asked = 0;
    const show = (visible) => {
      list.hidden = !visible;
      input.setAttribute("aria-expanded", String(visible));
      if (!visible) { at = -1; input.removeAttribute("aria-activedescendant"); }
    };
    const mark = (n) => {
      const all = $$("[role=option]", list);
      if (!all.length) return;
      at = (n + all.length) % all.length;
      all.forEach((option, i) => option.setAttribute("aria-selected", String(i === at)));
      all[at].scrollIntoView({block: "nearest"});
      input.setAttribute("aria-activedescendant", all[at].id);
    };
    const take = (n) => {
      const item = items[n];
      if (!item) return;
      input.value = isRecord ? item.name : item.email || item.id;
      if (isRecord) {
        id.value = item.id;
        const application = $("#application");
        if ([...application.options].some((o) => o.value === item.application)) application.value = item.application;
      }
      show(false);
    };
    const line = (tag, text, name) => {
      const element = document.createElement(tag);
      if (name) element.className = name;
      element.textContent = text;
      element.dir = "auto";
      return element;
    };
    const ask = async () => {
      const q = input.value.trim(), turn = ++asked;
      if (q.length < 2 || q === "*") { show(false); return; }
      const url = new URL(input.dataset.suggest, location.href);
      url.searchParams.set("q", q);
      const application = $("#application").value;
      if (isRecord && application && application !== "*") url.searchParams.set("application", application);
      let answer;
      try {
        const response = await fetch(url);
        if (!response.ok) return;
        answer = await response.json();
      } catch { return; }
      if (turn !== asked || document.activeElement !== input) return;
      items = answer[isRecord ? "records" : "users"];
      list.textContent = "";
      items.forEach((item, n) => {
        const option = document.createElement("li");
        option.setAttribute("role", "option");
        option.id = list.id + n;
        option.setAttribute("aria-selected", "false");
        option.append(line("b", item.name || item.email || item.id));
        option.append(line("small", isRecord ? item.application + " · " + item.type : item.email));
        option.append(line("small", item.id, "code"));
        option.addEventListener("mousedown", (event) => { event.preventDefault(); take(n); });
        list.append(option);
      });
      status.textContent = items.length ? items.length + (answer.more ? " and more" : "") + " found" : "nothing found";
      if (answer.more) { const more = line("li", "There are more: type on", "none"); more.setAttribute("role", "presentation"); list.append(more); }
      show(items.length > 0);
    };
    input.addEventListener("input", () => {
      if (isRecord) id.value = "";
      clearTimeout(wait);
      wait = setTimeout(ask, 120);
    });
    input.addEventListener("keydown", (event) => {
      if (event.key === "ArrowDown" || event.key === "ArrowUp") {
        if (list.hidden) ask(); else mark(at < 0 && event.key === "ArrowUp" ? -1 : at + (event.key === "ArrowDown" ? 1 : -1));
        event.preventDefault();
      } else if (event.key === "Enter" && !list.hidden && at >= 0) {
        take(at);
        event.preventDefault();
      } else if (event.key === "Escape" && !list.hidden) {
        show(false);
        event.stopPropagation();
      }
    });
    input.addEventListener("blur", () => show(false));
  };
  $$("[data-suggest]").forEach(suggest);

  // Keys.
  const move = (step) => {
    if (!toggles.length) return;
    const now = toggles.indexOf(document.activeElement);
    const next = now < 0 ? (step > 0 ? 0 : toggles.length - 1) : Math.min(Math.max(now + step, 0), toggles.length - 1);
    toggles[next].focus();
    toggles[next].closest("tr").scrollIntoView({block: "nearest"});
  };
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || keys && keys.open) return;
    const typing = event.target.closest && event.target.closest("input, select, textarea");
    if (typing) { if (event.key === "Escape") event.target.blur(); return; }
    switch (event.key) {
    case "/": {
      const record = $("#record");
      if (record) { record.focus(); record.select(); } else location.assign("/");
      break;
    }
    case "j": move(1); break;
    case "k": move(-1); break;
    case "?": if (keys) keys.showModal(); break;
    case "Escape": {
      const inside = document.activeElement.closest("tr.detail");
      const button = inside ? $(".toggle", inside.previousElementSibling) : $(".toggle[aria-expanded=true]");
      if (!button) return;
      close(button);
      button.focus();
      break;
    }
    default: return;
    }
    event.preventDefault();
  });
})();
