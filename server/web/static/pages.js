// What pages do with a script: times in the reader's zone, and events as they are recorded. All else works without.

const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
const clock = new Intl.DateTimeFormat("sv-SE", {dateStyle: "short", timeStyle: "medium"});

function localize(scope) {
  for (const time of scope.querySelectorAll("time[datetime]")) {
    time.title = time.dateTime;
    time.textContent = clock.format(new Date(time.dateTime));
  }
}

localize(document);
const label = document.querySelector("#zone");
if (label) label.textContent = zone;

for (const list of document.querySelectorAll("[data-stream]")) follow(list);

function follow(list) {
  const rows = Number(list.dataset.rows);
  const state = document.querySelector("[data-stream-state]");
  const pause = document.querySelector("[data-pause]");
  let after = null;
  let delay = 1000;
  let held = [];
  let paused = false;

  const say = (text) => { if (state) state.textContent = text; };
  if (pause) {
    pause.addEventListener("click", () => {
      paused = !paused;
      pause.setAttribute("aria-pressed", String(paused));
      pause.textContent = paused ? "Go on" : "Pause";
      if (!paused) { held.forEach(show); held = []; }
    });
  }

  function show(message) {
    list.querySelector(".none")?.remove();
    list.prepend(row(message.event));
    while (list.children.length > rows) list.lastElementChild.remove();
  }

  function take(message) {
    after = message.id;
    if (message.kind === "gap") say(`${message.missed} events came faster than they could be shown`);
    if (message.kind !== "event") return;
    if (!paused) show(message);
    else if (held.length < rows) held.push(message);
  }

  function open() {
    const socket = new WebSocket(location.origin.replace(/^http/, "ws") + "/v1/ws");
    socket.addEventListener("open", () => {
      delay = 1000;
      say("live");
      socket.send(JSON.stringify(after ? {after} : {}));
    });
    socket.addEventListener("message", (message) => take(JSON.parse(message.data)));
    socket.addEventListener("close", () => {
      say(`not connected; trying again in ${delay / 1000} s`);
      setTimeout(open, delay);
      delay = Math.min(delay * 2, 30000);
    });
  }
  open();
}

function row(event) {
  const item = document.createElement("li");
  const time = document.createElement("time");
  time.dateTime = event.timestamp;
  const link = document.createElement("a");
  link.href = "/events/" + encodeURIComponent(event.event_id);
  link.textContent = event.event_type;
  const who = document.createElement("small");
  who.textContent = event.agent ?? "";
  const what = document.createElement("code");
  what.textContent = JSON.stringify(event.payload).slice(0, 200);
  item.append(time, " ", link, " ", who, " ", what);
  localize(item);
  return item;
}
