import { Button, Group, Menu, Modal, Progress, Stack, Table, Text, Textarea } from '@mantine/core';
import { IconDots } from '@tabler/icons-react';
import { useMutation, useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { api } from '../../api/client';
import type { Job } from '../../api/types';
import { duration } from '../../components/format';
import { Status } from '../../components/status';
import { toast, toastError } from '../../components/toast';

type Verb = 'retry' | 'skip' | 'kill' | 'stop-retrying';
const VERBS: Record<Verb, { label: string; text: string; when: (j: Job) => boolean; reason: boolean }> = {
  retry: { label: 'Retry', text: 'The step is run again from its beginning.', when: (j) => /thrown_error/.test(j.status) || (j.status === 'returned_success' && Boolean(j.options?.canBeRetriedIfSuccessful)), reason: false },
  skip: { label: 'Skip', text: 'The step counts as done and what waits for it goes on. Make sure its work is done by hand.', when: (j) => j.options?.canBeSkipped !== false && !/success|skipped|running/.test(j.status), reason: true },
  'stop-retrying': { label: 'Stop retrying', text: 'The step fails at its next error instead of being tried again.', when: (j) => /running|retrying/.test(j.status), reason: true },
  kill: { label: 'Kill', text: 'The step is stopped where it is and counts as failed.', when: (j) => /running|retrying/.test(j.status), reason: false },
};
const ORDER: Record<string, number> = { thrown_error: 0, thrown_error_retrying: 1, running: 2, not_called: 3 };

/** Jobs with what can be done about them; failures float to the top. */
export function JobTable({ jobs, compact }: { jobs: Job[]; compact?: boolean }) {
  const [asked, ask] = useState<{ job: Job; verb: Verb } | null>(null);
  const sorted = [...jobs].sort((a, b) => (ORDER[a.status] ?? 4) - (ORDER[b.status] ?? 4) || a.jobId - b.jobId);
  return (
    <>
      <Table stickyHeader highlightOnHover verticalSpacing={compact ? 4 : 'xs'} aria-label="Jobs">
        <Table.Thead>
          <Table.Tr>
            <Table.Th>Step</Table.Th>
            <Table.Th w={130}>State</Table.Th>
            <Table.Th w={170}>Progress</Table.Th>
            <Table.Th w={80}>Tries</Table.Th>
            <Table.Th w={100}>Time</Table.Th>
            <Table.Th w={150} aria-label="Actions" />
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {sorted.slice(0, compact ? 200 : 1000).map((job) => (
            <Table.Tr key={job.jobId} data-job={job.jobId} data-status={job.status}>
              <Table.Td>
                <Text size="sm" fw={550}>
                  {job.title ?? job.functionName}
                </Text>
                {!compact && (
                  <Text size="xs" c="dimmed" className="mono">
                    {job.functionName} · {job.jobId}
                  </Text>
                )}
                {job.error ? (
                  <Text size="sm" className="bad" role="note">
                    {job.error}
                  </Text>
                ) : (
                  job.message && job.status === 'running' && <Text size="xs" c="dimmed">{job.message}</Text>
                )}
              </Table.Td>
              <Table.Td>
                <Status value={job.status} />
                {job.markForDeath && job.markForDeath !== 'keep_alive' && <Text size="xs" c="dimmed">{job.markForDeath.replaceAll('_', ' ')}</Text>}
              </Table.Td>
              <Table.Td>
                {/running|retrying/.test(job.status) && <Progress value={job.percent ?? 0} aria-label={`Progress of ${job.title ?? job.functionName}`} />}
              </Table.Td>
              <Table.Td className="num">{job.callCount || '–'}</Table.Td>
              <Table.Td className="num">{duration(job.durationMilliseconds ?? (job.status === 'running' && job.startTimestamp ? Date.now() - Date.parse(job.startTimestamp) : null))}</Table.Td>
              <Table.Td>
                <Group gap={4} justify="flex-end" wrap="nowrap">
                  {VERBS.retry.when(job) && job.status !== 'returned_success' && (
                    <Button size="compact-sm" onClick={() => ask({ job, verb: 'retry' })}>
                      Retry
                    </Button>
                  )}
                  {(Object.keys(VERBS) as Verb[]).some((v) => VERBS[v].when(job)) && (
                    <Menu position="bottom-end" shadow="md" withinPortal>
                      <Menu.Target>
                        <Button size="compact-sm" variant="default" aria-label={`Actions for ${job.title ?? job.functionName}`}>
                          <IconDots size={16} />
                        </Button>
                      </Menu.Target>
                      <Menu.Dropdown>
                        {(Object.keys(VERBS) as Verb[])
                          .filter((v) => VERBS[v].when(job))
                          .map((verb) => (
                            <Menu.Item key={verb} onClick={() => ask({ job, verb })}>
                              {VERBS[verb].label}…
                            </Menu.Item>
                          ))}
                      </Menu.Dropdown>
                    </Menu>
                  )}
                </Group>
              </Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
      {asked && <VerbDialog {...asked} close={() => ask(null)} />}
    </>
  );
}

function VerbDialog({ job, verb, close }: { job: Job; verb: Verb; close: () => void }) {
  const [reason, setReason] = useState('');
  const client = useQueryClient();
  const { label, text, reason: needed } = VERBS[verb];
  const act = useMutation({
    mutationFn: () =>
      verb === 'kill'
        ? api.post(`/jobs/${job.jobId}/actions/issue-command`, { command: 'kill', executeImmediately: true })
        : api.post(`/jobs/${job.jobId}/actions/${verb}`, verb === 'retry' ? { retryEvenIfSuccessful: job.status === 'returned_success' } : { reason: reason.trim() }),
    onSuccess: () => {
      toast(`${label}: done`, job.title ?? job.functionName);
      void client.invalidateQueries({ queryKey: ['jobs'] });
      void client.invalidateQueries({ queryKey: ['job-groups'] });
      close();
    },
    onError: (e) => toastError(`${label} was refused`, e),
  });
  return (
    <Modal opened onClose={close} title={<b>{`${label}: ${job.title ?? job.functionName}`}</b>}>
      <Stack>
        <Text size="sm">{text}</Text>
        {job.error && (
          <Text size="sm" className="bad">
            {job.error}
          </Text>
        )}
        {needed && <Textarea label="Reason" description="Kept in the event log" required autosize minRows={2} maxLength={500} value={reason} onChange={(e) => setReason(e.currentTarget.value)} />}
        <Group justify="flex-end">
          <Button variant="default" onClick={close}>
            Cancel
          </Button>
          <Button color={verb === 'kill' ? 'red' : undefined} disabled={needed && !reason.trim()} loading={act.isPending} onClick={() => act.mutate()}>
            {label}
          </Button>
        </Group>
      </Stack>
    </Modal>
  );
}
