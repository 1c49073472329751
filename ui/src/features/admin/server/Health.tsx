import { words } from '../../../components/format';
import { Status } from '../../../components/status';

const COLOURS: Record<string, string> = { ok: 'success', warning: 'warning', critical: 'critical' };

/** How the hardware of a server is, in a word; the colour only helps. */
export function Health({ of }: { of: string | null | undefined }) {
  const state = (of ?? 'unknown').toLowerCase();
  const label = state === 'ok' ? 'Healthy' : state === 'unknown' ? 'Health unknown' : words(state);
  return <Status value={COLOURS[state] ?? 'unknown'} label={label} />;
}
