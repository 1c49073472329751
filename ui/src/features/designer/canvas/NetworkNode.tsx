import { IconAlertTriangle, IconInfinity, IconNetwork, IconWorld } from '@tabler/icons-react';
import { Handle, type NodeProps, Position } from '@xyflow/react';
import { memo } from 'react';
import { partition } from '../../../components/format';
import { useDesignerContext } from '../context';
import { AS_IS, diffOfNetwork, SIGN } from '../model/diff';
import { railWidth } from '../model/layout';
import { shownDoc, useDesigner } from '../model/store';
import { useProblems } from '../problems';
import { useTarget } from './GroupNode';
import { railStyle } from './rails';

/** A network is a rail: a pill at the left and a line over all cards, to which groups drop their cables. */
export const NetworkNode = memo(function NetworkNode({ id, selected }: NodeProps) {
  const { view } = useDesignerContext();
  const network = useDesigner((s) => shownDoc(s).networks[id]);
  const looking = useDesigner((s) => s.shown !== null);
  const width = useDesigner((s) => railWidth(shownDoc(s)));
  const style = useDesigner((s) => railStyle(shownDoc(s), id));
  const facts = useDesigner((s) => s.facts[id]);
  const locked = useDesigner((s) => s.locked);
  const target = useTarget(id);
  const problems = useProblems(id);
  if (!network) return null;
  const diff = looking ? AS_IS : diffOfNetwork(network, facts);
  const vlan = facts?.network?.vlan?.vlans?.[0]?.vlanId;
  const infiniband = Boolean(facts?.network?.pkey);
  const subnet = facts?.network?.ipv4?.subnets?.[0];
  const classes = ['sy-rail', selected && 'is-selected', `is-${diff.mark}`, view === 'diff' && diff.mark === 'same' && 'is-dim', target && (target.effect === 'no' ? 'target-no' : 'target-ok')].filter(Boolean).join(' ');
  return (
    <div className={classes} style={{ width, ['--rail' as string]: style.colour }}>
      <svg className="sy-rail-line" width="100%" height="8" aria-hidden>
        <line x1="24" y1="4" x2="100%" y2="4" stroke={style.colour} strokeWidth="4" strokeDasharray={style.dash} strokeLinecap="round" />
      </svg>
      <div className="sy-pill">
        {infiniband ? <IconInfinity size={18} aria-label="InfiniBand" /> : network.shared ? <IconWorld size={18} aria-hidden /> : <IconNetwork size={18} aria-hidden />}
        <div>
          <strong title={network.label}>{network.label}</strong>
          <small className="num">{infiniband ? partition(facts?.network?.pkey) : vlan ? `VLAN ${vlan}${subnet?.networkAddress ? ` · ${subnet.networkAddress}/${subnet.prefixLength}` : ''}` : network.addresses.kind === 'none' ? 'VLAN at deploy, no addresses' : 'VLAN and subnet at deploy'}</small>
        </div>
        {problems.length > 0 && (
          <span className="sy-badge warn" title={problems.map((p) => p.message).join(' ')}>
            <IconAlertTriangle size={13} aria-hidden /> {problems.length}
          </span>
        )}
      </div>
      {(target || diff.mark !== 'same') && (
        <span className="sy-rail-note">
          {target ? (
            <span className={target.effect === 'no' ? 'bad' : 'good'}>{target.effect === 'no' ? `Not possible: ${target.reason}` : 'Drop to connect'}</span>
          ) : (
            <span className={`sy-mark mark-${diff.mark}`}>{SIGN[diff.mark]}</span>
          )}
        </span>
      )}
      <Handle type="target" position={Position.Left} id="rail" className="sy-hidden-handle" isConnectableStart={false} />
      <Handle type="source" position={Position.Left} id="out" className="sy-connector at-pill" aria-hidden data-connector={network.label} title="Drag to a server group" isConnectable={!locked && !network.deleted} />
    </div>
  );
});
