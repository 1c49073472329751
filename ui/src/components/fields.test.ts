import { describe, expect, it } from 'vitest';
import { ApiError } from '../api/client';
import { fieldErrors } from './fields';

describe('errors of a form', () => {
  it('stand beside their field', () => {
    const one = fieldErrors(new ApiError(400, 'managementAddress: no address', { details: [{ field: 'managementAddress', message: 'no address' }] }, null), ['managementAddress']);
    expect(one.of('managementAddress')).toBe('no address');
    expect(one.rest).toBeUndefined();
    expect(fieldErrors(new ApiError(409, 'networkAddress: overlaps with tenants', {}, null), ['networkAddress']).of('networkAddress')).toBe('overlaps with tenants');
  });
  it('are shown at the form when no field is theirs', () => {
    const error = new ApiError(409, 'siteId: is gone', {}, null);
    expect(fieldErrors(error, ['label']).rest).toBe(error);
    expect(fieldErrors(null, ['label']).rest).toBeUndefined();
  });
});
