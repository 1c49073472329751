import { Alert, Anchor, Button, PasswordInput, Stack, Text, TextInput, Title } from '@mantine/core';
import { type FormEvent, useState } from 'react';
import { login, secondFactor } from '../app/session';
import { Logo } from './Logo';

/** The sign-in page of both entries; `done` returns to where the person was. */
export function Login({ product, done }: { product: string; done: () => void }) {
  const [email, setEmail] = useState('');
  const [password, setPassword] = useState('');
  const [code, setCode] = useState('');
  const [step, setStep] = useState<'password' | 'code'>('password');
  const [error, setError] = useState<string>();
  const [busy, setBusy] = useState(false);

  async function submit(event: FormEvent) {
    event.preventDefault();
    setBusy(true);
    setError(undefined);
    try {
      if (step === 'password' && (await login(email.trim(), password)) === 'code') {
        setStep('code');
        return;
      }
      if (step === 'code') await secondFactor(code);
      done();
    } catch (cause) {
      setError(cause instanceof Error ? cause.message : String(cause));
    } finally {
      setBusy(false);
    }
  }

  return (
    <main className="login">
      <div className="login-art" aria-hidden>
        <Logo size={44} />
        <p className="login-line">Draw it, deploy it, and it runs.</p>
        <p className="login-sub">Servers, networks and operating systems as one design.</p>
      </div>
      <form className="login-form" onSubmit={submit}>
        <Stack gap="md" w="100%" maw={340}>
          <div>
            <Title order={1}>Sign in</Title>
            <Text c="dimmed" size="sm">
              {product}
            </Text>
          </div>
          {error && (
            <Alert color="red" role="alert" title="Sign-in failed">
              {error}
            </Alert>
          )}
          {step === 'password' ? (
            <>
              <TextInput label="E-mail" type="email" name="email" autoComplete="username" required value={email} onChange={(e) => setEmail(e.currentTarget.value)} />
              <PasswordInput label="Password" name="password" autoComplete="current-password" required value={password} onChange={(e) => setPassword(e.currentTarget.value)} />
            </>
          ) : (
            <TextInput
              label="Code"
              description={`The six digits that your authenticator shows for ${email.trim()}.`}
              name="code"
              inputMode="numeric"
              autoComplete="one-time-code"
              required
              autoFocus
              value={code}
              onChange={(e) => setCode(e.currentTarget.value.replace(/\D/g, '').slice(0, 6))}
            />
          )}
          <Button type="submit" loading={busy} fullWidth>
            {step === 'password' ? 'Sign in' : 'Confirm'}
          </Button>
          {step === 'code' && (
            <Anchor
              component="button"
              type="button"
              size="sm"
              onClick={() => {
                setStep('password');
                setCode('');
                setError(undefined);
              }}
            >
              Sign in as somebody else
            </Anchor>
          )}
        </Stack>
      </form>
    </main>
  );
}
