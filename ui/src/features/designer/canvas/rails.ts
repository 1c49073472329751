import type { Doc, Key } from '../model/doc';
import { linksOf } from '../model/doc';
import { CARD, RAIL } from '../model/layout';

/** Hue and dash together, so that rails are told apart without colour; green, amber and red belong to the diff. */
const STYLES = [
  { colour: 'var(--rail-0)', dash: undefined },
  { colour: 'var(--rail-1)', dash: undefined },
  { colour: 'var(--rail-2)', dash: undefined },
  { colour: 'var(--rail-3)', dash: undefined },
  { colour: 'var(--rail-0)', dash: '14 8' },
  { colour: 'var(--rail-1)', dash: '14 8' },
  { colour: 'var(--rail-2)', dash: '14 8' },
  { colour: 'var(--rail-3)', dash: '14 8' },
];
export const railStyle = (doc: Doc, network: Key) => STYLES[Math.max(0, Object.keys(doc.networks).indexOf(network)) % STYLES.length];

export interface Drop {
  x: number;
  y1: number;
  y2: number;
}
/** The cable of one connection: straight up from the card to its rail, one place beside the other. */
export function dropOf(doc: Doc, dragging: Doc['positions'], group: Key, network: Key): Drop | null {
  const place = (key: Key) => dragging[key] ?? doc.positions[key];
  const card = place(group);
  const rail = place(network);
  if (!card || !rail) return null;
  const order = linksOf(doc, group).map((l) => l.network).sort((a, b) => (place(a)?.y ?? 0) - (place(b)?.y ?? 0));
  const at = order.indexOf(network);
  const pitch = Math.min(36, (CARD.width - 80) / Math.max(1, order.length));
  return { x: card.x + CARD.width / 2 + 40 + (at - (order.length - 1) / 2) * pitch, y1: card.y, y2: rail.y + RAIL.height / 2 };
}
