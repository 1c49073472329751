import { useQuery } from '@tanstack/react-query';
import { api } from '../../../api/client';
import type { Action, Baseline, Binary, Catalog, Policy } from '../../../api/firmware';
import type { Page as Answer } from '../../../api/types';
import { plural, words } from '../../../components/format';
import { Ago, Status } from '../../../components/status';
import { Crud } from '../Crud';
import { Page } from '../Page';
import { FIRMWARE_SUB, FIRMWARE_TABS } from './tabs';

const VENDORS = [{ value: 'dell', label: 'Dell' }, { value: 'hp', label: 'HPE' }, { value: 'lenovo', label: 'Lenovo' }, { value: 'supermicro', label: 'Supermicro' }];
const vendor = (v: string) => VENDORS.find((x) => x.value === v)?.label ?? words(v);
const catalogsQuery = { queryKey: ['firmware-catalogs'], staleTime: 30_000, queryFn: () => api.get<Answer<Catalog>>('/firmware/catalog', { limit: 100 }) };
const KIND = /firmware/;
const frame = { title: 'Firmware', sub: FIRMWARE_SUB, tabs: FIRMWARE_TABS } as const;

/** One line a demand: `NAME VERSION`, the version being the last word. */
const demands = (text: unknown) =>
  String(text ?? '').split('\n').map((l) => l.trim()).filter(Boolean).map((l) => {
    const at = l.lastIndexOf(' ');
    return { componentName: at < 0 ? l : l.slice(0, at).trim(), minimumVersion: at < 0 ? '' : l.slice(at + 1) };
  });

export function Baselines() {
  const catalogs = useQuery(catalogsQuery);
  return (
    <Page {...frame}>
      <Crud<Baseline>
        noun="baseline"
        table="Baselines"
        path="/firmware/baseline"
        kind={KIND}
        method="put"
        keyOf={(b) => b.id}
        name={(b) => b.name}
        revision={(b) => b.revision}
        columns={[
          { id: 'name', title: 'Name', width: 'minmax(160px, 1fr)', cell: (b) => <b>{b.name}</b> },
          { id: 'text', title: 'Description', width: 'minmax(200px, 1.6fr)', cell: (b) => b.description || '–' },
          { id: 'catalogs', title: 'Catalogs', width: 'minmax(160px, 1fr)', cell: (b) => b.catalog?.join(', ') || 'none' },
          { id: 'least', title: 'At least', width: 'minmax(160px, 1fr)', cell: (b) => (b.minimumVersions?.length ? plural(b.minimumVersions.length, 'demand') : '–') },
        ]}
        fields={() => [
          { name: 'name', label: 'Name', required: true },
          { name: 'description', label: 'Description' },
          { name: 'catalog', label: 'Catalogs', kind: 'choices', options: catalogs.data?.data.map((c) => ({ value: c.name, label: c.name })) ?? [], help: catalogs.data?.data.length ? 'Their newest versions are what servers should have.' : 'There is no catalog yet.' },
          { name: 'minimumVersions', label: 'At least these versions', kind: 'area', mono: true, placeholder: 'BIOS 1.8.2\niDRAC 7.10.30', help: 'A line each: the name of the part and its version.' },
        ]}
        values={(b) => (b ? { ...b, catalog: b.catalog ?? [], minimumVersions: (b.minimumVersions ?? []).map((m) => `${m.componentName} ${m.minimumVersion}`).join('\n') } : { catalog: [] })}
        body={(v) => ({ name: v.name, description: v.description, catalog: v.catalog, minimumVersions: demands(v.minimumVersions) })}
        empty="A baseline says which versions servers should have."
      />
    </Page>
  );
}

export function Catalogs() {
  return (
    <Page {...frame}>
      <Crud<Catalog>
        noun="catalog"
        table="Catalogs"
        path="/firmware/catalog"
        kind={KIND}
        method="put"
        keyOf={(c) => c.id}
        name={(c) => c.name}
        columns={[
          { id: 'name', title: 'Name', width: 'minmax(160px, 1fr)', cell: (c) => <b>{c.name}</b> },
          { id: 'vendor', title: 'Maker', width: '130px', cell: (c) => vendor(c.vendor) },
          { id: 'type', title: 'Kept', width: '170px', cell: (c) => (c.updateType === 'online' ? 'From its maker' : 'By hand') },
          { id: 'url', title: 'Where', width: 'minmax(220px, 2fr)', cell: (c) => <span className="mono">{c.vendorUrl || '–'}</span> },
          { id: 'made', title: 'Added', width: '150px', cell: (c) => <Ago at={c.createdTimestamp} /> },
        ]}
        fields={() => [
          { name: 'name', label: 'Name', required: true },
          { name: 'vendor', label: 'Maker', kind: 'select', required: true, options: VENDORS },
          { name: 'updateType', label: 'How it is kept', kind: 'select', required: true, options: [{ value: 'offline', label: 'By hand: binaries are added here' }, { value: 'online', label: 'From its maker' }] },
          { name: 'vendorUrl', label: 'Address of the catalog', mono: true, show: (v) => v.updateType === 'online' },
          { name: 'description', label: 'Description' },
        ]}
        values={(c) => (c ? { ...c } : { updateType: 'offline', vendor: 'dell' })}
        body={(v) => ({ name: v.name, vendor: v.vendor, updateType: v.updateType, vendorUrl: v.vendorUrl, description: v.description })}
        removeText="Its binaries go with it."
        empty="A catalog is a maker's list of firmware, or one of your own."
      />
    </Page>
  );
}

const SEVERITIES = ['unknown', 'recommended', 'critical', 'optional'];
const comma = (v: unknown) => String(v ?? '').split(/[,\n]/).map((t) => t.trim()).filter(Boolean);

export function Binaries() {
  const catalogs = useQuery(catalogsQuery);
  const name = (id: number) => catalogs.data?.data.find((c) => c.id === id)?.name ?? `catalog ${id}`;
  return (
    <Page {...frame}>
      <Crud<Binary>
        noun="binary"
        table="Binaries"
        path="/firmware/binary"
        kind={KIND}
        canEdit={false}
        keyOf={(b) => b.id}
        name={(b) => b.name}
        columns={[
          { id: 'name', title: 'Name', width: 'minmax(180px, 1.4fr)', cell: (b) => <b>{b.name}</b> },
          { id: 'version', title: 'Version', width: '130px', cell: (b) => <span className="mono">{b.packageVersion || '–'}</span> },
          { id: 'catalog', title: 'Catalog', width: 'minmax(130px, 1fr)', cell: (b) => name(b.catalogId) },
          { id: 'severity', title: 'Weight', width: '130px', cell: (b) => <Status value={b.updateSeverity === 'critical' ? 'critical' : 'unknown'} label={words(b.updateSeverity)} /> },
          { id: 'restart', title: 'Restart', width: '100px', cell: (b) => (b.rebootRequired ? 'needed' : 'no') },
          { id: 'url', title: 'Where', width: 'minmax(200px, 1.6fr)', cell: (b) => <span className="mono">{b.vendorDownloadUrl}</span> },
        ]}
        fields={() => [
          { name: 'name', label: 'Name', required: true },
          { name: 'catalogId', label: 'Catalog', kind: 'select', numeric: true, required: true, options: catalogs.data?.data.map((c) => ({ value: String(c.id), label: c.name })) ?? [] },
          { name: 'packageVersion', label: 'Version', required: true, mono: true },
          { name: 'vendorDownloadUrl', label: 'Address of the image', required: true, mono: true },
          { name: 'devices', label: 'For these parts', required: true, placeholder: 'BIOS, iDRAC', help: 'Names or ids of parts, with commas.' },
          { name: 'systems', label: 'For these models', placeholder: 'PowerEdge R650', help: 'Empty: every model of the maker.' },
          { name: 'updateSeverity', label: 'Weight', kind: 'select', required: true, options: SEVERITIES.map((v) => ({ value: v, label: words(v) })) },
          { name: 'rebootRequired', label: 'The server must restart', kind: 'switch' },
          { name: 'sha256', label: 'SHA-256', mono: true },
        ]}
        values={() => ({ updateSeverity: 'recommended', rebootRequired: true, catalogId: catalogs.data?.data[0]?.id })}
        body={(v) => {
          const { devices, systems, ...rest } = v;
          return { ...rest, vendorSupportedDevices: comma(devices).map((id) => ({ id })), vendorSupportedSystems: comma(systems).map((id) => ({ id })) };
        }}
        empty="An image of one part's firmware, with what it is for."
      />
    </Page>
  );
}

const ACTIONS: Record<Action, string> = { accept: 'Update', accept_with_confirmation: 'Update when the owner agrees', deny: 'Do not update' };
const PROPERTIES: Record<string, string> = { server_component_name: 'Name of the part', server_component_type: 'Kind of the part', server_component_firmware_version: 'Version that runs', server_component_target_version: 'Version that is wanted', server_vendor: 'Maker', server_type_id: 'Server type id', server_id: 'Server id', site_id: 'Site id', server_tags_json: 'Tag' };

export function Policies() {
  return (
    <Page {...frame}>
      <Crud<Policy>
        noun="policy"
        table="Firmware policies"
        path="/firmware/policies"
        kind={KIND}
        keyOf={(p) => p.id}
        name={(p) => p.label}
        columns={[
          { id: 'label', title: 'Label', width: 'minmax(160px, 1fr)', cell: (p) => <b>{p.label}</b> },
          { id: 'status', title: 'State', width: '110px', cell: (p) => <Status value={p.status} /> },
          { id: 'action', title: 'What it says', width: 'minmax(200px, 1fr)', cell: (p) => ACTIONS[p.action] ?? p.action },
          { id: 'rules', title: 'For what', width: 'minmax(240px, 2fr)', cell: (p) => p.rules?.map((r) => `${PROPERTIES[r.property] ?? r.property} ${r.operation === 'string_equals' ? '=' : 'has'} ${r.value}`).join(', ') || 'everything' },
          { id: 'changed', title: 'Changed', width: '150px', cell: (p) => <Ago at={p.updatedTimestamp} /> },
        ]}
        fields={(p) => [
          { name: 'label', label: 'Label', required: true },
          { name: 'action', label: 'What it says', kind: 'select', required: true, options: Object.entries(ACTIONS).map(([value, label]) => ({ value, label })) },
          { name: 'property', label: 'Where', kind: 'select', options: Object.entries(PROPERTIES).map(([value, label]) => ({ value, label })), help: 'Empty: everything.' },
          { name: 'operation', label: 'How', kind: 'select', options: [{ value: 'string_equals', label: 'is exactly' }, { value: 'string_contains', label: 'contains' }], show: (v) => Boolean(v.property) },
          { name: 'value', label: 'What', show: (v) => Boolean(v.property) },
          ...(p ? [{ name: 'status', label: 'State', kind: 'select' as const, required: true, options: [{ value: 'active', label: 'Active' }, { value: 'stopped', label: 'Stopped' }] }] : []),
        ]}
        values={(p) => (p ? { label: p.label, action: p.action, status: p.status, property: p.rules?.[0]?.property, operation: p.rules?.[0]?.operation ?? 'string_equals', value: p.rules?.[0]?.value } : { action: 'accept_with_confirmation', operation: 'string_equals' })}
        body={(v, p) => {
          const rule = v.property && v.value ? [{ property: v.property, operation: v.operation, value: v.value }] : [];
          return { label: v.label, action: v.action, ...(p ? { status: v.status } : {}), rules: [...rule, ...(p?.rules?.slice(1) ?? [])] };
        }}
        empty="A policy says which firmware may be updated without a question, after one, or not at all."
      />
    </Page>
  );
}
