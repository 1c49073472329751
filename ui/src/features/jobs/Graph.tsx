import dagre from '@dagrejs/dagre';
import { Text } from '@mantine/core';
import { useMemo } from 'react';
import type { Job } from '../../api/types';
import { statusText } from '../../components/status';

/** More than this many steps are read better as a table, and laying them out takes seconds. */
const MOST = 300;
const SIZE = { width: 220, height: 52 };

/** The steps and what waits for what. */
export default function Graph({ jobs }: { jobs: Job[] }) {
  const shape = jobs.map((j) => `${j.jobId}:${(j.dependsOn ?? []).join(',')}`).join(';');
  const layout = useMemo(() => {
    if (jobs.length > MOST) return null;
    const graph = new dagre.graphlib.Graph();
    graph.setGraph({ rankdir: 'LR', nodesep: 12, ranksep: 48, marginx: 16, marginy: 16 });
    graph.setDefaultEdgeLabel(() => ({}));
    const byKey = new Map<string, string>(jobs.flatMap((j) => [[String(j.jobId), String(j.jobId)], ...(j.key ? [[j.key, String(j.jobId)] as [string, string]] : [])] as [string, string][]));
    for (const j of jobs) graph.setNode(String(j.jobId), { ...SIZE });
    for (const j of jobs) for (const d of j.dependsOn ?? []) if (byKey.has(String(d))) graph.setEdge(byKey.get(String(d)) ?? '', String(j.jobId));
    dagre.layout(graph);
    return {
      size: graph.graph() as { width: number; height: number },
      nodes: new Map(graph.nodes().map((id: string) => [id, graph.node(id) as { x: number; y: number }])),
      edges: graph.edges().map((e: { v: string; w: string }) => (graph.edge(e) as { points: { x: number; y: number }[] }).points),
    };
    // Progress changes often, the shape almost never.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [shape]);
  if (!layout) return <Text p="md">These are {jobs.length} steps: too many for a picture. Use the table or the timeline.</Text>;
  return (
    <div style={{ position: 'relative', width: layout.size.width, height: layout.size.height, minHeight: 120 }}>
      <svg width={layout.size.width} height={layout.size.height} aria-hidden style={{ position: 'absolute' }}>
        {layout.edges.map((points, i) => (
          <polyline key={i} points={points.map((p) => `${p.x},${p.y}`).join(' ')} fill="none" stroke="var(--sy-line-strong)" strokeWidth="1.500" />
        ))}
      </svg>
      {jobs.map((j) => {
        const at = layout.nodes.get(String(j.jobId));
        return at && (
          <div key={j.jobId} className={`job-node ${j.status}`} style={{ left: at.x - SIZE.width / 2, top: at.y - SIZE.height / 2, ...SIZE }} title={j.error ?? j.title ?? j.functionName}>
            <b>{j.title ?? j.functionName}</b>
            <span className="num">{statusText(j.status)}{j.status === 'running' && j.percent ? ` · ${Math.round(j.percent)} %` : ''}</span>
          </div>
        );
      })}
    </div>
  );
}
