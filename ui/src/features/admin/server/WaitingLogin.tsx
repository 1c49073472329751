import { Button, Group, PasswordInput, Switch, Text, TextInput } from '@mantine/core';
import { useQueryClient } from '@tanstack/react-query';
import { type FormEvent, useState } from 'react';
import { api } from '../../../api/client';
import type { Server } from '../../../api/types';
import { ErrorCard } from '../../../components/states';
import { toast } from '../../../components/toast';

/** A server that came by itself and whose BMC nobody has given a login for yet. */
export const waitsForLogin = (s: Pick<Server, 'serverStatus' | 'serverStatusReason'>) => /registering/.test(s.serverStatus) && /^waiting for credentials/i.test(s.serverStatusReason ?? '');

/** The login of a waiting BMC, right where it is seen to wait; it can be kept for the others of the site too. */
export function WaitingLogin({ server, autoFocus }: { server: Server; autoFocus?: boolean }) {
  const client = useQueryClient();
  const [username, setUsername] = useState('');
  const [password, setPassword] = useState('');
  const [all, setAll] = useState(false);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>();
  const name = server.serialNumber || server.bmcMacAddress || server.managementAddress || `server ${server.serverId}`;
  const send = async (e: FormEvent) => {
    e.preventDefault();
    if (!username || !password || busy) return;
    setBusy(true);
    setError(undefined);
    try {
      // A default login resumes every server of the site that waits, this one too.
      if (all) await api.post('/servers/default-credentials', { siteId: server.siteId, serverSerialNumber: '', serverMacAddress: '', defaultUsername: username, defaultPassword: password });
      else await api.post(`/servers/${server.serverId}/actions/update-ipmi-credentials`, { username, password, updateOnServer: false }, server.revision);
      setPassword('');
      toast(all ? 'Kept for the site' : 'Registration goes on', all ? 'Every server of the site that waits is tried with it.' : name);
      void client.invalidateQueries({ queryKey: ['waiting'] });
      void client.invalidateQueries({ queryKey: ['server'] });
      void client.invalidateQueries({ queryKey: ['registered'] });
      void client.invalidateQueries({ queryKey: ['list', '/servers'] });
    } catch (x) {
      setError(x);
    } finally {
      setBusy(false);
    }
  };
  return (
    <form onSubmit={(e) => void send(e)} aria-label={`Login of ${name}`} noValidate>
      <Group gap="xs" align="flex-end">
        <TextInput size="xs" w={150} label="BMC user" autoComplete="off" data-autofocus={autoFocus || undefined} value={username} onChange={(e) => setUsername(e.currentTarget.value)} />
        <PasswordInput size="xs" w={180} label="BMC password" autoComplete="new-password" visibilityToggleButtonProps={{ 'aria-label': 'Show BMC password' }} value={password} onChange={(e) => setPassword(e.currentTarget.value)} />
        <Button size="xs" type="submit" loading={busy} disabled={!username || !password}>Go on</Button>
        <Switch size="xs" mb={6} label="For all of the site that wait" checked={all} onChange={(e) => setAll(e.currentTarget.checked)} />
      </Group>
      {error !== undefined && <Text component="div" mt="xs"><ErrorCard error={error} what="Not taken" /></Text>}
    </form>
  );
}
