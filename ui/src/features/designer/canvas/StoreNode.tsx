import { IconAlertTriangle, IconBucket, IconDatabase, IconFolderShare, IconServerBolt } from '@tabler/icons-react';
import { Handle, type NodeProps, Position } from '@xyflow/react';
import { memo } from 'react';
import { count } from '../../../components/format';
import { useDesignerContext } from '../context';
import { AS_IS, diffOfStore, SIGN } from '../model/diff';
import { STORE_WORDS } from '../model/doc';
import { shownDoc, useDesigner } from '../model/store';
import { useProblems } from '../problems';
import { useTarget } from './GroupNode';

export const STORE_ICONS = { drive: IconDatabase, own: IconServerBolt, share: IconFolderShare, bucket: IconBucket };

/** Storage below the servers that have it. */
export const StoreNode = memo(function StoreNode({ id, selected }: NodeProps) {
  const { view } = useDesignerContext();
  const store = useDesigner((s) => shownDoc(s).stores[id]);
  const looking = useDesigner((s) => s.shown !== null);
  const facts = useDesigner((s) => s.facts[id]);
  const locked = useDesigner((s) => s.locked);
  const target = useTarget(id);
  const problems = useProblems(id);
  if (!store) return null;
  const diff = looking ? AS_IS : diffOfStore(store, facts);
  const size = diff.fields.find((f) => f.field === 'Size');
  const Icon = STORE_ICONS[store.kind];
  const classes = ['sy-card', 'sy-store', selected && 'is-selected', `is-${diff.mark}`, view === 'diff' && diff.mark === 'same' && 'is-dim', target && (target.effect === 'no' ? 'target-no' : 'target-ok')].filter(Boolean).join(' ');
  return (
    <div className={classes}>
      {(store.kind === 'drive' || store.kind === 'share') && <Handle type="source" position={Position.Top} id="port" className="sy-connector" aria-hidden data-connector={store.label} title="Drag to a server group" isConnectable={!locked && !store.deleted} />}
      <Handle type="target" position={Position.Top} id="in" className="sy-hidden-handle" isConnectableStart={false} />
      <header>
        <Icon size={20} aria-hidden />
        <strong title={store.label}>{store.label}</strong>
        {diff.mark !== 'same' && <span className={`sy-mark mark-${diff.mark}`}>{SIGN[diff.mark]}</span>}
        {problems.length > 0 && (
          <span className={`sy-badge ${problems.some((p) => p.severity === 'error') ? 'bad' : 'warn'}`} title={problems.map((p) => p.message).join(' ')}>
            <IconAlertTriangle size={13} aria-hidden /> {problems.length}
          </span>
        )}
      </header>
      <div className="sy-sub">
        {target ? (
          <span className={target.effect === 'no' ? 'bad' : 'good'}>{target.effect === 'no' ? `Not possible: ${target.reason}` : 'Drop to attach'}</span>
        ) : (
          <>
            {STORE_WORDS[store.kind]} · {size ? <span className="mark-changed num">{size.before} → {size.after}</span> : <span className="num">{count(store.sizeGb)} GB</span>}
            {store.boot && ' · starts from it'}
            {(store.kind === 'drive' || store.kind === 'share') && !store.hosts.length && ' · not attached'}
          </>
        )}
      </div>
    </div>
  );
});
