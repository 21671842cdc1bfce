// The page with the caller's own requests: signing in, the list, a new request.

import { address, call, Problem } from './calls.js';
import { $, complain, html, icon, say } from './dom.js';
import { arrive, ask, canAsk, forget, hostOf, paste, signedIn } from './session.js';
import { ago, isFinal, kindWord, moment, nameOf, stageWord } from './words.js';

// Milliseconds until the next look, while something waits or runs and when nothing does.
const PAUSE = 4000;
const LONG_PAUSE = 30000;
const AT_ONCE = 20;
const IDENTIFIER = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

let identity = null;
// Where the pages before this one began, and where this one and the next do.
let past = [];
let here = null;
let next = null;
let timer = 0;
// Number of the newest question: answers to older ones, also from before signing out, no longer count.
let newest = 0;
// Each request's row, kept over refreshes so that the focus stays.
const rows = new Map();

function show(...ids) {
  for (const id of ['sign-in', 'nobody', 'own', 'new', 'sign-out']) $(id).hidden = !ids.includes(id);
}

async function start() {
  try {
    const { body } = await call('v1');
    identity = body.identity;
    say($('version'), body.version);
    complain(null);
  } catch (problem) {
    complain(new Problem(problem.status, `${problem.message} Trying again.`));
    setTimeout(start, PAUSE);
    return;
  }
  if (identity === null) return show('nobody');
  try {
    if (await arrive()) return enterByHand();
  } catch (error) {
    complain(error);
  }
  if (signedIn()) enter();
  else askToSignIn();
}

function askToSignIn() {
  const byHand = !canAsk(identity);
  $('ask').hidden = byHand;
  $('by-hand').open = byHand;
  if (!byHand) say($('ask'), `Sign in at ${hostOf(identity.issuer)}`);
  say($('sign-in-how'), identity.kind === 'oidc'
    ? `One that ${identity.issuer} has given you.`
    : 'One of an account of the cluster.');
  show('sign-in');
}

function enter() {
  show('own', 'new', 'sign-out');
  past = [];
  here = null;
  refresh();
}

// Whoever follows by keyboard or by ear goes on where the page does.
function enterByHand() {
  enter();
  $('own-title').focus();
}

function leave() {
  forget();
  newest += 1;
  clearTimeout(timer);
  rows.clear();
  $('requests').replaceChildren();
  askToSignIn();
  ($('ask').hidden ? $('token') : $('ask')).focus();
}

function row(view) {
  const parts = {
    link: html('a', { href: `requests/${encodeURIComponent(view.id)}` }),
    kind: html('span', { class: 'kind' }), phase: html('span', { class: 'phase' }),
    bar: html('progress', { max: 100 }), stage: html('span', { class: 'stage' }), age: html('time', { class: 'age' }),
  };
  const item = html('li', {}, parts.link, parts.kind, parts.phase,
    html('span', { class: 'bar' }, parts.bar, parts.stage), parts.age);
  return { item, parts };
}

function update({ item, parts }, view) {
  say(parts.link, nameOf(view));
  say(parts.kind, kindWord(view.kind));
  if (item.dataset.phase !== view.phase) {
    item.dataset.phase = view.phase;
    parts.phase.dataset.phase = view.phase;
    parts.phase.replaceChildren(icon(view.phase), view.phase);
  }
  const runs = view.phase === 'Running' && view.progress !== null;
  parts.bar.hidden = !runs;
  if (runs) parts.bar.value = view.progress.percent;
  parts.bar.setAttribute('aria-label', `Progress of ${nameOf(view)}`);
  say(parts.stage, runs ? `${view.progress.percent} % · ${stageWord(view.progress.stage)}` : view.failure?.reason ?? '');
  parts.age.dateTime = view.createdAt;
  parts.age.title = moment(view.createdAt);
  say(parts.age, ago(Date.parse(view.createdAt), Date.now()));
}

function fill(views) {
  const items = views.map((view) => {
    if (!rows.has(view.id)) rows.set(view.id, row(view));
    const own = rows.get(view.id);
    update(own, view);
    return own.item;
  });
  const list = $('requests');
  // Moving an element would take its focus away.
  if (items.length !== list.children.length || items.some((item, index) => list.children[index] !== item)) {
    list.replaceChildren(...items);
  }
  $('empty').hidden = items.length > 0 || past.length > 0;
  $('pages').hidden = past.length === 0 && next === null;
  $('newer').disabled = past.length === 0;
  $('older').disabled = next === null;
}

async function refresh() {
  clearTimeout(timer);
  let pause = PAUSE;
  newest += 1;
  const own = newest;
  try {
    const place = here === null ? '' : `&continue=${encodeURIComponent(here)}`;
    const { body } = await call(`v1/requests?limit=${AT_ONCE}${place}`, { signed: true });
    if (own !== newest) return;
    next = body.continue;
    fill(body.items);
    complain(null);
    if (body.items.every((view) => isFinal(view.phase))) pause = LONG_PAUSE;
  } catch (problem) {
    if (own !== newest) return;
    complain(problem);
    if (problem.status === 401 || problem.status === 403) return leave();
    pause = Math.max(pause, problem.retryAfter * 1000);
  }
  if (!document.hidden && signedIn()) timer = setTimeout(refresh, pause);
}

async function submit() {
  const text = $('document').value;
  const errors = $('new-errors');
  errors.replaceChildren();
  try {
    JSON.parse(text);
  } catch (error) {
    errors.append(html('p', { class: 'error' }, `This is no JSON: ${error.message}`));
    return;
  }
  const headers = { 'Idempotency-Key': keyOf(text) };
  const other = $('image-token').value.trim();
  if (other) headers['Image-Service-Token'] = other;
  try {
    const { body } = await call('v1/requests', { method: 'POST', headers, body: text, signed: true });
    location.assign(address(`ui/requests/${encodeURIComponent(body.id)}`));
  } catch (problem) {
    errors.append(html('p', { class: 'error' }, problem.message));
    const list = problem.errors.map(({ field, detail }) => html('li', {}, html('code', {}, field), ` ${detail}`));
    if (list.length > 0) errors.append(html('ul', {}, ...list));
  }
}

// One key for one text: pressing the button twice makes one request.
let sent = { text: '', key: '' };
function keyOf(text) {
  if (sent.text !== text) sent = { text, key: newKey() };
  return sent.key;
}

// Without TLS a browser has no randomUUID.
function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

async function take(file) {
  if (file) $('document').value = await file.text();
}

function on(id, event, act) {
  $(id).addEventListener(event, (given) => {
    if (event === 'submit' || event === 'drop' || event === 'dragover') given.preventDefault();
    act(given);
  });
}

on('ask', 'click', () => ask(identity).catch(complain));
on('sign-in-form', 'submit', () => {
  paste($('token').value.trim());
  $('token').value = '';
  enterByHand();
});
on('sign-out', 'click', () => { complain(null); leave(); });
on('older', 'click', () => { past.push(here); here = next; refresh(); });
on('newer', 'click', () => { here = past.pop(); refresh(); });
on('new-form', 'submit', submit);
on('file', 'change', (event) => take(event.target.files[0]));
on('document', 'dragover', () => {});
on('document', 'drop', (event) => take(event.dataTransfer.files[0]));
on('open-form', 'submit', () => {
  const id = $('identifier').value.trim().toLowerCase();
  const good = IDENTIFIER.test(id);
  say($('open-error'), good ? '' : 'An identifier has 32 letters and digits in five groups, as in the example.');
  if (good) location.assign(address(`ui/requests/${id}`));
});
document.addEventListener('visibilitychange', () => {
  if (!document.hidden && !$('own').hidden) refresh();
});
start();
