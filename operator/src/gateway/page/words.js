// What the figures of a request mean, in words. Pure: values in, texts out.

const number = (digits) => new Intl.NumberFormat('en-GB', { maximumSignificantDigits: digits });
const two = number(2);
const three = number(3);
const percent = (share) => `${two.format(share * 100)} %`;
const mm = (length) => `${two.format(length)} mm`;
const count = (n) => new Intl.NumberFormat('en-GB').format(n);

export { percent };

const STAGES = {
  load: ['Load', 'Reading the images'],
  depth: ['Depth', "Computing the cortical depth of the patch"],
  register: ['Register', "Bringing the patch's depth onto the template's"],
  resample: ['Resample', 'Carrying the images through the result'],
  quality: ['Quality', 'Measuring the result'],
  write: ['Write', 'Writing the files'],
};
const OF_DEPTH_MAPS = ['load', 'depth', 'write'];

/** The stages of a kind in their order: `[name, word, sentence]`. */
export function stages(kind) {
  const names = kind === 'DepthMapRequest' ? OF_DEPTH_MAPS : Object.keys(STAGES);
  return names.map((name) => [name, ...STAGES[name]]);
}

export const stageWord = (stage) => STAGES[stage]?.[0] ?? stage;
export const kindWord = (kind) => ({ AlignmentRequest: 'Alignment', DepthMapRequest: 'Depth map' })[kind] ?? kind;
export const isFinal = (phase) => ['Succeeded', 'Failed', 'Cancelled'].includes(phase);
export const nameOf = (view) => view.name ?? `${kindWord(view.kind)} ${view.id.slice(0, 8)}`;

const UNITS = [['day', 86400], ['hour', 3600], ['minute', 60], ['second', 1]];
// Beyond ten of a unit, an estimate is none the better for its last digit.
const roughly = (n) => (n > 10 ? 5 * Math.round(n / 5) : Math.round(n));
const amount = (n, unit) => `${n} ${unit}${n === 1 ? '' : 's'}`;

function span(seconds) {
  const [unit, length] = UNITS.find(([, length]) => seconds >= 1.5 * length) ?? UNITS[3];
  return amount(Math.max(1, roughly(seconds / length)), unit);
}

/** Seconds as time that is left. */
export const timeLeft = (seconds) => (seconds < 2 ? 'a moment left' : `about ${span(seconds)} left`);

/** How long ago a moment was; both in milliseconds. */
export function ago(then, now) {
  const seconds = (now - then) / 1000;
  return seconds < 10 ? 'just now' : `${span(seconds)} ago`;
}

/** How long it took from one moment to another. */
export const took = (from, to) => `took ${span(Math.max(1, (to - from) / 1000))}`;

export const moment = (text) =>
  new Date(text).toLocaleString('en-GB', { dateStyle: 'medium', timeStyle: 'short' });

/** A size in bytes, as file managers have it. */
export function size(bytes) {
  const units = ['bytes', 'kB', 'MB', 'GB', 'TB'];
  const power = Math.min(4, Math.max(0, Math.floor(Math.log10(Math.max(1, bytes)) / 3)));
  return `${three.format(bytes / 1000 ** power)} ${units[power]}`;
}

const FILES = {
  image: 'resampled image', warp: 'displacement, patch to template', inverseWarp: 'displacement, template to patch',
  affine: 'affine part', depth: 'cortical depth', validity: 'validity of the depth', report: 'report for programs',
  page: 'report with pictures', preview: 'preview', thickness: 'thickness of the cortex', layers: 'layers of equal volume',
};
export const fileWord = (kind) => FILES[kind] ?? kind;

// A figure: its name, its value, what it means, and whether to look closer (true, false, or null for no opinion).
// The limits are those of docs/results.md.
const figure = (name, value, meaning, look = null) => ({ name, value, meaning, look });

/** The quality of an alignment, in the order in which to look at it. */
export function alignmentFigures(q) {
  const figures = [
    figure('Depth difference', percent(q.depthResidualAfter),
      `of the way from the pial surface to the white matter (root mean square over the cortex). `
      + `Before the registration: ${percent(q.depthResidualBefore)}.`,
      !(q.depthResidualAfter < q.depthResidualBefore)),
    figure('Overlap', percent(q.overlap), "of the patch's cortex lies inside the template.", q.overlap < 0.5),
  ];
  if (typeof q.landmarkMeanAfterMm === 'number') {
    figures.push(figure('Landmarks', mm(q.landmarkMeanAfterMm),
      `mean distance of the two points of a pair. Before the registration: ${mm(q.landmarkMeanBeforeMm)}.`,
      q.landmarkMeanAfterMm > q.landmarkMeanBeforeMm));
  }
  figures.push(
    figure('Shift', mm(q.displacementMeanMm),
      `by which the registration moves the cortex on average, beyond the linear placement; at most ${mm(q.displacementMaxMm)}. `
      + 'Half the thickness of the cortex or more is much.'),
    figure('Change of volume', `× ${two.format(q.jacobianMin)} to ${two.format(q.jacobianMax)}`,
      `smallest and largest local change; 1 is none. Usual is about 0.5 to 2. On the way back, the smallest is ${two.format(q.inverseJacobianMin)}.`,
      q.jacobianMin < 0.5 || q.jacobianMax > 2),
    figure('Folds', count(q.foldedCells + q.inverseFoldedCells),
      'places where the map or its inverse turns space inside out. There must be none.',
      q.foldedCells + q.inverseFoldedCells > 0),
    figure('There and back', mm(q.inverseConsistencyMeanMm),
      `by which a point misses itself on average after the way there and back; at most ${mm(q.inverseConsistencyMaxMm)}. It should be far below a voxel.`),
  );
  return figures;
}

/** What was found of the cortex, for a depth map alone. */
export function depthFigures(d) {
  const figures = [];
  if (typeof d.medianThicknessMm === 'number') {
    figures.push(figure('Thickness', mm(d.medianThicknessMm),
      'median thickness of the cortex. If it is implausible, labels or voxel size are wrong.',
      d.medianThicknessMm < 0.2 || d.medianThicknessMm > 10));
  }
  figures.push(
    figure('Cortex', count(d.cortexVoxels), 'voxels have a depth between the pial surface and the white matter.'),
    figure('Validity', two.format(d.meanValidity),
      'how far depth can be trusted, on average: 0 not at all, 1 fully. Low values are normal for a small patch, whose border cuts columns.'),
  );
  return figures;
}

/** Changes of each level of a curve: `{level, steps, first, last}`. */
export function levels(curve) {
  const found = [];
  for (const point of curve) {
    if (found.at(-1)?.level !== point.level) found.push({ level: point.level, steps: 0, first: point.metric, last: point.metric });
    Object.assign(found.at(-1), { steps: point.iteration, last: point.metric });
  }
  return found;
}
