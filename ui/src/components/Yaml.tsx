import { stringify } from 'yaml';

/** A structure as YAML; a file of its own, so that the library is loaded only where it is shown. */
export default function Yaml({ value }: { value: unknown }) {
  return <pre className="sy-pre">{stringify(value)}</pre>;
}
