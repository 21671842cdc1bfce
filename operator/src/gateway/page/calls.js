// Calls of the gateway's interface. Nothing is sent to another host.

import { token } from './session.js';

const ROOT = new URL('../', import.meta.url);

/** The address of a path of this host, also below the prefix of a proxy. */
export const address = (path) => new URL(path, ROOT);

/** Why a call has no answer: `status` is 0 if nobody answered. */
export class Problem extends Error {
  constructor(status, detail, errors = [], retryAfter = 0) {
    super(detail);
    Object.assign(this, { status, errors, retryAfter });
  }
}

/**
 * Makes a call; its answer is `{status, body, headers}`, the body read as JSON.
 * `signed` sends the caller's token. Throws a `Problem`.
 */
export async function call(path, { method = 'GET', headers = {}, body, signed = false } = {}) {
  const all = new Headers(headers);
  const own = signed ? await token() : null;
  if (own) all.set('Authorization', `Bearer ${own}`);
  if (body !== undefined) all.set('Content-Type', 'application/json');
  let response;
  try {
    response = await fetch(address(path), { method, headers: all, body, credentials: 'omit', cache: 'no-store' });
  } catch {
    throw new Problem(0, 'The service does not answer.');
  }
  const answer = await response.json().catch(() => null);
  if (!response.ok && response.status !== 304) {
    const detail = answer?.detail ?? answer?.title ?? `The service answers with status ${response.status}.`;
    throw new Problem(response.status, detail, answer?.errors, Number(response.headers.get('Retry-After')) || 0);
  }
  return { status: response.status, body: answer, headers: response.headers };
}
