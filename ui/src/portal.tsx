import { Group } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { createRootRoute, createRoute, createRouter, lazyRouteComponent, Link, Outlet } from '@tanstack/react-router';
import { Crash } from './app/Crash';
import { guard, loginRoute } from './app/guard';
import { useCallback, useMemo } from 'react';
import { api } from './api/client';
import type { Infrastructure, Page } from './api/types';
import { mount } from './app/mount';
import { isAdmin, userQuery } from './app/session';
import { CommandBar, type Finder } from './components/commands';
import { Logo } from './components/Logo';
import { Empty } from './components/states';
import { UserMenu } from './components/UserMenu';

const root = createRootRoute({ component: Outlet, notFoundComponent: () => <Empty title="Not found">There is no such page. <Link to="/">To the infrastructures</Link></Empty> });

const login = loginRoute(root, 'Portal and Infrastructure designer');

const shell = createRoute({
  getParentRoute: () => root,
  id: 'shell',
  beforeLoad: guard,
  errorComponent: ({ error }) => <Empty title="The portal could not start">{error instanceof Error ? error.message : String(error)}</Empty>,
  component: function Shell() {
    const navigate = shell.useNavigate();
    const { data: user } = useQuery(userQuery);
    const base = useMemo(() => [{ id: 'list', label: 'Infrastructures', hint: 'Page', run: () => void navigate({ to: '/' }) }, ...(user && isAdmin(user) ? [{ id: 'console', label: 'Admin console', hint: 'Page', run: () => window.location.assign('/admin/') }] : [])], [navigate, user]);
    const find = useCallback<Finder>(
      async (text, signal) =>
        (await api.get<Page<Infrastructure>>('/infrastructures', { search: text, limit: 8 }, signal)).data.map((i) => ({ id: `infrastructure ${i.id}`, label: i.label, hint: 'Infrastructure', run: () => void navigate({ to: '/infrastructures/$id', params: { id: String(i.id) } }) })),
      [navigate],
    );
    return (
      <>
        <header className="topbar brandbar">
          <Link to="/" className="home" aria-label="Steelyard, infrastructures">
            <Logo />
          </Link>
          <Group gap="md">
            <CommandBar base={base} find={find} />
            <UserMenu onLogout={() => void navigate({ to: '/login' })} other={user && isAdmin(user) ? { label: 'Admin console', href: '/admin/' } : null} />
          </Group>
        </header>
        <Outlet />
      </>
    );
  },
});
const list = createRoute({ getParentRoute: () => shell, path: '/', component: lazyRouteComponent(() => import('./features/infrastructures/InfrastructureList'), 'InfrastructureList') });
const designer = createRoute({
  getParentRoute: () => shell,
  path: '/infrastructures/$id',
  component: lazyRouteComponent(() => import('./features/designer/DesignerPage'), 'DesignerPage'),
});

const router = createRouter({ routeTree: root.addChildren([login, shell.addChildren([list, designer])]), basepath: '/portal', defaultPreload: 'intent', defaultErrorComponent: Crash });
void mount(router);
