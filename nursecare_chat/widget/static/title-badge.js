/** How many messages are unread, in front of the page's title: "(3) Inbox". */
const counts = new Map(); // element → its count
const BADGE = /^\(\d+\) /;
let shown = "";

/** @param {object} owner @param {number} count 0 takes it away */
export function badge(owner, count) {
  if (count) counts.set(owner, count);
  else counts.delete(owner);
  const total = [...counts.values()].reduce((sum, one) => sum + one, 0);
  if (!total && !shown) return; // the title is the host's
  const own = document.title.startsWith(shown) ? document.title.slice(shown.length) : document.title.replace(BADGE, "");
  shown = total ? `(${total}) ` : "";
  document.title = shown + own;
}
