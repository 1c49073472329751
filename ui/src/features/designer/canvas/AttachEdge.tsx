import { BaseEdge, type EdgeProps, getSmoothStepPath, Position } from '@xyflow/react';
import { memo } from 'react';
import { useShallow } from 'zustand/react/shallow';
import type { Key } from '../model/doc';
import { CARD, STORE } from '../model/layout';
import { shownDoc, useDesigner, useDragging } from '../model/store';

/** Storage that a group has: from the bottom of its card to the top of the storage. */
export const AttachEdge = memo(function AttachEdge({ id, source, target }: EdgeProps) {
  const from = useDragging((d) => d.at[source]);
  const to = useDragging((d) => d.at[target]);
  const ends = useDesigner(
    useShallow((s) => {
      const place = (key: Key) => (key === source ? from : to) ?? shownDoc(s).positions[key];
      const card = place(source);
      const store = place(target);
      if (!card || !store) return null;
      // A lane of its own for each storage, so that lines do not run into each other.
      const lane = Math.max(0, Object.keys(shownDoc(s).stores).indexOf(target));
      const shift = ((lane % 7) - 3) * 22;
      return [card.x + CARD.width / 2 + shift, card.y + CARD.height, store.x + STORE.width / 2, store.y, store.y - 14 - (lane % 5) * 10, shownDoc(s).stores[target]?.kind === 'share' ? 1 : 0];
    }),
  );
  const lit = useDesigner((s) => s.selection === target || s.selection === source);
  if (!ends) return null;
  const [sourceX, sourceY, targetX, targetY, centerY, dashed] = ends;
  const [path] = getSmoothStepPath({ sourceX, sourceY, sourcePosition: Position.Bottom, targetX, targetY, targetPosition: Position.Top, borderRadius: 8, centerY });
  return <BaseEdge id={id} path={path} style={{ stroke: 'var(--sy-store)', strokeWidth: lit ? 4 : 2.5, strokeDasharray: dashed ? '7 4' : undefined }} interactionWidth={18} />;
});
