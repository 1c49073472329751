import { useEffect } from 'react';
import { elementKeys, elementOf, type Key } from './model/doc';
import { toast } from '../../components/toast';
import { arrange, disconnect, duplicate, pick, pickedKeys, redo, remove, select, undo, useDesigner } from './model/store';

/** The element that has the keyboard: the focused node on the canvas, else the selected one. */
function current(target: HTMLElement | null): Key | null {
  const node = target?.closest<HTMLElement>('.react-flow__node')?.dataset.id;
  return node ?? useDesigner.getState().selection;
}

export function useShortcuts(on: { openConnect: (from: Key) => void; openAdd: () => void; toggleView: () => void }) {
  useEffect(() => {
    const handle = (event: KeyboardEvent) => {
      const target = event.target as HTMLElement | null;
      if (target?.closest('input, textarea, select, [contenteditable], [role="dialog"], [role="menu"], [role="listbox"]')) return;
      const key = event.key.toLowerCase();
      const at = current(target);
      const { link, doc } = useDesigner.getState();
      // Several picked elements go together; a focused one outside of them is meant alone.
      const picked = pickedKeys(useDesigner.getState());
      const meant = at && !picked.includes(at) ? [at] : picked.length ? picked : at ? [at] : [];
      const mod = event.ctrlKey || event.metaKey;
      let done = true;
      if (mod && key === 'z') (event.shiftKey ? redo : undo)();
      else if (mod && key === 'y') redo();
      else if (mod && key === 'd' && meant.length) duplicate(...meant);
      else if (mod && key === 'a') pick(elementKeys(doc));
      else if (mod || event.altKey) done = false;
      else if (key === 'c' && at) on.openConnect(at);
      else if (key === 'a') on.openAdd();
      else if (key === 'd') on.toggleView();
      else if (event.shiftKey && key === 'l') arrange();
      else if (key === 'escape') select(null);
      else if (key === 'enter' && target?.closest('.react-flow__node') && at && target.classList.contains('react-flow__node')) select(at);
      else if (key === 'delete' || key === 'backspace') {
        if (link) disconnect(link);
        else if (meant.length) {
          remove(...meant);
          toast('Deleted', meant.map((k) => elementOf(doc, k)?.label).join(', '), { action: { label: 'Undo', run: undo } });
        }
      } else done = false;
      if (done) event.preventDefault();
    };
    window.addEventListener('keydown', handle);
    return () => window.removeEventListener('keydown', handle);
  });
}
