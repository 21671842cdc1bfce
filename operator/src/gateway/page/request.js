// The page of one request: where it stands, and what came of it.

import { address, call, Problem } from './calls.js';
import { curveIn } from './curve.js';
import { $, complain, copy, copyButton, html, icon, link, once, say } from './dom.js';
import { follow } from './follow.js';
import { pictures } from './pictures.js';
import { signedIn } from './session.js';
import * as words from './words.js';

const ID = decodeURIComponent(location.pathname.split('/').filter(Boolean).at(-1));
const PATH = `v1/requests/${encodeURIComponent(ID)}`;

const drawHead = once((view) => {
  say($('kind'), words.kindWord(view.kind));
  say($('name'), words.nameOf(view));
  say($('id'), view.id);
  say($('spec'), JSON.stringify(view.spec, null, 2));
});

const drawPhase = once(({ phase, kind }) => {
  $('phase').dataset.phase = phase;
  $('phase').replaceChildren(icon(phase), phase);
  say($('status'), `${words.kindWord(kind)}: ${phase}`);
});

function drawWhen(view) {
  const parts = [`asked for ${words.moment(view.createdAt)}`];
  if (view.startedAt && view.completedAt) parts.push(words.took(Date.parse(view.startedAt), Date.parse(view.completedAt)));
  if (view.attempts > 1) parts.push(`attempt ${view.attempts}`);
  say($('when'), parts.join(' · '));
}

function drawProgress(view) {
  const runs = !words.isFinal(view.phase);
  $('progress').hidden = !runs;
  if (!runs) return;
  const stages = words.stages(view.kind);
  const now = stages.findIndex(([name]) => name === view.progress?.stage);
  drawStages({ stages, now });
  const percent = view.progress?.percent ?? 0;
  $('bar').value = percent;
  say($('percent'), `${percent} %`);
  const parts = [now >= 0 ? stages[now][2] : 'Waiting for its turn'];
  if (typeof view.progress?.etaSeconds === 'number') parts.push(words.timeLeft(view.progress.etaSeconds));
  say($('left'), parts.join(' · '));
}

const drawStages = once(({ stages, now }) => {
  $('stages').replaceChildren(...stages.map(([, word], index) => {
    const [state, said] = index < now ? ['done', 'done'] : index === now ? ['now', 'now'] : ['later', 'to come'];
    return html('li', { class: state, 'aria-current': state === 'now' ? 'step' : null },
      html('span', { class: 'mark', 'aria-hidden': 'true' }, state === 'done' ? icon('Succeeded') : String(index + 1)),
      html('span', {}, word), html('span', { class: 'unseen' }, `, ${said}`));
  }));
});

const drawFailure = once((failure) => {
  $('failure').hidden = failure === null;
  if (failure === null) return;
  $('failure').replaceChildren(
    html('h2', { id: 'failure-title' }, 'Why there is no result'),
    html('p', {}, html('code', {}, failure.reason)),
    html('p', { class: 'long' }, failure.message),
    ...(failure.help ? [html('h3', {}, 'What helps'), html('p', {}, failure.help)] : []),
    html('p', { class: 'hint' }, failure.retryable
      ? 'The same request may succeed at another time.' : 'The same request would fail again.'));
});

const drawWarnings = once((warnings) => {
  $('warnings').hidden = warnings.length === 0;
  $('warning-list').replaceChildren(...warnings.map((text) => html('li', {}, icon('look'), html('span', { class: 'long' }, text))));
});

const drawPictures = once((names) => {
  const parts = pictures(names, (name) => address(`${PATH}/pictures/${encodeURIComponent(name)}`));
  $('pictures').hidden = parts.length === 0;
  $('picture-parts').replaceChildren(...parts);
});

const drawQuality = once(({ quality, depth }) => {
  const raw = quality ?? depth;
  $('quality').hidden = raw === null;
  if (raw === null) return;
  const figures = quality ? words.alignmentFigures(quality) : words.depthFigures(depth);
  say($('quality-title'), quality ? 'How good it is' : 'What was found');
  $('figures').replaceChildren(...figures.map(({ name, value, meaning, look }) => html('li', {},
    html('h3', {}, name),
    html('p', { class: 'value' }, value),
    html('p', {}, meaning),
    look === null ? null : html('p', { class: look ? 'verdict look' : 'verdict' },
      icon(look ? 'look' : 'Succeeded'), look ? 'look closer' : 'as it should be'))));
  $('raw').replaceChildren(...Object.entries(raw).flatMap(([name, value]) =>
    [html('dt', {}, html('code', {}, name)), html('dd', {}, String(value))]));
});

const showCurve = curveIn($('curve'), $('curve-table'));
const drawCourse = once((curve) => {
  $('course').hidden = curve.length === 0;
  showCurve(curve);
});

function file({ name, kind, bytes, sha256, neuroglancerUrl }) {
  const address = neuroglancerUrl && html('div', { class: 'copied' },
    html('span', {}, 'Neuroglancer ', html('code', {}, neuroglancerUrl)), copyButton(neuroglancerUrl, `the Neuroglancer address of ${name}`));
  return html('li', {}, html('strong', {}, name), html('span', {}, `${words.fileWord(kind)} · ${words.size(bytes)}`),
    html('span', { class: 'digest' }, 'SHA-256 ', html('code', {}, sha256)), address);
}

const drawFiles = once((result) => {
  $('files').hidden = result === null;
  if (result === null) return;
  const { artifacts = [], location: place = {}, viewerUrl } = result;
  $('viewer').hidden = !viewerUrl;
  if (viewerUrl) {
    const view = link(viewerUrl, 'See the result in Neuroglancer');
    if (view.classList) view.classList.add('button', 'main');
    $('viewer').replaceChildren(view);
  }
  $('location').replaceChildren(...(place.baseUrl
    ? ['They are at the image service ', link(place.baseUrl), '.']
    : place.claimName ? ['They are on the volume claim ', html('code', {}, place.claimName), ', folder ', html('code', {}, place.path || '/'), '.'] : []));
  $('artifacts').replaceChildren(...artifacts.map(file));
});

const drawMatrix = once((matrix) => {
  $('matrix').hidden = matrix === null;
  if (matrix) say($('matrix-rows'), matrix.map((row) => row.join('  ')).join('\n'));
});

function draw(view) {
  $('waiting').hidden = true;
  $('request').hidden = false;
  const { id, kind, name, phase, spec, failure, result, curve, pictures: names } = view;
  document.title = `${phase === 'Running' && view.progress ? `${view.progress.percent} %` : phase} · ${words.nameOf(view)} · voluba-align`;
  drawHead({ id, kind, name, spec });
  drawPhase({ phase, kind });
  drawWhen(view);
  // A failure says the same once more.
  say($('message'), failure ? '' : view.message ?? '');
  drawProgress(view);
  drawFailure(failure ?? null);
  drawWarnings(result?.warnings ?? []);
  drawPictures(names ?? []);
  drawQuality({ quality: result?.quality ?? null, depth: result?.depth ?? null });
  drawCourse(curve ?? []);
  drawFiles(result ?? null);
  drawMatrix(result?.transformationMatrix ?? null);
  $('cancel').hidden = !signedIn() || words.isFinal(phase);
  $('delete').hidden = !signedIn();
}

// The pictures may come a moment after the end, which is the last that is told by itself.
let more = 2;
function drawEnd(view) {
  draw(view);
  if (view.phase !== 'Succeeded' || view.pictures || more === 0) return;
  more -= 1;
  setTimeout(() => call(PATH).then(({ body }) => drawEnd(body), () => {}), 6000);
}

function lost(problem) {
  if (problem?.status === 404) {
    $('waiting').hidden = true;
    complain(new Problem(404, `${problem.message} Is the link complete?`));
    problem = null;
  } else if (!problem && $('request').hidden) {
    complain(null);
  }
  $('lost').hidden = problem === null;
  say($('lost'), problem ? `${problem.message} Trying again …` : '');
}

function gone() {
  $('request').hidden = true;
  lost(null);
  complain(new Problem(404, 'This request has been deleted.'));
}

// Asks whether it is meant; `act` is what it then does.
async function confirmed({ title, text, yes, act }) {
  const dialog = $('confirm');
  say($('confirm-title'), title);
  say($('confirm-text'), text);
  say($('confirm-yes'), yes);
  dialog.returnValue = 'no';
  dialog.showModal();
  await new Promise((done) => { dialog.addEventListener('close', done, { once: true }); });
  if (dialog.returnValue !== 'yes') return;
  try {
    complain(null);
    await act();
  } catch (problem) {
    complain(problem);
  }
}

$('json').href = address(PATH);
$('copy-link').hidden = !navigator.clipboard;
$('copy-link').addEventListener('click', () => copy(location.href, $('copy-link')));
$('cancel').addEventListener('click', () => confirmed({
  title: 'Cancel this request?', text: 'It ends without a result. That cannot be undone.', yes: 'Cancel the request',
  act: async () => draw((await call(`${PATH}/cancel`, { method: 'POST', signed: true })).body),
}));
$('delete').addEventListener('click', () => confirmed({
  title: 'Delete this request?', text: 'The request and this page go; if it runs, it ends. Files that were written stay. That cannot be undone.',
  yes: 'Delete the request', act: async () => { await call(PATH, { method: 'DELETE', signed: true }); gone(); },
}));

follow(ID, { seen: drawEnd, gone, lost, isFinal: (view) => words.isFinal(view.phase) });
