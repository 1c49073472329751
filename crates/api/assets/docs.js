const list = document.getElementById('list');
const el = (tag, cls, text) => { const e = document.createElement(tag); if (cls) e.className = cls; if (text) e.textContent = text; return e; };
const show = (schema, all, depth = 0) => {
  if (!schema) return '-';
  if (schema.$ref) { const n = schema.$ref.split('/').pop(); return depth > 1 ? n : show(all[n], all, depth + 1); }
  if (schema.anyOf) return schema.anyOf.map((s) => show(s, all, depth + 1)).join(' | ');
  if (schema.type === 'array') return '[' + show(schema.items, all, depth) + ']';
  if (schema.enum) return schema.enum.length > 24 ? schema.type : schema.enum.join(' | ');
  if (schema.properties) {
    const pad = '  '.repeat(depth + 1);
    return '{\n' + Object.entries(schema.properties).map(([k, v]) => pad + k + ((schema.required || []).includes(k) ? '*' : '') + ': ' + show(v, all, depth + 1)).join('\n') + '\n' + '  '.repeat(depth) + '}';
  }
  return schema.type || 'any';
};
fetch('/api/openapi.json').then((r) => r.json()).then((doc) => {
  const all = doc.components.schemas;
  const byTag = {};
  for (const [path, item] of Object.entries(doc.paths)) for (const [method, op] of Object.entries(item)) (byTag[op.tags[0]] ||= []).push({ path, method: method.toUpperCase(), op });
  const draw = (find) => {
    list.replaceChildren();
    for (const tag of Object.keys(byTag).sort()) {
      const hits = byTag[tag].filter((o) => (o.path + o.op.operationId + tag).toLowerCase().includes(find));
      if (!hits.length) continue;
      list.append(el('h2', '', tag));
      for (const { path, method, op } of hits) {
        const d = el('details'); const s = el('summary');
        s.append(el('span', 'method ' + method, method), el('code', '', path), el('span', 'perm', op['x-permission']));
        d.append(s);
        d.addEventListener('toggle', () => {
          if (d.childElementCount > 1) return;
          const body = op.requestBody?.content['application/json'].schema;
          const status = Object.keys(op.responses)[0];
          const answer = op.responses[status].content?.['application/json'].schema;
          d.append(el('pre', '', op.operationId + (body ? '\n\nrequest\n' + show(body, all) : '') + '\n\nanswer ' + status + '\n' + show(answer, all)));
        });
        list.append(d);
      }
    }
  };
  draw('');
  document.getElementById('find').addEventListener('input', (e) => draw(e.target.value.toLowerCase()));
});
