// Follows a request: events as long as they come, else a question every two seconds.

import { address, call } from './calls.js';

const PAUSE = 2000;
// The first event comes at once; a proxy that holds it back holds back the others, too.
const PATIENCE = 8000;

/**
 * Calls `seen(view)` for each state, `gone()` when the request is deleted, `lost(problem)` while nobody answers and
 * `lost(null)` when somebody does again. `isFinal(view)` says that no further state will come.
 */
export function follow(id, { seen, gone, lost, isFinal }) {
  const path = `v1/requests/${encodeURIComponent(id)}`;
  let known = false;
  let etag = null;
  let eventsCome = true;

  const take = (view) => {
    known = true;
    lost(null);
    seen(view);
    return !isFinal(view);
  };

  function listen() {
    const events = new EventSource(address(`${path}/events`));
    let heard = false;
    const stop = () => { events.close(); clearTimeout(patience); };
    const fail = () => {
      stop();
      eventsCome &&= heard;
      ask();
    };
    const patience = setTimeout(() => heard || fail(), PATIENCE);
    events.addEventListener('request', ({ data }) => {
      heard = true;
      if (!take(JSON.parse(data))) stop();
    });
    events.addEventListener('deleted', () => { stop(); gone(); });
    events.onerror = () => {
      if (heard) lost(new Error('The connection is lost.'));
      fail();
    };
  }

  async function ask() {
    let pause = PAUSE;
    try {
      const { status, body, headers } = await call(path, { headers: etag ? { 'If-None-Match': etag } : {} });
      etag = headers.get('ETag');
      lost(null);
      if (status !== 304 && !take(body)) return;
      if (eventsCome) return void listen();
    } catch (problem) {
      if (problem.status === 404 && known) return gone();
      lost(problem);
      pause = Math.max(pause, problem.retryAfter * 1000);
    }
    setTimeout(ask, pause);
  }

  listen();
}
