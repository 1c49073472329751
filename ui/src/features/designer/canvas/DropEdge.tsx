import { type EdgeProps, useStore } from '@xyflow/react';
import { memo } from 'react';
import { useShallow } from 'zustand/react/shallow';
import { linkKey } from '../model/doc';
import { NOWHERE, shownDoc, useDesigner, useDragging } from '../model/store';
import { dropOf, railStyle } from './rails';

const FAR = 0.45;

/** One connection; the dot says on which rail it ends, the label whether it is tagged. */
export const DropEdge = memo(function DropEdge({ source, target, selected }: EdgeProps) {
  const link = useDesigner((s) => shownDoc(s).links[linkKey(source, target)]);
  const still = useDesigner(useShallow((s) => dropOf(shownDoc(s), NOWHERE, source, target)));
  // Only the cables of what is moved are drawn again; a rail that moves changes the order of all.
  const moved = useDragging(useShallow(({ at }) => (at !== NOWHERE && (at[source] || Object.keys(at).some((k) => k.startsWith('n:'))) ? dropOf(shownDoc(useDesigner.getState()), at, source, target) : null)));
  const drop = moved ?? still;
  const style = useDesigner((s) => railStyle(shownDoc(s), target));
  // A letter that cannot be read is not drawn.
  const near = useStore((s) => s.transform[2] >= FAR);
  if (!link || !drop) return null;
  const path = `M${drop.x},${drop.y1} L${drop.x},${drop.y2}`;
  return (
    <>
      <path className="react-flow__edge-interaction" d={path} fill="none" strokeOpacity={0} strokeWidth={18} />
      <path d={path} fill="none" stroke={style.colour} strokeWidth={selected ? 5 : 3} strokeDasharray={link.tagged ? '7 5' : undefined} />
      <circle cx={drop.x} cy={drop.y2} r={selected ? 8 : 6} fill={style.colour} stroke="var(--sy-canvas)" strokeWidth={2} />
      {near && (
        <text className={selected ? 'sy-cable is-selected' : 'sy-cable'} x={drop.x} y={drop.y1 - 14} textAnchor="middle">
          {link.tagged ? 'T' : 'U'}
          {link.redundancy ? '·2x' : ''}
        </text>
      )}
    </>
  );
});
