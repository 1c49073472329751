/** Wire forms of operating systems: templates, their files, and images that people bring. */

export interface Template {
  id: number;
  revision: number;
  name: string;
  label?: string | null;
  description?: string | null;
  device: { type?: string; bootMode?: string; architecture?: string };
  install: { method?: string; driveType?: string; readyMethod?: string };
  imageBuild?: { required?: boolean } | null;
  os: { name?: string; version?: string; sshPort?: number | null; credential?: { username?: string; passwordType?: string } };
  visibility: string;
  status: string;
  templateAssetIDs?: number[] | null;
  tags?: string[] | null;
  createdAt: string;
  modifiedAt?: string | null;
}
export interface Asset {
  id: number;
  templateId: number;
  revision: number;
  usage: string;
  tags?: string[] | null;
  file: { name: string; mimeType: string; checksum?: string | null; contentBase64?: string | null; templatingEngine: boolean; url?: string | null; path: string; size?: number | null; format?: string | null };
  modifiedAt?: string | null;
}
export interface Rendering {
  problem: string | null;
  method: string | null;
  data: { name: string; text: string | null; error: string | null }[];
}
export interface CustomIso {
  id: number;
  revision: number;
  label: string;
  name: string;
  isPublic: number;
  accessUrl: string;
  createdTimestamp: string;
  updatedTimestamp: string;
}

/** Text as the wire carries files. */
export const toBase64 = (text: string) => {
  let bytes = '';
  for (const b of new TextEncoder().encode(text)) bytes += String.fromCharCode(b);
  return btoa(bytes);
};
export const fromBase64 = (text: string) => new TextDecoder().decode(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)));
