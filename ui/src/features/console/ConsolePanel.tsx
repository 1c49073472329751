import { Alert, Button, Group, SegmentedControl, Switch, Text } from '@mantine/core';
import { IconMaximize, IconPlugConnected, IconRefresh } from '@tabler/icons-react';
import { useEffect, useRef, useState } from 'react';
import { ApiError } from '../../api/client';
import { type Kind, type Line, type Ready, open } from './socket';
import { screenView } from './screen';
import { serialView } from './serial';
import './console.css';

/** What a kind of console shows, and how it hears its viewer. */
export interface View {
  data(bytes: Uint8Array): void;
  focus(): void;
  dispose(): void;
  /** Buttons of its own. */
  ctrlAltDel?(): void;
}

type State = { step: 'opening' } | { step: 'open'; ready: Ready } | { step: 'ended'; reason: string; wasOpen: boolean };

/** A console of a server (for administrators) or of a server instance (for its owner). Loaded when it is opened, and not before. */
export default function ConsolePanel({ server, instance, admin, screens }: { server?: number; instance?: number; admin: boolean; screens: boolean }) {
  const [kind, setKind] = useState<Kind>('serial');
  const [readOnly, setReadOnly] = useState(false);
  const [takeOver, setTakeOver] = useState(false);
  const [attempt, setAttempt] = useState(0);
  const [state, setState] = useState<State>({ step: 'opening' });
  const place = useRef<HTMLDivElement>(null);
  const frame = useRef<HTMLDivElement>(null);
  const line = useRef<Line | null>(null);
  const view = useRef<View | null>(null);

  useEffect(() => {
    const host = place.current;
    if (!host) return;
    let gone = false;
    let wasOpen = false;
    setState({ step: 'opening' });
    const ended = (reason: string) => !gone && setState({ step: 'ended', reason, wasOpen });
    const begin = async () => {
      const to = { send: (b: Uint8Array) => !readOnly && line.current?.send(b), ask: (b: Uint8Array) => line.current?.send(b), size: (columns: number, rows: number) => line.current?.say({ type: 'size', columns, rows }), failed: ended };
      const made = await (kind === 'serial' ? serialView(host, to) : screenView(host, to, readOnly));
      if (gone) return made.dispose();
      view.current = made;
      const opened = await open({ server, instance }, kind, { readOnly, ...(takeOver ? { takeOver } : {}) }, {
        ready: (ready) => {
          wasOpen = true;
          if (gone) return;
          setState({ step: 'open', ready });
          made.focus();
        },
        viewers: (viewers) => !gone && setState((s) => (s.step === 'open' ? { step: 'open', ready: { ...s.ready, viewers } } : s)),
        data: (bytes) => {
          try {
            if (!gone) made.data(bytes);
          } catch (e) {
            ended(e instanceof Error ? e.message : String(e));
            line.current?.close();
          }
        },
        ended,
      });
      if (gone) opened.close();
      else line.current = opened;
    };
    begin().catch((e: unknown) => ended(e instanceof ApiError || e instanceof Error ? e.message : String(e)));
    return () => {
      gone = true;
      line.current?.close();
      view.current?.dispose();
      [line.current, view.current] = [null, null];
      host.replaceChildren();
    };
  }, [server, instance, kind, readOnly, takeOver, attempt]);

  const again = (over = false) => {
    setTakeOver(over);
    setAttempt((n) => n + 1);
  };
  const taken = state.step === 'ended' && /take it over/.test(state.reason);
  const others = state.step === 'open' ? state.ready.viewers - 1 : 0;
  return (
    <section className="panel console" ref={frame} aria-label="Console">
      <Group className="console-bar" justify="space-between" gap="xs">
        <Group gap="xs">
          {screens && <SegmentedControl size="xs" aria-label="Kind of console" value={kind} onChange={(v) => setKind(v as Kind)} data={[{ value: 'serial', label: 'Serial' }, { value: 'screen', label: 'Screen' }]} />}
          <Text role="status" size="sm" fw={500}>{state.step === 'open' ? `Connected: ${state.ready.via}` : state.step === 'opening' ? 'Connecting…' : 'Not connected'}</Text>
          {others > 0 && <Text size="sm">{others === 1 ? 'One more looks' : `${others} more look`}</Text>}
        </Group>
        <Group gap="xs">
          <Switch size="xs" label="Look only" checked={readOnly} onChange={(e) => setReadOnly(e.currentTarget.checked)} />
          {kind === 'serial' && <Button size="compact-xs" variant="default" disabled={state.step !== 'open' || !state.ready.breaks || readOnly} title={state.step === 'open' && !state.ready.breaks ? 'This way to the serial port has no break.' : undefined} onClick={() => line.current?.say({ type: 'break' })}>Send break</Button>}
          {kind === 'screen' && <Button size="compact-xs" variant="default" disabled={state.step !== 'open' || readOnly} onClick={() => view.current?.ctrlAltDel?.()}>Ctrl+Alt+Del</Button>}
          <Button size="compact-xs" variant="default" leftSection={<IconRefresh size={14} />} onClick={() => again()}>Reconnect</Button>
          <Button size="compact-xs" variant="default" leftSection={<IconMaximize size={14} />} onClick={() => void (document.fullscreenElement ? document.exitFullscreen() : frame.current?.requestFullscreen())}>Full screen</Button>
        </Group>
      </Group>
      {state.step === 'ended' && (
        <Alert color={state.wasOpen ? 'amber' : 'red'} icon={<IconPlugConnected size={18} />} title={state.wasOpen ? 'The console was closed' : 'The console could not be opened'} m="xs">
          <Text size="sm">{state.reason}</Text>
          {taken && admin && <Button mt="xs" size="compact-sm" variant="light" color="red" onClick={() => again(true)}>Take over</Button>}
        </Alert>
      )}
      <div className="console-host" data-kind={kind} ref={place} />
    </section>
  );
}
