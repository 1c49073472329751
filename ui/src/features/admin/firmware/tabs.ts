export const FIRMWARE_TABS = [
  { to: '/firmware', label: 'Compliance' },
  { to: '/firmware/campaigns', label: 'Campaigns' },
  { to: '/firmware/baselines', label: 'Baselines' },
  { to: '/firmware/catalogs', label: 'Catalogs' },
  { to: '/firmware/binaries', label: 'Binaries' },
  { to: '/firmware/policies', label: 'Policies' },
];
export const FIRMWARE_SUB = 'What runs on the hardware itself, what should, and how it gets there.';
