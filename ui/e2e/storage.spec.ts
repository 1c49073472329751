import { add, addGroup, addNetwork, card, createInfrastructure, deploy, drag, expect, login, noSeriousViolation, type Page, rename, saved, shot, test, unique } from './helpers';

const store = (page: Page, label: string) => page.locator('.react-flow__node', { has: page.locator('.sy-store', { hasText: label }) });

test('drives, shares and buckets are drawn, attached, kept and taken away', async ({ page }) => {
  await login(page);
  await createInfrastructure(page, unique('stored'));
  await addGroup(page);
  await rename(page, 'nodes');
  await add(page, /^Shared drive/);
  await rename(page, 'data');
  await page.getByLabel('Size').fill('250');
  await expect(store(page, 'data')).toContainText('250 GB · not attached');
  // By the dialog, which the keyboard reaches too.
  await page.getByRole('button', { name: 'Attach', exact: true }).click();
  await page.getByRole('dialog').getByRole('button', { name: /^nodes/ }).click();
  await expect(page.getByRole('complementary', { name: 'Inspector' })).toContainText('nodes (1 server)');
  await add(page, /^File share/);
  await rename(page, 'media');
  // And by a line pulled from the share to the group.
  await store(page, 'media').hover();
  const from = await store(page, 'media').locator('.sy-connector').boundingBox();
  const to = await card(page, 'nodes').boundingBox();
  if (!from || !to) throw new Error('an element is not on the screen');
  await page.mouse.move(from.x + from.width / 2, from.y + from.height / 2);
  await page.mouse.down();
  await page.mouse.move(from.x + 20, from.y - 20, { steps: 4 });
  await page.mouse.move(to.x + to.width / 2, to.y + to.height / 2, { steps: 10 });
  await page.mouse.up();
  await expect(page.getByText('Attached', { exact: true })).toBeVisible();
  await add(page, /^Bucket/);
  await rename(page, 'backups');
  await saved(page);
  await noSeriousViolation(page);
  await shot(page, 'storage-drawn');
  await page.reload();
  await expect(store(page, 'data')).toContainText('250 GB');
  await expect(store(page, 'data')).not.toContainText('not attached');
  await expect(store(page, 'media')).not.toContainText('not attached');
  await expect(store(page, 'backups')).toContainText('Bucket');
  await expect(page.locator('.sy-outline')).toContainText('shared drive');
  // A bucket has no cable, and says why.
  await card(page, 'nodes').click({ position: { x: 60, y: 30 } });
  await page.keyboard.press('c');
  await expect(page.getByRole('dialog').getByRole('button', { name: /^backups/ })).toContainText('a bucket is not attached');
  await page.keyboard.press('Escape');
  await store(page, 'data').click({ position: { x: 60, y: 40 } });
  await page.getByRole('button', { name: 'Detach nodes' }).click();
  await expect(store(page, 'data')).toContainText('not attached');
  await saved(page);
  await page.getByRole('button', { name: 'Undo', exact: true }).first().click();
  await expect(store(page, 'data')).not.toContainText('not attached');
  await page.keyboard.press('Control+a');
  await page.keyboard.press('Delete');
  await expect(page.locator('.sy-card')).toHaveCount(0);
  await saved(page);
  await page.reload();
  await expect(page.getByText('An empty design')).toBeVisible();
});

test('a deploy with a drive and a share: the servers have them, and it is told how they are reached', async ({ page }) => {
  test.setTimeout(240_000);
  await login(page);
  const offered = (await (await page.request.get('/api/v2/storages?limit=100')).json()).data as { status: string; technologies: string[] }[];
  const has = (technology: string) => offered.some((s) => s.status === 'active' && s.technologies.includes(technology));
  test.skip(!has('block') || !has('file'), 'no storage offers drives and shares here');
  await createInfrastructure(page, unique('mounted'));
  await addGroup(page);
  await rename(page, 'db');
  await addNetwork(page);
  await rename(page, 'lan');
  await drag(page, card(page, 'db'), page.locator('.sy-rail').first());
  for (const [item, label] of [[/^Shared drive/, 'data'], [/^File share/, 'media']] as const) {
    await add(page, item);
    await rename(page, label);
    await page.getByRole('button', { name: 'Attach', exact: true }).click();
    await page.getByRole('dialog').getByRole('button', { name: /^db/ }).click();
  }
  await saved(page);
  await deploy(page);
  await expect(page.getByTestId('infrastructure-status')).toHaveText('Active', { timeout: 180_000 });
  const inspector = page.getByRole('complementary', { name: 'Inspector' });
  await store(page, 'media').click({ position: { x: 60, y: 40 } });
  await expect(inspector.getByText('How it is reached')).toBeVisible();
  await expect(inspector).toContainText('mount -t nfs');
  await store(page, 'data').click({ position: { x: 60, y: 40 } });
  await expect(inspector.getByText(/^(iqn|nqn)\./).first()).toBeVisible();
  await expect(inspector.getByLabel('Storage', { exact: true })).toBeDisabled();
  await noSeriousViolation(page);
  await shot(page, 'storage-deployed');
});
