// The chat of one request: history, live messages, text, location, close.
const root = document.getElementById("chat");
const at = (id) => document.getElementById(id);
const list = at("messages");
const me = root.dataset.user;
const shown = new Set(); // seq of every message on the page
const sending = new Map(); // clientMessageId → its bubble
let thread = null;
let lastSeq = 0;
let cursor = null;
let source = null;
let over = false;

async function call(method, path, body) {
  const response = await fetch(path, {
    method,
    headers: body ? { "Content-Type": "application/json" } : {},
    body: body && JSON.stringify(body),
  });
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw Object.assign(new Error(answer.message || response.statusText), { code: answer.code, status: response.status });
  return answer;
}

function complain(error) {
  at("error").textContent = error ? error.message : "";
  at("error").hidden = !error;
}

function bubble(message) {
  const item = document.createElement("li");
  item.className = "message" + (String(message.sender_id) === me ? " mine" : "");
  if (message.type === "location" && message.lat !== null) {
    const link = document.createElement("a");
    link.href = `https://www.openstreetmap.org/?mlat=${message.lat}&mlon=${message.lng}#map=17/${message.lat}/${message.lng}`;
    link.target = "_blank";
    link.rel = "noopener noreferrer";
    link.textContent = `Location ${message.lat.toFixed(5)}, ${message.lng.toFixed(5)}`;
    item.append(link);
  } else {
    item.append(message.text ?? "(erased)");
  }
  const time = document.createElement("time");
  if (message.created_at) {
    time.dateTime = message.created_at;
    time.textContent = new Date(message.created_at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  } else {
    time.textContent = "sending…";
  }
  item.append(time);
  return item;
}

function show(message) {
  lastSeq = Math.max(lastSeq, message.seq);
  if (shown.has(message.seq)) return;
  shown.add(message.seq);
  const item = bubble(message);
  item.dataset.seq = message.seq;
  sending.get(message.clientMessageId)?.remove();
  sending.delete(message.clientMessageId);
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 60;
  const later = [...list.children].find((other) => other.classList.contains("sending") || Number(other.dataset.seq) > message.seq);
  list.insertBefore(item, later ?? null);
  if (atEnd) list.scrollTop = list.scrollHeight;
}

async function history() {
  const page = await call("GET", `/api/chat/threads/${thread}/messages?limit=50${cursor ? `&cursor=${cursor}` : ""}`);
  page.messages.forEach(show);
  cursor = page.nextCursor;
  at("earlier").hidden = cursor === null;
}

function listen() {
  source = new EventSource(`/api/chat/threads/${thread}/stream?lastEventId=${lastSeq}`);
  source.onopen = () => { at("state").textContent = "Connected"; };
  source.addEventListener("MessageCreated", (event) => show(JSON.parse(event.data)));
  source.addEventListener("ThreadClosed", (event) => finish(JSON.parse(event.data).closed_at));
  source.addEventListener("reset", (event) => {
    // Our place means nothing to the server any more: what is shown may not be there, so begin again from its log.
    shown.clear();
    list.replaceChildren(...sending.values());
    lastSeq = JSON.parse(event.data).lastSeq;
    cursor = null;
    history().catch(complain);
  });
  source.onerror = () => {
    if (over) return;
    at("state").textContent = "Reconnecting…";
    if (source.readyState === EventSource.CLOSED) setTimeout(again, 3000);
  };
}

// After a status that is final for EventSource: is it that we may not read any more, or a server that is away?
async function again() {
  try {
    await call("GET", `/api/chat/threads/${thread}`);
    listen();
  } catch (error) {
    if ([401, 403, 404].includes(error.status)) {
      at("state").textContent = "Disconnected";
      complain(error);
    } else {
      setTimeout(again, 3000);
    }
  }
}

function finish(closedAt) {
  over = true;
  source?.close();
  at("state").textContent = "Closed";
  at("compose").hidden = at("close").hidden = at("earlier").hidden = true;
  const notice = document.createElement("li");
  notice.className = "notice";
  notice.textContent = `This chat was closed${closedAt ? " on " + new Date(closedAt).toLocaleString() : ""}. Its messages are erased.`;
  list.replaceChildren(notice);
  list.hidden = false;
}

async function start() {
  complain(null);
  const opened = await call("POST", `/api/requests/${root.dataset.request}/chat/open`);
  thread = opened.threadId;
  if (opened.status === "closed") {
    at("start").hidden = true;
    finish((await call("GET", `/api/chat/threads/${thread}`)).closedAt);
    return;
  }
  await history();
  at("start").hidden = true;
  list.hidden = at("compose").hidden = at("close").hidden = false;
  list.scrollTop = list.scrollHeight;
  listen();
  sessionStorage.setItem(`chat-${root.dataset.request}`, "open");
}

function identifier() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function send(message) {
  const id = identifier();
  const item = bubble({ ...message, sender_id: me });
  item.classList.add("sending");
  sending.set(id, item);
  list.append(item);
  list.scrollTop = list.scrollHeight;
  for (let pause = 1000; ; pause = Math.min(pause * 2, 15000)) {
    try {
      await call("POST", `/api/chat/threads/${thread}/messages`, { ...message, clientMessageId: id });
      complain(null);
      return;
    } catch (error) {
      if (error.status && error.status < 500) {
        item.remove();
        sending.delete(id);
        throw error;
      }
      complain(new Error("Not sent yet, trying again…"));
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }
}

at("open").onclick = () => start().catch(complain);
at("earlier").onclick = () => history().catch(complain);
at("compose").onsubmit = (event) => {
  event.preventDefault();
  const text = at("text").value;
  if (!text.trim()) return;
  at("text").value = "";
  send({ type: "text", text }).catch((error) => {
    complain(error);
    at("text").value ||= text;
  });
};
at("text").onkeydown = (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    at("compose").requestSubmit();
  }
};
at("locate").onclick = () => {
  if (!confirm("Share where you are now?")) return;
  navigator.geolocation.getCurrentPosition(
    ({ coords }) => send({ type: "location", lat: coords.latitude, lng: coords.longitude }).catch(complain),
    () => complain(new Error("Your location is not available.")),
    { enableHighAccuracy: true, timeout: 15000 },
  );
};
at("close").onclick = () => {
  if (!confirm("Close this chat? Everything in it is erased for both of you.")) return;
  call("PATCH", `/api/chat/threads/${thread}/close`).then((answer) => finish(answer.closed_at)).catch(complain);
};

if (sessionStorage.getItem(`chat-${root.dataset.request}`)) start().catch(complain);
