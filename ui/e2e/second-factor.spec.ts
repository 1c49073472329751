import { createHmac } from 'node:crypto';
import { expect, login, noSeriousViolation, shot, test, unique } from './helpers';

/** The code of an authenticator (RFC 6238: SHA-1, 30 s, six digits). */
function code(secret: string, steps = 0) {
  const bits = [...secret.replace(/=+$/, '')].map((c) => 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'.indexOf(c).toString(2).padStart(5, '0')).join('');
  const key = Buffer.from(bits.match(/.{8}/g)!.map((byte) => parseInt(byte, 2)));
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 30_000) + steps));
  const hash = createHmac('sha1', key).update(counter).digest();
  const at = hash[19]! & 15;
  return String((hash.readUInt32BE(at) & 0x7fffffff) % 1_000_000).padStart(6, '0');
}

test('a user with a second factor signs in by password and code', async ({ page, playwright, baseURL }) => {
  const email = `${unique('ann')}@example.com`;
  const password = 'Correct-horse-7-battery';
  await login(page);
  const csrf = (await page.context().cookies()).find((c) => c.name === 'steelyard_csrf')!.value;
  const made = await page.request.post('/api/v2/users', {
    headers: { 'X-CSRF-Token': csrf },
    data: { displayName: 'Ann', email, password, accessLevel: 'user', emailVerified: true },
  });
  expect(made.status(), await made.text()).toBe(201);
  const ann = await playwright.request.newContext({ baseURL });
  const first = await (await ann.post('/api/v2/login', { data: { provider: 'mysql', properties: { email, password } } })).json();
  const headers = { authorization: `Bearer ${first.sessionToken}` };
  const { secret2FA } = await (await ann.post('/api/v2/user/actions/2fa-generate', { headers })).json();
  const enabled = await ann.post('/api/v2/user/actions/2fa-enable', { headers, data: { token: code(secret2FA, -1) } });
  expect(enabled.status(), await enabled.text()).toBe(200);
  await ann.dispose();

  await page.context().clearCookies();
  await page.goto('/portal/');
  await page.getByLabel('E-mail').fill(email);
  await page.locator('input[name=password]').fill(password);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await expect(page.getByLabel('Code')).toBeFocused();
  await noSeriousViolation(page);
  await shot(page, 'login-code');
  await page.getByLabel('Code').fill('000000');
  await page.getByRole('button', { name: 'Confirm' }).click();
  await expect(page.getByRole('alert')).toBeVisible();
  await page.getByLabel('Code').fill(code(secret2FA));
  await page.getByRole('button', { name: 'Confirm' }).click();
  await expect(page.getByRole('button', { name: /account menu/ })).toBeVisible();
});
