import { EdgeLabelRenderer, type EdgeProps } from '@xyflow/react';
import { memo } from 'react';
import { useShallow } from 'zustand/react/shallow';
import { linkKey } from '../model/doc';
import { shownDoc, useDesigner } from '../model/store';
import { dropOf, railStyle } from './rails';

/** One connection; the dot says on which rail it ends, the label whether it is tagged. */
export const DropEdge = memo(function DropEdge({ source, target, selected }: EdgeProps) {
  const link = useDesigner((s) => shownDoc(s).links[linkKey(source, target)]);
  const drop = useDesigner(useShallow((s) => dropOf(shownDoc(s), s.dragging, source, target)));
  const style = useDesigner((s) => railStyle(shownDoc(s), target));
  if (!link || !drop) return null;
  const path = `M${drop.x},${drop.y1} L${drop.x},${drop.y2}`;
  return (
    <>
      <path className="react-flow__edge-interaction" d={path} fill="none" strokeOpacity={0} strokeWidth={18} />
      <path d={path} fill="none" stroke={style.colour} strokeWidth={selected ? 5 : 3} strokeDasharray={link.tagged ? '7 5' : undefined} />
      <circle cx={drop.x} cy={drop.y2} r={selected ? 8 : 6} fill={style.colour} stroke="var(--sy-canvas)" strokeWidth={2} />
      <EdgeLabelRenderer>
        <span className={selected ? 'sy-cable is-selected' : 'sy-cable'} style={{ transform: `translate(-50%, -100%) translate(${drop.x}px, ${drop.y1 - 10}px)` }}>
          {link.tagged ? 'T' : 'U'}
          {link.redundancy ? '·2x' : ''}
        </span>
      </EdgeLabelRenderer>
    </>
  );
});
