import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { api } from '../../../api/client';
import type { Template } from '../../../api/systems';
import { type Field, type Values } from '../../../components/Form';
import { plural, words } from '../../../components/format';
import { nest } from '../../../components/nest';
import { Ago, Status } from '../../../components/status';
import { Crud } from '../Crud';
import { Page } from '../Page';
import { METHODS, READY, SYSTEM_SUB, SYSTEM_TABS } from './tabs';

const options = (of: Record<string, string>) => Object.entries(of).map(([value, label]) => ({ value, label }));
const PASSWORDS = { generated: 'A new one for each server', plain: 'Always this one', hashed: 'Always this one, given as a hash', none: 'None: keys alone' };

export const templateFields = (t: Template | null): Field[] => [
  { name: 'name', label: 'Name', required: true, maxLength: 255 },
  { name: 'description', label: 'Description' },
  { name: 'os.name', label: 'Operating system', required: true, placeholder: 'Debian' },
  { name: 'os.version', label: 'Version', required: true, placeholder: '12' },
  { name: 'install.method', label: 'How it comes onto a server', kind: 'select', required: true, options: options(METHODS).filter((o) => o.value === 'copy' || o.value === 'oob') },
  { name: 'imageBuild.required', label: 'A medium is made for each server', kind: 'switch', show: (v) => v['install.method'] === 'oob', help: 'Its answer files are put on it.' },
  { name: 'install.readyMethod', label: 'It is installed when', kind: 'select', required: true, options: options(READY), help: 'Of installers; a disk image is ready when it is written.' },
  { name: 'os.sshPort', label: 'SSH port', kind: 'number', min: 1, max: 65_535, placeholder: '22', show: (v) => v['install.readyMethod'] === 'wait_for_ssh' },
  { name: 'device.bootMode', label: 'Boots by', kind: 'select', required: true, options: [{ value: 'uefi', label: 'UEFI' }, { value: 'bios', label: 'BIOS' }, { value: 'hybrid', label: 'Either' }] },
  { name: 'device.architecture', label: 'Architecture', kind: 'select', required: true, options: ['x86_64', 'aarch64'].map((v) => ({ value: v, label: v })) },
  { name: 'os.credential.username', label: 'User', required: true, mono: true },
  { name: 'os.credential.passwordType', label: 'Password', kind: 'select', required: true, options: options(PASSWORDS) },
  { name: 'os.credential.password', label: 'The password', kind: 'password', show: (v) => /plain|hashed/.test(String(v['os.credential.passwordType'])), help: t ? 'Empty: as it is.' : undefined },
  { name: 'visibility', label: 'Who may use it', kind: 'select', required: true, options: [{ value: 'public', label: 'Everybody' }, { value: 'private', label: 'Who made it' }] },
  ...(t ? [{ name: 'status', label: 'State', kind: 'select' as const, required: true, options: ['ready', 'active', 'archived'].map((v) => ({ value: v, label: words(v) })), help: 'An archived one is kept for what uses it, and not offered any more.' }] : []),
  { name: 'tags', label: 'Tags', kind: 'words', help: 'keep-data-drives, erase-all-drives: which disks are erased before an image is written.' },
];
export const templateValues = (t: Template | null): Values =>
  t
    ? {
        name: t.name, description: t.description, 'os.name': t.os.name, 'os.version': t.os.version, 'os.sshPort': t.os.sshPort, 'install.method': t.install.method, 'install.readyMethod': t.install.readyMethod, 'imageBuild.required': Boolean(t.imageBuild?.required),
        'device.bootMode': t.device.bootMode, 'device.architecture': t.device.architecture, 'os.credential.username': t.os.credential?.username, 'os.credential.passwordType': t.os.credential?.passwordType, visibility: t.visibility, status: t.status, tags: t.tags ?? [],
      }
    : { 'install.method': 'copy', 'install.readyMethod': 'wait_for_power_off', 'imageBuild.required': false, 'device.bootMode': 'hybrid', 'device.architecture': 'x86_64', 'os.credential.username': 'root', 'os.credential.passwordType': 'generated', visibility: 'public', tags: [] };
/** The whole template: it is written anew with each change, so what the form does not show is taken over. */
export function templateBody(values: Values, t: Template | null): Values {
  const body = nest(values) as { device: object; install: object; imageBuild?: object } & Values;
  return { ...(t?.label ? { label: t.label } : {}), ...body, device: { ...t?.device, type: t?.device.type ?? 'server', ...body.device }, install: { ...t?.install, driveType: t?.install.driveType ?? 'local_drive', ...body.install }, imageBuild: { required: false, ...t?.imageBuild, ...body.imageBuild } };
}

export function Templates() {
  return (
    <Page title="OS templates" sub={SYSTEM_SUB} tabs={SYSTEM_TABS}>
      <Crud<Template>
        noun="template"
        table="OS templates"
        path="/os-templates"
        kind={/template/}
        method="put"
        keyOf={(t) => t.id}
        name={(t) => t.name}
        revision={(t) => t.revision}
        columns={[
          { id: 'name', title: 'Name', width: 'minmax(190px, 1.4fr)', cell: (t) => <Link className="link" to="/templates/$id" params={{ id: String(t.id) }}>{t.name}</Link> },
          { id: 'os', title: 'System', width: 'minmax(140px, 1fr)', cell: (t) => [t.os.name, t.os.version].filter(Boolean).join(' ') },
          { id: 'way', title: 'How', width: 'minmax(200px, 1.4fr)', cell: (t) => METHODS[t.install.method ?? ''] ?? words(t.install.method ?? '–') },
          { id: 'status', title: 'State', width: '110px', cell: (t) => <Status value={t.status} /> },
          { id: 'who', title: 'For', width: '110px', cell: (t) => (t.visibility === 'public' ? 'everybody' : 'its maker') },
          { id: 'files', title: 'Files', width: '80px', cell: (t) => <span className="num">{t.templateAssetIDs?.length ?? 0}</span> },
          { id: 'changed', title: 'Changed', width: '140px', cell: (t) => <Ago at={t.modifiedAt ?? t.createdAt} /> },
        ]}
        fields={templateFields}
        values={templateValues}
        body={templateBody}
        removeText="Only a template that no design and no installed server names can be deleted; its files go with it."
        empty="A template says how an operating system comes onto a server. Add one, then its files: an image, or an installer with its answer file."
      />
    </Page>
  );
}

/** How many servers run what a template installed is asked only where it is shown. */
export function useUses(id: string) {
  return useQuery({ queryKey: ['os-template', id, 'uses'], retry: false, queryFn: async () => (await api.get<{ meta: { totalItems: number } }>('/server-instances', { 'filter.osTemplateId': id, limit: 1 })).meta.totalItems });
}
export const usesText = (n: number | undefined) => (n === undefined ? null : n ? plural(n, 'server') : 'nobody');
