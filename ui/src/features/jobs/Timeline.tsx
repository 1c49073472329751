import { Text } from '@mantine/core';
import type { Job } from '../../api/types';
import { duration } from '../../components/format';
import { statusText } from '../../components/status';

/** When each step ran; widths are shares of the whole time. */
export function Timeline({ jobs }: { jobs: Job[] }) {
  const now = Date.now();
  const bars = jobs
    .filter((j) => j.startTimestamp)
    .map((job) => {
      const from = Date.parse(job.startTimestamp ?? '');
      const open = /running|retrying/.test(job.status);
      return { job, from, to: open ? now : Math.max(from, job.durationMilliseconds ? from + job.durationMilliseconds : Date.parse(job.updatedTimestamp)) };
    })
    .sort((a, b) => a.from - b.from || a.job.jobId - b.job.jobId);
  if (!bars.length) return <Text p="md" c="dimmed">No step has started yet.</Text>;
  const start = bars[0].from;
  const span = Math.max(1, ...bars.map((b) => b.to - start));
  return (
    <ol className="timeline">
      {bars.map(({ job, from, to }) => (
        <li key={job.jobId}>
          <span className="timeline-name" title={job.title ?? job.functionName}>{job.title ?? job.functionName}</span>
          <span className="timeline-track">
            <span className={`timeline-bar ${job.status}`} style={{ left: `${(100 * (from - start)) / span}%`, width: `max(3px, ${(100 * (to - from)) / span}%)` }} />
          </span>
          <span className="num sy-dim">{statusText(job.status)} · {duration(to - from)}</span>
        </li>
      ))}
    </ol>
  );
}
