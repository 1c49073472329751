import { createRoute, redirect, type Register, type RootRoute } from '@tanstack/react-router';
import { Login } from '../components/Login';
import { startLive } from '../live/stream';
import { queryClient } from './query';
import { userQuery } from './session';

/** The sign-in page of an entry; it goes back to the page that was asked for. */
export function loginRoute(root: RootRoute<Register>, product: string) {
  const login = createRoute({
    getParentRoute: () => root,
    path: '/login',
    validateSearch: (s: Record<string, unknown>): { back?: string } => (typeof s.back === 'string' && /^\/(?![/\\])/.test(s.back) ? { back: s.back } : {}),
    component: function LoginPage() {
      const navigate = login.useNavigate();
      const { back } = login.useSearch();
      return <Login product={product} done={() => void navigate(back ? { href: back, replace: true } : { to: '/', replace: true })} />;
    },
  });
  return login;
}

/** Nothing behind it is shown to who is not signed in; the live line begins with the session. */
export async function guard({ location }: { location: { href: string } }) {
  try {
    await queryClient.ensureQueryData(userQuery);
  } catch (error) {
    if ((error as { status?: number }).status === 401) throw redirect({ to: '/login', search: { back: location.href } });
    throw error;
  }
  startLive();
}
