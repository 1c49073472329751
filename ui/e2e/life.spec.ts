import { createHash } from 'node:crypto';
import { createServer, type Server as Http } from 'node:http';
import type { AddressInfo } from 'node:net';
import { add, addGroup, addNetwork, call, card, choose, createInfrastructure, deploy, dialog, drag, expect, forgetFirmware, login, noSeriousViolation, type Page, rail, rename, saved, shot, test, unique } from './helpers';

interface Firmware {
  url: string;
  sha256: string;
  size: number;
  close: () => void;
}
/** An image as the simulated BMCs take it, at an address that the site can fetch. */
async function firmware(component: string, version: string): Promise<Firmware> {
  const head = Buffer.from(`${JSON.stringify({ component, version })}\n`);
  const bytes = Buffer.concat([head, Buffer.alloc(200_000 - head.length, 9)]);
  const server: Http = createServer((_, answer) => answer.writeHead(200, { 'content-length': bytes.length }).end(bytes));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/image.bin`, sha256: createHash('sha256').update(bytes).digest('hex'), size: bytes.length, close: () => server.close() };
}
/** A catalog of one binary and a baseline that wants it. */
async function baseline(page: Page, name: string, version: string, image: Firmware): Promise<number> {
  const catalog = await call(page, 'POST', '/firmware/catalog', { name, vendor: 'dell', updateType: 'offline' });
  await call(page, 'POST', '/firmware/binary', { catalogId: catalog.id, name: `${name}-bios`, packageVersion: version, vendorDownloadUrl: image.url, sha256: image.sha256, size: image.size, rebootRequired: true, updateSeverity: 'recommended', vendorSupportedDevices: [{ id: 'BIOS' }], vendorSupportedSystems: [] });
  return (await call(page, 'POST', '/firmware/baseline', { name, catalog: [name], minimumVersions: [] })).id as number;
}
const status = (page: Page) => page.getByTestId('infrastructure-status');
async function again(page: Page, losing = false) {
  await saved(page);
  await page.getByRole('button', { name: 'Deploy', exact: true }).click();
  const go = dialog(page).getByRole('button', { name: 'Deploy' });
  const loss = dialog(page).getByLabel(/^Allow data loss/);
  await expect(loss.or(go).first()).toBeVisible();
  if (losing) {
    await loss.check();
    await dialog(page).getByLabel(/to confirm the loss of data/).fill((await page.getByRole('heading', { level: 1 }).first().textContent()) ?? '');
  }
  await go.click();
  await expect(dialog(page)).toHaveCount(0);
}

test('a group through its life: suspended, started, its firmware asked about, its server replaced, given back with a certificate', async ({ page }) => {
  test.setTimeout(300_000);
  const label = unique('life');
  await login(page);
  await createInfrastructure(page, label);
  const id = Number(page.url().split('/').pop());
  await addGroup(page);
  await rename(page, 'app');
  await addNetwork(page);
  await rename(page, 'lan');
  await drag(page, card(page, 'app'), rail(page, 'lan'));
  await deploy(page);
  await expect(status(page)).toHaveText('Active', { timeout: 120_000 });
  const instance = async () => (await call<{ data: { id: number; serverId: number }[] }>(page, 'GET', `/infrastructures/${id}/server-instances`)).data[0];
  const first = await instance();

  await card(page, 'app').click({ position: { x: 60, y: 30 } });
  await page.getByRole('tab', { name: /^Servers \(/ }).click();
  await page.getByRole('button', { name: 'Actions for all servers of app' }).click();
  await page.getByRole('menuitem', { name: 'Suspend at next deploy' }).click();
  await again(page);
  await expect(card(page, 'app')).toContainText('Suspended', { timeout: 60_000 });
  await shot(page, 'suspended');
  await card(page, 'app').click({ position: { x: 60, y: 30 } });
  await page.getByRole('tab', { name: /^Servers \(/ }).click();
  await page.getByRole('button', { name: 'Actions for all servers of app' }).click();
  await page.getByRole('menuitem', { name: 'Start at next deploy' }).click();
  await again(page);
  await expect(card(page, 'app')).not.toContainText('Suspended', { timeout: 60_000 });
  await expect(status(page)).toHaveText('Active', { timeout: 60_000 });

  // Its owner is asked before the firmware of a server in use is touched: later, then yes.
  const image = await firmware('BIOS', '88.1');
  const asked = unique('asked');
  try {
    await baseline(page, asked, '88.1', image);
    await call(page, 'POST', `/servers/${first.serverId}/firmware/actions/update-info`);
    const bios = async () => (await call<{ data: { id: number; type: string; firmwareVersion: string }[] }>(page, 'GET', `/servers/${first.serverId}/firmware/components?limit=100`)).data.find((c) => /bios/i.test(c.type));
    await expect.poll(async () => (await bios())?.firmwareVersion ?? '', { timeout: 60_000 }).not.toBe('');
    await call(page, 'POST', `/servers/${first.serverId}/firmware/components/${(await bios())?.id}/actions/upgrade`, { componentFirmwareNewVersion: '88.1', rebootRequired: true });
    await page.getByRole('button', { name: 'Look…' }).click();
    await expect(dialog(page).getByRole('table', { name: 'Updates' })).toContainText('88.1');
    await noSeriousViolation(page);
    await shot(page, 'firmware-question');
    await dialog(page).getByRole('button', { name: /^Later: / }).click();
    await dialog(page).getByRole('button', { name: 'Answer later' }).click();
    await expect(page.getByText('Postponed', { exact: true })).toBeVisible();
    await page.getByRole('button', { name: 'Look…' }).click();
    await dialog(page).getByRole('button', { name: /^Update: / }).click();
    await dialog(page).getByRole('button', { name: 'Update', exact: true }).click();
    await expect(page.getByText('Agreed', { exact: true })).toBeVisible();
    await expect.poll(async () => (await bios())?.firmwareVersion, { timeout: 90_000 }).toBe('88.1');
  } finally {
    image.close();
    await forgetFirmware(page, asked);
  }

  // A broken server is replaced under its instance: another one takes its place, and what is lost is said.
  await page.getByRole('button', { name: 'Actions for app-1' }).click();
  await page.getByRole('menuitem', { name: 'Replace server…' }).click();
  await dialog(page).getByLabel('What is broken').fill('a fan died');
  await dialog(page).getByRole('button', { name: 'Replace at next deploy' }).click();
  await expect(page.getByText('Replaced at the next deploy')).toBeVisible();
  await again(page, true);
  await expect(status(page)).toHaveText('Active', { timeout: 120_000 });
  await expect.poll(async () => (await instance()).serverId, { timeout: 60_000 }).not.toBe(first.serverId);
  const broken = await call(page, 'GET', `/servers/${first.serverId}`);
  expect(broken.serverStatus).toBe('defective');
  const second = (await instance()).serverId;

  // Given back, its disks are erased, and a certificate says how.
  await page.goto('/portal/');
  await page.getByRole('button', { name: `Actions for ${label}` }).click();
  await page.getByRole('menuitem', { name: /^Delete/ }).click();
  await dialog(page).getByRole('button', { name: 'Delete' }).click();
  await expect(page.getByText('Marked for deletion')).toBeVisible();
  await page.goto(`/portal/infrastructures/${id}`);
  await again(page, true);
  const certificate = async () => (await call<{ data: { serverId: number; succeeded: boolean }[] }>(page, 'GET', `/servers/cleaning-certificates?filter.serverId=${second}`)).data.length;
  await expect.poll(certificate, { timeout: 120_000 }).toBeGreaterThan(0);
  await page.goto(`/admin/servers/${second}`);
  await page.getByRole('table', { name: 'Cleanings' }).getByRole('button', { name: 'Certificate' }).first().click();
  await expect(dialog(page)).toContainText('Every disk that was to be erased is erased');
  await expect(dialog(page).getByRole('table', { name: 'Disks' }).getByText('Erased', { exact: true }).first()).toBeVisible();
  await noSeriousViolation(page);
  await shot(page, 'cleaning-certificate');
});

test('a campaign brings free servers to a baseline: one first, then the others, live', async ({ page }) => {
  test.setTimeout(240_000);
  await login(page, 'admin', '/firmware');
  // One that an earlier run left open would keep these servers.
  for (const c of (await call<{ data: { id: number; status: string }[] }>(page, 'GET', '/firmware/campaigns?limit=100')).data) if (/running|paused/.test(c.status)) await call(page, 'POST', `/firmware/campaigns/${c.id}/actions/abort`, { reason: 'left open', stopRunning: true });
  const image = await firmware('BIOS', '87.4');
  const name = unique('wave');
  try {
    const wanted = await baseline(page, name, '87.4', image);
    const free = (await call<{ data: { serverId: number; vendor?: string | null }[] }>(page, 'GET', '/servers?filter.serverStatus=available&limit=100')).data;
    const label = unique('three');
    // A tag keeps the campaign to three of them: the others have nothing that the policy lets be updated.
    const three = free.filter((s) => /dell/i.test(s.vendor ?? '')).slice(0, 3);
    expect(three).toHaveLength(3);
    for (const s of three) {
      await call(page, 'PATCH', `/servers/${s.serverId}`, { tags: [label] });
      await call(page, 'POST', `/servers/${s.serverId}/firmware/actions/update-info`);
    }
    const known = async () => (await Promise.all(three.map(async (s) => (await call<{ data: unknown[] }>(page, 'GET', `/servers/${s.serverId}/firmware/components`)).data.length))).every((n) => n > 0);
    await expect.poll(known, { timeout: 60_000 }).toBe(true);
    await call(page, 'POST', '/firmware/policies', { label, action: 'accept', rules: [{ property: 'server_tags_json', operation: 'string_contains', value: label }] });
    await page.goto('/admin/firmware/campaigns');
    await page.getByRole('button', { name: 'Start campaign' }).click();
    await dialog(page).getByLabel('Label').fill(name);
    await choose(page, 'Policy', label);
    await dialog(page).getByRole('button', { name: 'Start' }).click();
    await expect(page.getByRole('heading', { level: 1, name })).toBeVisible();
    await expect(page.getByRole('table', { name: 'Wave 1' }).getByRole('row')).toHaveCount(1);
    await shot(page, 'campaign-running');
    // Paused and taken up again by hand while it runs.
    await page.getByRole('button', { name: 'Pause' }).click();
    await dialog(page).getByLabel('Reason').fill('lunch');
    await dialog(page).getByRole('button', { name: 'Pause' }).click();
    await expect(page.getByText('It waits for somebody')).toBeVisible();
    await page.getByRole('button', { name: 'Go on' }).click();
    await dialog(page).getByRole('button', { name: 'Go on' }).click();
    await expect(page.getByText('Done', { exact: true }).first()).toBeVisible({ timeout: 30_000 });
    await expect(page.getByText('Finished', { exact: true })).toBeVisible({ timeout: 120_000 });
    await expect(page.getByLabel(/^(\d+) of \1 servers over$/)).toBeVisible();
    await noSeriousViolation(page);
    await shot(page, 'campaign-done');
    const matrix = await call(page, 'POST', `/firmware/baseline/${wanted}/actions/check-compliance`, {});
    expect(matrix.servers.filter((s: { serverId: number; state: string }) => three.some((t) => t.serverId === s.serverId)).map((s: { state: string }) => s.state)).toEqual(['compliant', 'compliant', 'compliant']);
    for (const s of three) await call(page, 'PATCH', `/servers/${s.serverId}`, { tags: [] });
  } finally {
    image.close();
    await forgetFirmware(page, name);
  }
});

test('a server without a login waits, says so, and goes on when its site has one', async ({ page }) => {
  test.setTimeout(180_000);
  await login(page, 'admin', '/servers');
  const of = (await call<{ data: Record<string, any>[] }>(page, 'GET', '/servers?filter.serverStatus=available&limit=1&sortBy=serverId:DESC')).data[0];
  const { username, password } = await call(page, 'GET', `/servers/${of.serverId}/credentials`);
  await call(page, 'POST', `/servers/${of.serverId}/actions/archive`);
  // Tests before this one may have left default logins: with one for the whole site nothing would wait.
  for (const d of (await call<{ data: { id: number }[] }>(page, 'GET', '/servers/default-credentials')).data) await call(page, 'DELETE', `/servers/default-credentials/${d.id}`);
  await page.goto('/admin/servers/register');
  await page.getByLabel('BMC address').fill(of.managementAddress);
  await page.getByRole('button', { name: 'Register', exact: true }).click();
  const row = page.getByRole('table', { name: 'Registered here' }).getByRole('row').nth(1);
  await expect(row).toContainText('Waiting for credentials');
  await page.getByText('Comes by itself', { exact: true }).click();
  const waiting = page.getByRole('table', { name: 'Servers that came by themselves' });
  await expect(waiting).toContainText(of.managementAddress);
  await noSeriousViolation(page);
  await shot(page, 'register-waiting');
  const form = waiting.getByRole('form').first();
  await form.getByLabel('BMC user').fill(username);
  await form.getByLabel('BMC password', { exact: true }).fill(password);
  await form.getByLabel('For all of the site that wait').check();
  await form.getByRole('button', { name: 'Go on' }).click();
  await expect(row).toContainText('Available', { timeout: 90_000 });
  await expect(row).toContainText(of.serialNumber);
  await shot(page, 'register-done');
  for (const d of (await call<{ data: { id: number }[] }>(page, 'GET', '/servers/default-credentials')).data) await call(page, 'DELETE', `/servers/default-credentials/${d.id}`);
});

test('drives of each server, one to start from; a snapshot is taken, refused to a running system, and deleted', async ({ page }) => {
  test.setTimeout(240_000);
  await login(page);
  const offered = (await call<{ data: { status: string; technologies: string[] }[] }>(page, 'GET', '/storages?limit=100')).data;
  test.skip(!offered.some((s) => s.status === 'active' && s.technologies.includes('block')), 'no storage offers drives here');
  await createInfrastructure(page, unique('drives'));
  await addGroup(page);
  await rename(page, 'db');
  await addNetwork(page);
  await rename(page, 'lan');
  await drag(page, card(page, 'db'), rail(page, 'lan'));
  await card(page, 'db').click({ position: { x: 60, y: 30 } });
  await page.getByRole('tab', { name: /^Connections/ }).click();
  await page.getByRole('button', { name: 'Drive for each server' }).click();
  const inspector = page.getByRole('complementary', { name: 'Inspector' });
  await expect(inspector.getByText('Drive of each server')).toBeVisible();
  await page.getByLabel('Size').fill('40');
  await inspector.getByLabel('The servers start from it').check();
  await expect(page.locator('.sy-store', { hasText: 'db-data' })).toContainText('starts from it');
  await add(page, /^Shared drive/);
  await rename(page, 'common');
  await page.getByRole('button', { name: 'Attach', exact: true }).click();
  await dialog(page).getByRole('button', { name: /^db/ }).click();
  await saved(page);
  await noSeriousViolation(page);
  await shot(page, 'own-drives');
  await page.reload();
  await expect(page.locator('.sy-store', { hasText: 'db-data' })).toContainText('40 GB');
  await expect(page.locator('.sy-store', { hasText: 'db-data' })).toContainText('starts from it');
  // The boot image of the simulated site has no initiator, and a deploy would say so: from here on it is a drive beside the system's own disk.
  await page.locator('.react-flow__node', { has: page.locator('.sy-store', { hasText: 'db-data' }) }).click({ position: { x: 60, y: 40 } });
  await inspector.getByLabel('The servers start from it').uncheck();
  await deploy(page);
  await expect(status(page)).toHaveText('Active', { timeout: 180_000 });
  await page.locator('.react-flow__node', { has: page.locator('.sy-store', { hasText: 'common' }) }).click({ position: { x: 60, y: 40 } });
  await inspector.getByRole('button', { name: 'Take one' }).click();
  await dialog(page).getByLabel('Name').fill('before');
  await dialog(page).getByRole('button', { name: 'Take' }).click();
  await inspector.getByRole('button', { name: 'Actions for snapshot before' }).click();
  await page.getByRole('menuitem', { name: /^Go back/ }).click();
  await dialog(page).getByRole('button', { name: 'Go back' }).click();
  // Not under a system that runs.
  await expect(dialog(page)).toContainText('may be writing to common: switch them off first');
  await noSeriousViolation(page);
  await shot(page, 'snapshots');
  await dialog(page).getByRole('button', { name: 'Cancel' }).click();
  await inspector.getByRole('button', { name: 'Actions for snapshot before' }).click();
  await page.getByRole('menuitem', { name: /^Delete/ }).click();
  await dialog(page).getByRole('button', { name: 'Delete' }).click();
  await expect(inspector.getByRole('button', { name: 'Actions for snapshot before' })).toHaveCount(0, { timeout: 30_000 });
});
