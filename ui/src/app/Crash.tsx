import { Button, Group, Stack } from '@mantine/core';
import { ErrorCard } from '../components/states';

/** What is shown in place of a page that could not be drawn; the rest of the application goes on. */
export function Crash({ error, reset }: { error: unknown; reset: () => void }) {
  return (
    <Stack p="lg" maw={720}>
      <ErrorCard error={error} what="This page could not be shown" />
      <Group>
        <Button onClick={reset}>Try again</Button>
        <Button variant="default" onClick={() => window.location.reload()}>Load it anew</Button>
      </Group>
    </Stack>
  );
}
