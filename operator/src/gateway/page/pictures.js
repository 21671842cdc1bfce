// Pictures of a result: planes to choose from, and a slider between before and after.

import { html } from './dom.js';

const NAME = /^(before|after|depth)-(\d+)\.png$/;

/** Names of pictures by plane: `[[0, {before: name, after: name}], …]`. */
function planes(names) {
  const found = new Map();
  for (const name of names) {
    const [, what, plane] = NAME.exec(name) ?? [];
    if (what) found.set(Number(plane), { ...found.get(Number(plane)), [what]: name });
  }
  return [...found].sort(([a], [b]) => a - b);
}

function key(kind, words) {
  return html('li', {}, html('span', { class: `key ${kind}`, 'aria-hidden': 'true' }), words);
}

function legend(isDepthMap) {
  const keys = isDepthMap
    ? [['d1', '0.02, pial surface (blue)'], ['d2', '0.25 (teal)'], ['d3', '0.5 (yellow)'], ['d4', '0.75 (orange)'], ['d5', '0.98, white matter (red)']]
    : [['patch', 'patch (orange)'], ['template', 'template (cyan)']];
  return html('div', {},
    html('p', {}, isDepthMap
      ? 'The segmentation under lines of equal depth:'
      : 'The image under lines of equal depth. Where patch and template agree, their lines lie on each other:'),
    html('ul', { class: 'legend' }, ...keys.map(([kind, words]) => key(kind, words))));
}

/** Makes the parts of the section. `urlOf` gives the address of a picture. */
export function pictures(names, urlOf) {
  const all = planes(names);
  if (all.length === 0) return [];
  const frame = html('div', { class: 'frame' });
  const slider = html('input', { type: 'range', id: 'split', min: 0, max: 100, value: 50 });
  const split = html('div', { class: 'split' },
    html('label', { for: 'split' }, 'Move between before and after'), slider);

  const move = () => {
    const share = Number(slider.value);
    frame.style.setProperty('--split', `${share}%`);
    slider.setAttribute('aria-valuetext', `${share} % of the width shows before, the rest after`);
  };
  const show = ([plane, { before, after, depth }]) => {
    const picture = (name, what) => html('img', { src: urlOf(name), class: what, alt: `Plane ${plane + 1}, ${what}` });
    const both = before && after;
    split.hidden = !both;
    const images = both
      ? [picture(before, 'before'), picture(after, 'after'), html('span', { class: 'edge' }),
        html('span', { class: 'tag left', 'aria-hidden': 'true' }, 'before'), html('span', { class: 'tag right', 'aria-hidden': 'true' }, 'after')]
      : [picture(depth ?? after ?? before, depth ? 'depth' : after ? 'after' : 'before')];
    frame.classList.toggle('both', Boolean(both));
    frame.replaceChildren(...images);
  };
  // The picture may be dragged, too.
  const follow = (event) => {
    if (event.buttons !== 1 || split.hidden) return;
    const { left, width } = frame.getBoundingClientRect();
    slider.value = ((event.clientX - left) / width) * 100;
    move();
  };
  slider.addEventListener('input', move);
  frame.addEventListener('pointerdown', follow);
  frame.addEventListener('pointermove', follow);

  const choices = all.map((plane, index) => {
    const input = html('input', { type: 'radio', name: 'plane', value: plane[0], ...(index === 0 ? { checked: '' } : {}) });
    input.addEventListener('change', () => show(plane));
    return html('label', {}, input, html('span', {}, `Plane ${plane[0] + 1}`));
  });
  show(all[0]);
  move();
  const choice = html('fieldset', { class: 'choice' }, html('legend', {}, 'Plane through the middle of the cortex'), ...choices);
  return [html('div', { class: 'beside' },
    html('div', {}, legend(Boolean(all[0][1].depth)), choice), html('div', {}, frame, split))];
}
