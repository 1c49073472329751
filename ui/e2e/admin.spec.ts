import { expect, login, noSeriousViolation, shot, test } from './helpers';

const SCREENS = [
  ['overview', '/', 'Overview'],
  ['sites', '/sites', 'Sites'],
  ['servers', '/servers', 'Servers'],
  ['register', '/servers/register', 'Register servers'],
  ['unknown', '/servers/unknown', 'Servers'],
  ['profiles', '/registration', 'Registration'],
  ['logins', '/registration/logins', 'Registration'],
  ['cleaning', '/cleaning', 'Cleaning'],
  ['certificates', '/cleaning/certificates', 'Cleaning'],
  ['compliance', '/firmware', 'Firmware'],
  ['campaigns', '/firmware/campaigns', 'Firmware'],
  ['baselines', '/firmware/baselines', 'Firmware'],
  ['catalogs', '/firmware/catalogs', 'Firmware'],
  ['binaries', '/firmware/binaries', 'Firmware'],
  ['policies', '/firmware/policies', 'Firmware'],
  ['storages', '/storages', 'Storages'],
  ['pools', '/resource-pools', 'Resource pools'],
  ['switches', '/switches', 'Switches'],
  ['subnets', '/subnets', 'Subnets'],
  ['jobs', '/jobs', 'Jobs'],
  ['events', '/events', 'Events'],
] as const;

test('every screen loads and is accessible in both themes', async ({ page }) => {
  test.setTimeout(180_000);
  await login(page, 'admin');
  for (const [name, path, heading] of SCREENS) {
    await test.step(name, async () => {
      await page.goto(`/admin${path}`);
      await expect(page.getByRole('heading', { level: 1, name: heading })).toBeVisible();
      await page.waitForLoadState('load');
      await expect(page.getByRole('alert')).toHaveCount(0);
      await noSeriousViolation(page);
      await shot(page, `admin-${name}`);
      await page.getByRole('button', { name: 'Switch theme' }).click();
      await noSeriousViolation(page);
      await page.getByRole('button', { name: 'Switch theme' }).click();
    });
  }
});

test('a filter of the server table is in the address and survives a reload', async ({ page }) => {
  await login(page, 'admin', '/servers');
  await page.getByRole('textbox', { name: 'State' }).or(page.getByRole('combobox', { name: 'State' })).first().click();
  await page.getByRole('option', { name: 'Available', exact: true }).click();
  await expect(page).toHaveURL(/status=available/);
  await page.reload();
  await expect(page).toHaveURL(/status=available/);
  await expect(page.getByRole('heading', { level: 1, name: 'Servers' })).toBeVisible();
});

test('the portal never loads code of the console', async ({ page }) => {
  const asked: string[] = [];
  page.on('request', (request) => asked.push(request.url()));
  await login(page);
  expect(asked.filter((url) => /assets\/(admin|Servers|Switches|Sites|Overview|Storages|Campaigns|Register)-/.test(url))).toEqual([]);
});
