// What the designer costs with large designs, in the browser's own figures: STEELYARD_URL, STEELYARD_EMAIL, STEELYARD_PASSWORD of a running system.
import { chromium } from '@playwright/test';

const { STEELYARD_URL: url, STEELYARD_EMAIL: email, STEELYARD_PASSWORD: password } = process.env;
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--disable-background-networking'] });
const context = await browser.newContext({ viewport: { width: 1600, height: 900 } });
const page = await context.newPage();
page.setDefaultTimeout(60_000);
await page.goto(`${url}/portal/login`);
await page.getByLabel('E-mail').fill(email);
await page.locator('input[name=password]').fill(password);
await page.getByRole('button', { name: 'Sign in' }).click();
await page.getByRole('button', { name: /account menu/ }).waitFor();
const csrf = (await context.cookies()).find((c) => c.name === 'steelyard_csrf')?.value ?? '';
const call = async (method, path, data, revision) => {
  const answer = await page.request.fetch(`${url}/api/v2${path}`, { method, data, headers: { 'X-CSRF-Token': csrf, ...(revision ? { 'If-Match': String(revision) } : {}) } });
  if (!answer.ok()) throw new Error(`${method} ${path}: ${answer.status()} ${await answer.text()}`);
  return answer.status() === 204 ? null : answer.json();
};
const client = await context.newCDPSession(page);
await client.send('Performance.enable');
const metrics = async () => Object.fromEntries((await client.send('Performance.getMetrics')).metrics.map((m) => [m.name, m.value]));

const site = (await call('GET', '/sites')).data[0];
const type = (await call('GET', '/server-types')).data[0];
const fabric = (await call('GET', '/network-fabrics')).data[0];

async function design(groups, each, networks) {
  const made = await call('POST', '/infrastructures', { label: `perf-${groups}-${Date.now().toString(36)}`, siteId: site.id });
  const nets = [];
  for (let n = 0; n < networks; n++) nets.push(await call('POST', '/logical-networks', { label: `net-${n}`, name: `net-${n}`, infrastructureId: made.id, kind: 'vlan', fabricId: Number(fabric.id) }));
  for (let g = 0; g < groups; g++) {
    const group = await call('POST', `/infrastructures/${made.id}/server-instance-groups`, { label: `group-${g}`, instanceCount: each, defaultServerTypeId: type.id });
    for (const n of [g % networks, (g + 1) % networks].slice(0, 2)) await call('POST', `/server-instance-groups/${group.id}/config/networking/connections`, { logicalNetworkId: String(nets[n].id), tagged: n !== g % networks, accessMode: 'l2', mtu: 1500 });
  }
  return made;
}

async function measure(name, act, seconds = 2) {
  await page.waitForTimeout(700);
  const before = await metrics();
  const frames = page.evaluate((ms) => new Promise((resolve) => {
    let n = 0;
    let longest = 0;
    let last = performance.now();
    const end = last + ms;
    const tick = (now) => {
      n++;
      longest = Math.max(longest, now - last);
      last = now;
      if (now < end) requestAnimationFrame(tick);
      else resolve({ n, longest });
    };
    requestAnimationFrame(tick);
  }), seconds * 1000);
  await act(seconds * 1000);
  const { n, longest } = await frames;
  const after = await metrics();
  const ms = (key) => (1000 * (after[key] - before[key])) / n;
  const line = { name, 'nodes in page': await page.evaluate(() => document.querySelectorAll('*').length), 'script ms/frame': ms('ScriptDuration').toFixed(1), 'style+layout ms/frame': (ms('RecalcStyleDuration') + ms('LayoutDuration')).toFixed(1), 'longest frame ms': Math.round(longest), fps: (n / seconds).toFixed(0) };
  console.log(JSON.stringify(line));
}
const wave = async (ms) => {
  const end = Date.now() + ms;
  for (let i = 0; Date.now() < end; i++) await page.mouse.move(800 + 240 * Math.sin(i / 6), 450 + 90 * Math.cos(i / 5));
};

for (const [groups, each, networks] of [[40, 13, 6], [500, 1, 12]]) {
  const made = await design(groups, each, networks);
  const from = Date.now();
  await page.goto(`${url}/portal/infrastructures/${made.id}`);
  await page.locator('.sy-card').first().waitFor();
  console.log(JSON.stringify({ name: `${groups} groups, ${groups * each} servers: opened`, ms: Date.now() - from }));
  await page.waitForTimeout(1500);
  await measure('pan', async (ms) => {
    await page.mouse.move(1200, 820);
    await page.mouse.move(800, 450);
    const box = await page.locator('.sy-canvas').boundingBox();
    await page.mouse.move(box.x + 30, box.y + box.height - 30);
    await page.mouse.down();
    await wave(ms);
    await page.mouse.up();
  });
  await page.getByRole('button', { name: /fit view/i }).click().catch(() => undefined);
  await measure('drag one card', async (ms) => {
    const box = await page.locator('.sy-card').first().boundingBox();
    await page.mouse.move(box.x + box.width / 4, box.y + 6);
    await page.mouse.down();
    await wave(ms);
    await page.mouse.up();
  });
  await page.locator('.sy-outline').getByText('group-0', { exact: true }).click();
  // Looked up before: to find a label among many thousand nodes costs more than what is measured.
  await page.getByLabel('Servers', { exact: true }).first().focus();
  await measure('change a count ten times', async () => {
    for (let i = 0; i < 10; i++) await page.keyboard.press('ArrowUp');
  });
  if (!process.env.PERF_KEEP) await call('DELETE', `/infrastructures/${made.id}`, undefined, (await call('GET', `/infrastructures/${made.id}`)).revision).catch((e) => console.log(String(e).slice(0, 200)));
}
await browser.close();
