import { expect, login, noSeriousViolation, shot, test } from './helpers';

test('the serial console shows what the server writes, and hears what is typed', async ({ page }) => {
  await login(page, 'admin', '/servers');
  await page.getByRole('row').nth(1).getByRole('link').first().click();
  await page.getByRole('tab', { name: 'Console' }).click();
  const console = page.getByRole('region', { name: 'Console' });
  await expect(console.getByText(/Connected: SSH/)).toBeVisible({ timeout: 30_000 });
  // A server that is off writes as soon as it starts.
  const id = /servers\/(\d+)/.exec(page.url())?.[1];
  const csrf = (await page.context().cookies()).find((c) => c.name === 'steelyard_csrf')?.value ?? '';
  const started = await page.request.post(`/api/v2/servers/${id}/actions/set-power`, { data: { powerCommand: 'reset' }, headers: { 'X-CSRF-Token': csrf } });
  if (!started.ok()) await page.request.post(`/api/v2/servers/${id}/actions/set-power`, { data: { powerCommand: 'on' }, headers: { 'X-CSRF-Token': csrf } });
  const text = console.locator('.xterm-rows');
  await expect(text).toContainText('firmware self test', { timeout: 60_000 });
  await expect(text).toContainText(/login:|No boot device|nothing could be booted|PXE|HTTP boot/, { timeout: 60_000 });
  await console.locator('.xterm').click();
  await page.keyboard.type('root\n');
  await noSeriousViolation(page);
  await shot(page, 'server-console');
  await console.getByLabel('Look only').check();
  await expect(console.getByText(/Connected/)).toBeVisible();
  await console.getByRole('button', { name: 'Reconnect' }).click();
  await expect(console.getByText(/Connected/)).toBeVisible();
});
