import { defineConfig } from '@playwright/test';

/** Runs against a running system: STEELYARD_URL, STEELYARD_EMAIL, STEELYARD_PASSWORD (see e2e/README.md). */
export default defineConfig({
  testDir: 'e2e',
  timeout: 120_000,
  expect: { timeout: 15_000 },
  // The tests share one datacenter; its servers and its fault rules are not for several at once.
  workers: 1,
  fullyParallel: false,
  // A second try is reported as flaky; a machine that is busy with other work must not fail a change.
  retries: process.env.CI ? 1 : 0,
  reporter: [['list']],
  use: {
    baseURL: process.env.STEELYARD_URL ?? 'http://127.0.0.1:8080',
    viewport: { width: 1440, height: 900 },
    trace: 'retain-on-failure',
    actionTimeout: 10_000,
    navigationTimeout: 15_000,
    ignoreHTTPSErrors: true,
    launchOptions: {
      executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
      args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--disable-background-networking'],
    },
  },
});
