/** RFB 3.8 (VNC, RFC 6143) as a viewer needs it: a parser that takes bytes as they come, and messages to send. No browser in here. */

export interface Surface {
  /** The screen's size, at first and when it changes. */
  resize(width: number, height: number): void;
  /** Pixels, four bytes each: red, green, blue, opaque. */
  draw(x: number, y: number, width: number, height: number, pixels: Uint8ClampedArray): void;
  copy(fromX: number, fromY: number, x: number, y: number, width: number, height: number): void;
}
export interface Events extends Surface {
  send(bytes: Uint8Array): void;
  /** The greeting is over: the picture comes. */
  ready(name: string): void;
  clipboard(text: string): void;
  bell(): void;
}

const RAW = 0;
const COPY = 1;
const HEXTILE = 5;
const DESKTOP_SIZE = -223;
/** A screen that is larger is no screen. */
const LARGEST = 8192;

const be16 = (n: number) => [(n >> 8) & 255, n & 255];
const be32 = (n: number) => [(n >>> 24) & 255, (n >>> 16) & 255, (n >>> 8) & 255, n & 255];

export class Rfb {
  private held = new Uint8Array(0);
  private at = 0;
  private steps: Generator<number, void, Uint8Array>;
  private need = 0;
  private width = 0;
  private height = 0;
  private error: string | null = null;

  constructor(private readonly to: Events) {
    this.steps = this.run();
    this.need = this.steps.next().value ?? 0;
  }

  /** Bytes of the server; throws with words when they make no sense. */
  read(bytes: Uint8Array) {
    if (this.error) throw new Error(this.error);
    const rest = this.held.subarray(this.at);
    const all = new Uint8Array(rest.length + bytes.length);
    all.set(rest);
    all.set(bytes, rest.length);
    [this.held, this.at] = [all, 0];
    try {
      while (this.held.length - this.at >= this.need) {
        const part = this.held.subarray(this.at, this.at + this.need);
        this.at += this.need;
        const next = this.steps.next(part);
        if (next.done) throw new Error('the screen has ended');
        this.need = next.value;
      }
    } catch (e) {
      this.error = e instanceof Error ? e.message : String(e);
      throw e;
    }
  }

  key(sym: number, down: boolean) {
    this.to.send(Uint8Array.from([4, down ? 1 : 0, 0, 0, ...be32(sym)]));
  }

  pointer(x: number, y: number, buttons: number) {
    const inside = (n: number, size: number) => Math.max(0, Math.min(size - 1, Math.round(n)));
    this.to.send(Uint8Array.from([5, buttons, ...be16(inside(x, this.width)), ...be16(inside(y, this.height))]));
  }

  /** Puts text into the server's clipboard; the protocol knows Latin 1. */
  paste(text: string) {
    const bytes = [...text].map((c) => Math.min(c.codePointAt(0) ?? 63, 255)).slice(0, 30_000);
    this.to.send(Uint8Array.from([6, 0, 0, 0, ...be32(bytes.length), ...bytes]));
  }

  private ask(incremental: boolean) {
    this.to.send(Uint8Array.from([3, incremental ? 1 : 0, 0, 0, 0, 0, ...be16(this.width), ...be16(this.height)]));
  }

  private sized(width: number, height: number) {
    if (!width || !height || width > LARGEST || height > LARGEST) throw new Error(`the screen says that it has ${width} × ${height} pixels`);
    [this.width, this.height] = [width, height];
    this.to.resize(width, height);
  }

  /** Each `yield` waits for so many bytes. */
  private *run(): Generator<number, void, Uint8Array> {
    const text = (bytes: Uint8Array) => new TextDecoder('latin1').decode(bytes);
    if (!text(yield 12).startsWith('RFB 003.')) throw new Error('what answers is no screen');
    this.to.send(new TextEncoder().encode('RFB 003.008\n'));
    const kinds = yield (yield 1)[0];
    if (!kinds.includes(1)) throw new Error('the screen wants a password, which the site should have given');
    this.to.send(Uint8Array.of(1));
    if (word(yield 4) !== 0) throw new Error('the screen was refused');
    this.to.send(Uint8Array.of(1));
    const init = yield 24;
    this.sized(half(init, 0), half(init, 2));
    const name = text(yield word(init, 20));
    // 32 bits, little end first: blue, green, red, nothing.
    this.to.send(Uint8Array.from([0, 0, 0, 0, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0]));
    const encodings = [HEXTILE, COPY, RAW, DESKTOP_SIZE];
    this.to.send(Uint8Array.from([2, 0, ...be16(encodings.length), ...encodings.flatMap(be32)]));
    this.to.ready(name);
    this.ask(false);
    for (;;) {
      const kind = (yield 1)[0];
      if (kind === 0) {
        const count = half(yield 3, 1);
        for (let n = 0; n < count; n++) yield* this.rectangle();
        this.ask(true);
      } else if (kind === 1) {
        // Colours of a palette, which we have not asked for.
        yield half(yield 5, 3) * 6;
      } else if (kind === 2) this.to.bell();
      else if (kind === 3) this.to.clipboard(text(yield word(yield 7, 3)));
      else throw new Error(`the screen says something that is not understood (${kind})`);
    }
  }

  private *rectangle(): Generator<number, void, Uint8Array> {
    const head = yield 12;
    const [x, y, w, h, encoding] = [half(head, 0), half(head, 2), half(head, 4), half(head, 6), word(head, 8) | 0];
    if (encoding === DESKTOP_SIZE) return this.sized(w, h);
    if (x + w > this.width || y + h > this.height) throw new Error('the screen draws past its edge');
    if (encoding === RAW) this.to.draw(x, y, w, h, pixels(yield w * h * 4));
    else if (encoding === COPY) {
      const from = yield 4;
      this.to.copy(half(from, 0), half(from, 2), x, y, w, h);
    } else if (encoding === HEXTILE) yield* this.hextile(x, y, w, h);
    else throw new Error(`the screen draws in a way that was not asked for (${encoding})`);
  }

  private *hextile(x0: number, y0: number, w: number, h: number): Generator<number, void, Uint8Array> {
    let paper: Uint8Array = Uint8Array.of(0, 0, 0, 255);
    let ink: Uint8Array = Uint8Array.of(255, 255, 255, 255);
    for (let ty = 0; ty < h; ty += 16) {
      for (let tx = 0; tx < w; tx += 16) {
        const [tw, th] = [Math.min(16, w - tx), Math.min(16, h - ty)];
        const flags = (yield 1)[0];
        if (flags & 1) {
          this.to.draw(x0 + tx, y0 + ty, tw, th, pixels(yield tw * th * 4));
          continue;
        }
        if (flags & 2) paper = colour(yield 4);
        if (flags & 4) ink = colour(yield 4);
        const tile = new Uint8ClampedArray(tw * th * 4);
        for (let n = 0; n < tw * th; n++) tile.set(paper, n * 4);
        const parts = flags & 8 ? (yield 1)[0] : 0;
        for (let n = 0; n < parts; n++) {
          const own = flags & 16 ? colour(yield 4) : ink;
          const [xy, wh] = yield 2;
          for (let py = xy & 15; py <= (xy & 15) + (wh & 15) && py < th; py++) for (let px = xy >> 4; px <= (xy >> 4) + (wh >> 4) && px < tw; px++) tile.set(own, (py * tw + px) * 4);
        }
        this.to.draw(x0 + tx, y0 + ty, tw, th, tile);
      }
    }
  }
}

const half = (bytes: Uint8Array, at: number) => (bytes[at] << 8) | bytes[at + 1];
const word = (bytes: Uint8Array, at = 0) => ((bytes[at] << 24) | (bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3]) >>> 0;
const colour = (bytes: Uint8Array) => Uint8Array.of(bytes[2], bytes[1], bytes[0], 255);
function pixels(raw: Uint8Array): Uint8ClampedArray {
  const out = new Uint8ClampedArray(raw.length);
  for (let n = 0; n < raw.length; n += 4) {
    out[n] = raw[n + 2];
    out[n + 1] = raw[n + 1];
    out[n + 2] = raw[n];
    out[n + 3] = 255;
  }
  return out;
}
