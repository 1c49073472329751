import { useParams } from '@tanstack/react-router';
import { Empty } from '../../components/states';
import { Designer } from './Designer';

export function DesignerPage() {
  const { id } = useParams({ strict: false });
  const number = Number(id);
  return Number.isInteger(number) && number > 0 ? <Designer key={number} id={number} /> : <Empty title="Not found">This is not the address of an infrastructure.</Empty>;
}
