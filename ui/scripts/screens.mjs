// Screenshots and an accessibility check of every screen of the mock build; problems in the console are errors.
import { readFileSync, mkdirSync } from 'node:fs';
import { spawn } from 'node:child_process';
import { chromium } from '@playwright/test';

const only = process.argv[2];
const port = 4188;
const base = `http://127.0.0.1:${port}`;
const server = spawn(process.execPath, ['scripts/serve.mjs', 'dist-mock', String(port)], { stdio: 'ignore' });
mkdirSync('screens', { recursive: true });
const axe = readFileSync('node_modules/axe-core/axe.min.js', 'utf8');
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--disable-background-networking'] });
let bad = 0;

async function shot(page, name) {
  await page.waitForTimeout(450);
  await page.screenshot({ path: `screens/${name}.png` });
  // The policy forbids inline scripts; the checker is let in through the protocol.
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
  for (const v of violations.filter((x) => x.impact === 'serious' || x.impact === 'critical')) {
    bad++;
    console.log(`${name}: ${v.impact} ${v.id}: ${v.nodes.slice(0, 4).map((n) => `${n.target.join(' ')} ${(n.any[0]?.message ?? '').slice(0, 130)}`).join(' | ')}`);
  }
}

const SCREENS = {
  login: async (p) => {
    await p.goto(`${base}/portal/login`);
    await p.getByLabel('E-mail').waitFor();
  },
  infrastructures: async (p) => {
    await p.goto(`${base}/portal/`);
    await p.getByText('web-shop').waitFor();
  },
  designer: async (p) => {
    await p.goto(`${base}/portal/infrastructures/1`);
    await p.locator('.sy-card').first().waitFor();
  },
  'designer-group': async (p) => {
    await SCREENS.designer(p);
    await p.locator('.sy-outline').getByText('web', { exact: true }).click();
  },
  'designer-changes': async (p) => {
    await SCREENS.designer(p);
    await p.getByLabel('One server more in web').click();
    await p.getByLabel('One server more in web').click();
    await p.getByRole('button', { name: 'Add', exact: true }).click();
    await p.getByRole('menuitem', { name: /G.96/ }).click();
    await p.locator('.sy-outline').getByText('database', { exact: true }).click();
    await p.keyboard.press('Delete');
    await p.waitForTimeout(800);
    await p.getByRole('tab', { name: /Changes \(/ }).last().click();
  },
  'designer-connect': async (p) => {
    await SCREENS.designer(p);
    await p.locator('.sy-outline').getByText('internet', { exact: true }).first().click();
    await p.keyboard.press('c');
    await p.getByRole('dialog').waitFor();
  },
  'designer-empty': async (p) => {
    await p.goto(`${base}/portal/infrastructures/3`);
    await p.getByText('An empty design').waitFor();
  },
  'designer-plan': async (p) => {
    await p.goto(`${base}/portal/infrastructures/2`);
    await p.getByRole('button', { name: 'Add', exact: true }).click();
    await p.getByRole('menuitem', { name: /M.32/ }).click();
    await p.getByLabel('One server more in servers').click();
    await p.getByLabel('One server more in servers').click();
    await p.getByRole('button', { name: 'Connect servers' }).click();
    await p.getByRole('dialog').getByText('New network').click();
    await p.waitForTimeout(1500);
    await p.getByRole('button', { name: 'Deploy', exact: true }).click();
    await p.getByText('Takes about').waitFor();
  },
  'designer-deploying': async (p) => {
    await SCREENS['designer-plan'](p);
    await p.getByRole('dialog').getByRole('button', { name: 'Deploy' }).click();
    await p.waitForTimeout(4500);
  },
  'admin-overview': async (p) => (await p.goto(`${base}/admin/`), p.waitForTimeout(700)),
  'admin-sites': async (p) => (await p.goto(`${base}/admin/sites`), p.waitForTimeout(700)),
  'admin-servers': async (p) => (await p.goto(`${base}/admin/servers`), p.waitForTimeout(900)),
  'admin-server': async (p) => (await p.goto(`${base}/admin/servers/11`), p.waitForTimeout(700)),
  'admin-switches': async (p) => (await p.goto(`${base}/admin/switches`), p.waitForTimeout(700)),
  'admin-switch': async (p) => (await p.goto(`${base}/admin/switches/3`), p.waitForTimeout(700)),
  'admin-subnets': async (p) => (await p.goto(`${base}/admin/subnets`), p.waitForTimeout(700)),
  'admin-jobs': async (p) => (await p.goto(`${base}/admin/jobs`), p.waitForTimeout(700)),
  'admin-job-group': async (p) => (await p.goto(`${base}/admin/jobs/7`), p.waitForTimeout(900)),
  'admin-events': async (p) => (await p.goto(`${base}/admin/events`), p.waitForTimeout(700)),
};
try {
  for (let tries = 0; ; tries++) {
    try {
      await fetch(`${base}/portal/`);
      break;
    } catch (error) {
      if (tries > 50) throw error;
      await new Promise((r) => setTimeout(r, 100));
    }
  }
  for (const scheme of ['light', 'dark']) {
    for (const [name, go] of Object.entries(SCREENS)) {
      if (only && !name.startsWith(only)) continue;
      const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, colorScheme: scheme, reducedMotion: 'reduce' });
      const page = await context.newPage();
      page.setDefaultTimeout(6000);
      page.on('console', (m) => m.type() === 'error' && (bad++, console.log(`${name}: console: ${m.text().slice(0, 300)}`)));
      page.on('pageerror', (e) => (bad++, console.log(`${name}: uncaught: ${e.message.slice(0, 300)}`)));
      try {
        await go(page);
      } catch (error) {
        bad++;
        console.log(`${name}: ${error.message.split('\n').slice(0, 3).join(' ')}`);
      }
      await shot(page, scheme === 'dark' ? `${name}-dark` : name);
      await context.close();
    }
  }
} finally {
  await browser.close();
  server.kill();
}
console.log(bad ? `${bad} problems` : 'all screens without a serious problem');
process.exitCode = bad ? 1 : 0;
