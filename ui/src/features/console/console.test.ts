import { describe, expect, it } from 'vitest';
import { keysym } from './keys';
import { type Events, Rfb } from './rfb';

function viewer() {
  const seen = { sent: [] as number[][], drawn: [] as unknown[], name: '', sizes: [] as string[] };
  const events: Events = {
    send: (b) => seen.sent.push([...b]),
    resize: (w, h) => seen.sizes.push(`${w}x${h}`),
    draw: (x, y, w, h, p) => seen.drawn.push([x, y, w, h, [...p.slice(0, 4)], [...p.slice(-4)]]),
    copy: (...all) => seen.drawn.push(['copy', ...all]),
    ready: (name) => (seen.name = name),
    clipboard: (text) => seen.drawn.push(['clipboard', text]),
    bell: () => seen.drawn.push(['bell']),
  };
  return { seen, rfb: new Rfb(events) };
}
const bytes = (text: string) => [...text].map((c) => c.charCodeAt(0));
const GREETING = [...bytes('RFB 003.008\n'), 1, 1, 0, 0, 0, 0, 0, 32, 0, 16, ...new Array(16).fill(0), 0, 0, 0, 3, ...bytes('abc')];

describe('a screen', () => {
  const update = [
    0, 0, 0, 3,
    // raw, two pixels
    0, 0, 0, 0, 0, 2, 0, 1, 0, 0, 0, 0, 1, 2, 3, 0, 4, 5, 6, 0,
    // copy
    0, 8, 0, 8, 0, 4, 0, 4, 0, 0, 0, 1, 0, 1, 0, 2,
    // hextile: one tile with paper and one part in its own colour, then one that is the same paper
    0, 0, 0, 0, 0, 32, 0, 16, 0, 0, 0, 5, 2 + 8 + 16, 10, 20, 30, 0, 1, 40, 50, 60, 0, 0xff, 0x00, 0,
  ];
  it('is drawn, however its bytes are cut', () => {
    for (const size of [1, 7, 1000]) {
      const { seen, rfb } = viewer();
      const all = [...GREETING, ...update, 2, 3, 0, 0, 0, 0, 0, 0, 2, ...bytes('hi')];
      for (let n = 0; n < all.length; n += size) rfb.read(Uint8Array.from(all.slice(n, n + size)));
      expect(seen.name).toBe('abc');
      expect(seen.sizes).toEqual(['32x16']);
      expect(seen.drawn).toEqual([
        [0, 0, 2, 1, [3, 2, 1, 255], [6, 5, 4, 255]],
        ['copy', 1, 2, 8, 8, 4, 4],
        [0, 0, 16, 16, [30, 20, 10, 255], [60, 50, 40, 255]],
        [16, 0, 16, 16, [30, 20, 10, 255], [30, 20, 10, 255]],
        ['bell'],
        ['clipboard', 'hi'],
      ]);
      // The whole picture is asked for once, then what changes.
      expect(seen.sent.filter((m) => m[0] === 3).map((m) => m[1])).toEqual([0, 1]);
    }
  });
  it('that makes no sense ends with words', () => {
    expect(() => viewer().rfb.read(Uint8Array.from(bytes('SSH-2.0-xxxxxx')))).toThrow('no screen');
    const { rfb } = viewer();
    rfb.read(Uint8Array.from(GREETING));
    expect(() => rfb.read(Uint8Array.from([0, 0, 0, 1, 0, 30, 0, 0, 0, 9, 0, 1, 0, 0, 0, 0]))).toThrow('past its edge');
    expect(() => rfb.read(Uint8Array.of(0))).toThrow('past its edge');
  });
  it('hears keys and mouse', () => {
    const { seen, rfb } = viewer();
    rfb.read(Uint8Array.from(GREETING));
    seen.sent.length = 0;
    rfb.key(0xff0d, true);
    rfb.pointer(1000, -5, 1);
    rfb.paste('aé');
    expect(seen.sent).toEqual([[4, 1, 0, 0, 0, 0, 0xff, 0x0d], [5, 1, 0, 31, 0, 0], [6, 0, 0, 0, 0, 0, 0, 2, 97, 233]]);
  });
});

describe('keys', () => {
  it('have symbols', () => {
    const of = (key: string, location = 0) => keysym({ key, location });
    expect([of('a'), of('Enter'), of('F1'), of('F12'), of('Shift', 2), of('Control', 1), of('ö'), of('€'), of('Dead')]).toEqual([97, 0xff0d, 0xffbe, 0xffc9, 0xffe2, 0xffe3, 246, 0x010020ac, null]);
  });
});
