import './features/admin/admin.css';
import { Group } from '@mantine/core';
import { IconActivity, IconBuildingWarehouse, IconChecklist, IconCpu, IconDatabase, IconDisc, IconDoorEnter, IconEraser, IconGauge, IconNetwork, IconRouter, IconServer2, IconUsersGroup } from '@tabler/icons-react';
import { createRootRoute, createRoute, createRouter, lazyRouteComponent, Link, Outlet } from '@tanstack/react-router';
import { Crash } from './app/Crash';
import { guard, loginRoute } from './app/guard';
import { useCallback, useMemo } from 'react';
import { mount } from './app/mount';
import { CommandBar } from './components/commands';
import { Logo } from './components/Logo';
import { Empty } from './components/states';
import { UserMenu } from './components/UserMenu';
import { findIn } from './features/admin/find';
import type { ServerSearch } from './features/admin/Servers';

const root = createRootRoute({ component: Outlet, notFoundComponent: () => <Empty title="Not found">There is no such page.</Empty> });

const login = loginRoute(root, 'Admin console');

const NAV = [
  { to: '/', label: 'Overview', icon: IconGauge },
  { to: '/sites', label: 'Sites', icon: IconBuildingWarehouse },
  { to: '/servers', label: 'Servers', icon: IconServer2 },
  { to: '/registration', label: 'Registration', icon: IconDoorEnter },
  { to: '/cleaning', label: 'Cleaning', icon: IconEraser },
  { to: '/templates', label: 'OS templates', icon: IconDisc },
  { to: '/firmware', label: 'Firmware', icon: IconCpu },
  { to: '/storages', label: 'Storages', icon: IconDatabase },
  { to: '/resource-pools', label: 'Resource pools', icon: IconUsersGroup },
  { to: '/switches', label: 'Switches', icon: IconRouter },
  { to: '/subnets', label: 'Subnets', icon: IconNetwork },
  { to: '/jobs', label: 'Jobs', icon: IconChecklist },
  { to: '/events', label: 'Events', icon: IconActivity },
] as const;

const shell = createRoute({
  getParentRoute: () => root,
  id: 'shell',
  beforeLoad: guard,
  errorComponent: ({ error }) => <Empty title="The console could not start">{error instanceof Error ? error.message : String(error)}</Empty>,
  component: function Shell() {
    const navigate = shell.useNavigate();
    const go = useCallback((to: string) => void navigate({ to: to as '/' }), [navigate]);
    const base = useMemo(() => [...NAV.map(({ to, label }) => ({ id: `page ${to}`, label, hint: 'Page', run: () => go(to) })), { id: 'portal', label: 'Portal', hint: 'Infrastructures and the designer', run: () => window.location.assign('/portal/') }], [go]);
    const find = useMemo(() => findIn(go), [go]);
    return (
      <>
        <header className="topbar brandbar">
          <Link to="/" className="home" aria-label="Steelyard, overview">
            <Logo />
          </Link>
          <Group gap="md">
            <CommandBar base={base} find={find} />
            <UserMenu onLogout={() => void navigate({ to: '/login' })} other={{ label: 'Portal', href: '/portal/' }} />
          </Group>
        </header>
        <div className="admin">
          <nav aria-label="Console">
            {NAV.map(({ to, label, icon: Icon }) => (
              <Link key={to} to={to} className="nav-item" activeProps={{ className: 'active' }} activeOptions={{ exact: to === '/', includeSearch: false }}>
                <Icon size={18} aria-hidden /> {label}
              </Link>
            ))}
          </nav>
          <Outlet />
        </div>
      </>
    );
  },
});
const text = (v: unknown) => (typeof v === 'string' && v ? v : undefined);
const page = <P extends string>(path: P, component: ReturnType<typeof lazyRouteComponent>) => createRoute({ getParentRoute: () => shell, path, component });

const router = createRouter({
  basepath: '/admin',
  defaultPreload: 'intent', defaultErrorComponent: Crash,
  routeTree: root.addChildren([
    login,
    shell.addChildren([
      page('/', lazyRouteComponent(() => import('./features/admin/Overview'), 'Overview')),
      page('/sites', lazyRouteComponent(() => import('./features/admin/Sites'), 'Sites')),
      createRoute({
        getParentRoute: () => shell,
        path: '/servers',
        validateSearch: (s: Record<string, unknown>): ServerSearch => ({ q: text(s.q), status: text(s.status), power: text(s.power), health: text(s.health), sort: text(s.sort), type: Number(s.type) || undefined, site: Number(s.site) || undefined }),
        component: lazyRouteComponent(() => import('./features/admin/Servers'), 'Servers'),
      }),
      page('/servers/register', lazyRouteComponent(() => import('./features/admin/Register'), 'Register')),
      page('/servers/unknown', lazyRouteComponent(() => import('./features/admin/Unknown'), 'UnknownMachines')),
      page('/servers/types', lazyRouteComponent(() => import('./features/admin/ServerTypes'), 'ServerTypes')),
      page('/templates', lazyRouteComponent(() => import('./features/admin/systems/Templates'), 'Templates')),
      page('/templates/$id', lazyRouteComponent(() => import('./features/admin/systems/TemplateDetail'), 'TemplateDetail')),
      page('/isos', lazyRouteComponent(() => import('./features/admin/systems/Isos'), 'Isos')),
      page('/registration', lazyRouteComponent(() => import('./features/admin/Registration'), 'Profiles')),
      page('/registration/logins', lazyRouteComponent(() => import('./features/admin/Registration'), 'DefaultLogins')),
      page('/cleaning', lazyRouteComponent(() => import('./features/admin/Cleaning'), 'Policies')),
      page('/cleaning/certificates', lazyRouteComponent(() => import('./features/admin/Cleaning'), 'Certificates')),
      page('/firmware', lazyRouteComponent(() => import('./features/admin/firmware/Compliance'), 'Compliance')),
      page('/firmware/campaigns', lazyRouteComponent(() => import('./features/admin/firmware/Campaigns'), 'Campaigns')),
      page('/firmware/campaigns/$id', lazyRouteComponent(() => import('./features/admin/firmware/Campaigns'), 'CampaignDetail')),
      page('/firmware/baselines', lazyRouteComponent(() => import('./features/admin/firmware/Lists'), 'Baselines')),
      page('/firmware/catalogs', lazyRouteComponent(() => import('./features/admin/firmware/Lists'), 'Catalogs')),
      page('/firmware/binaries', lazyRouteComponent(() => import('./features/admin/firmware/Lists'), 'Binaries')),
      page('/firmware/policies', lazyRouteComponent(() => import('./features/admin/firmware/Lists'), 'Policies')),
      page('/storages', lazyRouteComponent(() => import('./features/admin/Storages'), 'Storages')),
      page('/storages/$id', lazyRouteComponent(() => import('./features/admin/Storages'), 'StorageDetail')),
      page('/resource-pools', lazyRouteComponent(() => import('./features/admin/ResourcePools'), 'ResourcePools')),
      page('/resource-pools/$id', lazyRouteComponent(() => import('./features/admin/ResourcePools'), 'ResourcePoolDetail')),
      page('/servers/$id', lazyRouteComponent(() => import('./features/admin/server/ServerDetail'), 'ServerDetail')),
      page('/switches', lazyRouteComponent(() => import('./features/admin/Switches'), 'Switches')),
      page('/switches/$id', lazyRouteComponent(() => import('./features/admin/Switches'), 'SwitchDetail')),
      page('/subnets', lazyRouteComponent(() => import('./features/admin/Subnets'), 'Subnets')),
      page('/jobs', lazyRouteComponent(() => import('./features/admin/Jobs'), 'JobGroups')),
      page('/jobs/$id', lazyRouteComponent(() => import('./features/admin/Jobs'), 'JobGroupDetail')),
      page('/events', lazyRouteComponent(() => import('./features/admin/Events'), 'Events')),
    ]),
  ]),
});
void mount(router);
