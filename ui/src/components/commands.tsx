import { UnstyledButton } from '@mantine/core';
import { IconSearch } from '@tabler/icons-react';
import { lazy, Suspense, useEffect, useId, useState } from 'react';
import { create } from 'zustand';

export interface Command {
  id: string;
  label: string;
  /** What kind of thing it is, said behind the label. */
  hint?: string;
  keys?: string;
  run: () => void;
}
export type Finder = (text: string, signal: AbortSignal) => Promise<Command[]>;

const usePages = create<{ by: Record<string, Command[]> }>(() => ({ by: {} }));

/** What the page on the screen offers to the palette, while it is on the screen. */
export function useCommands(commands: Command[]) {
  const owner = useId();
  useEffect(() => {
    usePages.setState((s) => ({ by: { ...s.by, [owner]: commands } }));
  }, [owner, commands]);
  useEffect(
    () => () =>
      usePages.setState((s) => {
        const { [owner]: _, ...by } = s.by;
        return { by };
      }),
    [owner],
  );
}
export const usePageCommands = () => usePages((s) => s.by);

const fetchPalette = () => import('./Palette');
const Palette = lazy(fetchPalette);

/** Ctrl+K anywhere, or the button: go to anything, do anything. The list itself is loaded at its first use. */
export function CommandBar({ base, find }: { base: Command[]; find: Finder }) {
  const [open, setOpen] = useState(false);
  useEffect(() => {
    const handle = (event: KeyboardEvent) => {
      if (!(event.ctrlKey || event.metaKey) || event.altKey || event.shiftKey || event.key.toLowerCase() !== 'k') return;
      event.preventDefault();
      setOpen((o) => !o);
    };
    window.addEventListener('keydown', handle);
    // Fetched once the page stands, so that nothing typed after Ctrl+K is lost.
    const early = setTimeout(() => void fetchPalette().catch(() => undefined), 3_000);
    return () => {
      clearTimeout(early);
      window.removeEventListener('keydown', handle);
    };
  }, []);
  return (
    <>
      <UnstyledButton className="search-button" onClick={() => setOpen(true)}>
        <IconSearch size={15} aria-hidden /> Search <kbd>Ctrl K</kbd>
      </UnstyledButton>
      {open && (
        <Suspense fallback={null}>
          <Palette base={base} find={find} close={() => setOpen(false)} />
        </Suspense>
      )}
    </>
  );
}
