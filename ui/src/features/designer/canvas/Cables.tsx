import { ViewportPortal } from '@xyflow/react';
import { type MouseEvent, memo, useMemo } from 'react';
import { linkKey, linksOf } from '../model/doc';
import { CARD } from '../model/layout';
import { NOWHERE, selectLink, shownDoc, useDesigner, useDragging } from '../model/store';
import { dropOf, railStyle } from './rails';

/** From this many connections on they are lines of their networks, not elements of their own: a page with thousands of elements is slow. */
export const MANY = 200;
const HIT = 9;

/** The cables of a large design: one path for each network and kind, redrawn only where a hand moves something. */
export const Cables = memo(function Cables() {
  const doc = useDesigner(shownDoc);
  const at = useDragging((d) => d.at);
  const networks = useMemo(
    () =>
      Object.keys(doc.networks).map((network) => {
        const paths = { tagged: '', plain: '', ends: '' };
        for (const l of linksOf(doc, network)) {
          const drop = dropOf(doc, NOWHERE, l.group, network);
          if (!drop || (at !== NOWHERE && (at[l.group] || at[network]))) continue;
          paths[l.tagged ? 'tagged' : 'plain'] += `M${drop.x} ${drop.y1}V${drop.y2}`;
          paths.ends += `M${drop.x} ${drop.y2}h0`;
        }
        return { network, ...paths, colour: railStyle(doc, network).colour };
      }),
    // What is under the hand is left out here once, when the drag begins, and drawn below with every frame.
    // eslint-disable-next-line react-hooks/exhaustive-deps
    [doc, Object.keys(at).join()],
  );
  const under = at === NOWHERE ? [] : Object.keys(at).flatMap((key) => linksOf(doc, key));
  const find = (event: MouseEvent<SVGPathElement>, network: string) => {
    const box = event.currentTarget.getBoundingClientRect();
    const scale = box.width / Math.max(1, event.currentTarget.getBBox().width);
    const x = event.currentTarget.getBBox().x + (event.clientX - box.left) / scale;
    const y = event.currentTarget.getBBox().y + (event.clientY - box.top) / scale;
    const near = linksOf(doc, network).map((l) => ({ l, drop: dropOf(doc, NOWHERE, l.group, network) })).filter(({ drop }) => drop && Math.abs(drop.x - x) < CARD.width / 8 && y >= Math.min(drop.y1, drop.y2) - HIT && y <= Math.max(drop.y1, drop.y2) + HIT);
    near.sort((a, b) => Math.abs((a.drop?.x ?? 0) - x) - Math.abs((b.drop?.x ?? 0) - x));
    if (near[0]) selectLink(linkKey(near[0].l.group, near[0].l.network));
  };
  return (
    <ViewportPortal>
      <svg className="sy-cables is-still" width="1" height="1" aria-hidden>
        {networks.map(({ network, tagged, plain, ends, colour }) => (
          <g key={network} fill="none" stroke={colour} strokeLinecap="round">
            <path d={tagged + plain} stroke="transparent" strokeWidth={18} className="sy-cables-hit" onClick={(e) => find(e, network)} />
            <path d={plain} strokeWidth={3} />
            <path d={tagged} strokeWidth={3} strokeDasharray="7 5" strokeLinecap="butt" />
            <path d={ends} strokeWidth={12} />
          </g>
        ))}
      </svg>
      <svg className="sy-cables" width="1" height="1" aria-hidden fill="none">
        {under.map((l) => {
          const drop = dropOf(doc, at, l.group, l.network);
          return drop && <path key={linkKey(l.group, l.network)} d={`M${drop.x} ${drop.y1}V${drop.y2}`} stroke={railStyle(doc, l.network).colour} strokeWidth={3} strokeDasharray={l.tagged ? '7 5' : undefined} />;
        })}
      </svg>
    </ViewportPortal>
  );
});
