import { expect, login, noSeriousViolation, type Page, shot, test, unique } from './helpers';

const dialog = (page: Page) => page.getByRole('dialog');
async function choose(page: Page, label: string, option: string | RegExp) {
  await dialog(page).getByRole('combobox', { name: label }).click();
  await page.getByRole('option', { name: option }).first().click();
}
const add = (page: Page) => dialog(page).getByRole('button', { name: 'Add', exact: true }).click();

test('servers come in as a table: what is wrong with a line is told, the others come in', async ({ page }) => {
  await login(page, 'admin', '/servers');
  const taken = (await page.getByRole('row').nth(1).getByText(/^\d+\.\d+\.\d+\.\d+(:\d+)?$/).textContent()) ?? '';
  await page.goto('/admin/servers/register');
  await page.getByText('Table', { exact: true }).click();
  await page.locator('textarea').first().fill(`managementAddress,username,password\n${taken},root,x\nnot an address,root,x\n`);
  await page.getByRole('button', { name: 'Register all' }).click();
  const rows = page.getByRole('table', { name: 'Registered here' });
  await expect(rows.getByRole('row', { name: /already/ })).toContainText('Refused');
  await expect(rows.getByRole('row', { name: /line 3/ })).toContainText('neither an IP address nor a host name');
  await noSeriousViolation(page);
  await shot(page, 'register-csv');
});

test('a range of addresses is looked through; what is registered already is marked', async ({ page }) => {
  await login(page, 'admin', '/servers');
  const [address, port] = ((await page.getByRole('row').nth(1).getByText(/^\d+\.\d+\.\d+\.\d+:\d+$/).textContent()) ?? '').split(':');
  await page.goto('/admin/servers/register');
  await page.getByText('Address range', { exact: true }).click();
  await page.getByLabel('First address').fill(address);
  await page.getByLabel('Last address').fill(address.replace(/\d+$/, (n) => String(Number(n) + 3)));
  await page.getByLabel('Port').fill(port);
  await page.getByRole('button', { name: 'Look' }).click();
  const found = page.getByRole('table', { name: 'BMCs found' });
  await expect(found.getByRole('link', { name: 'registered already' }).first()).toBeVisible({ timeout: 60_000 });
  await noSeriousViolation(page);
  await shot(page, 'register-range');
});

test('policies of cleaning, profiles and default logins are kept in the console', async ({ page }) => {
  const label = unique('clean');
  await login(page, 'admin', '/cleaning');
  await page.getByRole('button', { name: 'Add policy' }).click();
  await dialog(page).getByLabel('Label').fill(label);
  await choose(page, 'Method', 'Overwrite');
  await noSeriousViolation(page);
  await shot(page, 'cleanup-policy');
  await add(page);
  await expect(page.getByRole('row', { name: new RegExp(label) })).toContainText('Overwrite');
  await page.getByRole('button', { name: `Actions for ${label}` }).click();
  await page.getByRole('menuitem', { name: 'Edit' }).click();
  await dialog(page).getByLabel('NVMe drives').check();
  await dialog(page).getByRole('button', { name: 'Save' }).click();
  await expect(page.getByRole('row', { name: new RegExp(label) })).toContainText('NVMe drives');

  await page.goto('/admin/registration');
  const profile = unique('profile');
  await page.getByRole('button', { name: 'Add profile' }).click();
  await dialog(page).getByLabel('Name').fill(profile);
  await choose(page, 'Cleanup policy', label);
  await add(page);
  await expect(page.getByRole('row', { name: new RegExp(profile) })).toContainText(label);
  // A policy that something uses is not taken away from under it.
  await page.goto('/admin/cleaning');
  await page.getByRole('button', { name: `Actions for ${label}` }).click();
  await page.getByRole('menuitem', { name: 'Delete' }).click();
  await dialog(page).getByRole('button', { name: 'Delete' }).click();
  await expect(dialog(page).getByRole('alert')).toBeVisible();
  await dialog(page).getByRole('button', { name: 'Cancel' }).click();
  await page.goto('/admin/registration');
  await page.getByRole('button', { name: `Actions for ${profile}` }).click();
  await page.getByRole('menuitem', { name: 'Delete' }).click();
  await dialog(page).getByRole('button', { name: 'Delete' }).click();
  await expect(page.getByRole('row', { name: new RegExp(profile) })).toHaveCount(0);

  await page.goto('/admin/registration/logins');
  const serial = unique('SN').toUpperCase();
  await page.getByRole('button', { name: 'Add default login' }).click();
  await dialog(page).getByLabel('Serial number').fill(serial);
  await dialog(page).getByLabel('BMC user').fill('root');
  await dialog(page).locator('input[type=password]').fill('not-a-secret');
  await add(page);
  await page.getByRole('button', { name: `Actions for ${serial}` }).click();
  await page.getByRole('menuitem', { name: 'Show password' }).click();
  await dialog(page).getByRole('button', { name: 'Show', exact: true }).click();
  await expect(dialog(page).getByText('not-a-secret')).toBeVisible();
});

test('sensors, log and settings of a server are read from its BMC; maintenance keeps it back', async ({ page }) => {
  await login(page, 'admin', '/servers?status=available&sort=serverId:DESC');
  await page.getByRole('row').nth(2).getByRole('link').first().click();
  await page.getByRole('tab', { name: 'Sensors' }).click();
  await expect(page.getByRole('table', { name: 'Temperatures' }).getByText(/\d °C/).first()).toBeVisible({ timeout: 30_000 });
  await noSeriousViolation(page);
  await shot(page, 'server-sensors');
  await page.getByRole('tab', { name: 'Event log' }).click();
  await expect(page.getByRole('table', { name: 'Event log' }).getByRole('row').nth(1)).toBeVisible({ timeout: 30_000 });
  await page.getByRole('tab', { name: 'Settings' }).click();
  await page.getByRole('button', { name: 'Change NumLock' }).click({ timeout: 30_000 });
  await dialog(page).getByLabel('NumLock').fill('Off');
  await dialog(page).getByRole('button', { name: 'Change' }).click();
  await expect(page.getByText('Being set')).toBeVisible();
  await shot(page, 'server-settings');
  await page.getByRole('tab', { name: 'Firmware' }).click();
  await page.getByRole('button', { name: 'Read from the BMC' }).click();
  await expect(page.getByRole('table', { name: 'Firmware' }).getByRole('row', { name: /BIOS/ })).toBeVisible({ timeout: 30_000 });
  await noSeriousViolation(page);
  await shot(page, 'server-firmware');
  await page.getByRole('button', { name: 'More actions' }).click();
  await page.getByRole('menuitem', { name: 'Begin maintenance' }).click();
  await dialog(page).getByLabel('Reason').fill('a fan is loud');
  await dialog(page).getByRole('button', { name: 'Begin maintenance' }).click();
  await expect(page.getByText('a fan is loud').first()).toBeVisible();
  await page.getByRole('button', { name: 'More actions' }).click();
  await page.getByRole('menuitem', { name: 'End maintenance' }).click();
  await dialog(page).getByRole('button', { name: 'End maintenance' }).click();
  await expect(page.getByText('In maintenance')).toHaveCount(0);
});

test('firmware: a catalog, a binary and a baseline give the matrix of compliance', async ({ page }) => {
  test.setTimeout(180_000);
  const name = unique('fw');
  await login(page, 'admin', '/firmware/catalogs');
  await page.getByRole('button', { name: 'Add catalog' }).click();
  await dialog(page).getByLabel('Name').fill(name);
  await add(page);
  await expect(page.getByRole('row', { name: new RegExp(name) })).toContainText('Dell');
  await page.goto('/admin/firmware/binaries');
  await page.getByRole('button', { name: 'Add binary' }).click();
  await dialog(page).getByLabel('Name').fill(`${name}-bios`);
  await choose(page, 'Catalog', name);
  await dialog(page).getByLabel('Version').fill('99.1.0');
  await dialog(page).getByLabel('Address of the image').fill('http://127.0.0.1:9/bios.bin');
  await dialog(page).getByLabel('For these parts').fill('BIOS');
  await add(page);
  await expect(page.getByRole('row', { name: new RegExp(name) })).toContainText('99.1.0');
  await page.goto('/admin/firmware/baselines');
  await page.getByRole('button', { name: 'Add baseline' }).click();
  await dialog(page).getByLabel('Name').fill(name);
  await dialog(page).getByLabel(name).check();
  await dialog(page).getByLabel('At least these versions').fill('BIOS 90.0');
  await add(page);
  await expect(page.getByRole('row', { name: new RegExp(name) })).toContainText('1 demand');
  await page.goto('/admin/firmware');
  await page.getByRole('combobox', { name: 'Baseline' }).click();
  await page.getByRole('option', { name }).click();
  const read = page.getByRole('button', { name: /^Read \d+ server/ });
  if (await read.isVisible()) await read.click();
  await expect(page.getByRole('button', { name: /^Too old: [1-9]/ })).toBeVisible({ timeout: 60_000 });
  await noSeriousViolation(page);
  await shot(page, 'firmware-compliance');
  await page.getByRole('button', { name: 'Update in waves' }).click();
  await expect(dialog(page).getByLabel('Servers in the first wave')).toHaveValue('1');
  await noSeriousViolation(page);
  await shot(page, 'firmware-campaign');
  // It begins with one server, and a person can end it.
  await dialog(page).getByRole('button', { name: 'Start' }).click();
  await expect(page.getByRole('heading', { name: /^Wave 1/ })).toBeVisible();
  await expect(page.getByRole('table', { name: 'Wave 1' }).getByRole('row')).toHaveCount(1);
  await page.getByRole('button', { name: 'Abort' }).click();
  await dialog(page).getByLabel('Reason').fill('only looked at');
  await dialog(page).getByRole('button', { name: 'Abort' }).click();
  await expect(page.getByText('only looked at')).toBeVisible();
  await expect(page.getByText('Aborted', { exact: true }).first()).toBeVisible();
  await noSeriousViolation(page);
  await shot(page, 'firmware-aborted');
});

test('resource pools keep servers; a storage is added and waits for its site', async ({ page }) => {
  const label = unique('pool');
  await login(page, 'admin', '/resource-pools');
  await page.getByRole('button', { name: 'Add resource pool' }).click();
  await dialog(page).getByLabel('Label').fill(label);
  await dialog(page).getByLabel('Description').fill('kept for one tenant');
  await add(page);
  await page.getByRole('link', { name: label }).click();
  await page.getByRole('button', { name: 'Add person' }).click();
  await choose(page, 'Person', /admin@/);
  await add(page);
  await expect(page.getByRole('table', { name: 'People' })).toContainText('admin@');
  await noSeriousViolation(page);
  await shot(page, 'resource-pool');
  await page.goto('/admin/storages');
  const node = unique('node');
  await page.getByRole('button', { name: 'Add storage' }).click();
  await dialog(page).getByLabel('Name').fill(node);
  await dialog(page).getByLabel('Management address').fill('127.0.0.1');
  await dialog(page).getByLabel('Port').fill('9');
  await dialog(page).getByLabel('User').fill('root');
  await dialog(page).locator('input[type=password]').fill('secret');
  await noSeriousViolation(page);
  await add(page);
  await page.getByRole('link', { name: node }).click();
  await expect(page.getByRole('heading', { level: 1, name: node })).toBeVisible();
  await expect(page.getByRole('heading', { level: 2, name: 'Room' })).toBeVisible();
  await noSeriousViolation(page);
  await shot(page, 'storage');
});
