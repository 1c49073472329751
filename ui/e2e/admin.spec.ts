import { call, choose, dialog, expect, login, noSeriousViolation, shot, test, unique } from './helpers';

const SCREENS = [
  ['overview', '/', 'Overview'],
  ['sites', '/sites', 'Sites'],
  ['servers', '/servers', 'Servers'],
  ['register', '/servers/register', 'Register servers'],
  ['unknown', '/servers/unknown', 'Servers'],
  ['types', '/servers/types', 'Servers'],
  ['templates', '/templates', 'OS templates'],
  ['isos', '/isos', 'OS templates'],
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
  // Each screen in one theme, in turns: the colours of both come from the same few tokens.
  for (const [at, [name, path, heading]] of SCREENS.entries()) {
    await test.step(name, async () => {
      await page.goto(`/admin${path}`);
      await expect(page.getByRole('heading', { level: 1, name: heading })).toBeVisible();
      await page.waitForLoadState('load');
      await expect(page.getByRole('alert')).toHaveCount(0);
      if (at) await page.getByRole('button', { name: 'Switch theme' }).click();
      await noSeriousViolation(page);
      await shot(page, `admin-${name}`);
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

test('many servers at once: each refusal is told; columns are kept', async ({ page }) => {
  await login(page, 'admin', '/servers?status=available&sort=serverId:DESC');
  const boxes = page.getByRole('table', { name: 'Servers' }).getByRole('checkbox', { name: /^Choose [^a]/ });
  await boxes.nth(0).check();
  await boxes.nth(1).check();
  await page.getByRole('button', { name: 'With 2 servers' }).click();
  await page.getByRole('menuitem', { name: /^Begin maintenance/ }).click();
  await dialog(page).getByLabel('Reason').fill('a new rack');
  await dialog(page).getByRole('button', { name: 'Begin maintenance: 2' }).click();
  await expect(dialog(page)).toContainText('2 of 2 asked');
  await noSeriousViolation(page);
  await dialog(page).getByRole('button', { name: 'Close' }).last().click();
  // What is of no use for a server is not asked of it.
  await page.getByRole('button', { name: 'With 2 servers' }).click();
  await page.getByRole('menuitem', { name: /^Clean/ }).click();
  await expect(dialog(page)).toContainText('2 servers left alone: does not wait for cleaning');
  await expect(dialog(page).getByRole('button', { name: 'Clean: 0' })).toBeDisabled();
  await dialog(page).getByRole('button', { name: 'Cancel' }).click();
  await page.getByRole('button', { name: 'With 2 servers' }).click();
  await page.getByRole('menuitem', { name: /^End maintenance/ }).click();
  await dialog(page).getByRole('button', { name: 'End maintenance: 2' }).click();
  await expect(dialog(page)).toContainText('2 of 2 asked');
  await dialog(page).getByRole('button', { name: 'Close' }).last().click();
  await page.getByRole('button', { name: 'Columns' }).click();
  await page.getByLabel('Management').uncheck();
  await expect(page.getByRole('columnheader', { name: 'Management' })).toHaveCount(0);
  await noSeriousViolation(page);
  await page.reload();
  await expect(page.getByRole('columnheader', { name: 'Power' })).toBeVisible();
  await expect(page.getByRole('columnheader', { name: 'Management' })).toHaveCount(0);
});

test('an OS template is made with its texts, and shows what becomes of them', async ({ page }) => {
  const name = unique('preseed');
  await login(page, 'admin', '/templates');
  await page.getByRole('button', { name: 'Add template' }).click();
  await dialog(page).getByRole('textbox', { name: /^Name/ }).fill(name);
  await dialog(page).getByLabel('Operating system').fill('Debian');
  await dialog(page).getByLabel('Version').fill('12');
  await noSeriousViolation(page);
  await shot(page, 'template-add');
  await dialog(page).getByRole('button', { name: 'Add', exact: true }).click();
  await page.getByRole('link', { name }).click();
  const file = async (file: string, more: () => Promise<void>) => {
    await page.getByRole('button', { name: 'Add file' }).click();
    await dialog(page).getByRole('textbox', { name: /^Name/ }).fill(file);
    await more();
    await dialog(page).getByRole('button', { name: 'Add', exact: true }).click();
    await expect(page.getByRole('table', { name: 'Files' }).getByText(file, { exact: true }).first()).toBeVisible();
  };
  await file('preseed.cfg', () => dialog(page).getByLabel('Text').fill('d-i netcfg/get_hostname string {{ hostname }}\nd-i mirror/suite string {{ suite }}\n'));
  await page.getByRole('tab', { name: 'Preview' }).click();
  await expect(page.getByText('It cannot be installed yet')).toBeVisible();
  await page.getByRole('tab', { name: 'Files' }).click();
  await file('kernel-arguments', () => dialog(page).getByLabel('Text').fill('auto url={{ seed_url }}preseed.cfg'));
  for (const binary of ['vmlinuz', 'initrd.gz'])
    await file(binary, async () => {
      await choose(page, 'Where it is', 'At an address');
      await dialog(page).getByLabel('Address').fill(`http://127.0.0.1:9/${binary}`);
      await dialog(page).getByLabel('SHA-256').fill('0'.repeat(64));
      await dialog(page).getByLabel('Length in bytes').fill('1000');
    });
  await page.getByRole('tab', { name: 'Preview' }).click();
  // What is missing is named; given, the text is whole.
  await expect(page.getByText(/not defined.*suite/)).toBeVisible();
  await page.getByLabel('Custom variables').fill('{"suite": "bookworm"}');
  await page.getByRole('tab', { name: 'preseed.cfg' }).click();
  await expect(page.getByLabel('preseed.cfg', { exact: true }).last()).toContainText('d-i mirror/suite string bookworm');
  await noSeriousViolation(page);
  await shot(page, 'template-preview');
  // An edit of a text begins with the text.
  await page.getByRole('tab', { name: 'Files' }).click();
  await page.getByRole('button', { name: 'Actions for kernel-arguments' }).click();
  await page.getByRole('menuitem', { name: 'Edit' }).click();
  await expect(dialog(page).getByLabel('Text')).toHaveValue('auto url={{ seed_url }}preseed.cfg');
  await dialog(page).getByRole('button', { name: 'Cancel' }).click();
  const made = (await call<{ data: { id: number; name: string }[] }>(page, 'GET', `/os-templates?search=${name}`)).data[0];
  await call(page, 'DELETE', `/os-templates/${made.id}`);
});
