/** The one way to the REST API: same origin, session cookie, CSRF header on writes, errors with a readable reason. */

export type Query = Record<string, string | number | boolean | undefined | null | string[]>;
export type Transport = (method: string, path: string, init: { body?: unknown; headers: Record<string, string>; signal?: AbortSignal }) => Promise<Response>;

export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly body: unknown,
    readonly requestId: string | null,
  ) {
    super(message);
    this.name = 'ApiError';
  }
}

const BASE = '/api/v2';

function csrfToken(): string | undefined {
  return /(?:^|;\s*)steelyard_csrf=([^;]*)/.exec(document.cookie)?.[1];
}

const network: Transport = (method, path, { body, headers, signal }) =>
  fetch(BASE + path, {
    method,
    credentials: 'same-origin',
    headers,
    body: body === undefined ? undefined : JSON.stringify(body),
    signal,
  });

let transport: Transport = network;
let onUnauthorized: () => void = () => {};

/** The mock replaces the wire here; nothing else knows of it. */
export function setTransport(next: Transport) {
  transport = next;
}
export function setUnauthorizedHandler(handler: () => void) {
  onUnauthorized = handler;
}

export function queryString(query?: Query): string {
  const params = new URLSearchParams();
  for (const [key, value] of Object.entries(query ?? {})) {
    if (value === undefined || value === null || value === '') continue;
    for (const one of Array.isArray(value) ? value : [value]) params.append(key, String(one));
  }
  const text = params.toString();
  return text ? `?${text}` : '';
}

function reason(status: number, body: unknown): string {
  if (body && typeof body === 'object' && 'message' in body) {
    const message = (body as { message: unknown }).message;
    if (Array.isArray(message)) return message.join('; ');
    if (typeof message === 'string' && message) return message;
  }
  if (status === 403) return 'You do not have permission for this. Ask an administrator of your account.';
  if (status === 404) return 'Not found, or not visible to you.';
  if (status >= 500) return 'The server could not answer. Try again in a moment.';
  return `The request was refused (${status}).`;
}

async function call<T>(method: string, path: string, options: { body?: unknown; query?: Query; revision?: number | string; signal?: AbortSignal } = {}): Promise<T> {
  const headers: Record<string, string> = { Accept: 'application/json' };
  if (options.body !== undefined) headers['Content-Type'] = 'application/json';
  if (options.revision !== undefined) headers['If-Match'] = String(options.revision);
  if (method !== 'GET') {
    const token = csrfToken();
    if (token) headers['X-CSRF-Token'] = token;
  }
  let response: Response;
  try {
    response = await transport(method, path + queryString(options.query), { body: options.body, headers, signal: options.signal });
  } catch (cause) {
    if (cause instanceof DOMException && cause.name === 'AbortError') throw cause;
    throw new ApiError(0, 'The server cannot be reached. Check the connection and try again.', null, null);
  }
  const text = await response.text();
  let body: unknown = null;
  try {
    body = text ? JSON.parse(text) : null;
  } catch {
    body = text;
  }
  if (!response.ok) {
    if (response.status === 401 && !path.startsWith('/login')) onUnauthorized();
    throw new ApiError(response.status, reason(response.status, body), body, response.headers.get('x-request-id'));
  }
  return body as T;
}

export const api = {
  get: <T>(path: string, query?: Query, signal?: AbortSignal) => call<T>('GET', path, { query, signal }),
  post: <T>(path: string, body?: unknown, revision?: number | string) => call<T>('POST', path, { body, revision }),
  put: <T>(path: string, body: unknown) => call<T>('PUT', path, { body }),
  patch: <T>(path: string, body: unknown, revision?: number | string) => call<T>('PATCH', path, { body, revision }),
  /** A deletion that says in its body what is meant. */
  remove: <T>(path: string, body: unknown) => call<T>('DELETE', path, { body }),
  delete: <T>(path: string, revision?: number | string) => call<T>('DELETE', path, { revision }),
};
