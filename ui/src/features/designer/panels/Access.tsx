import { ActionIcon, Button, Code, CopyButton, Group, Stack, Text } from '@mantine/core';
import { IconCheck, IconCopy, IconEye } from '@tabler/icons-react';
import { useMutation } from '@tanstack/react-query';
import { api } from '../../../api/client';
import type { InstanceCredentials, ServerInstance } from '../../../api/types';
import { Status } from '../../../components/status';
import { toastError } from '../../../components/toast';

/** Every address anywhere in the allocated network configuration (netplan shape, nested per interface). */
export function addressesOf(config: unknown): string[] {
  const out = new Set<string>();
  const walk = (value: unknown, field: string) => {
    if (typeof value === 'string') {
      if (/address/i.test(field) && /^[0-9a-f:.]+(\/\d+)?$/i.test(value) && /[.:]/.test(value) && !/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test(value)) out.add(value.split('/')[0]);
    } else if (Array.isArray(value)) for (const v of value) walk(v, field);
    else if (value && typeof value === 'object') for (const [k, v] of Object.entries(value)) walk(v, /^(ip|ipv4|ipv6|address)/i.test(k) || /address/i.test(k) ? 'address' : /address/i.test(field) ? field : k);
  };
  walk(config, '');
  return [...out];
}

export function Access({ instances }: { instances: ServerInstance[] }) {
  if (!instances.length)
    return (
      <Text size="sm" c="dimmed">
        Servers appear here once a deploy has begun.
      </Text>
    );
  return (
    <Stack gap="xs">
      {instances.map((i) => (
        <InstanceAccess key={i.id} instance={i} />
      ))}
    </Stack>
  );
}

function InstanceAccess({ instance }: { instance: ServerInstance }) {
  const reveal = useMutation({
    mutationFn: () => api.get<InstanceCredentials>(`/server-instances/${instance.id}/credentials`),
    gcTime: 0,
    onError: (e) => toastError('Credentials not shown', e),
  });
  const addresses = addressesOf(instance.allocatedNetworkConfig);
  const c = reveal.data;
  return (
    <div className="panel" style={{ padding: 10 }}>
      <Group justify="space-between">
        <Text fw={600} size="sm">
          {instance.hostname || instance.label}
        </Text>
        <Status value={instance.serviceStatus} />
      </Group>
      <Text size="sm" className="mono">
        {addresses.join(', ') || 'no address yet'}
      </Text>
      {instance.osInstallError && (
        <Text size="sm" className="bad">
          {instance.osInstallError}
        </Text>
      )}
      {c ? (
        <Stack gap={2} mt={6}>
          <Secret label="User" value={c.username} />
          <Secret label="Password" value={c.initialPassword} />
          {addresses[0] && <Secret label="SSH" value={`ssh ${c.username ?? 'root'}@${addresses[0]}`} />}
          <Button size="compact-xs" variant="subtle" w="fit-content" onClick={() => reveal.reset()}>
            Hide
          </Button>
        </Stack>
      ) : (
        <Button mt={6} size="compact-sm" variant="light" leftSection={<IconEye size={15} />} disabled={instance.serviceStatus !== 'active'} loading={reveal.isPending} title={instance.serviceStatus === 'active' ? 'Recorded in the event log' : 'Available when the server is active'} onClick={() => reveal.mutate()}>
          Reveal credentials
        </Button>
      )}
    </div>
  );
}

function Secret({ label, value }: { label: string; value: string | null | undefined }) {
  if (!value) return null;
  return (
    <Group gap={6} wrap="nowrap">
      <Text size="xs" c="dimmed" w={60} style={{ flex: 'none' }}>
        {label}
      </Text>
      <Code style={{ overflowWrap: 'anywhere' }}>{value}</Code>
      <CopyButton value={value}>
        {({ copied, copy }) => (
          <ActionIcon size={24} ml="auto" variant="subtle" aria-label={copied ? `${label} copied` : `Copy ${label}`} onClick={copy}>
            {copied ? <IconCheck size={15} /> : <IconCopy size={15} />}
          </ActionIcon>
        )}
      </CopyButton>
    </Group>
  );
}
