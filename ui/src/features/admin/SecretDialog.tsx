import { ActionIcon, Button, Code, CopyButton, Group, Modal, Stack, Text } from '@mantine/core';
import { IconCheck, IconCopy } from '@tabler/icons-react';
import { useMutation } from '@tanstack/react-query';
import { ErrorCard } from '../../components/states';

/** Secrets are fetched when they are asked for, shown, and forgotten with the dialog. */
export function SecretDialog({ title, ask, close }: { title: string; ask: () => Promise<[string, string | null | undefined][]>; close: () => void }) {
  const secret = useMutation({ mutationFn: ask, gcTime: 0 });
  return (
    <Modal opened onClose={close} title={<b>{title}</b>}>
      <Stack>
        {!secret.data && <Text size="sm">That you looked is written to the event log.</Text>}
        {secret.error && <ErrorCard error={secret.error} what="Not shown" />}
        {secret.data?.map(([label, value]) => value && (
          <Group key={label} gap="xs" wrap="nowrap">
            <Text size="sm" c="dimmed" w={90} style={{ flex: 'none' }}>{label}</Text>
            <Code style={{ overflowWrap: 'anywhere' }}>{value}</Code>
            <CopyButton value={value}>
              {({ copied, copy }) => <ActionIcon ml="auto" variant="subtle" aria-label={copied ? `${label} copied` : `Copy ${label}`} onClick={copy}>{copied ? <IconCheck size={16} /> : <IconCopy size={16} />}</ActionIcon>}
            </CopyButton>
          </Group>
        ))}
        <Group justify="flex-end">
          <Button variant="default" onClick={close}>{secret.data ? 'Done' : 'Cancel'}</Button>
          {!secret.data && <Button data-autofocus loading={secret.isPending} onClick={() => secret.mutate()}>Show</Button>}
        </Group>
      </Stack>
    </Modal>
  );
}
