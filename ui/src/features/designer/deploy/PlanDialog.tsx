import { Alert, Badge, Button, Checkbox, Group, Modal, NumberInput, Stack, Text, TextInput } from '@mantine/core';
import { useMutation, useQueryClient } from '@tanstack/react-query';
import { useEffect, useRef, useState } from 'react';
import { ApiError, api } from '../../../api/client';
import type { Infrastructure, Plan } from '../../../api/types';
import { about, count } from '../../../components/format';
import { ErrorCard, Loading } from '../../../components/states';
import { toast } from '../../../components/toast';
import { flush } from '../model/persist';
import { PlanDetails } from './PlanDetails';


/** Plan, impact, options, deploy: what was shown is what is sent, by plan id and revision. */
export function PlanDialog({ infrastructure, opened, close }: { infrastructure: Infrastructure; opened: boolean; close: () => void }) {
  const [loss, setLoss] = useState(false);
  const [soft, setSoft] = useState(true);
  const [timeout, setTimeoutSeconds] = useState(180);
  const [hard, setHard] = useState(true);
  const [typed, setTyped] = useState('');
  const client = useQueryClient();
  const options = () => ({
    allowDataLoss: loss,
    shutdownOptions: { attemptSoftShutdown: soft, softShutdownTimeout: timeout, attemptHardShutdown: hard, forceShutdown: false },
  });
  const path = `/infrastructures/${infrastructure.id}/actions`;
  const plan = useMutation({
    mutationFn: async () => {
      await flush();
      return api.post<Plan>(`${path}/plan`, options());
    },
  });
  const deploy = useMutation({
    mutationFn: (p: Plan) => api.post<Infrastructure>(`${path}/deploy`, { ...options(), planId: p.planId, revision: p.revision }),
    onSuccess: (made) => {
      client.setQueryData(['infrastructure', infrastructure.id], (old: Infrastructure | undefined) => (made?.id ? made : old));
      void client.invalidateQueries({ queryKey: ['infrastructure', infrastructure.id] });
      void client.invalidateQueries({ queryKey: ['job-groups'] });
      close();
    },
    onError: (error) => {
      if (error instanceof ApiError && error.status === 409) {
        toast('The design changed meanwhile', 'The plan was made again; look at it once more.', { kind: 'error' });
        plan.mutate();
      }
    },
  });
  const asked = useRef<string>(undefined);
  useEffect(() => {
    if (!opened) {
      asked.current = undefined;
      setTyped('');
      setLoss(false);
      return;
    }
    const key = String(loss);
    if (asked.current !== key) {
      asked.current = key;
      deploy.reset();
      plan.mutate();
    }
    // The plan depends on whether data may be lost, on nothing else of this dialog.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [opened, loss]);

  const p = plan.data;
  const errors = p?.problems?.filter((x) => x.severity === 'error') ?? [];
  const destructive = loss;
  const empty = p && !p.changes.length && !errors.length;
  const reason = !p ? 'The plan is being made' : errors.length ? 'Solve the problems first' : empty ? 'Nothing to deploy' : destructive && typed !== infrastructure.label ? 'Type the name to confirm' : undefined;
  const asks = errors.some((x) => /data.?loss/i.test(x.code));
  return (
    <Modal opened={opened} onClose={close} title={<b>Deploy {infrastructure.label}</b>} size={860}>
      {plan.isPending && <Loading rows={6} />}
      {plan.error && <ErrorCard error={plan.error} retry={() => plan.mutate()} what="No plan could be made" />}
      {p && (
        <Stack gap="md">
          {errors.map((x, i) => (
            <Alert key={i} color="red" title={x.message} p="xs">
              {x.fix}
            </Alert>
          ))}
          {empty ? (
            <Text>The design is what is deployed: there is nothing to do.</Text>
          ) : (
            <>
              <Impact plan={p} />
              {p.warnings?.map((w, i) => (
                <Alert key={i} color="amber" p="xs">
                  {typeof w === 'string' ? w : w.message}
                </Alert>
              ))}
              <PlanDetails plan={p} />
            </>
          )}
        </Stack>
      )}
      {!empty && (
        <Stack gap="xs" mt="md">
          {(loss || asks || (p?.impact.disksErased ?? 0) > 0 || (p?.impact.serversPoweredOff ?? 0) > 0) && (
            <>
              <Checkbox label="Allow data loss (servers that leave the design are wiped)" checked={loss} onChange={(e) => setLoss(e.currentTarget.checked)} />
              <Group gap="md">
                <Checkbox label="Ask the system to shut down first" checked={soft} onChange={(e) => setSoft(e.currentTarget.checked)} />
                <NumberInput aria-label="Wait for shutdown, seconds" suffix=" s" w={110} min={0} max={3600} disabled={!soft} value={timeout} onChange={(v) => typeof v === 'number' && setTimeoutSeconds(v)} />
                <Checkbox label="Then cut the power" checked={hard} onChange={(e) => setHard(e.currentTarget.checked)} />
              </Group>
            </>
          )}
          {destructive && <TextInput label={`Type "${infrastructure.label}" to confirm the loss of data`} value={typed} onChange={(e) => setTyped(e.currentTarget.value)} />}
        </Stack>
      )}
      {deploy.error && <ErrorCard error={deploy.error} what="The deploy was not started" />}
      <Group justify="flex-end" mt="md">
        {reason && <Text size="sm" c="dimmed">{reason}</Text>}
        <Button variant="default" onClick={close}>
          Cancel
        </Button>
        <Button disabled={Boolean(reason) || plan.isPending} loading={deploy.isPending} onClick={() => p && deploy.mutate(p)}>
          Deploy
        </Button>
      </Group>
    </Modal>
  );
}

type Cell = [string, string, boolean?];
function storageCell(s: Plan['impact']['storage']): Cell[] {
  const said = s ? [s.made && `${s.made} new`, s.grown && `${s.grown} grown`, s.deleted && `${s.deleted} deleted`].filter(Boolean) : [];
  return s && said.length ? [[s.deleted ? `Storage (${s.deletedGib} GB lost)` : 'Storage', said.join(', '), s.deleted > 0]] : [];
}

function Impact({ plan }: { plan: Plan }) {
  const i = plan.impact;
  const cells: Cell[] = [
    ['Powered on', count(i.serversPoweredOn)],
    ['Powered off', count(i.serversPoweredOff), i.serversPoweredOff > 0],
    ['Wiped', count(i.serversWiped), i.serversWiped > 0],
    ['Disks erased', count(i.disksErased), i.disksErased > 0],
    ['Switch ports / switches', `${count(i.switchPorts)} / ${count(i.switchDevices)}`],
    ['Addresses released', count(i.addressesReleased), i.addressesReleased > 0],
    ['Other tenants', count(i.otherTenantsAffected), i.otherTenantsAffected > 0],
    ...storageCell(i.storage),
    ['Takes about', i.estimateSeconds ? about(i.estimateSeconds) : 'unknown'],
  ];
  return (
    <dl className={cells.length % 3 ? 'sy-impact' : 'sy-impact by-three'} aria-label="Impact">
      {cells.map(([label, text, hot]) => (
        <div key={label} className={hot ? 'hot' : ''}>
          <dt>{label}</dt>
          <dd className="num">
            {text} {hot && <Badge size="xs" color="amber" variant="light">check</Badge>}
          </dd>
        </div>
      ))}
    </dl>
  );
}
