import { Button, Checkbox, Group, Modal, NumberInput, PasswordInput, Select, Stack, Switch, TagsInput, Text, Textarea, TextInput } from '@mantine/core';
import { type FormEvent, type ReactNode, useState } from 'react';
import { fieldErrors } from './fields';
import { ErrorCard } from './states';

export type Values = Record<string, unknown>;
/** One input of a form; its name is the field of the wire, so that the server's errors find it. */
export interface Field {
  name: string;
  label: string;
  kind?: 'text' | 'area' | 'password' | 'number' | 'switch' | 'select' | 'choices' | 'words' | 'moment';
  required?: boolean;
  help?: ReactNode;
  placeholder?: string;
  options?: { value: string; label: string }[];
  /** A choice among ids: sent as a number. */
  numeric?: boolean;
  min?: number;
  max?: number;
  maxLength?: number;
  suffix?: string;
  mono?: boolean;
  show?: (values: Values) => boolean;
}

/** What is sent: nothing for what is empty, numbers as numbers. */
export function bodyOf(fields: readonly Field[], values: Values): Values {
  const out: Values = {};
  for (const f of fields) {
    if (f.show && !f.show(values)) continue;
    const v = values[f.name];
    if (f.kind === 'switch') out[f.name] = Boolean(v);
    else if (f.kind === 'choices' || f.kind === 'words') out[f.name] = v ?? [];
    else if (v === undefined || v === null || v === '') continue;
    else if (f.kind === 'number' || f.numeric) out[f.name] = Number(v);
    else out[f.name] = f.kind === 'password' || f.kind === 'area' ? v : String(v).trim();
  }
  return out;
}
const lacks = (f: Field, values: Values) => Boolean(f.required) && (!f.show || f.show(values)) && (values[f.name] === undefined || values[f.name] === null || String(values[f.name]).trim() === '');

export function FormFields({ fields, values, set, error }: { fields: readonly Field[]; values: Values; set: (name: string, value: unknown) => void; error: (name: string) => string | undefined }) {
  return (
    <Stack>
      {fields.map((f, i) => {
        if (f.show && !f.show(values)) return null;
        const v = values[f.name];
        const text = v === undefined || v === null ? '' : String(v);
        const common = { key: f.name, label: f.label, description: f.help, required: f.required, error: error(f.name), placeholder: f.placeholder, 'data-autofocus': i === 0 || undefined };
        const { key, ...rest } = common;
        switch (f.kind) {
          case 'number':
            return <NumberInput key={key} {...rest} min={f.min} max={f.max} suffix={f.suffix} value={v === undefined || v === null ? '' : (v as number)} onChange={(x) => set(f.name, x)} />;
          case 'switch':
            return <Switch key={key} label={f.label} description={f.help} error={rest.error} checked={Boolean(v)} onChange={(e) => set(f.name, e.currentTarget.checked)} />;
          case 'select':
            return <Select key={key} {...rest} data={f.options ?? []} clearable={!f.required} clearButtonProps={{ 'aria-label': `No ${f.label.toLowerCase()}` }} allowDeselect={false} searchable={(f.options?.length ?? 0) > 12} value={text || null} onChange={(x) => set(f.name, x)} />;
          case 'choices':
            return (
              <Checkbox.Group key={key} label={f.label} description={f.help} error={rest.error} value={(v as string[] | undefined) ?? []} onChange={(x) => set(f.name, x)}>
                <Group mt="xs">{f.options?.map((o) => <Checkbox key={o.value} value={o.value} label={o.label} />)}</Group>
              </Checkbox.Group>
            );
          case 'words':
            return <TagsInput key={key} {...rest} value={(v as string[] | undefined) ?? []} onChange={(x) => set(f.name, x)} splitChars={[',', ' ', ';']} clearButtonProps={{ 'aria-label': `No ${f.label.toLowerCase()}` }} />;
          case 'password':
            return <PasswordInput key={key} {...rest} autoComplete="new-password" value={text} onChange={(e) => set(f.name, e.currentTarget.value)} visibilityToggleButtonProps={{ 'aria-label': `Show ${f.label.toLowerCase()}` }} />;
          case 'area':
            return <Textarea key={key} {...rest} autosize minRows={4} maxRows={14} classNames={f.mono ? { input: 'mono' } : undefined} spellCheck={false} value={text} onChange={(e) => set(f.name, e.currentTarget.value)} />;
          case 'moment':
            return <TextInput key={key} {...rest} type="datetime-local" value={text} onChange={(e) => set(f.name, e.currentTarget.value)} />;
          default:
            return <TextInput key={key} {...rest} autoComplete="off" maxLength={f.maxLength ?? 255} classNames={f.mono ? { input: 'mono' } : undefined} value={text} onChange={(e) => set(f.name, e.currentTarget.value)} />;
        }
      })}
    </Stack>
  );
}

/** A form in a dialog: what is wrong is told beside its input, the rest below. Closing with unsaved input by a slip is not possible. */
export function FormDialog({ title, intro, fields, initial, submit, save, close, size = 'md', danger }: { title: ReactNode; intro?: ReactNode; fields: readonly Field[]; initial?: Values; submit: string; save: (body: Values) => Promise<unknown>; close: () => void; size?: string | number; danger?: boolean }) {
  const [values, setValues] = useState<Values>(initial ?? {});
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>();
  const { of, rest } = fieldErrors(error, fields.map((f) => f.name));
  const dirty = JSON.stringify(values) !== JSON.stringify(initial ?? {});
  const send = async (event: FormEvent) => {
    event.preventDefault();
    if (busy) return;
    setBusy(true);
    setError(undefined);
    try {
      await save(bodyOf(fields, values));
      close();
    } catch (e) {
      setError(e);
    } finally {
      setBusy(false);
    }
  };
  return (
    <Modal opened onClose={close} closeOnClickOutside={!dirty} title={<b>{title}</b>} size={size}>
      <form onSubmit={(e) => void send(e)} noValidate>
        <Stack>
          {intro && <Text size="sm" component="div">{intro}</Text>}
          <FormFields fields={fields} values={values} error={of} set={(name, value) => setValues((all) => ({ ...all, [name]: value }))} />
          {Boolean(rest) && <ErrorCard error={rest} what="Not done" />}
          <Group justify="flex-end">
            <Button variant="default" onClick={close}>Cancel</Button>
            <Button type="submit" color={danger ? 'red' : undefined} loading={busy} disabled={fields.some((f) => lacks(f, values))}>{submit}</Button>
          </Group>
        </Stack>
      </form>
    </Modal>
  );
}
