import { Badge, Tooltip } from '@mantine/core';
import { useState, useSyncExternalStore } from 'react';
import { ago, when, words } from './format';

const COLOURS: Record<string, string> = {
  active: 'green', available: 'green', on: 'green', returned_success: 'green', success: 'green', connected: 'green', up: 'green', registered: 'green',
  ordered: 'steel', used: 'steel', running: 'steel', ongoing: 'steel', registering: 'steel', not_called: 'gray', off: 'gray', draft: 'gray', skipped: 'gray',
  thrown_error_retrying: 'amber', warning: 'amber', cleaning: 'amber', thrown_error_silenced: 'amber', unavailable: 'amber', suspended: 'amber', stopped: 'gray', cleaning_required: 'amber', updating_firmware: 'amber', pending_registration: 'amber', registration_incomplete: 'amber', used_registering: 'steel', used_diagnostics: 'steel', pending: 'amber', paused: 'amber', done: 'green', ready: 'green', finished: 'green', aborted: 'gray', updating: 'steel', asked: 'amber', waiting: 'gray', removed_from_rack: 'gray', decommissioned: 'gray', deleting: 'amber', unknown: 'gray',
  thrown_error: 'red', error: 'red', critical: 'red', failed: 'red', defective: 'red', deleted: 'red', down: 'red', offline: 'red',
};
const TEXT: Record<string, string> = {
  returned_success: 'Done', thrown_error: 'Failed', thrown_error_retrying: 'Retrying', thrown_error_silenced: 'Error ignored', not_called: 'Waiting',
};

/** A state is always said in words; the colour only helps. */
export function Status({ value, label }: { value: string | null | undefined; label?: string }) {
  const key = value ?? 'unknown';
  return (
    <Badge variant="light" color={COLOURS[key.toLowerCase()] ?? 'gray'} className="status">
      {label ?? TEXT[key] ?? words(key)}
    </Badge>
  );
}
export const statusText = (value: string) => TEXT[value] ?? words(value);

const EVERY = 10_000;
const waiting = new Set<() => void>();
let clock: ReturnType<typeof setInterval> | undefined;
let now = Date.now();
/** One clock for all times on the page; it stands still when there are none. */
function tick(redraw: () => void) {
  waiting.add(redraw);
  clock ??= setInterval(() => {
    now = Date.now();
    for (const one of waiting) one();
  }, EVERY);
  return () => {
    waiting.delete(redraw);
    if (waiting.size) return;
    clearInterval(clock);
    clock = undefined;
  };
}

export function Ago({ at }: { at: string | null | undefined }) {
  const [mounted] = useState(() => Date.now());
  const seen = useSyncExternalStore(tick, () => Math.max(now, mounted));
  return (
    <Tooltip label={at ? `${when(at)} · ${at}` : 'never'}>
      <time dateTime={at ?? undefined}>{ago(at, Math.max(seen, Date.parse(at ?? '') || 0))}</time>
    </Tooltip>
  );
}
