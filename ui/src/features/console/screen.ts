/** The screen of a server on a canvas, with keyboard and mouse. */
import type { View } from './ConsolePanel';
import { ALT, CTRL, DEL, keysym } from './keys';
import { Rfb } from './rfb';

export async function screenView(host: HTMLElement, to: { send(bytes: Uint8Array): void; ask(bytes: Uint8Array): void; failed(reason: string): void }, readOnly: boolean): Promise<View> {
  const canvas = document.createElement('canvas');
  canvas.tabIndex = 0;
  canvas.setAttribute('role', 'img');
  canvas.setAttribute('aria-label', 'Screen of the server');
  host.append(canvas);
  const paint = canvas.getContext('2d');
  if (!paint) throw new Error('This browser draws on no canvas.');
  const rfb = new Rfb({
    // The site leaves out what a viewer who only looks types; the requests for the picture must pass.
    send: (bytes) => to.ask(bytes),
    resize: (width, height) => Object.assign(canvas, { width, height }),
    draw: (x, y, w, h, p) => paint.putImageData(new ImageData(new Uint8ClampedArray(p), w, h), x, y),
    copy: (fx, fy, x, y, w, h) => paint.drawImage(canvas, fx, fy, w, h, x, y, w, h),
    ready: (name) => canvas.setAttribute('aria-label', `Screen of ${name}`),
    clipboard: (text) => void navigator.clipboard?.writeText(text).catch(() => {}),
    bell: () => {},
  });
  const down = new Set<number>();
  const lift = () => {
    for (const sym of down) rfb.key(sym, false);
    down.clear();
  };
  if (!readOnly) {
    const key = (event: KeyboardEvent, isDown: boolean) => {
      const sym = keysym(event);
      if (sym === null) return;
      event.preventDefault();
      if (isDown) down.add(sym);
      else down.delete(sym);
      rfb.key(sym, isDown);
    };
    canvas.addEventListener('keydown', (e) => key(e, true));
    canvas.addEventListener('keyup', (e) => key(e, false));
    // A key that goes up elsewhere would stay down for ever.
    canvas.addEventListener('blur', lift);
    const mouse = (e: PointerEvent) => {
      const box = canvas.getBoundingClientRect();
      const buttons = (e.buttons & 1) | ((e.buttons & 4) >> 1) | ((e.buttons & 2) << 1);
      rfb.pointer(((e.clientX - box.left) * canvas.width) / box.width, ((e.clientY - box.top) * canvas.height) / box.height, buttons);
    };
    for (const name of ['pointermove', 'pointerdown', 'pointerup'] as const) canvas.addEventListener(name, mouse);
    canvas.addEventListener('pointerdown', () => canvas.focus());
    canvas.addEventListener('contextmenu', (e) => e.preventDefault());
    canvas.addEventListener('paste', (e) => rfb.paste(e.clipboardData?.getData('text') ?? ''));
  }
  return {
    data: (bytes) => rfb.read(bytes),
    focus: () => canvas.focus(),
    dispose: () => canvas.remove(),
    ctrlAltDel: () => {
      for (const sym of [CTRL, ALT, DEL]) rfb.key(sym, true);
      for (const sym of [DEL, ALT, CTRL]) rfb.key(sym, false);
    },
  };
}
