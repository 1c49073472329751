import { ActionIcon, Menu, Tooltip, UnstyledButton, useComputedColorScheme, useMantineColorScheme } from '@mantine/core';
import { IconLogout, IconMoon, IconSun, IconUserCircle } from '@tabler/icons-react';
import { useQuery } from '@tanstack/react-query';
import { logout, userQuery } from '../app/session';
import { useLiveState } from '../live/stream';

/** Dark/light switch, live-line mark and the person's menu, in the dark bar at the top. */
export function UserMenu({ onLogout, other }: { onLogout: () => void; other: { label: string; href: string } | null }) {
  const scheme = useComputedColorScheme('light');
  const { setColorScheme } = useMantineColorScheme();
  const { data: user } = useQuery(userQuery);
  return (
    <>
      <LiveMark />
      <Tooltip label={scheme === 'dark' ? 'Light theme' : 'Dark theme'}>
        <ActionIcon variant="transparent" color="white" size="lg" aria-label="Switch theme" onClick={() => setColorScheme(scheme === 'dark' ? 'light' : 'dark')}>
          {scheme === 'dark' ? <IconSun size={18} color="#fff" /> : <IconMoon size={18} color="#fff" />}
        </ActionIcon>
      </Tooltip>
      <Menu position="bottom-end" shadow="md">
        <Menu.Target>
          <UnstyledButton aria-label={`${user?.displayName || user?.email || ''} account menu`.trim()} style={{ color: '#fff', display: 'flex', gap: 6, alignItems: 'center', fontSize: 14 }}>
            <IconUserCircle size={20} /> {user?.displayName || user?.email || ''}
          </UnstyledButton>
        </Menu.Target>
        <Menu.Dropdown>
          {user && <Menu.Label>{user.email}</Menu.Label>}
          {other && (
            <Menu.Item component="a" href={other.href}>
              {other.label}
            </Menu.Item>
          )}
          <Menu.Item leftSection={<IconLogout size={16} />} onClick={() => void logout().finally(onLogout)}>
            Sign out
          </Menu.Item>
        </Menu.Dropdown>
      </Menu>
    </>
  );
}

function LiveMark() {
  const state = useLiveState((s) => s.state);
  const text = state === 'open' ? 'Live' : state === 'lost' ? 'Reconnecting' : 'Connecting';
  const colour = state === 'open' ? '#5fd08c' : state === 'lost' ? '#ffb968' : '#b1cce4';
  return (
    <Tooltip label={state === 'open' ? 'Changes appear as they happen' : 'The live line is down; what you see may be some seconds old'}>
      <span role="status" style={{ color: '#fff', fontSize: 13, display: 'inline-flex', gap: 6, alignItems: 'center' }}>
        <span className="dot" style={{ background: colour }} /> {text}
      </span>
    </Tooltip>
  );
}
