import { useQuery, useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { api } from '../../../api/client';
import type { CustomIso } from '../../../api/systems';
import type { Page as Answer, Server } from '../../../api/types';
import { FormDialog } from '../../../components/Form';
import { Ago, Status } from '../../../components/status';
import { toast, toastError } from '../../../components/toast';
import { Crud } from '../Crud';
import { Page } from '../Page';
import { SYSTEM_SUB, SYSTEM_TABS } from './tabs';

/** Bootable images that people bring: a rescue system, a maker's tool. */
export function Isos() {
  const client = useQueryClient();
  const [booting, boot] = useState<CustomIso | null>(null);
  const free = useQuery({ queryKey: ['servers', 'to-boot'], enabled: Boolean(booting), queryFn: () => api.get<Answer<Server>>('/servers', { 'filter.serverStatus': '$in:available,unavailable,defective', limit: 100 }) });
  const publish = async (iso: CustomIso) => {
    try {
      await api.post(`/custom-isos/${iso.id}/actions/make-public`, undefined, iso.revision);
      void client.invalidateQueries({ queryKey: ['list', '/custom-isos'] });
      toast('Shown to all accounts', iso.label);
    } catch (e) {
      toastError('Not changed', e);
    }
  };
  return (
    <Page title="OS templates" sub={SYSTEM_SUB} tabs={SYSTEM_TABS}>
      <Crud<CustomIso>
        noun="image"
        table="Images to boot from"
        path="/custom-isos"
        kind={/custom_iso/}
        keyOf={(i) => i.id}
        name={(i) => i.label}
        revision={(i) => i.revision}
        columns={[
          { id: 'label', title: 'Label', width: 'minmax(150px, 1fr)', cell: (i) => <b>{i.label}</b> },
          { id: 'name', title: 'Name', width: 'minmax(150px, 1fr)', cell: (i) => i.name },
          { id: 'url', title: 'Address', width: 'minmax(240px, 2fr)', cell: (i) => <span className="mono">{i.accessUrl}</span> },
          { id: 'public', title: 'For', width: '150px', cell: (i) => (i.isPublic ? <Status value="success" label="All accounts" /> : 'one account') },
          { id: 'changed', title: 'Changed', width: '140px', cell: (i) => <Ago at={i.updatedTimestamp} /> },
        ]}
        fields={(i) => [
          ...(i ? [] : [{ name: 'label', label: 'Label', required: true, mono: true, help: 'Small letters, digits and hyphens.' }]),
          { name: 'name', label: 'Name', placeholder: 'Rescue system' },
          { name: 'accessUrl', label: 'Address', required: true, mono: true, placeholder: 'http://images.example.net/rescue.iso', help: 'Where the BMC fetches it from: http or https, without a login.' },
        ]}
        values={(i) => (i ? { name: i.name, accessUrl: i.accessUrl } : {})}
        actions={[
          { label: 'Boot a server from it…', run: boot },
          { label: 'Show to all accounts', run: (i) => void publish(i), off: (i) => Boolean(i.isPublic) },
        ]}
        removeText="A server that runs it goes on."
        empty="An image is put into a server’s BMC and booted once: a rescue system, or a maker’s own tool."
      />
      {booting && (
        <FormDialog
          title={`Boot a server from ${booting.name || booting.label}`}
          intro="The image is put into the virtual drive of its BMC; the server starts from it once. Servers that are used are booted by their owners, in the portal."
          fields={[
            { name: 'serverId', label: 'Server', kind: 'select', required: true, options: free.data?.data.map((s) => ({ value: String(s.serverId), label: [s.serialNumber || `server ${s.serverId}`, s.vendor, s.model].filter(Boolean).join(' · ') })) ?? [] },
            { name: 'hours', label: 'Taken out after', kind: 'number', min: 1, max: 48, suffix: ' h' },
          ]}
          initial={{ hours: 4 }}
          submit="Boot"
          close={() => boot(null)}
          save={async ({ serverId, hours }) => {
            await api.post(`/custom-isos/${booting.id}/actions/boot-into-server/${Number(serverId)}?ejectAfterSeconds=${Number(hours ?? 4) * 3600}`);
            toast('The server boots from the image', booting.name || booting.label);
          }}
        />
      )}
    </Page>
  );
}
