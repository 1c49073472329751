import { createContext, useContext } from 'react';
import type { Infrastructure } from '../../api/types';
import type { Catalogue } from './catalogue';
import type { Key } from './model/doc';
import type { GroupLive } from './deploy/live';

export type View = 'design' | 'diff' | 'deployed';
export interface DesignerContext {
  infrastructure: Infrastructure;
  catalogue: Catalogue;
  view: View;
  live: ReadonlyMap<Key, GroupLive>;
  openConnect: (from: Key) => void;
  openAdd: () => void;
}
const Context = createContext<DesignerContext | null>(null);
export const DesignerProvider = Context.Provider;
export function useDesignerContext(): DesignerContext {
  const value = useContext(Context);
  if (!value) throw new Error('used outside of the designer');
  return value;
}
