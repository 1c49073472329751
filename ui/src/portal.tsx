import { Group } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { createRootRoute, createRoute, createRouter, lazyRouteComponent, Link, Outlet } from '@tanstack/react-router';
import { guard, loginRoute } from './app/guard';
import { mount } from './app/mount';
import { isAdmin, userQuery } from './app/session';
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
