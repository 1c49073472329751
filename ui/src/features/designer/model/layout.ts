import type { Doc, Key, Position } from './doc';

/** Sizes in canvas units (px at zoom 1). */
export const CARD = { width: 264, height: 152, gap: 48 };
export const STORE = { width: 264, height: 76, gap: 48 };
export const RAIL = { height: 44, pitch: 68, left: 0, pill: 232 };
/** About as wide as high, however many there are; never narrower than four. */
const columns = (n: number) => Math.max(4, Math.ceil(Math.sqrt(n)));
const GRID = 8;
export const snap = (v: number) => Math.round(v / GRID) * GRID;

export const railsBottom = (networks: number) => Math.max(1, networks) * RAIL.pitch;

/** Networks above as rails, cards below in rows: the same design always gives the same picture. */
export function autoLayout(doc: Doc): Record<Key, Position> {
  const out: Record<Key, Position> = {};
  const networks = Object.keys(doc.networks);
  networks.forEach((key, i) => (out[key] = { x: RAIL.left, y: i * RAIL.pitch }));
  const top = railsBottom(networks.length) + 40;
  const wide = columns(Object.keys(doc.groups).length);
  Object.keys(doc.groups).forEach((key, i) => {
    const row = Math.floor(i / wide);
    out[key] = {
      x: snap(RAIL.left + RAIL.pill + 48 + (i % wide) * (CARD.width + CARD.gap) + (row % 2 ? (CARD.width + CARD.gap) / 2 : 0)),
      y: snap(top + row * (CARD.height + CARD.gap)),
    };
  });
  const bottom = Math.max(top - CARD.gap, ...Object.keys(doc.groups).map((k) => out[k].y + CARD.height)) + 72;
  Object.keys(doc.stores).forEach((key, i) => (out[key] = { x: snap(RAIL.left + RAIL.pill + 48 + (i % wide) * (STORE.width + STORE.gap)), y: snap(bottom + Math.floor(i / wide) * (STORE.height + STORE.gap)) }));
  return out;
}

const overlaps = (a: Position, b: Position) => Math.abs(a.x - b.x) < CARD.width + 16 && Math.abs(a.y - b.y) < CARD.height + 16;

/** A free place for something new; what is placed already stays where it is. */
export function placeNew(doc: Doc, key: Key): Position {
  const wide = columns(Object.keys(doc.groups).length);
  if (key in doc.networks) {
    const ys = Object.keys(doc.networks).filter((k) => k !== key).map((k) => doc.positions[k]?.y ?? -RAIL.pitch);
    // Between the rails and the cards; cards are moved down by the caller when there is no room.
    return { x: RAIL.left, y: snap(Math.max(-RAIL.pitch, ...ys) + RAIL.pitch) };
  }
  if (key in doc.stores) {
    const others = Object.keys(doc.stores).filter((k) => k !== key && doc.positions[k]).map((k) => doc.positions[k]);
    const cards = Object.keys(doc.groups).filter((k) => doc.positions[k]).map((k) => doc.positions[k].y + CARD.height);
    const below = snap(Math.max(railsBottom(Object.keys(doc.networks).length), ...cards) + 72);
    for (let i = 0; ; i++) {
      const spot = { x: snap(RAIL.left + RAIL.pill + 48 + (i % wide) * (STORE.width + STORE.gap)), y: below + Math.floor(i / wide) * (STORE.height + STORE.gap) };
      if (!others.some((p) => Math.abs(p.x - spot.x) < STORE.width + 16 && Math.abs(p.y - spot.y) < STORE.height + 16)) return spot;
    }
  }
  const placed = Object.keys(doc.groups).filter((k) => k !== key && doc.positions[k]).map((k) => doc.positions[k]);
  const top = snap(Math.max(railsBottom(Object.keys(doc.networks).length), railsBottom(2)) + 40);
  for (let i = 0; ; i++) {
    const spot = { x: snap(RAIL.left + RAIL.pill + 48 + (i % wide) * (CARD.width + CARD.gap)), y: top + Math.floor(i / wide) * (CARD.height + CARD.gap) };
    if (!placed.some((p) => overlaps(p, spot))) return spot;
  }
}

/** Every element gets a place. */
export function complete(doc: Doc): Doc {
  let next = doc;
  for (const key of [...Object.keys(doc.networks), ...Object.keys(doc.groups), ...Object.keys(doc.stores)]) {
    if (!next.positions[key]) next = { ...next, positions: { ...next.positions, [key]: placeNew(next, key) } };
  }
  const lowestRail = Math.max(0, ...Object.keys(next.networks).map((k) => next.positions[k].y + RAIL.pitch));
  const highestCard = Math.min(Infinity, ...Object.keys(next.groups).map((k) => next.positions[k].y));
  if (highestCard < lowestRail + 16) {
    const shift = snap(lowestRail + 40 - highestCard);
    const positions = { ...next.positions };
    for (const key of [...Object.keys(next.groups), ...Object.keys(next.stores)]) positions[key] = { x: positions[key].x, y: positions[key].y + shift };
    next = { ...next, positions };
  }
  return next;
}

/** Rails reach from the pill to a little beyond the last card. */
export function railWidth(doc: Doc): number {
  const right = Math.max(0, ...Object.keys(doc.groups).map((k) => (doc.positions[k]?.x ?? 0) + CARD.width));
  return Math.max(RAIL.pill + 640, right - RAIL.left + 40);
}
