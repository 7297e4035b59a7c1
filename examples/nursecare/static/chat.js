// The chat of one request: history, live messages, text, photos, location, close.
import { call, insist, trouble } from "./api.js";
import { receive } from "./files.js";
import { forgetAll, release, renewMissing, thumbnail, unsent } from "./photos.js";
import { inWords, objection, typeOf, upload } from "./uploads.js";

const root = document.getElementById("chat");
const at = (id) => document.getElementById(id);
const list = at("messages");
const me = root.dataset.user;
const limits = { types: root.dataset.photoTypes.split(","), bytes: Number(root.dataset.photoBytes) };
const shown = new Set(); // seq of every message on the page
const sending = new Map(); // clientMessageId → its bubble
const ending = new AbortController(); // aborted when the chat is closed
let thread = null;
let lastSeq = 0; // what history and stream have brought, without a gap
let cursor = null;
let source = null;
let photos = Promise.resolve(); // they go one after the other

function complain(error) {
  const line = document.createElement("p");
  line.textContent = error.message;
  at("error").append(line);
}

function calm() {
  at("error").replaceChildren();
}

trouble.onchange = () => { at("trouble").hidden = trouble.count === 0; };

// -- what is shown ----------------------------------------------------------------------------------------------------

function bubble(message, before) {
  const item = document.createElement("li");
  const mine = String(message.sender_id) === me;
  const created = message.created_at && new Date(message.created_at);
  const clock = created ? created.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }) : "sending…";
  item.className = "message" + (mine ? " mine" : "");
  if (message.type === "image") {
    const renew = () => freshAddress(message.seq);
    item.append(thumbnail({ url: message.media_url, alt: `Photo, ${mine ? "sent" : "received"} ${clock}`, renew, before }));
  } else if (message.type === "location" && message.lat !== null) {
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
  if (created) time.dateTime = message.created_at;
  time.textContent = clock;
  item.append(time);
  return item;
}

async function freshAddress(seq) {
  const { messages } = await call("GET", `/api/chat/threads/${thread}/messages?after=${seq - 1}&limit=1`);
  return messages[0]?.seq === seq ? messages[0].media_url : null;
}

function atEnd() {
  return list.scrollHeight - list.scrollTop - list.clientHeight < 60;
}

function scrollToEnd() {
  list.scrollTop = list.scrollHeight;
}

function show(message) {
  if (ending.signal.aborted || shown.has(message.seq)) return;
  shown.add(message.seq);
  const stay = atEnd();
  const waiting = sending.get(message.clientMessageId);
  const item = bubble(message, waiting?.dataset.preview);
  item.dataset.seq = message.seq;
  waiting?.remove();
  sending.delete(message.clientMessageId);
  const later = [...list.children].find((other) => other.classList.contains("sending") || Number(other.dataset.seq) > message.seq);
  list.insertBefore(item, later ?? null);
  if (stay) scrollToEnd();
}

async function history() {
  const page = await call("GET", `/api/chat/threads/${thread}/messages?limit=50${cursor ? `&cursor=${cursor}` : ""}`);
  page.messages.forEach(hear);
  cursor = page.nextCursor;
  at("earlier").hidden = cursor === null;
}

// -- what comes ---------------------------------------------------------------------------------------------------------

function hear(message) {
  lastSeq = Math.max(lastSeq, message.seq);
  show(message);
}

function listen() {
  source = new EventSource(`/api/chat/threads/${thread}/stream?lastEventId=${lastSeq}`);
  source.onopen = () => {
    at("state").textContent = "Connected";
    renewMissing(list);
  };
  source.addEventListener("MessageCreated", (event) => hear(JSON.parse(event.data)));
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
    if (ending.signal.aborted) return;
    at("state").textContent = "Reconnecting…";
    if (source.readyState === EventSource.CLOSED) setTimeout(again, 3000);
  };
}

// After a status that is final for EventSource: is it that we may not read any more, or a server that is away?
async function again() {
  if (ending.signal.aborted) return;
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
  ending.abort();
  source?.close();
  forgetAll();
  sending.clear();
  at("state").textContent = "Closed";
  at("compose").hidden = at("close").hidden = at("earlier").hidden = true;
  const notice = document.createElement("li");
  notice.className = "notice";
  notice.textContent = `This chat was closed${closedAt ? " on " + new Date(closedAt).toLocaleString() : ""}. Its messages are erased.`;
  list.replaceChildren(notice);
  list.hidden = false;
}

async function start() {
  calm();
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
  scrollToEnd();
  listen();
  sessionStorage.setItem(`chat-${root.dataset.request}`, "open");
}

// -- what goes ----------------------------------------------------------------------------------------------------------

function identifier() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function expectMessage(id, item) {
  item.classList.add("sending");
  sending.set(id, item);
  list.append(item);
  scrollToEnd();
}

function expectNoMore(id) {
  const item = sending.get(id);
  if (item?.dataset.preview) release(item.dataset.preview);
  item?.remove();
  sending.delete(id);
}

async function post(message, id) {
  const path = `/api/chat/threads/${thread}/messages`;
  const answer = await insist(() => call("POST", path, { ...message, clientMessageId: id }, ending.signal), ending.signal);
  // The stream has brought it by now, or is away; then the answer is as good.
  show({ ...message, ...answer, clientMessageId: id, sender_id: me, created_at: new Date().toISOString() });
}

// Gives whether it was sent.
async function send(message) {
  const id = identifier();
  expectMessage(id, bubble({ ...message, sender_id: me }));
  try {
    await post(message, id);
    return true;
  } catch (error) {
    expectNoMore(id);
    if (!ending.signal.aborted || error.code === "thread_closed") complain(error);
    return false;
  }
}

async function choose(files) {
  calm();
  for (const file of files) {
    const type = await typeOf(file).catch(() => null);
    const reason = objection(file, type, limits);
    if (reason) complain(new Error(reason));
    else if (!ending.signal.aborted) queue(file, type);
  }
}

// Its bubble is there at once; the upload begins when those before it are done.
function queue(file, type) {
  const id = identifier();
  const stop = new AbortController();
  const draft = unsent(file, () => {
    stop.abort();
    expectNoMore(id);
    at("photos").focus(); // the button that had it is gone
  });
  expectMessage(id, draft.item);
  const signal = AbortSignal.any([stop.signal, ending.signal]);
  photos = photos.then(async () => {
    try {
      const mediaPath = await upload(thread, file, type, { signal, onprogress: draft.onprogress });
      draft.onuploaded();
      await post({ type: "image", mediaPath }, id);
    } catch (error) {
      expectNoMore(id);
      if (!signal.aborted || error.code === "thread_closed") complain(new Error(inWords(error, file, limits)));
    }
  });
}

// -- what the person does -----------------------------------------------------------------------------------------------

at("open").onclick = () => start().catch(complain);
at("open").disabled = false; // a click before now would have been lost
at("earlier").onclick = () => history().catch(complain);
at("compose").onsubmit = async (event) => {
  event.preventDefault();
  const text = at("text").value;
  if (!text.trim()) return;
  calm();
  at("text").value = "";
  if (!(await send({ type: "text", text }))) at("text").value ||= text;
};
at("text").onkeydown = (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    at("compose").requestSubmit();
  }
};
receive(root, at("photos"), () => !at("compose").hidden, choose);
at("locate").onclick = () => {
  if (!confirm("Share where you are now?")) return;
  calm();
  navigator.geolocation.getCurrentPosition(
    ({ coords }) => send({ type: "location", lat: coords.latitude, lng: coords.longitude }),
    () => complain(new Error("Your location is not available.")),
    { enableHighAccuracy: true, timeout: 15000 },
  );
};
at("close").onclick = () => {
  if (!confirm("Close this chat? Everything in it is erased for both of you.")) return;
  call("PATCH", `/api/chat/threads/${thread}/close`).then((answer) => finish(answer.closed_at)).catch(complain);
};
addEventListener("beforeunload", (event) => {
  if (sending.size) event.preventDefault(); // what is not sent yet would be lost
});

if (sessionStorage.getItem(`chat-${root.dataset.request}`)) start().catch(complain);
