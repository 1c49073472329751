import { resolve } from 'node:path';
import react from '@vitejs/plugin-react';
import type { Plugin } from 'vite';
import { defineConfig } from 'vitest/config';

/** Deep links (/portal/infrastructures/3) are answered with the entry's page, as the server does. */
function entryFallback(): Plugin {
  return {
    name: 'entry-fallback',
    configureServer(server) {
      server.middlewares.use((req, _res, next) => {
        const path = (req.url ?? '/').split('?')[0];
        const entry = /^\/(portal|admin)(\/|$)/.exec(path)?.[1];
        if (path === '/') req.url = '/portal/index.html';
        else if (entry && !/\.[a-z0-9]+$/i.test(path)) req.url = `/${entry}/index.html`;
        next();
      });
    },
  };
}

export default defineConfig({
  plugins: [react(), entryFallback()],
  build: {
    // 'self' only: no data: URLs for assets, so that the content policy stays short.
    assetsInlineLimit: 0,
    target: 'es2022',
    rollupOptions: {
      input: { portal: resolve(import.meta.dirname, 'portal/index.html'), admin: resolve(import.meta.dirname, 'admin/index.html') },
    },
  },
  server: {
    proxy: { '/api': { target: process.env.STEELYARD_URL ?? 'http://127.0.0.1:8080', changeOrigin: false } },
  },
  test: { environment: 'jsdom', include: ['src/**/*.test.{ts,tsx}'] },
});
