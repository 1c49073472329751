/** X11 key symbols, which RFB speaks, of what a browser tells. */

const NAMED: Record<string, number> = {
  Backspace: 0xff08, Tab: 0xff09, Enter: 0xff0d, Escape: 0xff1b, Delete: 0xffff, Home: 0xff50, End: 0xff57, PageUp: 0xff55, PageDown: 0xff56, Insert: 0xff63,
  ArrowLeft: 0xff51, ArrowUp: 0xff52, ArrowRight: 0xff53, ArrowDown: 0xff54, CapsLock: 0xffe5, NumLock: 0xff7f, ScrollLock: 0xff14, Pause: 0xff13, PrintScreen: 0xff61,
  ContextMenu: 0xff67, AltGraph: 0xfe03,
};
const SIDED: Record<string, [number, number]> = { Shift: [0xffe1, 0xffe2], Control: [0xffe3, 0xffe4], Alt: [0xffe9, 0xffea], Meta: [0xffeb, 0xffec] };

export const CTRL = SIDED.Control[0];
export const ALT = SIDED.Alt[0];
export const DEL = NAMED.Delete;

export function keysym(event: { key: string; location: number }): number | null {
  const { key, location } = event;
  if (SIDED[key]) return SIDED[key][location === 2 ? 1 : 0];
  if (NAMED[key]) return NAMED[key];
  const f = /^F(\d{1,2})$/.exec(key);
  if (f && Number(f[1]) <= 24) return 0xffbd + Number(f[1]);
  if ([...key].length !== 1) return null;
  const point = key.codePointAt(0) ?? 0;
  if ((point >= 0x20 && point <= 0x7e) || (point >= 0xa0 && point <= 0xff)) return point;
  return point > 0xff ? 0x01000000 + point : null;
}
