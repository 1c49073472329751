import { execFileSync } from 'node:child_process';
import { parse } from 'yaml';
import { addGroup, addNetwork, card, createInfrastructure, drag, expect, login, noSeriousViolation, rail, rename, saved, shot, test, unique } from './helpers';

test('the design is shown as YAML, edited there as one step, and wrong lines are told', async ({ page }) => {
  await login(page);
  const label = unique('text');
  await createInfrastructure(page, label);
  await addGroup(page);
  await rename(page, 'web');
  await addNetwork(page);
  await rename(page, 'front');
  await drag(page, card(page, 'web'), rail(page, 'front'));
  await page.getByRole('tab', { name: 'YAML' }).click();
  const yaml = page.getByLabel('Design as YAML');
  await expect(yaml).toContainText(`infrastructure: ${label}`);
  await expect(yaml).toContainText('defaultRoute: true');
  const text = (await yaml.textContent()) ?? '';
  await page.getByRole('button', { name: 'Edit', exact: true }).click();
  await page.getByRole('textbox', { name: 'Design as YAML' }).fill(text.replace('count: 1', 'count: none'));
  await page.getByRole('button', { name: 'Apply to the design' }).click();
  await expect(page.getByRole('alert').filter({ hasText: 'Line' })).toContainText('count is a whole number');
  await noSeriousViolation(page);
  await page.getByRole('textbox', { name: 'Design as YAML' }).fill(text.replace('count: 1', 'count: 4'));
  await page.getByRole('button', { name: 'Apply to the design' }).click();
  await expect(card(page, 'web')).toContainText('4 servers');
  await shot(page, 'yaml');
  await saved(page);
  await page.getByRole('button', { name: 'Undo', exact: true }).first().click();
  await expect(card(page, 'web')).toContainText('1 server');
});

test('the text is the document that the command line exports', async ({ page }) => {
  const { STEELYARD_BINARY: binary, STEELYARD_URL: url, STEELYARD_EMAIL: email, STEELYARD_PASSWORD: password } = process.env;
  test.skip(!binary || !url || !email || !password, 'STEELYARD_BINARY is not set');
  await login(page);
  const label = unique('export');
  await createInfrastructure(page, label);
  await addGroup(page);
  await rename(page, 'web');
  await addNetwork(page);
  await rename(page, 'front');
  await drag(page, card(page, 'web'), rail(page, 'front'));
  await addNetwork(page);
  await rename(page, 'back');
  await drag(page, card(page, 'web'), rail(page, 'back'));
  await page.getByRole('button', { name: 'One server more in web' }).click();
  await saved(page);
  await page.getByRole('tab', { name: 'YAML' }).click();
  const text = (await page.getByLabel('Design as YAML').textContent()) ?? '';
  const csrf = (await page.context().cookies()).find((c) => c.name === 'steelyard_csrf')?.value ?? '';
  const key = await (await page.request.post('/api/v2/user/api-keys', { data: { name: label }, headers: { 'X-CSRF-Token': csrf } })).json();
  const exported = execFileSync(binary ?? '', ['export', label, '--output', 'yaml'], { env: { ...process.env, STEELYARD_SERVER: url, STEELYARD_API_KEY: key.apiKey }, encoding: 'utf8' });
  expect(parse(text)).toEqual(parse(exported));
  expect(text.trim()).toBe(exported.trim());
});

test('addresses of a network are switched off and on, and the server has it so', async ({ page }) => {
  await login(page);
  await createInfrastructure(page, unique('addresses'));
  await addGroup(page);
  await rename(page, 'web');
  await addNetwork(page);
  await rename(page, 'silent');
  await drag(page, card(page, 'web'), rail(page, 'silent'));
  await saved(page);
  await rail(page, 'silent').locator('.sy-pill').click();
  await expect(page.getByRole('combobox', { name: 'Subnet size' })).toHaveValue(/\/26/);
  await shot(page, 'network');
  await noSeriousViolation(page);
  await page.getByRole('switch', { name: 'IPv4 addresses for the servers' }).click();
  await expect(rail(page, 'silent')).toContainText('no addresses');
  await saved(page);
  await page.reload();
  await expect(rail(page, 'silent')).toContainText('no addresses');
  await expect(page.locator('.sy-cable')).toHaveCount(1);
});

test('what is deployed can be looked at; an element changed by someone else is asked about', async ({ page, context }) => {
  // Without the live line this page learns of a foreign change only when it writes.
  await context.route('**/events/stream*', (route) => route.abort());
  await login(page);
  await createInfrastructure(page, unique('shared'));
  await addGroup(page);
  await rename(page, 'both');
  await saved(page);
  await page.getByText('Deployed', { exact: true }).click();
  await expect(page.getByText('What runs now.')).toBeVisible();
  await expect(page.locator('.sy-card')).toHaveCount(0);
  await page.getByRole('button', { name: 'Back to the design' }).click();
  await expect(card(page, 'both')).toBeVisible();

  const infrastructure = /infrastructures\/(\d+)/.exec(page.url())?.[1];
  const csrf = (await context.cookies()).find((c) => c.name === 'steelyard_csrf')?.value ?? '';
  const group = (await (await page.request.get(`/api/v2/infrastructures/${infrastructure}/server-instance-groups`)).json()).data[0];
  const foreign = async (instanceCount: number) => {
    const now = await (await page.request.get(`/api/v2/server-instance-groups/${group.id}`)).json();
    const answer = await page.request.patch(`/api/v2/server-instance-groups/${group.id}/config`, { data: { instanceCount }, headers: { 'X-CSRF-Token': csrf, 'If-Match': String(now.config.revision) } });
    expect(answer.ok()).toBe(true);
  };
  await foreign(5);
  await page.getByRole('button', { name: 'One server more in both' }).click();
  const dialog = page.getByRole('dialog');
  await expect(dialog).toContainText('both was changed by someone else');
  await expect(dialog.getByRole('row', { name: 'Servers 2 5' })).toBeVisible();
  await noSeriousViolation(page);
  await shot(page, 'conflict');
  await dialog.getByRole('button', { name: 'Take theirs' }).click();
  await expect(card(page, 'both')).toContainText('5 servers');
  await saved(page);
  await foreign(9);
  await page.getByRole('button', { name: 'One server less in both' }).click();
  await dialog.getByRole('button', { name: 'Keep mine' }).click();
  await saved(page);
  await page.reload();
  await expect(card(page, 'both')).toContainText('4 servers');
});

test('Ctrl+K goes anywhere', async ({ page }) => {
  await login(page, 'admin');
  const serial = (await (await page.request.get('/api/v2/servers?limit=1')).json()).data[0].serialNumber as string;
  await page.keyboard.press('Control+k');
  const box = page.getByRole('combobox', { name: 'Search and commands' });
  await box.fill('switch');
  await expect(page.getByRole('option', { name: /^Switches/ })).toBeVisible();
  await box.fill(serial);
  await expect(page.getByRole('option', { name: new RegExp(serial) })).toBeVisible();
  await noSeriousViolation(page);
  await shot(page, 'palette');
  await page.keyboard.press('Enter');
  await expect(page.getByRole('heading', { level: 1, name: serial })).toBeVisible();
});
