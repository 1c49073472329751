import '@xyflow/react/dist/style.css';
import './canvas.css';
import { useComputedColorScheme } from '@mantine/core';
import { Background, BackgroundVariant, type Connection, ConnectionMode, Controls, type Edge, type FinalConnectionState, MiniMap, type Node, type NodeChange, ReactFlow, SelectionMode, useReactFlow, useStore } from '@xyflow/react';
import { useCallback, useEffect, useMemo, useRef } from 'react';
import { toast } from '../../../components/toast';
import { defaultNetwork } from '../catalogue';
import { useDesignerContext } from '../context';
import { isGroup, isStore, linkKey, type Position, STORE_WORDS } from '../model/doc';
import { CARD, RAIL, railWidth, STORE } from '../model/layout';
import { connectToNew, move, NOWHERE, pick, pickedKeys, select, selectLink, shownDoc, useDesigner, useDragging } from '../model/store';
import { connectAndTell } from '../tell';
import { AttachEdge } from './AttachEdge';
import { Cables, MANY } from './Cables';
import { DropEdge } from './DropEdge';
import { GroupNode } from './GroupNode';
import { NetworkNode } from './NetworkNode';
import { StoreNode } from './StoreNode';

const nodeTypes = { servers: GroupNode, network: NetworkNode, store: StoreNode };
const edgeTypes = { drop: DropEdge, attach: AttachEdge };
/** From this many elements on only those in view are in the page. */
const CULL = 120;
const MULTI = ['Control', 'Meta'];

export function Canvas() {
  const { catalogue } = useDesignerContext();
  const scheme = useComputedColorScheme('light');
  const doc = useDesigner(shownDoc);
  const selection = useDesigner((s) => s.selection);
  const several = useDesigner((s) => s.picked);
  const link = useDesigner((s) => s.link);
  const locked = useDesigner((s) => s.locked);
  const flow = useReactFlow();
  const dragged = useDragging((d) => d.at);

  // A node that did not change stays the same object: only what changed is drawn again.
  const kept = useRef(new Map<string, Node>());
  const placed = useMemo<Node[]>(() => {
    const width = railWidth(doc);
    const picked = new Set(pickedKeys({ selection, picked: several }));
    const next = new Map<string, Node>();
    const make = (id: string, type: string, label: string, w: number, h: number) => {
      const position = doc.positions[id];
      const before = kept.current.get(id);
      const ariaLabel = `${type === 'servers' ? 'Server group' : type === 'store' ? STORE_WORDS[doc.stores[id].kind] : 'Network'} ${label}. Press C to connect, Enter for its settings, Delete to remove.`;
      const same = before && before.position === position && before.selected === picked.has(id) && before.width === w && before.draggable === !locked && before.ariaLabel === ariaLabel;
      next.set(id, same ? before : { id, type, position, data: {}, selected: picked.has(id), width: w, height: h, measured: { width: w, height: h }, zIndex: type === 'network' ? 1 : 2, ariaLabel, draggable: !locked, dragHandle: type === 'network' ? '.sy-pill' : undefined });
    };
    for (const [id, n] of Object.entries(doc.networks)) make(id, 'network', n.label, width, RAIL.height);
    for (const [id, g] of Object.entries(doc.groups)) make(id, 'servers', g.label, CARD.width, CARD.height);
    for (const [id, s] of Object.entries(doc.stores)) make(id, 'store', s.label, STORE.width, STORE.height);
    kept.current = next;
    return [...next.values()];
  }, [doc, selection, several, locked]);
  const nodes = useMemo(() => (dragged === NOWHERE ? placed : placed.map((n) => (dragged[n.id] ? { ...n, position: dragged[n.id] } : n))), [placed, dragged]);
  const { links, groups, networks, stores } = doc;
  const many = Object.keys(links).length > MANY;
  const cables = useRef(new Map<string, Edge>());
  const edges = useMemo<Edge[]>(() => {
    const next = new Map<string, Edge>();
    const make = (edge: Edge) => {
      const before = cables.current.get(edge.id);
      next.set(edge.id, before && before.selected === edge.selected && before.ariaLabel === edge.ariaLabel ? before : edge);
    };
    for (const [id, l] of many ? Object.entries(links).filter(([id]) => id === link) : Object.entries(links))
      make({ id, source: l.group, target: l.network, sourceHandle: 'port', targetHandle: 'rail', type: 'drop', selected: link === id, focusable: true, ariaLabel: `Connection of ${groups[l.group]?.label} to ${networks[l.network]?.label}, ${l.tagged ? 'tagged' : 'untagged'}` });
    for (const [id, s] of Object.entries(stores)) for (const g of s.hosts) if (groups[g]) make({ id: `${g}>${id}`, source: g, target: id, sourceHandle: 'storage', targetHandle: 'in', type: 'attach', focusable: false });
    cables.current = next;
    return [...next.values()];
  }, [links, groups, networks, stores, link, many]);

  const onNodesChange = useCallback(
    (changes: NodeChange[]) => {
      const ended: Record<string, Position> = {};
      const under: Record<string, Position> = {};
      const chosen = new Map<string, boolean>();
      const dragging = useDragging.getState().at;
      for (const change of changes) {
        if (change.type === 'position' && change.position) {
          // Rails only go up and down: their line spans the drawing.
          const position = isGroup(change.id) || isStore(change.id) ? change.position : { x: RAIL.left, y: change.position.y };
          (change.dragging ? under : ended)[change.id] = position;
        } else if (change.type === 'position' && change.dragging === false && dragging[change.id]) ended[change.id] = dragging[change.id];
        else if (change.type === 'select') chosen.set(change.id, change.selected);
      }
      if (chosen.size) {
        const now = pickedKeys(useDesigner.getState());
        const next = new Set([...now.filter((k) => chosen.get(k) !== false), ...[...chosen].filter(([, on]) => on).map(([k]) => k)]);
        if (next.size !== now.length || now.some((k) => !next.has(k))) pick([...next]);
      }
      if (Object.keys(ended).length) {
        const at = useDesigner.getState().doc.positions;
        const real = Object.fromEntries(Object.entries(ended).filter(([k, p]) => at[k] && (at[k].x !== p.x || at[k].y !== p.y)));
        if (Object.keys(real).length) move(real);
        useDragging.setState({ at: NOWHERE });
      } else if (Object.keys(under).length) useDragging.setState({ at: { ...dragging, ...under } });
    },
    [],
  );

  const count = nodes.length;
  const onConnectEnd = useCallback(
    (event: MouseEvent | TouchEvent, state: FinalConnectionState) => {
      const from = state.fromNode?.id;
      if (!from) return;
      const point = 'changedTouches' in event ? event.changedTouches[0] : event;
      const under = document.elementsFromPoint(point.clientX, point.clientY).map((e) => e.closest<HTMLElement>('.react-flow__node')?.dataset.id).find((id) => id && id !== from);
      if (under) return connectAndTell(from, under, catalogue);
      if (!isGroup(from)) return;
      const at = flow.screenToFlowPosition({ x: point.clientX, y: point.clientY });
      const start = useDesigner.getState().doc.positions[from];
      if (start && Math.hypot(at.x - (start.x + CARD.width / 2), at.y - start.y) < 60) return;
      const make = defaultNetwork(catalogue);
      if (!make) return toast('Not connected', 'No network profile is available at this site; ask an administrator.', { kind: 'error' });
      connectToNew(from, make);
      toast('New network', `${useDesigner.getState().doc.groups[from].label} is connected to it. Name it in the inspector.`);
    },
    [catalogue, flow],
  );
  // The drop is judged at its end; the library itself must not add an edge.
  const onConnect = useCallback((_: Connection) => {}, []);

  const ready = useDesigner((s) => s.loaded);
  const width = useStore((s) => s.width);
  const height = useStore((s) => s.height);
  const seen = useRef({ count: 0, own: false });
  useEffect(() => {
    if (!ready || !count || !width || !height) return;
    const { count: before, own } = seen.current;
    seen.current.count = count;
    // The view is the person's once moved; only something new that would be out of sight brings it back.
    if (own && count <= before) return;
    const box = flow.getNodesBounds(flow.getNodes());
    const { x, y, zoom } = flow.getViewport();
    const inside = box.x * zoom + x >= 0 && box.y * zoom + y >= 0 && (box.x + box.width) * zoom + x <= width && (box.y + box.height) * zoom + y <= height;
    if (before && inside) return;
    const frame = requestAnimationFrame(() => void flow.fitView({ padding: 0.1, maxZoom: 1, duration: 0 }));
    return () => cancelAnimationFrame(frame);
  }, [ready, count, width, height, flow]);

  return (
    <ReactFlow
      className="sy-canvas"
      colorMode={scheme}
      nodes={nodes}
      edges={edges}
      nodeTypes={nodeTypes}
      edgeTypes={edgeTypes}
      onNodesChange={onNodesChange}
      onConnect={onConnect}
      onConnectEnd={onConnectEnd}
      onNodeClick={(event, node) => !event.ctrlKey && !event.metaKey && select(node.id)}
      onEdgeClick={(_, edge) => edge.type === 'attach' ? select(edge.target) : selectLink(linkKey(edge.source, edge.target))}
      onPaneClick={() => select(null)}
      onMoveStart={(event) => {
        if (event) seen.current.own = true;
      }}
      connectionMode={ConnectionMode.Loose}
      connectionRadius={4}
      snapToGrid
      snapGrid={[8, 8]}
      minZoom={0.15}
      maxZoom={1.8}
      deleteKeyCode={null}
      multiSelectionKeyCode={MULTI}
      selectionKeyCode="Shift"
      selectionMode={SelectionMode.Partial}
      selectNodesOnDrag={false}
      elementsSelectable
      onlyRenderVisibleElements={count > CULL}
      proOptions={{ hideAttribution: false }}
      ariaLabelConfig={{ 'node.a11yDescription.default': 'Press Enter to select. Arrow keys move. C connects. Delete removes.' }}
    >
      {many && <Cables />}
      <Background variant={BackgroundVariant.Dots} gap={24} size={1.6} color="var(--sy-dot)" />
      {count > 8 && <MiniMap pannable zoomable ariaLabel="Small map of the design" nodeColor={(n) => (n.type !== 'network' ? 'var(--mantine-color-steel-4)' : 'var(--mantine-color-gray-4)')} nodeBorderRadius={6} />}
      <Controls showInteractive={false} />
    </ReactFlow>
  );
}
