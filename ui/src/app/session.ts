import { queryOptions } from '@tanstack/react-query';
import { api } from '../api/client';
import type { User } from '../api/types';
import { stopLive } from '../live/stream';
import { queryClient } from './query';

export const userQuery = queryOptions({ queryKey: ['user'], queryFn: () => api.get<User>('/user'), staleTime: 60_000, retry: false });

/** Whether that was all: `code` means that a code of the user's authenticator must follow within five minutes. */
export async function login(email: string, password: string): Promise<'done' | 'code'> {
  const user = await api.post<User & { secondFactorRequired?: boolean }>('/login', { provider: 'mysql', properties: { email, password } });
  if (user.secondFactorRequired) return 'code';
  queryClient.setQueryData(userQuery.queryKey, user);
  return 'done';
}
export async function secondFactor(token: string) {
  queryClient.setQueryData(userQuery.queryKey, await api.post<User>('/login-2fa', { token }));
}
export async function logout() {
  try {
    await api.post('/logout');
  } finally {
    stopLive();
    queryClient.clear();
  }
}
export const isAdmin = (user: User) => ['root', 'admin', 'full_admin'].includes(user.accessLevel);
