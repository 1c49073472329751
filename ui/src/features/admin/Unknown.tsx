import { Button } from '@mantine/core';
import { useQueryClient } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { useState } from 'react';
import { api } from '../../api/client';
import type { UnknownMachine } from '../../api/hardware';
import { useSiteNames } from '../../api/names';
import { FormDialog } from '../../components/Form';
import { Ago, Status } from '../../components/status';
import { toast } from '../../components/toast';
import { type Column, DataTable, NoRows } from './DataTable';
import { useList } from './list';
import { Page } from './Page';
import { SERVER_TABS } from './Servers';

/** Machines that asked for an address and that nobody has registered. */
export function UnknownMachines() {
  const list = useList<UnknownMachine>('/servers/unknown-machines', { sortBy: 'id:DESC' }, { kind: /machine|^server/, interval: 15_000 });
  const siteName = useSiteNames();
  const [doomed, setDoomed] = useState<UnknownMachine | null>(null);
  const client = useQueryClient();
  const columns: Column<UnknownMachine>[] = [
    { id: 'mac', title: 'MAC', width: '170px', cell: (m) => <span className="mono">{m.macAddress}</span> },
    { id: 'kind', title: 'What it is', width: '130px', cell: (m) => (m.kind === 'bmc' ? 'BMC' : 'Machine that boots') },
    { id: 'status', title: 'State', width: '130px', cell: (m) => <Status value={m.status === 'registered' ? 'registered' : 'warning'} label={m.status === 'registered' ? 'Registered' : 'In quarantine'} /> },
    { id: 'site', title: 'Site', width: 'minmax(110px, 1fr)', cell: (m) => siteName(m.siteId) },
    { id: 'address', title: 'Address', width: '140px', cell: (m) => <span className="mono">{m.address || '–'}</span> },
    { id: 'port', title: 'Seen at', width: 'minmax(110px, 1fr)', cell: (m) => m.circuitId || '–' },
    { id: 'class', title: 'Says it is', width: 'minmax(140px, 1.2fr)', cell: (m) => <span className="mono">{m.vendorClass || '–'}</span> },
    { id: 'last', title: 'Last seen', width: '130px', cell: (m) => <Ago at={m.lastSeenTimestamp} /> },
    { id: 'do', title: '', width: '110px', cell: (m) => (m.serverId ? <Link className="link" to="/servers/$id" params={{ id: String(m.serverId) }}>Server</Link> : <Button size="compact-sm" variant="subtle" color="gray" aria-label={`Forget ${m.macAddress}`} onClick={() => setDoomed(m)}>Forget</Button>) },
  ];
  return (
    <Page title="Servers" sub="Machines that nobody registered get an address for looking at, and nothing is started on them." tabs={SERVER_TABS}>
      <DataTable label="Unknown machines" columns={columns} source={list} keyOf={(m) => m.id} empty={<NoRows title="No unknown machine">A machine that asks a site for an address without being registered is listed here and stays in quarantine.</NoRows>} />
      {doomed && (
        <FormDialog
          title={`Forget ${doomed.macAddress}?`}
          intro="It is listed again as soon as it asks for an address again."
          fields={[]}
          submit="Forget"
          close={() => setDoomed(null)}
          save={async () => {
            await api.delete(`/servers/unknown-machines/${doomed.id}`);
            void client.invalidateQueries({ queryKey: ['list', '/servers/unknown-machines'] });
            toast('Forgotten', doomed.macAddress);
          }}
        />
      )}
    </Page>
  );
}
