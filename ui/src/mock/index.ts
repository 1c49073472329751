/** A small datacenter in the browser, for looking at the screens without a server (`npm run dev:mock`) and for unit tests. */
import { setTransport } from '../api/client';
import { setEventSource } from '../live/stream';
import { answer } from './routes';

export function installMock() {
  setTransport(async (method, path, { body }) => {
    await new Promise((resolve) => setTimeout(resolve, 40));
    const { status, value } = answer(method, path, body as Record<string, unknown> | undefined);
    return new Response(value === undefined ? null : JSON.stringify(value), { status, headers: { 'content-type': 'application/json', 'x-request-id': 'mock' } });
  });
  setEventSource(() => {
    const target = new EventTarget() as EventTarget & { readyState: number; close: () => void; onopen: (() => void) | null; onerror: null };
    target.readyState = 1;
    target.close = () => {
      target.readyState = 2;
    };
    target.onopen = null;
    target.onerror = null;
    setTimeout(() => target.onopen?.(), 0);
    return target as unknown as EventSource;
  });
}
