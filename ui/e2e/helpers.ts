import { readFileSync } from 'node:fs';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, type Page, test as base } from '@playwright/test';

const EMAIL = process.env.STEELYARD_EMAIL ?? 'admin@steelyard.local';
const PASSWORD = process.env.STEELYARD_PASSWORD ?? 'steelyard';
const SHOTS = process.env.STEELYARD_SCREENSHOTS;
const axe = readFileSync(join(import.meta.dirname, '../node_modules/axe-core/axe.min.js'), 'utf8');

/** Nothing uncaught and nothing that the content policy refuses: checked in every test. */
export const test = base.extend<{ page: Page }>({
  page: async ({ page }, use) => {
    const bad: string[] = [];
    page.on('pageerror', (error) => bad.push(`uncaught: ${error.message}`));
    page.on('console', (message) => {
      if (/Content Security Policy/i.test(message.text())) bad.push(message.text());
    });
    await use(page);
    expect(bad).toEqual([]);
  },
});
export { expect };
export type { Page };

export async function login(page: Page, entry: 'portal' | 'admin' = 'portal', path = '/') {
  // The form itself is tested by the tests of signing in; all others come in by the interface.
  const answer = await page.request.post('/api/v2/login', { data: { provider: 'mysql', properties: { email: EMAIL, password: PASSWORD } } });
  expect(answer.ok()).toBe(true);
  await page.goto(`/${entry}${path}`);
  await expect(page.getByRole('button', { name: /account menu/ })).toBeVisible();
}

/** Label of its own per run, so that the tests can be repeated on one system. */
export const unique = (stem: string) => `${stem}-${Date.now().toString(36)}`;

export async function createInfrastructure(page: Page, label: string) {
  await page.goto('/portal/');
  await page.getByRole('button', { name: 'New infrastructure' }).first().click();
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel('Name').fill(label);
  await dialog.getByRole('button', { name: 'Create and open' }).click();
  await expect(page.getByRole('heading', { level: 1, name: label })).toBeVisible();
}

export async function add(page: Page, item: RegExp) {
  await page.getByRole('button', { name: 'Add', exact: true }).click();
  await page.getByRole('menuitem', { name: item }).first().click();
}
/** The first server type of the palette that has free servers is as good as any. */
export async function addGroup(page: Page) {
  await page.getByRole('button', { name: 'Add', exact: true }).click();
  await page.getByRole('menuitem', { name: /cores/ }).first().click();
  await expect(page.locator('.sy-card').last()).toBeVisible();
}
export const addNetwork = (page: Page) => add(page, /^New/);
export const card = (page: Page, label: string) => page.locator('.react-flow__node', { has: page.locator('.sy-card', { hasText: label }) });
export const rail = (page: Page, label: string) => page.locator('.sy-rail', { hasText: label });

export async function rename(page: Page, label: string) {
  await page.getByLabel('Label').fill(label);
  await page.getByLabel('Label').press('Enter');
}
/** Pulls a cable with the mouse from an element's connector to the middle of another element. */
export async function drag(page: Page, from: ReturnType<Page['locator']>, to: ReturnType<Page['locator']>) {
  await from.hover();
  const start = await from.locator('.sy-connector').boundingBox();
  const end = await to.boundingBox();
  if (!start || !end) throw new Error('an element to connect is not on the screen');
  await page.mouse.move(start.x + start.width / 2, start.y + start.height / 2);
  await page.mouse.down();
  await page.mouse.move(start.x + 30, start.y + 30, { steps: 4 });
  await page.mouse.move(end.x + end.width / 2, end.y + end.height / 2, { steps: 12 });
  await page.mouse.up();
}
export async function saved(page: Page) {
  await expect(page.getByTestId('save-state')).toHaveText(/Draft saved/);
}
export async function deploy(page: Page) {
  await saved(page);
  await page.getByRole('button', { name: 'Deploy', exact: true }).click();
  const dialog = page.getByRole('dialog');
  await expect(dialog.getByText('Powered on')).toBeVisible();
  await shot(page, 'plan');
  await dialog.getByRole('button', { name: 'Deploy' }).click();
  await expect(page.getByTestId('deploy-bar')).toBeVisible();
}

export async function shot(page: Page, name: string) {
  if (!SHOTS) return;
  mkdirSync(SHOTS, { recursive: true });
  await page.screenshot({ path: join(SHOTS, `${name}.png`) });
}
export async function noSeriousViolation(page: Page) {
  await page.evaluate(axe);
  const found = await page.evaluate(async () => {
    const run = (window as unknown as { axe: { run: (d: Document) => Promise<{ violations: { impact: string; id: string; nodes: { target: string[] }[] }[] }> } }).axe;
    const { violations } = await run.run(document);
    return violations.filter((v) => v.impact === 'serious' || v.impact === 'critical').map((v) => `${v.id}: ${v.nodes.map((n) => n.target.join(' ')).join(', ')}`);
  });
  expect(found).toEqual([]);
}

/** Retries every failed step that is shown, one after the other. */
export async function retryAll(page: Page) {
  const failed = page.locator('tr[data-status="thrown_error"]');
  while ((await failed.count()) > 0) {
    const before = await failed.count();
    await failed.first().getByRole('button', { name: 'Retry' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Retry' }).click();
    await expect.poll(() => failed.count(), { timeout: 20_000 }).toBeLessThan(before);
  }
}

/** The REST interface as the signed-in person, for what a test needs around it. */
export async function call<T = Record<string, any>>(page: Page, method: string, path: string, data?: unknown): Promise<T> {
  const csrf = (await page.context().cookies()).find((c) => c.name === 'steelyard_csrf')?.value ?? '';
  const answer = await page.request.fetch(`/api/v2${path}`, { method, data, headers: { 'X-CSRF-Token': csrf } });
  const text = await answer.text();
  if (!answer.ok()) throw new Error(`${method} ${path}: ${answer.status()} ${text.slice(0, 400)}`);
  return (text ? JSON.parse(text) : null) as T;
}
/** A catalog whose images nobody serves any more would be what the next test's policy finds newest. */
export async function forgetFirmware(page: Page, name: string) {
  for (const kind of ['baseline', 'catalog'])
    for (const row of (await call<{ data: { id: number; name: string }[] }>(page, 'GET', `/firmware/${kind}?limit=100`)).data.filter((r) => r.name === name)) await call(page, 'DELETE', `/firmware/${kind}/${row.id}`);
}
export const dialog = (page: Page) => page.getByRole('dialog');
export async function choose(page: Page, label: string, option: string | RegExp) {
  await dialog(page).getByRole('combobox', { name: label }).click();
  await page.getByRole('option', { name: option }).first().click();
}
