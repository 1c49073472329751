import { describe, expect, it } from 'vitest';
import { about, bytes, words } from './format';
import { nest } from './nest';

describe('how things are said', () => {
  it('words of the wire', () => {
    expect(words('cleaning_required')).toBe('Cleaning required');
    expect(words('bios')).toBe('BIOS');
    expect(words('gpus of nvme')).toBe('GPUs of NVMe');
  });
  it('sizes as makers of disks count them', () => {
    expect(bytes(1_600_000_000_000)).toBe('1.6 TB');
    expect(bytes(512)).toBe('512 B');
    expect(bytes(null)).toBe('–');
  });
  it('a guess of time is no promise of seconds', () => {
    expect(about(7)).toBe('5 s');
    expect(about(805)).toBe('13 min');
    expect(about(9000)).toBe('2.5 h');
  });
  it('fields with dots are parts of a whole', () => {
    expect(nest({ name: 'a', 'settings.x': 1, 'settings.y.z': true })).toEqual({ name: 'a', settings: { x: 1, y: { z: true } } });
  });
});
