// Elements made by calls: what a server says becomes text, never markup.

const SVG = 'http://www.w3.org/2000/svg';
// Drawn on 16 x 16 with a line of 2: what each phase and each judgement looks like without its colour.
const ICONS = {
  Pending: 'M8 2a6 6 0 1 0 0 12a6 6 0 1 0 0-12M8 5v3l2 2',
  Running: 'M5 3l8 5-8 5z',
  Succeeded: 'M3 8.5l3.5 3.5L13 4.5',
  Failed: 'M4 4l8 8M12 4l-8 8',
  Suspended: 'M5.5 3v10M10.5 3v10',
  Cancelled: 'M8 2a6 6 0 1 0 0 12a6 6 0 1 0 0-12M4 12L12 4',
  look: 'M8 2l6.5 12h-13zM8 7v3M8 12v.2',
};

export const $ = (id) => document.getElementById(id);

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** An element of HTML with attributes and children; texts are children, too. */
export function html(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** The same of SVG. */
export function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

/** The icon of a phase or judgement: decoration beside its word. */
export function icon(name) {
  return svg('svg', { class: 'icon', viewBox: '0 0 16 16', 'aria-hidden': 'true' }, svg('path', { d: ICONS[name] ?? ICONS.Pending }));
}

/** Sets a text, if it is another one: what stays the same is not announced again. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Says what is wrong, at the head of the page; nothing, if that is null. */
export function complain(problem) {
  $('problem').hidden = problem === null;
  say($('problem'), problem?.message ?? '');
}

/** Calls `draw` only if what it draws from has changed since the last time: focus and open parts stay. */
export function once(draw) {
  let before;
  return (value) => {
    const now = JSON.stringify(value);
    if (now === before) return;
    before = now;
    draw(value);
  };
}

/** A link, if the text is an address of the web; else the text. */
export function link(text, words = text) {
  let url;
  try { url = new URL(text); } catch { return words; }
  if (!['http:', 'https:'].includes(url.protocol)) return words;
  return html('a', { href: url.href, rel: 'noreferrer' }, words);
}

/** A button that copies a text; nothing where the browser lets no page do so. */
export function copyButton(text, what) {
  if (!navigator.clipboard) return null;
  const button = html('button', { type: 'button', 'aria-label': `Copy ${what}` }, 'Copy');
  button.addEventListener('click', () => copy(text, button));
  return button;
}

/** Copies a text and says so on the button for a while. */
export async function copy(text, button) {
  const words = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    say($('status'), 'Copied.');
    button.textContent = 'Copied';
  } catch {
    button.textContent = 'Not copied';
  }
  setTimeout(() => { button.textContent = words; }, 2000);
}
