import { ApiError } from '../api/client';

/** What the server says about the inputs of a form: by field, and the rest that belongs to none of the shown ones. */
export function fieldErrors(error: unknown, shown: readonly string[]): { of: (field: string) => string | undefined; rest: unknown } {
  const found = new Map<string, string>();
  if (error instanceof ApiError) {
    const details = (error.body as { details?: { field?: string; message?: string }[] } | null)?.details;
    for (const d of Array.isArray(details) ? details : []) if (d.field && d.message) found.set(d.field, d.message);
    // A conflict names its field at the beginning of its sentence.
    const match = found.size ? null : /^([A-Za-z][\w.]*): (.+)$/s.exec(error.message);
    if (match) found.set(match[1], match[2]);
  }
  const at = shown.filter((f) => found.has(f));
  return { of: (field) => found.get(field), rest: error && !at.length ? error : undefined };
}
