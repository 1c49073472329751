/** One event stream per page: reconnects by itself, says when it is stale, hands messages to whoever subscribed. */
import { create } from 'zustand';

export type LiveMessage = { topic: 'job' | 'event' | 'object' | 'reset'; data: Record<string, unknown> };
type Listener = (message: LiveMessage) => void;

const listeners = new Set<Listener>();
/** No message and no heartbeat for so long means the line is dead even if the socket is open. */
const STALE_AFTER_MS = 45_000;

export const useLiveState = create<{ state: 'connecting' | 'open' | 'lost' }>(() => ({ state: 'connecting' }));

let source: EventSource | undefined;
let lastSeen = 0;
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
  source = opener ? opener() : new EventSource('/api/v2/events/stream?topics=job,event,object');
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
        const data = JSON.parse((raw as MessageEvent<string>).data || '{}') as Record<string, unknown>;
        deliver({ topic, data });
      } catch {
        // A message that is not JSON carries nothing to show.
      }
    });
  }
  source.addEventListener('heartbeat', () => (lastSeen = Date.now()));
}

/** Starts after login; safe to call again. */
export function startLive() {
  if (source) return;
  open();
  watchdog = setInterval(() => {
    if (source?.readyState === 2 || Date.now() - lastSeen > STALE_AFTER_MS) {
      useLiveState.setState({ state: 'lost' });
      open();
    }
  }, 10_000);
}
export function stopLive() {
  source?.close();
  source = undefined;
  clearInterval(watchdog);
}
export function subscribe(listener: Listener): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}
