import { Button, Group, Modal, Table, Text } from '@mantine/core';
import { osName, typeName } from '../catalogue';
import { useDesignerContext } from '../context';
import { useDesigner } from '../model/store';

const TITLES: Record<string, string> = { label: 'Label', instanceCount: 'Servers', serverTypeId: 'Server type', osTemplateId: 'Operating system', deleted: 'Marked for deletion' };

/** Two people changed one element: which of the two stands is asked, never guessed. */
export function ConflictDialog() {
  const { catalogue } = useDesignerContext();
  const conflict = useDesigner((s) => s.conflict);
  if (!conflict) return null;
  const { theirs } = conflict;
  const [mine, other] = [conflict.mine, theirs].map((e): Record<string, unknown> => ({ ...e }));
  const say = (field: string, value: unknown) => (field === 'serverTypeId' ? typeName(catalogue, Number(value)) : field === 'osTemplateId' ? osName(catalogue, value === null ? null : Number(value)) : typeof value === 'boolean' ? (value ? 'yes' : 'no') : String(value));
  const fields = Object.keys(TITLES).filter((f) => f in mine && mine[f] !== other[f]);
  return (
    <Modal opened onClose={() => conflict.decide('theirs')} closeOnClickOutside={false} withCloseButton={false} title={<b>{theirs.label} was changed by someone else</b>}>
      <Text size="sm">Your change and theirs are about the same element. Which one stands?</Text>
      <Table mt="sm" aria-label="Differences">
        <Table.Thead>
          <Table.Tr>
            <Table.Th />
            <Table.Th>Mine</Table.Th>
            <Table.Th>Theirs</Table.Th>
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {fields.map((f) => (
            <Table.Tr key={f}>
              <Table.Td>{TITLES[f]}</Table.Td>
              <Table.Td>{say(f, mine[f])}</Table.Td>
              <Table.Td>{say(f, other[f])}</Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
      <Group justify="flex-end" mt="md">
        <Button variant="default" onClick={() => conflict.decide('theirs')}>
          Take theirs
        </Button>
        <Button onClick={() => conflict.decide('mine')}>Keep mine</Button>
      </Group>
    </Modal>
  );
}
