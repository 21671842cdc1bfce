// The caller's token: pasted, or given by the provider (OpenID Connect, authorization code with PKCE). In this tab, for
// as long as it is open.

const PAGE = new URL('./', import.meta.url);
const KEY = 'voluba-align-token';
// What was asked of the provider, until it sends the browser back.
const ASKED = 'voluba-align-sign-in';
// A token with less time than this, in milliseconds, is exchanged before it is used.
const MARGIN = 20000;

// What another version of this page has kept does not count.
const read = (key) => {
  try { return JSON.parse(sessionStorage.getItem(key)); } catch { return null; }
};
const write = (key, value) => sessionStorage.setItem(key, JSON.stringify(value));

/** Whether there is a token. */
export const signedIn = () => read(KEY) !== null;
export const paste = (text) => write(KEY, { token: text });
export const forget = () => sessionStorage.removeItem(KEY);

/** Whether the provider can be asked: without TLS a browser does not compute the digest that it wants. */
export const canAsk = (identity) => Boolean(identity?.signIn && crypto.subtle);

/** The host of an address, as people name a place. */
export const hostOf = (url) => new URL(url).host;

const base64url = (bytes) =>
  btoa(String.fromCharCode(...bytes)).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
const secret = () => base64url(crypto.getRandomValues(new Uint8Array(32)));

/** Sends the browser to the provider, which sends it back to the list. */
export async function ask({ issuer, signIn }) {
  const asked = { issuer, signIn, state: secret(), verifier: secret() };
  const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(asked.verifier));
  const url = new URL(signIn.authorizationEndpoint);
  const fields = {
    response_type: 'code', client_id: signIn.clientId, redirect_uri: PAGE.href, scope: signIn.scope, state: asked.state,
    code_challenge: base64url(new Uint8Array(digest)), code_challenge_method: 'S256',
  };
  for (const [name, value] of Object.entries(fields)) url.searchParams.set(name, value);
  write(ASKED, asked);
  location.assign(url);
}

/** Takes what the provider has sent the browser back with; false, if it comes from elsewhere. Throws an `Error`. */
export async function arrive() {
  const given = new URLSearchParams(location.search);
  if (!given.has('state') || !(given.has('code') || given.has('error'))) return false;
  // A code is good once, and nobody's business.
  history.replaceState(null, '', location.pathname);
  const asked = read(ASKED);
  sessionStorage.removeItem(ASKED);
  if (asked === null || given.get('state') !== asked.state || (given.get('iss') ?? asked.issuer) !== asked.issuer) {
    throw new Error('This answer belongs to no sign-in of this tab. Sign in once more.');
  }
  if (given.has('error')) {
    throw new Error(`${hostOf(asked.issuer)} does not sign you in: ${given.get('error_description') ?? given.get('error')}`);
  }
  await exchange(asked.signIn, {
    grant_type: 'authorization_code', code: given.get('code'), redirect_uri: PAGE.href, code_verifier: asked.verifier,
  });
  return true;
}

async function exchange(signIn, fields) {
  const host = hostOf(signIn.tokenEndpoint);
  const body = new URLSearchParams({ client_id: signIn.clientId, ...fields });
  const response = await fetch(signIn.tokenEndpoint, { method: 'POST', body, credentials: 'omit', cache: 'no-store' })
    .catch(() => { throw new Error(`${host} does not answer, or lets this page ask nothing.`); });
  const answer = await response.json().catch(() => null);
  if (!response.ok || !answer?.access_token) {
    throw new Error(`${host} gives no token: ${answer?.error_description ?? answer?.error ?? `status ${response.status}`}`);
  }
  const lifetime = answer.expires_in ? 1000 * answer.expires_in : Infinity;
  write(KEY, {
    token: answer.access_token, until: Number.isFinite(lifetime) ? Date.now() + lifetime : null,
    next: answer.refresh_token ?? fields.refresh_token ?? null, signIn,
  });
}

let exchanging = null;

/** The token, exchanged if its time is nearly over; null without one. */
export async function token() {
  const held = read(KEY);
  if (!held?.until || !held.next || Date.now() < held.until - MARGIN) return held?.token ?? null;
  exchanging ??= exchange(held.signIn, { grant_type: 'refresh_token', refresh_token: held.next })
    // The server says that the old one has expired.
    .catch(() => {})
    .finally(() => { exchanging = null; });
  await exchanging;
  return read(KEY)?.token ?? null;
}
