// The course of a registration as a drawing: difference of depth over the iterations of all levels.

import { html, svg } from './dom.js';
import { levels, percent } from './words.js';

const HEIGHT = 240;
const EDGE = { left: 58, right: 12, top: 26, bottom: 44 };

/** A round step that divides a range into at most five parts. */
function roundStep(range) {
  const power = 10 ** Math.floor(Math.log10(range));
  return [0.2, 0.5, 1].map((part) => part * power).find((step) => range / step <= 5) ?? 2 * power;
}

/** Places of the points: iterations counted on over the levels, and where each level begins and ends. */
function layOut(curve) {
  const bands = [];
  const points = curve.map(({ level, iteration, metric }) => {
    let band = bands.at(-1);
    if (band?.level !== level) {
      band = { level, from: band?.to ?? 0, to: band?.to ?? 0 };
      bands.push(band);
    }
    band.to = Math.max(band.to, band.from + iteration);
    return { level, x: band.from + iteration, y: metric };
  });
  return { bands, points };
}

function draw(curve, width) {
  const { bands, points } = layOut(curve);
  const most = Math.max(...points.map((point) => point.y), 1e-6);
  const last = Math.max(bands.at(-1).to, 2);
  const x = (value) => EDGE.left + (value / last) * (width - EDGE.left - EDGE.right);
  const step = roundStep(most);
  const top = Math.ceil(most / step) * step;
  const floor = HEIGHT - EDGE.bottom;
  const y = (value) => floor - (value / top) * (floor - EDGE.top);
  const parts = [];
  for (const [index, band] of bands.entries()) {
    const wide = x(band.to) - x(band.from);
    parts.push(svg('rect', { class: `band band-${index % 2}`, x: x(band.from), y: EDGE.top, width: wide, height: floor - EDGE.top }));
    // A narrow band has room for its number, or for nothing: the table has it.
    const words = wide > 56 ? `level ${band.level}` : wide > 12 ? String(band.level) : '';
    parts.push(svg('text', { x: x(band.from) + wide / 2, y: EDGE.top - 9, 'text-anchor': 'middle' }, words));
  }
  for (let value = 0; value <= top + step / 2; value += step) {
    parts.push(svg('line', { class: 'grid', x1: EDGE.left, x2: width - EDGE.right, y1: y(value), y2: y(value) }));
    parts.push(svg('text', { x: EDGE.left - 6, y: y(value) + 4, 'text-anchor': 'end' }, percent(value)));
  }
  const jump = Math.max(1, roundStep(last));
  for (let value = 0; value <= last; value += jump) {
    parts.push(svg('text', { x: x(value), y: floor + 18, 'text-anchor': 'middle' }, String(value)));
  }
  parts.push(svg('text', { x: (EDGE.left + width - EDGE.right) / 2, y: HEIGHT - 6, 'text-anchor': 'middle' }, 'iteration, counted over all levels'));
  parts.push(svg('text', { class: 'axis', transform: `translate(12 ${(EDGE.top + floor) / 2}) rotate(-90)`, 'text-anchor': 'middle' }, 'depth difference'));
  for (const band of bands) {
    const own = points.filter((point) => point.level === band.level);
    const places = own.map((point) => `${x(point.x).toFixed(1)},${y(point.y).toFixed(1)}`);
    parts.push(svg('polyline', { class: 'line', points: places.join(' ') }));
    if (own.length < 40) parts.push(...own.map((point) => svg('circle', { class: 'dot', cx: x(point.x), cy: y(point.y), r: 2.5 })));
  }
  return svg('svg', { width, height: HEIGHT, role: 'img', 'aria-label': sentence(curve) }, ...parts);
}

function sentence(curve) {
  const course = levels(curve);
  const [from, to] = [course[0].first, course.at(-1).last];
  const over = course.length === 1 ? 'one level' : `${course.length} levels`;
  return `Depth difference over ${over}: from ${percent(from)} to ${percent(to)}. The table below has each level.`;
}

/** Draws a curve into an element, as wide as it is, now and whenever its width changes. Gives a function that shows another one. */
export function curveIn(element, table) {
  let curve = [];
  const redraw = () => {
    const width = Math.floor(element.clientWidth);
    if (curve.length > 0 && width > 0) element.replaceChildren(draw(curve, width));
  };
  new ResizeObserver(redraw).observe(element);
  return (given) => {
    curve = given;
    redraw();
    table.replaceChildren(...levels(curve).map(({ level, steps, first, last }) =>
      html('tr', {}, html('th', { scope: 'row' }, String(level)),
        ...[String(steps), percent(first), percent(last)].map((text) => html('td', {}, text)))));
  };
}
