import { useQueryClient } from '@tanstack/react-query';
import { useEffect } from 'react';
import { type LiveMessage, subscribe } from './stream';

/** Asks a query again when the live line says that what it shows has changed; a burst of messages is one question. */
export function useRefreshOn(key: readonly unknown[], concerns: (message: LiveMessage) => boolean, delay = 400) {
  const client = useQueryClient();
  const name = JSON.stringify(key);
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const stop = subscribe((message) => {
      if (message.topic !== 'reset' && !concerns(message)) return;
      timer ??= setTimeout(() => {
        timer = undefined;
        void client.invalidateQueries({ queryKey: JSON.parse(name) as unknown[] });
      }, delay);
    });
    return () => {
      stop();
      clearTimeout(timer);
    };
    // The question depends on the key alone; `concerns` is a plain function of the message.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [client, name, delay]);
}
