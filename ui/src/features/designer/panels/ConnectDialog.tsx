import { Modal, Stack, Text, UnstyledButton } from '@mantine/core';
import { IconDatabase, IconNetwork, IconPlus, IconServer2 } from '@tabler/icons-react';
import { toast } from '../../../components/toast';
import { defaultNetwork } from '../catalogue';
import { useDesignerContext } from '../context';
import { elementKeys, elementOf, isGroup, isStore, type Key } from '../model/doc';
import { judge } from '../model/rules';
import { connectToNew, useDesigner } from '../model/store';
import { connectAndTell, sentence } from '../tell';

/** Connecting without a drag: every possible end, and for the impossible ones the reason. */
export function ConnectDialog({ from, close }: { from: Key | null; close: () => void }) {
  const { catalogue } = useDesignerContext();
  const doc = useDesigner((s) => s.doc);
  const rules = useDesigner((s) => s.rules);
  const source = from ? elementOf(doc, from) : undefined;
  const targets = from && source ? elementKeys(doc).filter((k) => k !== from && (from === null || !isStore(from) || isGroup(k))).map((key) => ({ key, verdict: judge(rules, doc, from, key) })).sort((a, b) => Number(a.verdict.effect === 'no') - Number(b.verdict.effect === 'no')) : [];
  const make = defaultNetwork(catalogue);
  return (
    <Modal opened={Boolean(source)} onClose={close} title={<b>Connect {source?.label} to</b>} size="md">
      <Stack gap={6}>
        {targets.map(({ key, verdict }, i) => {
          const refused = verdict.effect === 'no';
          return (
            <UnstyledButton
              key={key}
              className="sy-choice"
              data-autofocus={(i === 0 && !refused) || undefined}
              aria-disabled={refused}
              onClick={() => {
                if (!from) return;
                connectAndTell(from, key, catalogue);
                if (!refused) close();
              }}
            >
              {isGroup(key) ? <IconServer2 size={18} aria-hidden /> : doc.stores[key] ? <IconDatabase size={18} aria-hidden /> : <IconNetwork size={18} aria-hidden />}
              <span>
                <b>{elementOf(doc, key)?.label}</b>
                <Text size="xs" c="dimmed" component="span" display="block">
                  {refused ? `Not possible: ${verdict.reason}` : sentence(verdict.reason)}
                </Text>
              </span>
            </UnstyledButton>
          );
        })}
        {from && isGroup(from) && (
          <UnstyledButton
            className="sy-choice"
            data-autofocus={!targets.some((t) => t.verdict.effect !== 'no') || undefined}
            onClick={() => {
              if (!make) return toast('Not connected', 'No network profile is available at this site; ask an administrator.', { kind: 'error' });
              connectToNew(from, make);
              close();
            }}
          >
            <IconPlus size={18} aria-hidden /> <b>New network</b>
          </UnstyledButton>
        )}
      </Stack>
    </Modal>
  );
}
