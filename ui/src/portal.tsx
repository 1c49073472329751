import { Group } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { createRootRoute, createRoute, createRouter, lazyRouteComponent, Link, Outlet, redirect } from '@tanstack/react-router';
import { mount } from './app/mount';
import { queryClient } from './app/query';
import { isAdmin, userQuery } from './app/session';
import { Login } from './components/Login';
import { Logo } from './components/Logo';
import { Empty } from './components/states';
import { UserMenu } from './components/UserMenu';
import { startLive } from './live/stream';

const root = createRootRoute({ component: Outlet, notFoundComponent: () => <Empty title="Not found">There is no such page. <Link to="/">To the infrastructures</Link></Empty> });

const login = createRoute({
  getParentRoute: () => root,
  path: '/login',
  validateSearch: (s: Record<string, unknown>): { back?: string } => (typeof s.back === 'string' && s.back.startsWith('/') ? { back: s.back } : {}),
  component: function LoginPage() {
    const navigate = login.useNavigate();
    const { back } = login.useSearch();
    return <Login product="Portal and Infrastructure designer" done={() => void navigate(back ? { href: back, replace: true } : { to: '/', replace: true })} />;
  },
});

const shell = createRoute({
  getParentRoute: () => root,
  id: 'shell',
  beforeLoad: async ({ location }) => {
    try {
      await queryClient.ensureQueryData(userQuery);
    } catch (error) {
      if ((error as { status?: number }).status === 401) throw redirect({ to: '/login', search: { back: location.href } });
      throw error;
    }
    startLive();
  },
  errorComponent: ({ error }) => <Empty title="The portal could not start">{error instanceof Error ? error.message : String(error)}</Empty>,
  component: function Shell() {
    const navigate = shell.useNavigate();
    const { data: user } = useQuery(userQuery);
    return (
      <>
        <header className="topbar brandbar">
          <Link to="/" className="home" aria-label="Steelyard, infrastructures">
            <Logo />
          </Link>
          <Group gap="md">
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

const router = createRouter({ routeTree: root.addChildren([login, shell.addChildren([list, designer])]), basepath: '/portal', defaultPreload: 'intent' });
void mount(router);
