import { Modal, Text, TextInput } from '@mantine/core';
import { useDebouncedValue } from '@mantine/hooks';
import { IconSearch } from '@tabler/icons-react';
import { useQuery } from '@tanstack/react-query';
import { type KeyboardEvent, useEffect, useMemo, useRef, useState } from 'react';
import { type Command, type Finder, usePageCommands } from './commands';

const MOST = 14;

/** Every word that was typed is somewhere in the label or its kind. */
export function matching(commands: readonly Command[], text: string): Command[] {
  const wanted = text.toLowerCase().split(/\s+/).filter(Boolean);
  const fits = commands.filter((c) => {
    const said = `${c.label} ${c.hint ?? ''}`.toLowerCase();
    return wanted.every((w) => said.includes(w));
  });
  const begins = (c: Command) => wanted.length > 0 && c.label.toLowerCase().startsWith(wanted[0]);
  return [...fits.filter(begins), ...fits.filter((c) => !begins(c))];
}

export default function Palette({ base, find, close }: { base: Command[]; find: Finder; close: () => void }) {
  const [text, setText] = useState('');
  const [at, setAt] = useState(0);
  const [asked] = useDebouncedValue(text.trim(), 150);
  const page = usePageCommands();
  const found = useQuery({ queryKey: ['palette', asked], queryFn: ({ signal }) => find(asked, signal), enabled: asked.length > 1, placeholderData: (before) => (asked.length > 1 ? before : undefined), retry: false });
  const list = useMemo(() => [...matching([...Object.values(page).flat(), ...base], text), ...(asked.length > 1 ? (found.data ?? []) : [])].slice(0, MOST), [page, base, text, asked, found.data]);
  useEffect(() => setAt(0), [text]);
  const chosen = Math.min(at, list.length - 1);
  const box = useRef<HTMLUListElement>(null);
  useEffect(() => box.current?.children[chosen]?.scrollIntoView({ block: 'nearest' }), [chosen]);
  const run = (command: Command | undefined) => {
    if (!command) return;
    close();
    command.run();
  };
  const keys = (event: KeyboardEvent) => {
    if (event.key === 'ArrowDown') setAt(Math.min(chosen + 1, list.length - 1));
    else if (event.key === 'ArrowUp') setAt(Math.max(chosen - 1, 0));
    else if (event.key === 'Enter') run(list[chosen]);
    else return;
    event.preventDefault();
  };
  return (
    <Modal opened onClose={close} withCloseButton={false} size="lg" padding="xs" yOffset="12vh" title={<span className="sr-only">Search and commands</span>} styles={{ header: { minHeight: 0, padding: 0 } }} returnFocus>
      <TextInput data-autofocus aria-label="Search and commands" placeholder="Go to, or do…" size="md" leftSection={<IconSearch size={18} />} role="combobox" aria-expanded aria-controls="palette" aria-activedescendant={list[chosen] ? `palette-${chosen}` : undefined} value={text} onChange={(e) => setText(e.currentTarget.value)} onKeyDown={keys} />
      <ul className="palette" role="listbox" id="palette" aria-label="Results" ref={box}>
        {list.map((c, i) => (
          <li key={c.id} id={`palette-${i}`} role="option" aria-selected={i === chosen} className={i === chosen ? 'at' : undefined} onMouseMove={() => setAt(i)} onClick={() => run(c)}>
            <span>{c.label}</span>
            <Text size="xs" component="span" c="dimmed">
              {c.hint}
            </Text>
            {c.keys && <kbd>{c.keys}</kbd>}
          </li>
        ))}
      </ul>
      {!list.length && (
        <Text size="sm" c="dimmed" p="sm" role="status">
          {found.isFetching ? 'Searching…' : 'Nothing found.'}
        </Text>
      )}
    </Modal>
  );
}
