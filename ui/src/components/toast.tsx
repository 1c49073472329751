import { Button, Group, Notification } from '@mantine/core';
import { create } from 'zustand';
import { ApiError } from '../api/client';

interface Toast {
  id: number;
  kind: 'info' | 'error';
  title: string;
  text?: string;
  action?: { label: string; run: () => void };
}
const useToasts = create<{ list: Toast[] }>(() => ({ list: [] }));
let next = 1;

const drop = (id: number) => useToasts.setState((s) => ({ list: s.list.filter((t) => t.id !== id) }));

export function toast(title: string, text?: string, options: { kind?: Toast['kind']; action?: Toast['action'] } = {}) {
  const id = next++;
  // The same said again replaces what was said before; more than two at once nobody reads.
  useToasts.setState((s) => ({ list: [...s.list.filter((t) => t.title !== title).slice(-1), { id, kind: options.kind ?? 'info', title, text, action: options.action }] }));
  setTimeout(() => drop(id), options.kind === 'error' ? 12_000 : 6_000);
}
export function toastError(title: string, error: unknown) {
  const id = error instanceof ApiError && error.requestId ? ` (request ${error.requestId})` : '';
  toast(title, (error instanceof Error ? error.message : String(error)) + id, { kind: 'error' });
}

export function Toasts() {
  const list = useToasts((s) => s.list);
  return (
    <div aria-live="polite" className="toasts">
      {list.map((t) => (
        <Notification key={t.id} role={t.kind === 'error' ? 'alert' : 'status'} title={t.title} color={t.kind === 'error' ? 'red' : 'steel'} withBorder onClose={() => drop(t.id)} closeButtonProps={{ 'aria-label': 'Dismiss' }}>
          <Group gap="sm" wrap="nowrap" justify="space-between">
            <span>{t.text}</span>
            {t.action && (
              <Button size="compact-xs" variant="light" style={{ flex: 'none' }} onClick={() => (t.action?.run(), drop(t.id))}>
                {t.action.label}
              </Button>
            )}
          </Group>
        </Notification>
      ))}
    </div>
  );
}
