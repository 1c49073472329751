import { Button, Group, Modal, Stack, Table, Text } from '@mantine/core';
import { IconPrinter } from '@tabler/icons-react';
import { Link } from '@tanstack/react-router';
import { useState } from 'react';
import type { CleaningCertificate, CleanupPolicy } from '../../api/hardware';
import { useSiteNames } from '../../api/names';
import type { Field } from '../../components/Form';
import { bytes, plural, when, words } from '../../components/format';
import { Ago, Status } from '../../components/status';
import { Crud } from './Crud';
import { type Column, DataTable, NoRows } from './DataTable';
import { useList } from './list';
import { Facts, Page } from './Page';

const TABS = [{ to: '/cleaning', label: 'Policies' }, { to: '/cleaning/certificates', label: 'Certificates' }];
const SUB = 'What is erased when a server is given back, how, and the proof of it.';
const METHODS: Record<string, string> = { auto: 'The best that holds', crypto_erase: 'Crypto erase', secure_erase: "The disk's own erasure", nvme_format: 'NVMe format', discard: 'Discard', overwrite: 'Overwrite' };
const method = (name: string) => METHODS[name] ?? words(name);
const TYPES: Record<string, string> = { hdd: 'Hard disks', ssd: 'SSDs', nvme: 'NVMe drives' };
/** What a new policy says of RAID where nobody says otherwise. */
const RAID = { recreateRaid: 0, resetRaidControllers: 0, disableEmbeddedNics: 0, raidOneDrive: 'RAID0', raidTwoDrives: 'RAID1', raidEvenNumberMoreThanTwoDrives: 'RAID10', raidOddNumberMoreThanOneDrive: 'RAID5', skipRaidActions: [] };

/** Switches that the interface counts as numbers. */
const SWITCHES = ['cleanupDrivesForOobEnabledServer', 'resetRaidControllers', 'recreateRaid', 'disableEmbeddedNics'] as const;

const FIELDS: Field[] = [
  { name: 'label', label: 'Label', required: true },
  { name: 'cleanupDrivesForOobEnabledServer', label: 'Clean at once', kind: 'switch', help: 'Off: a server that is given back waits until a person has it cleaned.' },
  { name: 'eraseMethod', label: 'Method', kind: 'select', required: true, options: Object.entries(METHODS).map(([value, label]) => ({ value, label })), help: 'A disk that cannot be erased by it keeps the server from becoming available.' },
  { name: 'eraseFallbackMethods', label: 'Otherwise by', kind: 'choices', options: Object.entries(METHODS).filter(([value]) => value !== 'auto').map(([value, label]) => ({ value, label })), help: 'Tried in this order on a disk that cannot do the method.' },
  { name: 'keepDiskTypes', label: 'Keep these', kind: 'choices', options: Object.entries(TYPES).map(([value, label]) => ({ value, label })), help: 'They are not erased, for whoever gets the server next.' },
  { name: 'keepDiskSerialNumbers', label: 'Keep the disks with these serial numbers', kind: 'words' },
  { name: 'resetRaidControllers', label: 'Delete RAID volumes', kind: 'switch' },
  { name: 'recreateRaid', label: 'Make one RAID volume of all drives of a controller', kind: 'switch', help: 'Before the disks are erased, so that every drive is reached.' },
  { name: 'clearTpm', label: 'Clear the TPM', kind: 'switch', help: 'A server whose TPM cannot be cleared does not become available.' },
  { name: 'resetBios', label: 'Firmware settings as from the factory', kind: 'switch' },
  { name: 'resetSecureBootKeys', label: 'Secure boot keys as from the factory', kind: 'switch' },
  { name: 'resetBmcSettings', label: 'BMC settings as from the factory', kind: 'switch', help: 'Its address and accounts stay.' },
  { name: 'disableEmbeddedNics', label: 'Switch network interfaces of the board off', kind: 'switch' },
];

export function Policies() {
  return (
    <Page title="Cleaning" sub={SUB} tabs={TABS}>
      <Crud<CleanupPolicy>
        noun="policy"
        table="Cleanup policies"
        path="/servers/cleanup-policies"
        kind={/cleanup_policy/}
        keyOf={(p) => p.id}
        name={(p) => p.label}
        revision={(p) => p.revision}
        columns={[
          { id: 'label', title: 'Label', width: 'minmax(180px, 1.4fr)', cell: (p) => <b>{p.label}</b> },
          { id: 'when', title: 'When', width: '160px', cell: (p) => (p.cleanupDrivesForOobEnabledServer ? 'At once' : 'By a person') },
          { id: 'method', title: 'Method', width: 'minmax(180px, 1fr)', cell: (p) => method(p.eraseMethod ?? 'auto') },
          { id: 'keep', title: 'Kept', width: 'minmax(180px, 1fr)', cell: (p) => [...(p.keepDiskTypes ?? []).map((t) => TYPES[t] ?? t), p.keepDiskSerialNumbers?.length ? plural(p.keepDiskSerialNumbers.length, 'disk') : ''].filter(Boolean).join(', ') || 'nothing' },
          { id: 'changed', title: 'Changed', width: '150px', cell: (p) => <Ago at={p.updatedTimestamp} /> },
        ]}
        fields={() => FIELDS}
        values={(p) => (p ? { ...p, ...Object.fromEntries(SWITCHES.map((n) => [n, Boolean(p[n])])), eraseMethod: p.eraseMethod ?? 'auto' } : { cleanupDrivesForOobEnabledServer: true, eraseMethod: 'auto' })}
        body={(values, row) => ({ ...(row ? {} : RAID), ...values, ...Object.fromEntries(SWITCHES.map((n) => [n, values[n] ? 1 : 0])) })}
        removeText="Servers, profiles and sites that use it must be given another one first."
        empty="Without one, every disk of a server that is given back is erased at once, by the quickest method that holds."
      />
    </Page>
  );
}

export function Certificates() {
  const siteName = useSiteNames();
  const [shown, show] = useState<CleaningCertificate | null>(null);
  const list = useList<CleaningCertificate>('/servers/cleaning-certificates', { sortBy: 'id:DESC' }, { kind: /^(server|cleaning|job)/ });
  const columns: Column<CleaningCertificate>[] = [
    { id: 'server', title: 'Server', width: 'minmax(150px, 1fr)', cell: (c) => <Link className="link mono" to="/servers/$id" params={{ id: String(c.serverId) }}>{c.serialNumber}</Link> },
    { id: 'result', title: 'Result', width: '120px', cell: (c) => <Status value={c.succeeded ? 'success' : 'failed'} label={c.succeeded ? 'Erased' : 'Not erased'} /> },
    { id: 'disks', title: 'Disks', width: '90px', cell: (c) => <span className="num">{c.disks.filter((d) => d.erased).length} of {c.disks.length}</span> },
    { id: 'method', title: 'Method', width: 'minmax(150px, 1fr)', cell: (c) => method(c.eraseMethod) },
    { id: 'policy', title: 'Policy', width: 'minmax(130px, 1fr)', cell: (c) => c.cleanupPolicyLabel || 'none' },
    { id: 'site', title: 'Site', width: 'minmax(110px, 1fr)', cell: (c) => siteName(c.siteId) },
    { id: 'when', title: 'Finished', width: '140px', cell: (c) => <Ago at={c.finishedTimestamp} /> },
    { id: 'open', title: '', width: '90px', cell: (c) => <Button size="compact-sm" variant="light" aria-label={`Show certificate of ${c.serialNumber}`} onClick={() => show(c)}>Show</Button> },
  ];
  return (
    <Page title="Cleaning" sub={SUB} tabs={TABS}>
      <DataTable label="Cleaning certificates" columns={columns} source={list} keyOf={(c) => c.id} empty={<NoRows title="No certificate yet">Each cleaning of a server leaves one: which disks were erased, how, and how that was checked.</NoRows>} />
      {shown && <CertificateDialog of={shown} site={siteName(shown.siteId)} close={() => show(null)} />}
    </Page>
  );
}

export function CertificateDialog({ of: c, site, close }: { of: CleaningCertificate; site: string; close: () => void }) {
  return (
    <Modal opened onClose={close} size={860} title={<b>Cleaning certificate {c.id}</b>} classNames={{ content: 'printed' }}>
      <Stack>
        <Facts of={[['Server', <span key="s" className="mono">{c.serialNumber}</span>], ['Site', site], ['Finished', when(c.finishedTimestamp)], ['Result', c.succeeded ? 'Every disk that was to be erased is erased' : <span key="r" className="bad">{c.reason || 'Not erased'}</span>], ['Method', method(c.eraseMethod)], ['Policy', c.cleanupPolicyLabel || 'none'], ['Job', c.jobId]]} />
        <Table.ScrollContainer minWidth={680}>
          <Table aria-label="Disks">
            <Table.Thead><Table.Tr><Table.Th>Disk</Table.Th><Table.Th>Serial</Table.Th><Table.Th>Size</Table.Th><Table.Th>Result</Table.Th><Table.Th>Method</Table.Th><Table.Th>Checked by</Table.Th></Table.Tr></Table.Thead>
            <Table.Tbody>
              {c.disks.map((d) => (
                <Table.Tr key={d.name}>
                  <Table.Td>{d.name}{d.model && <Text size="xs" c="dimmed">{d.model}</Text>}</Table.Td>
                  <Table.Td className="mono" style={{ whiteSpace: 'nowrap' }}>{d.serialNumber || '–'}</Table.Td>
                  <Table.Td className="num" style={{ whiteSpace: 'nowrap' }}>{bytes(d.sizeBytes)}</Table.Td>
                  <Table.Td>{d.erased ? <Status value="success" label="Erased" /> : d.error ? <span className="bad">{d.error}</span> : <Status value="skipped" label="Kept" />}</Table.Td>
                  <Table.Td>{d.method ? method(d.method) : '–'}{d.standard && <Text size="xs" c="dimmed">{d.standard}{d.tried?.length ? `, after: ${d.tried.join('; ')}` : ''}</Text>}</Table.Td>
                  <Table.Td>{d.verification || '–'}</Table.Td>
                </Table.Tr>
              ))}
            </Table.Tbody>
          </Table>
        </Table.ScrollContainer>
        {!c.disks.length && <Text size="sm" c="dimmed">No disk was seen.</Text>}
        {!!c.steps?.length && (
          <Table aria-label="Beside the disks">
            <Table.Tbody>
              {c.steps.map((s) => (
                <Table.Tr key={s.what}>
                  <Table.Td>{s.what}</Table.Td>
                  <Table.Td><Status value={s.done ? 'success' : 'skipped'} label={s.done ? 'Done' : 'Not done'} /></Table.Td>
                  <Table.Td>{s.words}</Table.Td>
                </Table.Tr>
              ))}
            </Table.Tbody>
          </Table>
        )}
        <Text size="sm" c="dimmed">{c.signed ? <>Signed by the site with key <span className="mono">{c.signed.publicKey}</span>. To check it without this server: <span className="mono">steelyard verify-certificate</span>.</> : 'Not signed.'}</Text>
        <Group justify="flex-end" className="no-print">
          <Button variant="default" leftSection={<IconPrinter size={16} />} onClick={() => window.print()}>Print</Button>
          <Button onClick={close}>Close</Button>
        </Group>
      </Stack>
    </Modal>
  );
}
