import { useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { api } from '../../api/client';
import type { CleanupPolicy, DefaultLogin, RegistrationProfile } from '../../api/hardware';
import { sitesQuery, useSiteNames } from '../../api/names';
import type { Page as Answer } from '../../api/types';
import type { Field } from '../../components/Form';
import { nest } from '../../components/nest';
import { Crud } from './Crud';
import { Page } from './Page';
import { SecretDialog } from './SecretDialog';

const TABS = [{ to: '/registration', label: 'Profiles' }, { to: '/registration/logins', label: 'Default logins' }];
const CREDENTIALS: Record<string, string> = { user: 'The login that was given', random: 'A password of its own for each BMC' };

export const profilesQuery = { queryKey: ['registration-profiles'], staleTime: 30_000, queryFn: () => api.get<Answer<RegistrationProfile>>('/servers/registration-profiles', { limit: 100 }) };

export function Profiles() {
  const policies = useQuery({ queryKey: ['cleanup-policies'], staleTime: 30_000, queryFn: () => api.get<Answer<CleanupPolicy>>('/servers/cleanup-policies', { limit: 100 }), retry: false });
  const names = new Map(policies.data?.data.map((p) => [p.id, p.label]));
  const fields: Field[] = [
    { name: 'name', label: 'Name', required: true },
    { name: 'settings.registerCredentials', label: 'BMC login after registration', kind: 'select', required: true, options: Object.entries(CREDENTIALS).map(([value, label]) => ({ value, label })), help: 'A password of its own is proven before the old one is given up.' },
    { name: 'settings.minimumNumberOfConnectedInterfaces', label: 'Interfaces that must be connected', kind: 'number', min: 0, max: 64, help: 'With fewer, the server does not become available.' },
    { name: 'settings.alwaysDiscoverInterfacesWithBDK', label: 'Boot once into discovery', kind: 'switch', help: 'Cabling, serial numbers of disks and the TPM are only seen from inside.' },
    { name: 'settings.enableSyslogMonitoring', label: 'Let the BMC report its events', kind: 'switch' },
    { name: 'settings.serverCleanupPolicyId', label: 'Cleanup policy', kind: 'select', numeric: true, options: policies.data?.data.map((p) => ({ value: String(p.id), label: p.label })) ?? [], help: 'Empty: that of the site.' },
  ];
  return (
    <Page title="Registration" sub="How servers come in, and with which login their BMC is asked." tabs={TABS}>
      <Crud<RegistrationProfile>
        noun="profile"
        table="Registration profiles"
        path="/servers/registration-profiles"
        kind={/registration_profile/}
        keyOf={(p) => p.id}
        name={(p) => p.name}
        revision={(p) => p.revision}
        columns={[
          { id: 'name', title: 'Name', width: 'minmax(180px, 1.4fr)', cell: (p) => <b>{p.name}</b> },
          { id: 'login', title: 'BMC login', width: 'minmax(220px, 1fr)', cell: (p) => CREDENTIALS[p.settings.registerCredentials ?? 'user'] },
          { id: 'nics', title: 'Connected interfaces', width: '170px', cell: (p) => `at least ${p.settings.minimumNumberOfConnectedInterfaces ?? 0}` },
          { id: 'boot', title: 'Discovery', width: '110px', cell: (p) => (p.settings.alwaysDiscoverInterfacesWithBDK === false ? 'no' : 'yes') },
          { id: 'clean', title: 'Cleanup policy', width: 'minmax(140px, 1fr)', cell: (p) => (p.settings.serverCleanupPolicyId ? (names.get(p.settings.serverCleanupPolicyId) ?? p.settings.serverCleanupPolicyId) : 'of the site') },
        ]}
        fields={() => fields}
        values={(p) => Object.fromEntries(fields.map(({ name }) => [name, name === 'name' ? p?.name : (p?.settings[name.slice(9)] ?? { registerCredentials: 'user', minimumNumberOfConnectedInterfaces: 1, alwaysDiscoverInterfacesWithBDK: true }[name.slice(9)])]))}
        body={(values) => nest(values)}
        removeText="Servers that came in by it stay as they are."
        empty="Without one, servers come in by the system's defaults."
      />
    </Page>
  );
}

const whose = (d: DefaultLogin) => d.serverSerialNumber || d.serverMacAddress || [d.serverVendor, d.serverModel].filter(Boolean).join(' ');

export function DefaultLogins() {
  const sites = useQuery(sitesQuery);
  const siteName = useSiteNames();
  const [shown, show] = useState<DefaultLogin | null>(null);
  const profiles = useQuery(profilesQuery);
  const fields = (row: DefaultLogin | null): Field[] => [
    { name: 'siteId', label: 'Site', kind: 'select', numeric: true, required: true, options: sites.data?.data.map((s) => ({ value: String(s.id), label: s.name })) ?? [], show: () => !row },
    { name: 'serverSerialNumber', label: 'Serial number', mono: true, help: 'Of one server.', show: () => !row },
    { name: 'serverMacAddress', label: 'MAC address of the BMC', mono: true, help: 'Of one server.', show: (v) => !row && !v.serverSerialNumber },
    { name: 'serverVendor', label: 'Maker', help: 'Of all servers of that maker at the site. With none of these, the login is that of all servers there.', placeholder: 'Dell', show: (v) => !row && !v.serverSerialNumber && !v.serverMacAddress },
    { name: 'serverModel', label: 'Model', help: 'Of that maker’s servers of this model alone.', show: (v) => !row && Boolean(v.serverVendor) && !v.serverSerialNumber && !v.serverMacAddress },
    { name: 'defaultUsername', label: 'BMC user', required: true },
    { name: 'defaultPassword', label: 'BMC password', kind: 'password', required: !row, help: row ? 'Empty: as it is.' : undefined },
    { name: 'defaultRackName', label: 'Rack' },
    { name: 'defaultRegistrationProfileId', label: 'Registration profile', kind: 'select', numeric: true, options: profiles.data?.data.map((p) => ({ value: String(p.id), label: p.name })) ?? [] },
  ];
  return (
    <Page title="Registration" sub="How servers come in, and with which login their BMC is asked." tabs={TABS}>
      <Crud<DefaultLogin>
        noun="default login"
        table="Default logins"
        path="/servers/default-credentials"
        kind={/default_credentials/}
        keyOf={(d) => d.id}
        name={(d) => whose(d) || `all of ${siteName(d.siteId)}`}
        columns={[
          { id: 'site', title: 'Site', width: 'minmax(140px, 1fr)', cell: (d) => siteName(d.siteId) },
          { id: 'for', title: 'For', width: 'minmax(200px, 1.4fr)', cell: (d) => (d.serverSerialNumber || d.serverMacAddress ? <span className="mono">{whose(d)}</span> : d.serverVendor ? `all of ${whose(d)}` : 'all servers of the site') },
          { id: 'user', title: 'BMC user', width: 'minmax(140px, 1fr)', cell: (d) => d.defaultUsername },
          { id: 'rack', title: 'Rack', width: '120px', cell: (d) => d.defaultRackName || '–' },
        ]}
        fields={fields}
        values={(d) => (d ? { defaultUsername: d.defaultUsername, defaultRackName: d.defaultRackName, defaultRegistrationProfileId: d.defaultRegistrationProfileId } : { siteId: sites.data?.data[0]?.id })}
        body={(values, row) => (row ? values : { serverSerialNumber: '', serverMacAddress: '', ...values })}
        actions={[{ label: 'Show password…', run: show }]}
        intro="Servers that wait for a login are registered as soon as one fits."
        empty="A server that reports itself waits until somebody enters the login of its BMC. A default login is tried at once."
      />
      {shown && (
        <SecretDialog
          title={`Login for ${whose(shown) || `all of ${siteName(shown.siteId)}`}`}
          ask={async () => {
            const c = await api.get<{ defaultUsername: string; defaultPassword: string }>(`/servers/default-credentials/${shown.id}/credentials`);
            return [['User', c.defaultUsername], ['Password', c.defaultPassword]];
          }}
          close={() => show(null)}
        />
      )}
    </Page>
  );
}
