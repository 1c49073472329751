// Fails when the code calls an operation that openapi.json does not have: what is shown must be there.
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const { paths } = JSON.parse(readFileSync(new URL('../../openapi.json', import.meta.url), 'utf8'));
const known = Object.entries(paths).flatMap(([path, item]) => Object.keys(item).map((method) => ({ method, parts: path.replace(/^\/api\/v2/, '').split('/').slice(1) })));

/** A part that is only known when the code runs fits any part, and a parameter takes any. */
const fits = (parts, of) => parts.length === of.length && parts.every((p, i) => p === '*' || of[i].startsWith('{') || p === of[i]);
const exists = (method, path) => {
  const parts = path.split('/').slice(1);
  return known.some((k) => (!method || k.method === method) && fits(parts, k.parts));
};

/** The text of the literal at `at`, with `*` for what is put in, or null when it is none. */
function literal(text, at) {
  const quote = text[at];
  if (!'\'"`'.includes(quote)) return null;
  let out = '';
  for (let i = at + 1; i < text.length; i++) {
    if (text[i] === quote) return out;
    if (quote === '`' && text[i] === '$' && text[i + 1] === '{') {
      let depth = 0;
      do {
        if (text[i] === '{') depth++;
        if (text[i] === '}') depth--;
        i++;
      } while (depth > 0 || text[i - 1] === '$');
      i--;
      out += '*';
    } else out += text[i];
  }
  return null;
}
/** Where the arguments begin behind an optional list of types. */
function argument(text, at) {
  if (text[at] === '<') {
    let depth = 0;
    do {
      if (text[at] === '<') depth++;
      if (text[at] === '>' && text[at - 1] !== '=') depth--;
      at++;
    } while (depth > 0 && at < text.length);
  }
  if (text[at] !== '(') return null;
  at++;
  while (/\s/.test(text[at])) at++;
  return at;
}

const wrong = [];
let calls = 0;
for (const file of readdirSync(new URL('../src', import.meta.url), { recursive: true }).map((f) => `src/${f}`)) {
  if (!/\.tsx?$/.test(file)) continue;
  if (/\.test\.tsx?$|^src\/mock\/|schema\.d\.ts$/.test(file)) continue;
  const text = readFileSync(`${root}/${file}`, 'utf8');
  const note = (method, path, at) => {
    // A path that begins with something computed is checked where that is written out.
    if (!path?.startsWith('/') || path.startsWith('/*')) return;
    calls++;
    if (!exists(method, path)) wrong.push(`${file}:${text.slice(0, at).split('\n').length}: ${(method ?? 'any').toUpperCase()} ${path}`);
  };
  for (const match of text.matchAll(/\bapi\.(get|post|put|patch|delete)\b|\b(useList|listAll)\b/g)) {
    const at = argument(text, match.index + match[0].length);
    if (at !== null) note(match[1] ?? 'get', literal(text, at), match.index);
  }
  for (const match of text.matchAll(/\b(?:path|list|all)=(["'])(\/[^"']+)\1/g)) note('get', match[2], match.index);
}
if (wrong.length) {
  console.error(`The interface has no such operation:\n${wrong.join('\n')}`);
  process.exit(1);
}
console.log(`all ${calls} calls of the code are operations of the interface`);
