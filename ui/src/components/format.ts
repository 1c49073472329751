const number = new Intl.NumberFormat('en');
const time = new Intl.DateTimeFormat('en', { dateStyle: 'medium', timeStyle: 'medium' });
const relative = new Intl.RelativeTimeFormat('en', { numeric: 'auto' });

export const count = (value: number | null | undefined) => (value === null || value === undefined ? '–' : number.format(value));
export const plural = (n: number, one: string, many = `${one}s`) => `${number.format(n)} ${n === 1 ? one : many}`;

/** The wire says "empty" as a zero date. */
const real = (iso: string | null | undefined): Date | null => (!iso || iso.startsWith('0000') ? null : new Date(iso));
export const when = (iso: string | null | undefined) => {
  const date = real(iso);
  return date ? time.format(date) : '–';
};
export function ago(iso: string | null | undefined, now = Date.now()): string {
  const date = real(iso);
  if (!date) return 'never';
  const seconds = Math.round((date.getTime() - now) / 1000);
  const steps: [Intl.RelativeTimeFormatUnit, number][] = [['day', 86_400], ['hour', 3_600], ['minute', 60]];
  for (const [unit, size] of steps) if (Math.abs(seconds) >= size) return relative.format(Math.trunc(seconds / size), unit);
  return Math.abs(seconds) < 5 ? 'just now' : relative.format(seconds, 'second');
}
export function duration(ms: number | null | undefined): string {
  if (ms === null || ms === undefined || Number.isNaN(ms)) return '–';
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const s = Math.round(ms / 1000);
  if (s < 60) return `${(ms / 1000).toFixed(ms < 10_000 ? 1 : 0)} s`;
  return s < 3600 ? `${Math.floor(s / 60)} min ${s % 60} s` : `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}
/** A guess is not said to the second. */
export const about = (seconds: number) => (seconds < 90 ? `${Math.max(5, Math.round(seconds / 5) * 5)} s` : seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 360) / 10} h`);
export const speed = (mbps: number | null | undefined) => (mbps ? (mbps >= 1000 ? `${mbps / 1000}G` : `${mbps}M`) : '–');
const SHORT: Record<string, string> = { nics: 'NICs', gpus: 'GPUs', bmcs: 'BMCs', vlans: 'VLANs', nvme: 'NVMe', iscsi: 'iSCSI' };
const ABBREVIATION = /\b(bios|bmcs?|nics?|gpus?|raid|psu|tpm|cpld|ssd|nvme|hdd|vlans?|dns|uefi|iscsi|nfs|tcp)\b/gi;
/** A word of the wire as people write it. */
export const words = (text: string) =>
  text
    .replace(/[_-]+/g, ' ')
    .replace(/^./, (c) => c.toUpperCase())
    .replace(ABBREVIATION, (s) => SHORT[s.toLowerCase()] ?? s.toUpperCase());
/** Sizes as makers of disks count them. */
export function bytes(n: number | null | undefined): string {
  if (n === null || n === undefined) return '–';
  const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];
  let at = 0;
  let v = n;
  while (v >= 1000 && at < units.length - 1) {
    v /= 1000;
    at++;
  }
  return `${v >= 100 || at === 0 || Number.isInteger(v) ? Math.round(v) : v.toFixed(1)} ${units[at]}`;
}

/** A partition key of InfiniBand as its tools write it. */
export const partitionKey = (key: number) => `0x${key.toString(16).padStart(4, '0')}`;
/** The partition of a network of InfiniBand. */
export const partition = (of: { pkeys: { pkey: number }[] } | null | undefined) => (of?.pkeys[0] ? `Partition ${partitionKey(of.pkeys[0].pkey)}` : 'partition key at deploy');
