/** The mark: a steelyard balance. */
export function Logo({ size = 26 }: { size?: number }) {
  return (
    <span style={{ display: 'inline-flex', alignItems: 'center', gap: 10, fontWeight: 700, fontSize: size * 0.66, letterSpacing: '-0.01em', color: '#fff' }}>
      <svg width={size} height={size} viewBox="0 0 32 32" aria-hidden>
        <path d="M5 9h22M16 9v16M11 25h10M7 9l-3.5 9h7zM25 9l-3.5 6h7z" fill="none" stroke="#ffb35c" strokeWidth="2.2" strokeLinejoin="round" strokeLinecap="round" />
      </svg>
      Steelyard
    </span>
  );
}
