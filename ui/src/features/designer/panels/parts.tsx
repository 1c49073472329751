import { ActionIcon, Alert, Button, Code, CopyButton, Group, Text, TextInput, Title, Tooltip } from '@mantine/core';
import { IconArrowBackUp, IconCheck, IconCopy, IconPlugConnected, IconTrash, IconX } from '@tabler/icons-react';
import { useEffect, useState } from 'react';
import type { Problem } from '../../../api/types';
import { useDesignerContext } from '../context';
import { elementOf, type Key, labelProblem } from '../model/doc';
import { remove, restore, select, shownDoc, useDesigner } from '../model/store';
import { mendOf, useProblems } from '../problems';

/** A text that is taken when it is left or Enter is pressed, so that a rename is one step. */
export function LabelInput({ value, disabled, onCommit, label = 'Label' }: { value: string; disabled?: boolean; onCommit: (value: string) => void; label?: string }) {
  const [text, setText] = useState(value);
  useEffect(() => setText(value), [value]);
  const problem = labelProblem(text);
  const commit = () => (problem ? setText(value) : text !== value && onCommit(text));
  return <TextInput label={label} value={text} disabled={disabled} error={text === value ? undefined : problem} maxLength={63} onChange={(e) => setText(e.currentTarget.value)} onBlur={commit} onKeyDown={(e) => e.key === 'Enter' && commit()} />;
}

export function Head({ kind, id, extra }: { kind: string; id: Key; extra?: React.ReactNode }) {
  const doc = useDesigner(shownDoc);
  const element = elementOf(doc, id);
  const { openConnect } = useDesignerContext();
  const locked = useDesigner((s) => s.locked);
  if (!element) return null;
  return (
    <Group justify="space-between" wrap="nowrap" mb="xs">
      <div style={{ minWidth: 0 }}>
        <Text size="xs" c="dimmed">
          {kind}
        </Text>
        <Title order={2} lineClamp={1}>
          {element.label}
        </Title>
      </div>
      <Group gap={4} wrap="nowrap">
        {extra}
        <Tooltip label="Connect (C)">
          <ActionIcon variant="light" aria-label="Connect" disabled={locked || element.deleted} onClick={() => openConnect(id)}>
            <IconPlugConnected size={17} />
          </ActionIcon>
        </Tooltip>
        <Tooltip label={element.deleted ? 'Keep after all' : 'Delete'}>
          <ActionIcon variant="light" color={element.deleted ? 'steel' : 'red'} aria-label={element.deleted ? 'Keep after all' : 'Delete'} disabled={locked} onClick={() => (element.deleted ? restore(id) : remove(id))}>
            {element.deleted ? <IconArrowBackUp size={17} /> : <IconTrash size={17} />}
          </ActionIcon>
        </Tooltip>
        <ActionIcon variant="subtle" color="gray" aria-label="Close inspector" onClick={() => select(null)}>
          <IconX size={17} />
        </ActionIcon>
      </Group>
    </Group>
  );
}

export function ProblemList({ id }: { id: Key }) {
  return useProblems(id).map((p, i) => (
    <Alert key={i} color={p.severity === 'error' ? 'red' : 'amber'} p="xs" title={p.message}>
      <Group justify="space-between" gap="xs">
        <span>{p.fix}</span>
        <Mend problem={p} id={id} />
      </Group>
    </Alert>
  ));
}

function Mend({ problem, id }: { problem: Problem; id: Key }) {
  const locked = useDesigner((s) => s.locked);
  const mend = mendOf(problem, id);
  return mend && !locked ? <Button size="compact-xs" variant="white" onClick={mend.run}>{mend.label}</Button> : null;
}

/** A value with a button that copies it. */
export function Secret({ label, value }: { label: string; value: string | null | undefined }) {
  if (!value) return null;
  return (
    <Group gap={6} wrap="nowrap">
      <Text size="xs" c="dimmed" w={60} style={{ flex: 'none' }}>
        {label}
      </Text>
      <Code style={{ overflowWrap: 'anywhere' }}>{value}</Code>
      <CopyButton value={value}>
        {({ copied, copy }) => (
          <ActionIcon size={24} ml="auto" variant="subtle" aria-label={copied ? `${label} copied` : `Copy ${label}`} onClick={copy}>
            {copied ? <IconCheck size={15} /> : <IconCopy size={15} />}
          </ActionIcon>
        )}
      </CopyButton>
    </Group>
  );
}
