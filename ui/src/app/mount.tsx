import '@mantine/core/styles.css';
import '../theme/global.css';
import { MantineProvider } from '@mantine/core';
import { QueryClientProvider } from '@tanstack/react-query';
import { type AnyRouter, RouterProvider } from '@tanstack/react-router';
import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import { setUnauthorizedHandler } from '../api/client';
import { Toasts } from '../components/toast';
import { theme, variables } from '../theme/theme';
import { queryClient } from './query';

/** Puts one entry (portal or admin) on the page. */
export async function mount(router: AnyRouter) {
  if (import.meta.env.VITE_MOCK) (await import('../mock')).installMock();
  setUnauthorizedHandler(() => {
    const at = router.state.location;
    if (at.pathname.endsWith('/login')) return;
    queryClient.removeQueries({ queryKey: ['user'] });
    void router.navigate({ to: '/login', search: { back: at.href } });
  });
  const root = document.getElementById('root');
  if (!root) return;
  createRoot(root).render(
    <StrictMode>
      <MantineProvider theme={theme} cssVariablesResolver={variables} defaultColorScheme="auto">
        <QueryClientProvider client={queryClient}>
          <RouterProvider router={router} />
          <Toasts />
        </QueryClientProvider>
      </MantineProvider>
    </StrictMode>,
  );
}
