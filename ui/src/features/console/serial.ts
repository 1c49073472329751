/** A terminal for the serial console: xterm.js. Colours follow the scheme of the page. */
import { FitAddon } from '@xterm/addon-fit';
import { Terminal } from '@xterm/xterm';
import '@xterm/xterm/css/xterm.css';
import type { View } from './ConsolePanel';

const DARK = { background: '#10151c', foreground: '#d7dee7', cursor: '#d7dee7', selectionBackground: '#3b5068' };
const LIGHT = { background: '#fbfcfd', foreground: '#1b2530', cursor: '#1b2530', selectionBackground: '#b9cfe6' };
const theme = () => (document.documentElement.dataset.mantineColorScheme === 'dark' ? DARK : LIGHT);

export async function serialView(host: HTMLElement, to: { send(bytes: Uint8Array): void; size(columns: number, rows: number): void }): Promise<View> {
  const terminal = new Terminal({ fontFamily: 'ui-monospace, SFMono-Regular, Menlo, Consolas, monospace', fontSize: 14, scrollback: 5000, theme: theme(), screenReaderMode: true, convertEol: false });
  const fit = new FitAddon();
  terminal.loadAddon(fit);
  terminal.open(host);
  const encode = new TextEncoder();
  terminal.onData((text) => to.send(encode.encode(text)));
  terminal.onBinary((text) => to.send(Uint8Array.from(text, (c) => c.charCodeAt(0))));
  // What is selected is copied by Ctrl+Shift+C, because Ctrl+C is the server's; pasting is the browser's own.
  terminal.attachCustomKeyEventHandler((event) => {
    if (event.type === 'keydown' && event.ctrlKey && event.shiftKey && event.code === 'KeyC' && terminal.hasSelection()) {
      void navigator.clipboard?.writeText(terminal.getSelection());
      event.preventDefault();
      return false;
    }
    return true;
  });
  terminal.onResize(({ cols, rows }) => to.size(cols, rows));
  const fitted = () => {
    if (host.clientWidth > 0) fit.fit();
  };
  const sizes = new ResizeObserver(fitted);
  sizes.observe(host);
  const scheme = new MutationObserver(() => (terminal.options.theme = theme()));
  scheme.observe(document.documentElement, { attributes: true, attributeFilter: ['data-mantine-color-scheme'] });
  fitted();
  return {
    data: (bytes) => terminal.write(bytes),
    focus: () => {
      terminal.focus();
      to.size(terminal.cols, terminal.rows);
    },
    dispose: () => {
      sizes.disconnect();
      scheme.disconnect();
      terminal.dispose();
    },
  };
}
