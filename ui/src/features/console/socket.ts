/** A console's WebSocket: a ticket first, because a browser puts no token on one. */
import { api } from '../../api/client';

export type Kind = 'serial' | 'screen';
/** What a ticket always has. */
type Ticket = Record<'ticket' | 'path' | 'protocol', string>;
export interface Ready {
  via: string;
  breaks: boolean;
  viewers: number;
  readOnly: boolean;
}
export interface Listener {
  ready(said: Ready): void;
  viewers(count: number): void;
  data(bytes: Uint8Array): void;
  /** It is over, and why. */
  ended(reason: string): void;
}
export interface Line {
  send(bytes: Uint8Array): void;
  say(control: { type: 'break' } | { type: 'size'; columns: number; rows: number }): void;
  close(): void;
}

/** `path` is that of the server or server instance, below `/api/v2`. */
export async function open(of: { server?: number; instance?: number }, kind: Kind, options: { readOnly?: boolean; takeOver?: boolean }, listener: Listener): Promise<Line> {
  const body = { kind, ...options };
  const ticket = of.instance ? await api.post<Ticket>(`/server-instances/${of.instance}/console`, body) : await api.post<Ticket>(`/servers/${of.server}/console`, body);
  const url = new URL(ticket.path, window.location.href);
  url.protocol = url.protocol.replace('http', 'ws');
  const socket = new WebSocket(url, [ticket.protocol, `ticket.${ticket.ticket}`]);
  socket.binaryType = 'arraybuffer';
  let over = false;
  const end = (reason: string) => {
    if (over) return;
    over = true;
    listener.ended(reason);
    socket.close();
  };
  socket.onmessage = ({ data }) => {
    if (over) return;
    if (typeof data !== 'string') return listener.data(new Uint8Array(data as ArrayBuffer));
    const said = JSON.parse(data) as { type: string; reason?: string; viewers?: number } & Partial<Ready>;
    if (said.type === 'ready') listener.ready({ via: said.via ?? '', breaks: said.breaks ?? false, viewers: said.viewers ?? 1, readOnly: said.readOnly ?? false });
    else if (said.type === 'viewers') listener.viewers(said.viewers ?? 1);
    else if (said.type === 'end') end(said.reason ?? 'The console was closed.');
  };
  socket.onclose = () => end('The connection to the console broke.');
  return {
    // Whole messages of a screen are small; text that is pasted is not.
    send: (bytes) => {
      for (let n = 0; n < bytes.length && socket.readyState === WebSocket.OPEN; n += 16_384) socket.send(bytes.slice(n, n + 16_384));
    },
    say: (control) => {
      if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(control));
    },
    close: () => {
      over = true;
      socket.close();
    },
  };
}
