import { Badge, Button, Group, Menu, Modal, Pagination, Select, Stack, Table, Text, TextInput, Title, ActionIcon } from '@mantine/core';
import { useDebouncedValue } from '@mantine/hooks';
import { IconDots, IconPlus, IconSearch, IconTopologyStar3 } from '@tabler/icons-react';
import { keepPreviousData, useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { Link, useNavigate } from '@tanstack/react-router';
import { type FormEvent, useEffect, useState } from 'react';
import { api } from '../../api/client';
import { sitesQuery, useSiteNames } from '../../api/names';
import type { Infrastructure, Page } from '../../api/types';
import { count } from '../../components/format';
import { Empty, ErrorCard, Loading } from '../../components/states';
import { Ago, Status } from '../../components/status';
import { toast, toastError } from '../../components/toast';
import { subscribe } from '../../live/stream';
import { labelProblem } from '../designer/model/doc';

const PAGE = 20;

export function InfrastructureList() {
  const [creating, setCreating] = useState(false);
  const [search, setSearch] = useState('');
  const [page, setPage] = useState(1);
  const [asked] = useDebouncedValue(search, 250);
  const client = useQueryClient();
  const list = useQuery({
    queryKey: ['infrastructures', page, asked],
    queryFn: () => api.get<Page<Infrastructure>>('/infrastructures', { page, limit: PAGE, search: asked, sortBy: 'id:DESC', 'filter.serviceStatus': '$not:$eq:deleted' }),
    placeholderData: keepPreviousData,
  });
  useEffect(() => subscribe(({ topic, data }) => void ((topic === 'reset' || (topic === 'object' && /infrastructure$/.test(String(data.kind)))) && client.invalidateQueries({ queryKey: ['infrastructures'] }))), [client]);
  const siteName = useSiteNames();
  const rows = list.data?.data ?? [];
  const total = list.data?.meta.totalItems ?? rows.length;
  return (
    <main className="page">
      <Group justify="space-between" mb="md">
        <div>
          <Title order={1}>Infrastructures</Title>
          <Text c="dimmed" size="sm">
            Designs of servers and networks, and what runs of them.
          </Text>
        </div>
        <Group>
          <TextInput aria-label="Search infrastructures" placeholder="Search by name or id" leftSection={<IconSearch size={16} />} value={search} onChange={(e) => { setSearch(e.currentTarget.value); setPage(1); }} />
          <Button leftSection={<IconPlus size={18} />} onClick={() => setCreating(true)}>
            New infrastructure
          </Button>
        </Group>
      </Group>
      <div className="panel">
        {list.error ? (
          <ErrorCard error={list.error} retry={() => void list.refetch()} what="The list could not be loaded" />
        ) : list.isPending ? (
          <div style={{ padding: 16 }}>
            <Loading />
          </div>
        ) : !rows.length ? (
          asked ? (
            <Empty title="Nothing found">No infrastructure matches “{asked}”.</Empty>
          ) : (
            <Empty icon={<IconTopologyStar3 size={44} />} title="No infrastructure yet" action={<Button onClick={() => setCreating(true)}>New infrastructure</Button>}>
              An infrastructure is a design: groups of servers and the networks between them. Draw it, and one press deploys it.
            </Empty>
          )
        ) : (
          <Table highlightOnHover verticalSpacing="sm">
            <Table.Thead>
              <Table.Tr>
                <Table.Th>Name</Table.Th>
                <Table.Th>State</Table.Th>
                <Table.Th>Site</Table.Th>
                <Table.Th>Active servers</Table.Th>
                <Table.Th>Changed</Table.Th>
                <Table.Th aria-label="Actions" w={60} />
              </Table.Tr>
            </Table.Thead>
            <Table.Tbody>
              {rows.map((i) => (
                <Table.Tr key={i.id}>
                  <Table.Td>
                    <Link to="/infrastructures/$id" params={{ id: String(i.id) }} className="link">
                      {i.config.label ?? i.label}
                    </Link>
                  </Table.Td>
                  <Table.Td>
                    <Group gap={6}>
                      <Status value={i.serviceStatus} />
                      {i.config.deployStatus === 'ongoing' && <Badge color="steel" variant="light">Deploying</Badge>}
                      {i.config.deployType === 'delete' && i.config.deployStatus !== 'finished' && <Badge color="red" variant="light">To be deleted</Badge>}
                    </Group>
                  </Table.Td>
                  <Table.Td>{siteName(i.siteId)}</Table.Td>
                  <Table.Td className="num">{count(i.instancesCountActive)}</Table.Td>
                  <Table.Td>
                    <Ago at={i.updatedTimestamp} />
                  </Table.Td>
                  <Table.Td>
                    <RowMenu infrastructure={i} />
                  </Table.Td>
                </Table.Tr>
              ))}
            </Table.Tbody>
          </Table>
        )}
      </div>
      {total > PAGE && <Pagination mt="md" total={Math.ceil(total / PAGE)} value={page} onChange={setPage} getControlProps={(c) => ({ 'aria-label': `${c} page` })} />}
      <CreateDialog opened={creating} close={() => setCreating(false)} />
    </main>
  );
}

function RowMenu({ infrastructure }: { infrastructure: Infrastructure }) {
  const [asked, ask] = useState(false);
  const client = useQueryClient();
  const remove = useMutation({
    mutationFn: () => api.delete(`/infrastructures/${infrastructure.id}`, infrastructure.revision),
    onSuccess: () => {
      ask(false);
      void client.invalidateQueries({ queryKey: ['infrastructures'] });
      toast('Marked for deletion', infrastructure.serviceStatus === 'ordered' ? infrastructure.label : `${infrastructure.label}: open it and deploy to release its servers.`);
    },
    onError: (e) => toastError('Not deleted', e),
  });
  return (
    <>
      <Menu position="bottom-end" shadow="md">
        <Menu.Target>
          <ActionIcon variant="subtle" color="gray" aria-label={`Actions for ${infrastructure.label}`}>
            <IconDots size={18} />
          </ActionIcon>
        </Menu.Target>
        <Menu.Dropdown>
          <Menu.Item onClick={() => ask(true)}>Delete…</Menu.Item>
        </Menu.Dropdown>
      </Menu>
      <Modal opened={asked} onClose={() => ask(false)} title={<b>Delete {infrastructure.label}?</b>}>
        <Text size="sm">Its servers keep running until the deletion is deployed; then they are powered off, wiped and returned.</Text>
        <Group justify="flex-end" mt="md">
          <Button variant="default" onClick={() => ask(false)}>
            Cancel
          </Button>
          <Button color="red" loading={remove.isPending} onClick={() => remove.mutate()}>
            Delete
          </Button>
        </Group>
      </Modal>
    </>
  );
}

function CreateDialog({ opened, close }: { opened: boolean; close: () => void }) {
  const [label, setLabel] = useState('');
  const [site, setSite] = useState<string | null>(null);
  const navigate = useNavigate();
  const client = useQueryClient();
  const sites = useQuery({ ...sitesQuery, enabled: opened });
  const chosen = site ?? (sites.data?.data[0] ? String(sites.data.data[0].id) : null);
  const create = useMutation({
    mutationFn: () => api.post<Infrastructure>('/infrastructures', { label, siteId: Number(chosen) }),
    onSuccess: (made) => {
      void client.invalidateQueries({ queryKey: ['infrastructures'] });
      close();
      setLabel('');
      void navigate({ to: '/infrastructures/$id', params: { id: String(made.id) } });
    },
  });
  const problem = label ? labelProblem(label) : null;
  const submit = (e: FormEvent) => {
    e.preventDefault();
    if (label && !problem && chosen) create.mutate();
  };
  return (
    <Modal opened={opened} onClose={close} title={<b>New infrastructure</b>}>
      <form onSubmit={submit}>
        <Stack>
          <TextInput data-autofocus label="Name" description="Lower-case letters, digits and hyphens" required maxLength={63} value={label} error={problem} onChange={(e) => setLabel(e.currentTarget.value)} />
          <Select label="Site" required allowDeselect={false} data={(sites.data?.data ?? []).map((s) => ({ value: String(s.id), label: s.name }))} value={chosen} onChange={setSite} nothingFoundMessage="No site yet" />
          {sites.data && !sites.data.data.length && <Text size="sm" className="bad">There is no site yet: an administrator has to add one.</Text>}
          {create.error && <ErrorCard error={create.error} what="Not created" />}
          <Group justify="flex-end">
            <Button variant="default" onClick={close}>
              Cancel
            </Button>
            <Button type="submit" loading={create.isPending} disabled={!label || Boolean(problem) || !chosen}>
              Create and open
            </Button>
          </Group>
        </Stack>
      </form>
    </Modal>
  );
}
