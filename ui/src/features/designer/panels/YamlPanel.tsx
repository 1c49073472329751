import { Button, CopyButton, Group, Text, Textarea } from '@mantine/core';
import { useMemo, useState } from 'react';
import { plural } from '../../../components/format';
import { toast } from '../../../components/toast';
import { useDesignerContext } from '../context';
import { type Fault, fromYaml, toDocument, toYaml } from '../model/document';
import { apply, newKey, shownDoc, undo, useDesigner } from '../model/store';
import { difference } from '../model/sync';

/** The design as text: to read, keep and edit; a file of its own, loaded when the tab is opened. */
export default function YamlPanel() {
  const { catalogue, infrastructure } = useDesignerContext();
  const doc = useDesigner(shownDoc);
  const facts = useDesigner((s) => s.facts);
  const locked = useDesigner((s) => s.locked);
  const place = useMemo(() => ({ infrastructure: infrastructure.label, site: catalogue.site?.slug ?? '' }), [infrastructure, catalogue.site]);
  const text = useMemo(() => toYaml(toDocument(doc, facts, catalogue, place)), [doc, facts, catalogue, place]);
  const [edited, edit] = useState<string | null>(null);
  const [faults, setFaults] = useState<Fault[]>([]);

  const take = () => {
    const state = useDesigner.getState();
    const answer = fromYaml(edited ?? '', state.doc, state.facts, catalogue, place, newKey);
    if ('faults' in answer) return setFaults(answer.faults);
    const changes = difference(state.doc, answer.doc).length;
    setFaults([]);
    edit(null);
    if (!changes) return toast('Nothing to change', 'The text says what is drawn.');
    apply('Apply YAML', () => answer.doc);
    toast('Design changed', `${plural(changes, 'change')} from the text.`, { action: { label: 'Undo', run: undo } });
  };
  const download = () => {
    const url = URL.createObjectURL(new Blob([text], { type: 'application/yaml' }));
    const link = Object.assign(document.createElement('a'), { href: url, download: `${infrastructure.label}.yaml` });
    link.click();
    URL.revokeObjectURL(url);
  };
  return (
    <div className="sy-yaml">
      <Group gap="xs" mb="xs">
        {edited === null ? (
          <>
            <CopyButton value={text}>{({ copied, copy }) => <Button size="compact-sm" variant="light" onClick={copy}>{copied ? 'Copied' : 'Copy'}</Button>}</CopyButton>
            <Button size="compact-sm" variant="light" onClick={download}>Download</Button>
            <Button size="compact-sm" variant="light" disabled={locked} onClick={() => edit(text)}>Edit</Button>
            <Text size="sm" c="dimmed">The document of <code>steelyard export</code> and <code>steelyard apply</code>.</Text>
          </>
        ) : (
          <>
            <Button size="compact-sm" disabled={locked} onClick={take}>Apply to the design</Button>
            <Button size="compact-sm" variant="default" onClick={() => { edit(null); setFaults([]); }}>Cancel</Button>
            <Text size="sm" c="dimmed">One step that can be undone; nothing is deployed.</Text>
          </>
        )}
      </Group>
      {faults.length > 0 && (
        <div role="alert">
        <ul className="sy-faults">
          {faults.map((f) => <li key={`${f.line} ${f.message}`}><b>Line {f.line}:</b> {f.message}</li>)}
        </ul>
        </div>
      )}
      {edited === null ? <pre className="sy-pre" aria-label="Design as YAML">{text}</pre> : <Textarea aria-label="Design as YAML" autosize minRows={8} spellCheck={false} classNames={{ input: 'mono' }} value={edited} onChange={(e) => edit(e.currentTarget.value)} />}
    </div>
  );
}
