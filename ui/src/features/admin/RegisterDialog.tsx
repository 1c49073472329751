import { Button, Group, Modal, PasswordInput, Select, Stack, Text, TextInput } from '@mantine/core';
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { useNavigate } from '@tanstack/react-router';
import { type FormEvent, useState } from 'react';
import { api } from '../../api/client';
import { sitesQuery } from '../../api/names';
import { fieldErrors } from '../../components/fields';
import { ErrorCard } from '../../components/states';
import { toast } from '../../components/toast';

const SHOWN = ['siteId', 'managementAddress', 'username', 'password'];

/** A server comes in by the address and login of its BMC; everything else is read from it. */
export function RegisterDialog({ close }: { close: () => void }) {
  const [site, setSite] = useState<string | null>(null);
  const [address, setAddress] = useState('');
  const [username, setUsername] = useState('');
  const [password, setPassword] = useState('');
  const client = useQueryClient();
  const navigate = useNavigate();
  const sites = useQuery(sitesQuery);
  const chosen = site ?? (sites.data?.data[0] ? String(sites.data.data[0].id) : null);
  const register = useMutation({
    mutationFn: () => api.post<{ serverId: number }>('/servers', { siteId: Number(chosen), managementAddress: address.trim(), username: username.trim() || undefined, password: password || undefined }),
    onSuccess: ({ serverId }) => {
      void client.invalidateQueries({ queryKey: ['list', '/servers'] });
      toast('Registration begun', 'The server is read over its BMC and booted once from the network.', { action: { label: 'Open the server', run: () => void navigate({ to: '/servers/$id', params: { id: String(serverId) } }) } });
      close();
    },
  });
  const { of, rest } = fieldErrors(register.error, SHOWN);
  return (
    <Modal opened onClose={close} title={<b>Register a server</b>}>
      <form
        onSubmit={(e: FormEvent) => {
          e.preventDefault();
          if (chosen) register.mutate();
        }}
      >
        <Stack>
          <Text size="sm">The site asks the BMC for the inventory, then boots the server once from the network to learn its cabling. A server in use is only asked, never booted.</Text>
          <Select label="Site" required allowDeselect={false} data={(sites.data?.data ?? []).map((s) => ({ value: String(s.id), label: s.name }))} value={chosen} onChange={setSite} error={of('siteId')} />
          <TextInput data-autofocus label="BMC address" description="IP address or host name, with :PORT where it is not 443" required value={address} error={of('managementAddress')} onChange={(e) => setAddress(e.currentTarget.value)} />
          <TextInput label="BMC user" description="Empty: the default login of the site" autoComplete="off" value={username} error={of('username')} onChange={(e) => setUsername(e.currentTarget.value)} />
          <PasswordInput label="BMC password" autoComplete="new-password" value={password} error={of('password')} onChange={(e) => setPassword(e.currentTarget.value)} />
          {Boolean(rest) && <ErrorCard error={rest} what="Not registered" />}
          <Group justify="flex-end">
            <Button variant="default" onClick={close}>
              Cancel
            </Button>
            <Button type="submit" loading={register.isPending} disabled={!address.trim() || !chosen}>
              Register
            </Button>
          </Group>
        </Stack>
      </form>
    </Modal>
  );
}
