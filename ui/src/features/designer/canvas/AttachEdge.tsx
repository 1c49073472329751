import { BaseEdge, type EdgeProps, getSmoothStepPath, Position } from '@xyflow/react';
import { memo } from 'react';
import { useShallow } from 'zustand/react/shallow';
import type { Key } from '../model/doc';
import { CARD, STORE } from '../model/layout';
import { shownDoc, useDesigner } from '../model/store';

/** Storage that a group has: from the bottom of its card to the top of the storage. */
export const AttachEdge = memo(function AttachEdge({ id, source, target }: EdgeProps) {
  const ends = useDesigner(
    useShallow((s) => {
      const place = (key: Key) => s.dragging[key] ?? shownDoc(s).positions[key];
      const card = place(source);
      const store = place(target);
      return card && store ? [card.x + CARD.width / 2, card.y + CARD.height, store.x + STORE.width / 2, store.y] : null;
    }),
  );
  const lit = useDesigner((s) => s.selection === target || s.selection === source);
  if (!ends) return null;
  const [sourceX, sourceY, targetX, targetY] = ends;
  const [path] = getSmoothStepPath({ sourceX, sourceY, sourcePosition: Position.Bottom, targetX, targetY, targetPosition: Position.Top, borderRadius: 10 });
  return <BaseEdge id={id} path={path} style={{ stroke: 'var(--sy-store)', strokeWidth: lit ? 4 : 2.5 }} interactionWidth={18} />;
});
