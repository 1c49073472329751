// Fails when src/api/schema.d.ts is not what openapi.json says (npm run gen-api writes it).
import { readFileSync } from 'node:fs';
import openapiTS, { astToString, COMMENT_HEADER } from 'openapi-typescript';

const made = COMMENT_HEADER + astToString(await openapiTS(new URL('../../openapi.json', import.meta.url)));
const kept = readFileSync(new URL('../src/api/schema.d.ts', import.meta.url), 'utf8');
if (made.trim() !== kept.trim()) {
  console.error('src/api/schema.d.ts is out of date: openapi.json has changed. Run "npm run gen-api", then "npm run typecheck", and commit both.');
  process.exit(1);
}
console.log('src/api/schema.d.ts is what openapi.json says');
