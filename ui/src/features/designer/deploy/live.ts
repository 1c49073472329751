import { useQuery, useQueryClient } from '@tanstack/react-query';
import { useEffect, useMemo } from 'react';
import { api } from '../../../api/client';
import type { Job, JobGroup, JobReport, Page, ServerInstance } from '../../../api/types';
import { subscribe, useLiveState } from '../../../live/stream';
import type { Key } from '../model/doc';
import { listAll } from '../model/persist';

export interface GroupLive {
  percent: number;
  step: string;
  failed: number;
  done: number;
  total: number;
}
export const isDone = (job: Job) => job.status === 'returned_success' || job.status === 'skipped' || job.status === 'thrown_error_silenced';
export const isFailed = (job: Job) => job.status === 'thrown_error';
/** One and the same empty list, so that effects on it rest. */
const NONE: never[] = [];
const TERMINAL = /^(returned_success|skipped|thrown_error|thrown_error_silenced)$/;

/** A report over the list that came from REST; a late report never takes a finished job back. */
export function merge(jobs: Job[], report: JobReport): Job[] {
  return jobs.map((job) => {
    if (job.jobId !== report.jobId) return job;
    if (TERMINAL.test(job.status) && report.status === job.status) return { ...job, error: report.error ?? job.error };
    return { ...job, status: report.status ?? job.status, percent: report.percent ?? job.percent, message: report.message ?? job.message, error: report.error ?? (report.status === 'thrown_error' ? job.error : null) };
  });
}

/** The jobs of a group, from REST once and then kept current by the live line (or by polling while it is down). */
export function useJobs(groupId: number | undefined, running: boolean) {
  const client = useQueryClient();
  const live = useLiveState((s) => s.state === 'open');
  useEffect(() => {
    if (groupId === undefined) return;
    let unknown: ReturnType<typeof setTimeout> | undefined;
    const refetch = () => {
      clearTimeout(unknown);
      unknown = setTimeout(() => void client.invalidateQueries({ queryKey: ['jobs', groupId] }), 250);
    };
    const stop = subscribe(({ topic, data }) => {
      if (topic === 'reset') return refetch();
      if (topic !== 'job') return;
      const report = data as unknown as JobReport;
      if (report.groupId !== undefined && report.groupId !== groupId) return;
      const before = client.getQueryData<Job[]>(['jobs', groupId]);
      if (!before?.some((j) => j.jobId === report.jobId)) return refetch();
      client.setQueryData<Job[]>(['jobs', groupId], (jobs) => (jobs ? merge(jobs, report) : jobs));
      // Start times, durations and results come with the full record.
      if (TERMINAL.test(report.status)) refetch();
    });
    return () => {
      stop();
      clearTimeout(unknown);
    };
  }, [groupId, client]);
  return useQuery({
    queryKey: ['jobs', groupId],
    enabled: groupId !== undefined,
    queryFn: async () => {
      const answer = await api.get<Job[] | Page<Job>>(`/job-groups/${groupId}/jobs`, { limit: 100 });
      if (Array.isArray(answer)) return answer;
      if ((answer.meta?.totalPages ?? 1) <= 1) return answer.data;
      return listAll<Job>(`/job-groups/${groupId}/jobs`);
    },
    refetchInterval: running ? (live ? 5_000 : 1_500) : false,
  });
}

const NOTHING: ReadonlyMap<Key, GroupLive> = new Map();

/** The newest deploy of an infrastructure, with its jobs and what they mean for each card. */
export function useDeploy(infrastructureId: number, ongoing: boolean, ids: Readonly<Record<Key, number>>) {
  const groups = useQuery({
    queryKey: ['job-groups', 'of', infrastructureId, ongoing],
    queryFn: async () => (await api.get<Page<JobGroup>>('/job-groups', { 'filter.infrastructureId': infrastructureId, sortBy: 'id:DESC', limit: 1 })).data[0] ?? null,
    refetchInterval: (query) => (ongoing && (!query.state.data || query.state.data.finishedTimestamp) ? 1_000 : false),
  });
  const group = groups.data ?? undefined;
  const jobs = useJobs(group?.id, ongoing);
  const instances = useQuery({
    queryKey: ['instances', infrastructureId],
    queryFn: () => listAll<ServerInstance>(`/infrastructures/${infrastructureId}/server-instances`),
    // Jobs for instances that are not in the list yet: the deploy has just made them.
    refetchInterval: (query) => {
      if (!ongoing) return false;
      const known = new Set(query.state.data?.map((i) => i.id));
      return jobs.data?.some((j) => j.instanceId && !known.has(j.instanceId)) ? 800 : 5_000;
    },
  });
  const live = useMemo(() => {
    if (!ongoing || !jobs.data) return NOTHING;
    const out = new Map<Key, GroupLive>();
    const keys = new Map(Object.entries(ids).filter(([k]) => k.startsWith('g:')).map(([k, id]) => [id, k]));
    const owner = new Map((instances.data ?? []).map((i) => [i.id, keys.get(i.groupId)]));
    const buckets = new Map<Key, Job[]>();
    for (const job of jobs.data) {
      const key = job.instanceId ? owner.get(job.instanceId) : undefined;
      if (key) buckets.set(key, [...(buckets.get(key) ?? []), job]);
    }
    for (const [key, list] of buckets) out.set(key, summarise(list));
    return out;
  }, [jobs.data, instances.data, ids, ongoing]);
  return { group, jobs: jobs.data ?? NONE, instances: instances.data ?? NONE, live };
}

export function summarise(list: Job[]): GroupLive {
  const running = list.filter((j) => j.status === 'running' || j.status === 'thrown_error_retrying');
  const failed = list.filter(isFailed);
  const done = list.filter(isDone).length;
  const percent = list.reduce((sum, j) => sum + (isDone(j) ? 100 : (j.percent ?? 0)), 0) / Math.max(1, list.length);
  const title = (j: Job) => j.title ?? j.functionName;
  const step = failed[0] ? `Failed: ${title(failed[0])}` : running[0] ? (running.length > 1 ? `${title(running[0])} (+${running.length - 1})` : title(running[0])) : done === list.length ? 'Done' : 'Waiting';
  return { percent, step, failed: failed.length, done, total: list.length };
}
