import { queryOptions } from '@tanstack/react-query';
import { api } from '../api/client';
import type { User } from '../api/types';
import { stopLive } from '../live/stream';
import { queryClient } from './query';

export const userQuery = queryOptions({ queryKey: ['user'], queryFn: () => api.get<User>('/user'), staleTime: 60_000, retry: false });

export async function login(email: string, password: string): Promise<User> {
  const user = await api.post<User>('/login', { provider: 'mysql', properties: { email, password } });
  queryClient.setQueryData(userQuery.queryKey, user);
  return user;
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
