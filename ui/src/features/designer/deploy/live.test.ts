import { describe, expect, it } from 'vitest';
import type { Job, JobReport } from '../../../api/types';
import { addressesOf } from '../panels/Servers';
import { merge, summarise } from './live';

const job = (jobId: number, status: Job['status'], percent = 0): Job => ({ jobId, status, percent, functionName: 'server.install', title: `Install ${jobId}`, type: 'asynchronous', callCount: 0, retryMax: 1, retryCount: 0, options: {}, createdTimestamp: '', updatedTimestamp: '' });
const report = (jobId: number, status: Job['status'], more: Partial<JobReport> = {}): JobReport => ({ jobId, groupId: 1, status, ...more });

describe('live reports', () => {
  it('change only the job they are about, and twice is as once', () => {
    const before = [job(1, 'running', 10), job(2, 'not_called')];
    const once = merge(before, report(1, 'running', { percent: 50, message: 'Writing' }));
    expect(once[0]).toMatchObject({ percent: 50, message: 'Writing' });
    expect(once[1]).toBe(before[1]);
    expect(merge(once, report(1, 'running', { percent: 50, message: 'Writing' }))).toEqual(once);
  });
  it('clear the error when the job runs again', () => {
    const failed = merge([job(1, 'running')], report(1, 'thrown_error', { error: 'BMC answered 503' }));
    expect(failed[0].error).toBe('BMC answered 503');
    expect(merge(failed, report(1, 'running'))[0].error).toBeNull();
  });
  it('sum up to what a card shows: a failure first', () => {
    expect(summarise([job(1, 'returned_success'), job(2, 'running', 50)])).toMatchObject({ percent: 75, done: 1, total: 2, failed: 0, step: 'Install 2' });
    expect(summarise([job(1, 'running', 10), job(2, 'thrown_error')])).toMatchObject({ failed: 1, step: 'Failed: Install 2' });
  });
});

describe('addresses', () => {
  it('are found in any nesting, MACs and names are not taken for one', () => {
    expect(addressesOf({ physicalInterfaceNetworkConfigs: { eth0: { macAddress: '02:00:00:00:00:01', addresses: ['10.0.0.5/24', 'fd00::5/64'], name: 'eth0' } } })).toEqual(['10.0.0.5', 'fd00::5']);
    expect(addressesOf(null)).toEqual([]);
  });
});
