import { useInfiniteQuery, useQueryClient } from '@tanstack/react-query';
import { useEffect } from 'react';
import { api, type Query } from '../../api/client';
import type { Page } from '../../api/types';
import { subscribe } from '../../live/stream';

const PAGE = 100;

/** A server-driven list, page after page as it is scrolled; live messages about its kind refresh it (at most once a second). */
export function useList<T>(path: string, query: Query, options: { kind?: RegExp; interval?: number } = {}) {
  const client = useQueryClient();
  const { kind } = options;
  useEffect(() => {
    if (!kind) return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const stop = subscribe(({ topic, data }) => {
      const subject = topic === 'object' ? String(data.kind ?? '') : topic;
      if (!kind.test(subject) && topic !== 'reset') return;
      timer ??= setTimeout(() => {
        timer = undefined;
        void client.invalidateQueries({ queryKey: ['list', path] });
      }, 1_000);
    });
    return () => {
      stop();
      clearTimeout(timer);
    };
  }, [path, kind, client]);
  const result = useInfiniteQuery({
    queryKey: ['list', path, query],
    initialPageParam: 1,
    queryFn: ({ pageParam, signal }) => api.get<Page<T>>(path, { ...query, limit: PAGE, page: pageParam }, signal),
    getNextPageParam: (last) => (last.meta.currentPage < last.meta.totalPages ? last.meta.currentPage + 1 : undefined),
    placeholderData: (before) => before,
    refetchInterval: options.interval,
  });
  const rows = result.data?.pages.flatMap((p) => p.data) ?? [];
  return { ...result, rows, total: result.data?.pages[0]?.meta.totalItems ?? rows.length };
}
