import { ActionIcon, Progress, Tooltip, UnstyledButton } from '@mantine/core';
import { IconAlertTriangle, IconCircleMinus, IconCirclePlus, IconServer2, IconPlugConnected } from '@tabler/icons-react';
import { Handle, type NodeProps, Position, useConnection, useStore } from '@xyflow/react';
import { memo, useEffect, useRef, useState } from 'react';
import { useShallow } from 'zustand/react/shallow';
import { count, plural } from '../../../components/format';
import { Status } from '../../../components/status';
import { osName, typeName, useAvailability } from '../catalogue';
import { useDesignerContext } from '../context';
import { AS_IS, diffOfGroup, SIGN } from '../model/diff';
import { linksOf } from '../model/doc';
import { judge } from '../model/rules';
import { editGroup, shownDoc, useDesigner } from '../model/store';
import { useProblems } from '../problems';

/** Whether the element under an ongoing drag may take it, and why not. */
export function useTarget(id: string) {
  const from = useConnection((c) => (c.inProgress ? c.fromNode.id : null));
  return useDesigner(useShallow((s) => (from && from !== id ? judge(s.rules, shownDoc(s), from, id) : null)));
}

const MOST_SERVERS = 10_000;

/** The number itself takes any other number: hundreds are typed, not stepped. */
function CountInput({ label, value, off, onCommit }: { label: string; value: number; off: boolean; onCommit: (value: number) => void }) {
  const [text, setText] = useState<string | null>(null);
  const input = useRef<HTMLInputElement>(null);
  const typing = text !== null;
  useEffect(() => input.current?.select(), [typing]);
  const end = (take: boolean) => {
    const next = Math.min(MOST_SERVERS, Math.max(1, Math.round(Number(text))));
    if (take && text && Number.isFinite(next) && next !== value) onCommit(next);
    setText(null);
  };
  if (typing)
    return (
      <input
        ref={input}
        className="sy-count-input num"
        aria-label={`Servers in ${label}`}
        inputMode="numeric"
        value={text}
        onChange={(e) => setText(e.currentTarget.value.replace(/\D/g, '').slice(0, 5))}
        onBlur={() => end(true)}
        onKeyDown={(e) => {
          if (e.key === 'Enter' || e.key === 'Escape') end(e.key === 'Enter');
          e.stopPropagation();
        }}
      />
    );
  return (
    <UnstyledButton className="sy-count-text num" disabled={off} title={off ? undefined : 'Type the number of servers'} onClick={() => setText(String(value))}>
      <b>{count(value)}</b> {value === 1 ? 'server' : 'servers'}
    </UnstyledButton>
  );
}

/** Seen from far, a card is its name and its number: hundreds of them fit on the screen. */
const FAR = 0.45;
export const GroupNode = memo(function GroupNode(props: NodeProps) {
  const far = useStore((s) => s.transform[2] < FAR);
  return far ? <FarGroup {...props} /> : <NearGroup {...props} />;
});

function FarGroup({ id, selected }: NodeProps) {
  const { view, live } = useDesignerContext();
  const group = useDesigner((s) => shownDoc(s).groups[id]);
  const mark = useDesigner((s) => (s.shown || !s.doc.groups[id] ? 'same' : diffOfGroup(s.doc.groups[id], s.facts[id], PLAIN).mark));
  const worst = useProblems(id).length > 0;
  const target = useTarget(id);
  if (!group) return null;
  const run = live.get(id);
  return (
    <div className={['sy-card', 'is-far', selected && 'is-selected', `is-${mark}`, view === 'diff' && mark === 'same' && 'is-dim', target && (target.effect === 'no' ? 'target-no' : 'target-ok')].filter(Boolean).join(' ')}>
      <Handle type="source" position={Position.Top} id="port" className="sy-connector" aria-hidden data-connector={group.label} />
      <Handle type="source" position={Position.Bottom} id="storage" className="sy-hidden-handle" isConnectable={false} />
      <strong>{group.label}</strong>
      <b className="num">{count(group.instanceCount)}{worst ? ' !' : ''}</b>
      {run && <i className={run.failed ? 'failed' : ''} style={{ width: `${run.percent}%` }} />}
    </div>
  );
}
const PLAIN = { type: String, os: String };

function NearGroup({ id, selected }: NodeProps) {
  const { infrastructure, catalogue, live, openConnect, view } = useDesignerContext();
  const group = useDesigner((s) => shownDoc(s).groups[id]);
  const links = useDesigner((s) => linksOf(shownDoc(s), id));
  const looking = useDesigner((s) => s.shown !== null);
  const facts = useDesigner((s) => s.facts[id]);
  const locked = useDesigner((s) => s.locked);
  const target = useTarget(id);
  const problems = useProblems(id);
  const availability = useAvailability(infrastructure.siteId, group?.serverTypeId ?? 0);
  if (!group) return null;

  const diff = looking ? AS_IS : diffOfGroup(group, facts, { type: (n) => typeName(catalogue, n), os: (n) => osName(catalogue, n) });
  const run = live.get(id);
  const type = catalogue.types.find((t) => t.id === group.serverTypeId);
  const short = looking ? undefined : problems.find((p) => p.code === 'few_free');
  const nics = Math.min(type?.networkInterfaceCount ?? 2, 8);
  const before = diff.fields.find((f) => f.field === 'Servers');
  const classes = ['sy-card', selected && 'is-selected', `is-${diff.mark}`, view === 'diff' && diff.mark === 'same' && 'is-dim', target && (target.effect === 'no' ? 'target-no' : 'target-ok')].filter(Boolean).join(' ');

  return (
    <div className={classes}>
      <Handle type="source" position={Position.Top} id="port" className="sy-connector" aria-hidden data-connector={group.label} title="Drag to a network or another group" isConnectable={!locked && !group.deleted} />
      <Handle type="source" position={Position.Bottom} id="storage" className="sy-hidden-handle" isConnectable={false} />
      <div className="sy-ports" aria-hidden>
        {Array.from({ length: nics }, (_, i) => (
          <span key={i} className={links.length ? 'used' : ''} />
        ))}
      </div>
      <header>
        <IconServer2 size={20} aria-hidden />
        <strong title={group.label}>{group.label}</strong>
        {facts?.group && /^(stopped|suspended)$/.test(facts.group.serviceStatus) && <Status value={facts.group.serviceStatus} />}
        {diff.mark !== 'same' && <span className={`sy-mark mark-${diff.mark}`}>{SIGN[diff.mark]}</span>}
        {problems.length > 0 && (
          <Tooltip label={problems.map((p) => p.message).join(' ')} multiline w={280}>
            <span className={`sy-badge ${problems.some((p) => p.severity === 'error') ? 'bad' : 'warn'}`}>
              <IconAlertTriangle size={13} aria-hidden /> {problems.length}
            </span>
          </Tooltip>
        )}
      </header>
      <div className="sy-sub">{type?.name ?? typeName(catalogue, group.serverTypeId)} · {osName(catalogue, group.osTemplateId)}</div>
      <div className="sy-count nodrag">
        <ActionIcon variant="subtle" color="gray" size={28} aria-label={`One server less in ${group.label}`} disabled={locked || group.deleted || group.instanceCount <= 1} onClick={(e) => editGroup(id, { instanceCount: Math.max(1, group.instanceCount - (e.shiftKey ? 10 : 1)) })}>
          <IconCircleMinus size={20} />
        </ActionIcon>
        <CountInput label={group.label} value={group.instanceCount} off={locked || group.deleted} onCommit={(instanceCount) => editGroup(id, { instanceCount })} />
        <ActionIcon variant="subtle" color="gray" size={28} aria-label={`One server more in ${group.label}`} disabled={locked || group.deleted} onClick={(e) => editGroup(id, { instanceCount: Math.min(MOST_SERVERS, group.instanceCount + (e.shiftKey ? 10 : 1)) })}>
          <IconCirclePlus size={20} />
        </ActionIcon>
        <Tooltip label={locked ? 'A deploy is running' : 'Connect (C)'}>
          <ActionIcon variant="subtle" color="steel" size={28} ml="auto" aria-label={`Connect ${group.label}`} disabled={locked || group.deleted} onClick={() => openConnect(id)}>
            <IconPlugConnected size={18} />
          </ActionIcon>
        </Tooltip>
      </div>
      <footer>
        {run ? (
          <div className="sy-run">
            <Progress value={run.percent} size="sm" color={run.failed ? 'red' : 'steel'} aria-label={`Deploy of ${group.label}`} />
            <div className={run.failed ? 'sy-run-text bad' : 'sy-run-text'}>
              <span title={run.step}>{run.step}</span>
              <span className="num">{run.done}/{run.total}</span>
            </div>
          </div>
        ) : target ? (
          <span className={target.effect === 'no' ? 'bad' : 'good'}>{target.effect === 'no' ? `Not possible: ${target.reason}` : target.effect === 'new_network' ? 'Drop to connect through a new network' : 'Drop to connect'}</span>
        ) : before ? (
          <span className="mark-changed num">
            {before.before} → {before.after} servers ({Number(before.after) - Number(before.before) > 0 ? '+' : ''}
            {Number(before.after) - Number(before.before)})
          </span>
        ) : short ? (
          <span className="bad num">{short.message}</span>
        ) : availability.data ? (
          <span className="num">{count(availability.data.free)} of this type free</span>
        ) : (
          <span>{links.length ? plural(links.length, 'network') : 'Not connected'}</span>
        )}
      </footer>
    </div>
  );
}
