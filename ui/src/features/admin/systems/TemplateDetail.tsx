import { Alert, Button, Code, Group, JsonInput, SimpleGrid, Stack, Tabs, Text, TextInput, Title } from '@mantine/core';
import { useDebouncedValue } from '@mantine/hooks';
import { IconPencil } from '@tabler/icons-react';
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { getRouteApi, Link } from '@tanstack/react-router';
import { useState } from 'react';
import { api } from '../../../api/client';
import { type Asset, fromBase64, type Rendering, type Template, toBase64 } from '../../../api/systems';
import { type Field, FormDialog, type Values } from '../../../components/Form';
import { bytes, words } from '../../../components/format';
import { ErrorCard, Loading } from '../../../components/states';
import { Status } from '../../../components/status';
import { toast } from '../../../components/toast';
import type { LiveMessage } from '../../../live/stream';
import { useRefreshOn } from '../../../live/use';
import { Crud } from '../Crud';
import { Facts, Page } from '../Page';
import { METHODS, READY, WAYS } from './tabs';
import { templateBody, templateFields, templateValues, usesText, useUses } from './Templates';

const route = getRouteApi('/shell/templates/$id');
const concerns = (m: LiveMessage) => m.topic === 'object' && /template/.test(String(m.data.kind));

export function TemplateDetail() {
  const { id } = route.useParams() as { id: string };
  const q = useQuery({ queryKey: ['os-template', id], queryFn: () => api.get<Template>(`/os-templates/${encodeURIComponent(id)}`) });
  useRefreshOn(['os-template', id], concerns);
  const uses = useUses(id);
  const client = useQueryClient();
  const [editing, edit] = useState(false);
  if (q.error) return <Page title="OS template"><ErrorCard error={q.error} retry={() => void q.refetch()} /></Page>;
  if (!q.data) return <Page title="OS template"><Loading rows={8} /></Page>;
  const t = q.data;
  return (
    <Page
      title={t.name}
      sub={<Group gap={8}><Link to="/templates" className="link">Templates</Link> · {[t.os.name, t.os.version].filter(Boolean).join(' ')} <Status value={t.status} /></Group>}
      tools={<Button variant="default" leftSection={<IconPencil size={16} />} onClick={() => edit(true)}>Edit</Button>}
    >
      <section className="panel pad" style={{ marginBottom: 16 }}>
        <Facts of={[['How', METHODS[t.install.method ?? ''] ?? t.install.method], ['Installed when', READY[t.install.readyMethod ?? ''] ?? t.install.readyMethod], ['Boots by', `${words(t.device.bootMode ?? '–')}, ${t.device.architecture ?? '–'}`], ['User', <span key="u" className="mono">{t.os.credential?.username}</span>], ['For', t.visibility === 'public' ? 'everybody' : 'its maker'], ['Used by', usesText(uses.data)], ...(t.description ? [['Description', t.description] as [string, string]] : []), ...(t.tags?.length ? [['Tags', t.tags.join(', ')] as [string, string]] : [])]} />
      </section>
      <Tabs defaultValue="files" keepMounted={false}>
        <Tabs.List mb="md">
          <Tabs.Tab value="files">Files</Tabs.Tab>
          <Tabs.Tab value="preview">Preview</Tabs.Tab>
        </Tabs.List>
        <Tabs.Panel value="files"><Files of={t} /></Tabs.Panel>
        <Tabs.Panel value="preview"><Preview of={t} /></Tabs.Panel>
      </Tabs>
      {editing && (
        <FormDialog
          title={`Edit ${t.name}`}
          fields={templateFields(t)}
          initial={templateValues(t)}
          submit="Save"
          close={() => edit(false)}
          save={async (values) => {
            await api.put(`/os-templates/${t.id}`, templateBody(values, t));
            void client.invalidateQueries({ queryKey: ['os-template'] });
            toast('Template changed', t.name);
          }}
        />
      )}
    </Page>
  );
}

const USAGES: Record<string, string> = { source_image: 'What is installed from: disk image or medium', generic: 'Text, kernel or initial RAM disk', build_component: 'Put on the medium' };
const isText = (a: Asset) => a.file.templatingEngine || a.file.mimeType === 'text/plain';
/** Bytes that are kept here and are no text: they stay when the rest is changed. */
const isStored = (a: Asset) => !isText(a) && !a.file.url;

function fileFields(a: Asset | null): Field[] {
  const address = (v: Values) => v.source === 'url';
  const text = (v: Values) => v.source === 'text';
  return [
    { name: 'name', label: 'Name', required: true, mono: true, placeholder: 'user-data' },
    { name: 'usage', label: 'What it is for', kind: 'select', required: true, options: Object.entries({ ...USAGES, ...(a && !USAGES[a.usage] ? { [a.usage]: words(a.usage) } : {}) }).map(([value, label]) => ({ value, label })) },
    { name: 'source', label: 'Where it is', kind: 'select', required: true, options: [...(a && isStored(a) ? [{ value: 'kept', label: 'Stored here, as it is' }] : []), { value: 'text', label: 'A text, written here' }, { value: 'url', label: 'At an address' }] },
    { name: 'path', label: 'Path', mono: true, placeholder: '/user-data', help: 'On a medium. Its last part is the name under which the machine asks for it.' },
    { name: 'content', label: 'Text', kind: 'area', mono: true, required: true, show: text },
    { name: 'templatingEngine', label: 'Rendered for each server', kind: 'switch', show: text, help: 'Values stand as {{ hostname }}; the preview shows what becomes of them.' },
    { name: 'url', label: 'Address', mono: true, required: true, placeholder: 'https://images.example.net/debian-12.qcow2', show: address },
    { name: 'checksum', label: 'SHA-256', mono: true, show: address, help: 'Needed for everything that is not a text.' },
    { name: 'size', label: 'Length in bytes', kind: 'number', min: 0, show: address, help: 'Needed for images.' },
    { name: 'format', label: 'Format', kind: 'select', options: ['raw', 'raw.gz', 'qcow2'].map((v) => ({ value: v, label: v })), show: (v) => address(v) && v.usage === 'source_image', help: 'Empty: as the name ends.' },
  ];
}
function fileBody(values: Values, template: number, a: Asset | null) {
  const { source, usage, content, path, name, ...rest } = values;
  const file = { name, path: path || `/${String(name)}`, mimeType: source === 'text' ? 'text/plain' : a && !isText(a) ? a.file.mimeType : 'application/octet-stream', templatingEngine: source === 'text' && Boolean(rest.templatingEngine) };
  return { templateId: template, usage, tags: a?.tags ?? [], file: source === 'text' ? { ...file, contentBase64: toBase64(String(content ?? '')) } : source === 'kept' ? { ...file, templatingEngine: false, format: a?.file.format ?? undefined } : { ...rest, ...file, templatingEngine: false } };
}

function Files({ of }: { of: Template }) {
  return (
    <Crud<Asset>
      noun="file"
      table="Files"
      path="/template-assets"
      query={{ 'filter.templateId': of.id, sortBy: 'id:ASC' }}
      kind={/template/}
      method="put"
      keyOf={(a) => a.id}
      name={(a) => a.file.name}
      load={(a) => api.get<Asset>(`/template-assets/${a.id}`)}
      columns={[
        { id: 'name', title: 'Name', width: 'minmax(170px, 1.2fr)', cell: (a) => <b className="mono">{a.file.name}</b> },
        { id: 'usage', title: 'What it is for', width: 'minmax(220px, 1.4fr)', cell: (a) => USAGES[a.usage] ?? words(a.usage) },
        { id: 'kind', title: 'Kind', width: '130px', cell: (a) => (a.file.templatingEngine ? 'Rendered text' : isText(a) ? 'Text' : (a.file.format ?? 'Binary')) },
        { id: 'size', title: 'Size', width: '90px', cell: (a) => <span className="num">{a.file.size ? bytes(a.file.size) : '–'}</span> },
        { id: 'where', title: 'Where', width: 'minmax(180px, 1.6fr)', cell: (a) => <span className="mono">{a.file.url ?? a.file.path}</span> },
      ]}
      fields={fileFields}
      values={(a) => (a ? { name: a.file.name, usage: a.usage, source: a.file.url ? 'url' : isStored(a) ? 'kept' : 'text', path: a.file.path, content: isText(a) && a.file.contentBase64 ? fromBase64(a.file.contentBase64) : '', templatingEngine: a.file.templatingEngine, url: a.file.url, checksum: a.file.checksum, size: a.file.size || undefined, format: a.file.format } : { usage: 'generic', source: 'text', templatingEngine: true })}
      body={(values, a) => fileBody(values, of.id, a)}
      size="xl"
      removeText="Servers that are installed stay as they are; the next installation does without it."
      empty="Add a disk image (usage “what is installed from”), or the kernel, RAM disk and answer file of an installer."
    />
  );
}

/** What each text becomes for a server, rendered by what renders it when a server is installed. */
function Preview({ of }: { of: Template }) {
  const [hostname, setHostname] = useState('web-1');
  const [variables, setVariables] = useState('');
  const [asked] = useDebouncedValue({ hostname, variables }, 400);
  const q = useQuery({
    queryKey: ['os-template', String(of.id), 'preview', of.revision, asked],
    retry: false,
    placeholderData: (before) => before,
    queryFn: () => api.get<Rendering>(`/os-templates/${of.id}/preview`, { hostname: asked.hostname, variables: asked.variables }),
  });
  const r = q.data;
  return (
    <>
      <SimpleGrid cols={{ base: 1, md: 2 }} mb="md">
        <TextInput label="Host name" value={hostname} onChange={(e) => setHostname(e.currentTarget.value)} />
        <JsonInput label="Custom variables" placeholder='{"role": "db"}' autosize minRows={1} maxRows={8} formatOnBlur validationError="Not JSON" value={variables} onChange={setVariables} />
      </SimpleGrid>
      {q.error && <ErrorCard error={q.error} what="No preview" />}
      {!q.error && !r && <Loading rows={6} />}
      {r?.problem && <Alert color="amber" mb="md" p="xs" title="It cannot be installed yet">{r.problem}</Alert>}
      {!q.error && r && !r.problem && (
        <section className="panel pad">
          <Text size="sm" c="dimmed" mb="sm">For a server that does not exist: {WAYS[r.method ?? ''] ?? ''}. Its addresses are examples, and secrets are not shown.</Text>
          <Tabs key={r.data.map((d) => d.name).join()} defaultValue={(r.data.find((d) => d.error) ?? r.data[0])?.name} orientation="vertical">
            <Tabs.List aria-label="Texts">
              {r.data.map((d) => <Tabs.Tab key={d.name} value={d.name} className="mono" rightSection={d.error ? <Text component="span" className="bad" size="xs">wrong</Text> : undefined}>{d.name}</Tabs.Tab>)}
            </Tabs.List>
            {r.data.map((d) => (
              <Tabs.Panel key={d.name} value={d.name} pl="md">
                <Stack gap="xs">
                  <Title order={3} className="mono">{d.name}</Title>
                  {d.error ? <Alert color="red" p="xs">{d.error}</Alert> : <Code block tabIndex={0} aria-label={d.name} style={{ maxHeight: 'calc(100vh - 560px)', minHeight: 240, overflow: 'auto' }}>{d.text || '(empty)'}</Code>}
                </Stack>
              </Tabs.Panel>
            ))}
          </Tabs>
        </section>
      )}
    </>
  );
}
