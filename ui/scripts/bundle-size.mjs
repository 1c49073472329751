// Fails when an entry's first load or any later chunk outgrows its budget (gzip, bytes over the wire).
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';

const KB = 1024;
const SHELL = 250 * KB; // page, scripts and styles before the first route
const CHUNK = 140 * KB; // any lazy chunk
const TOTAL = 1200 * KB; // everything
const dist = process.argv[2] ?? 'dist';
if (!existsSync(dist)) throw new Error(`${dist} is missing: run "npm run build" first`);
const size = (file) => gzipSync(readFileSync(join(dist, file)), { level: 9 }).length;
const kb = (n) => `${(n / KB).toFixed(1)} kB`;
let failed = false;
const check = (name, bytes, most) => {
  const over = bytes > most;
  failed ||= over;
  console.log(`${over ? 'OVER ' : 'ok   '} ${name.padEnd(44)} ${kb(bytes).padStart(10)} of ${kb(most)}`);
};
const initial = new Set();
for (const entry of ['portal', 'admin']) {
  const html = readFileSync(join(dist, entry, 'index.html'), 'utf8');
  const files = [...html.matchAll(/(?:src|href)="\/(assets\/[^"]+)"/g)].map((m) => m[1]);
  files.forEach((f) => initial.add(f));
  check(`${entry}: first load`, files.reduce((sum, f) => sum + size(f), size(join(entry, 'index.html'))), SHELL);
}
let total = 0;
for (const name of readdirSync(join(dist, 'assets'))) {
  const bytes = size(join('assets', name));
  total += bytes;
  if (!initial.has(`assets/${name}`) && bytes > 40 * KB) check(name, bytes, CHUNK);
}
check('everything', total, TOTAL);
process.exitCode = failed ? 1 : 0;
