/** One event stream per page: reconnects by itself, says when it is stale, hands messages to whoever subscribed. */
import { create } from 'zustand';

export type LiveMessage = { topic: 'job' | 'event' | 'object' | 'reset'; data: Record<string, unknown> };
type Listener = (message: LiveMessage) => void;

const listeners = new Set<Listener>();
/** A socket can be dead without a sign of it (heartbeats are comments, which a page does not see): after so much silence it is opened anew. */
const RENEW_AFTER_MS = 90_000;

export const useLiveState = create<{ state: 'connecting' | 'open' | 'lost' }>(() => ({ state: 'connecting' }));

let source: EventSource | undefined;
let lastSeen = 0;
/** Sequence of the last event seen: a new line goes on behind it. */
let lastId = '';
let watchdog: ReturnType<typeof setInterval> | undefined;
let opener: (() => EventSource) | undefined = undefined;

/** The mock delivers messages without a socket. */
export function setEventSource(open: () => EventSource) {
  opener = open;
}
export function deliver(message: LiveMessage) {
  lastSeen = Date.now();
  for (const listener of listeners) listener(message);
}

function open() {
  source?.close();
  lastSeen = Date.now();
  source = opener ? opener() : new EventSource(`/api/v2/events/stream?topics=event,object,job${lastId ? `&lastEventId=${encodeURIComponent(lastId)}` : ''}`);
  source.onopen = () => {
    lastSeen = Date.now();
    // After a gap the caches may be behind: subscribers refetch what they show.
    if (useLiveState.getState().state === 'lost') deliver({ topic: 'reset', data: {} });
    useLiveState.setState({ state: 'open' });
  };
  source.onerror = () => useLiveState.setState({ state: 'lost' });
  for (const topic of ['job', 'event', 'object', 'reset'] as const) {
    source.addEventListener(topic, (raw) => {
      try {
        lastId = (raw as MessageEvent<string>).lastEventId || lastId;
        const data = JSON.parse((raw as MessageEvent<string>).data || '{}') as Record<string, unknown>;
        deliver({ topic, data });
      } catch {
        // A message that is not JSON carries nothing to show.
      }
    });
  }
}

/** Starts after login; safe to call again. */
export function startLive() {
  if (source) return;
  open();
  watchdog = setInterval(() => {
    const closed = source?.readyState === 2;
    if (closed) useLiveState.setState({ state: 'lost' });
    if (closed || Date.now() - lastSeen > RENEW_AFTER_MS) open();
  }, 10_000);
}
export function stopLive() {
  source?.close();
  source = undefined;
  clearInterval(watchdog);
  lastId = '';
}
export function subscribe(listener: Listener): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}
