import { describe, expect, it } from 'vitest';
import { bodyOf, type Field } from './Form';

describe('what a form sends', () => {
  const fields: Field[] = [
    { name: 'label', label: 'Label', required: true },
    { name: 'password', label: 'Password', kind: 'password' },
    { name: 'siteId', label: 'Site', kind: 'select', numeric: true },
    { name: 'port', label: 'Port', kind: 'number' },
    { name: 'on', label: 'On', kind: 'switch' },
    { name: 'tags', label: 'Tags', kind: 'words' },
    { name: 'key', label: 'Key', show: (v) => v.siteId === '2' },
  ];
  it('nothing for what is empty, numbers as numbers, passwords as they are', () => {
    expect(bodyOf(fields, { label: ' a ', password: ' p ', siteId: '1', port: '', key: 'hidden' })).toEqual({ label: 'a', password: ' p ', siteId: 1, on: false, tags: [] });
    expect(bodyOf(fields, { label: 'a', siteId: '2', port: 443, on: true, tags: ['x'], key: 'k' })).toEqual({ label: 'a', siteId: 2, port: 443, on: true, tags: ['x'], key: 'k' });
  });
});
