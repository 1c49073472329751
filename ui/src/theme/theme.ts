import { createTheme, type CSSVariablesResolver, type MantineColorsTuple } from '@mantine/core';

const steel: MantineColorsTuple = ['#eef4fa', '#d9e6f2', '#b1cce4', '#86b0d6', '#6198c9', '#4788c1', '#2f6ea6', '#255a8a', '#1d4a73', '#1b456c'];
const amber: MantineColorsTuple = ['#fff6e8', '#ffead0', '#ffd29e', '#ffb968', '#fea43b', '#f0921f', '#b35f00', '#8f4c00', '#733d00', '#633a05'];
const green: MantineColorsTuple = ['#eaf8ef', '#d5efdf', '#a8dfbd', '#79ce99', '#51c07b', '#37b067', '#1c7a43', '#166336', '#114f2b', '#144a2d'];
const red: MantineColorsTuple = ['#fdeeee', '#f9d9d9', '#f1b0b0', '#ea8585', '#e46161', '#d94848', '#b92d2d', '#9a2323', '#7c1b1b', '#672020'];
const gray: MantineColorsTuple = ['#f7f9fb', '#eef1f5', '#e1e6ec', '#cfd6de', '#b2bcc7', '#8793a1', '#59656f', '#46515c', '#323c46', '#333e48'];
const dark: MantineColorsTuple = ['#d5dde6', '#b6c1cd', '#97a3b0', '#5d6976', '#3d4854', '#2d3742', '#222b35', '#19212a', '#121920', '#0b1016'];

/** Contrast of every pair used for text is at least 4.5:1 in both schemes (checked with axe in the browser tests). */
export const theme = createTheme({
  primaryColor: 'steel',
  primaryShade: { light: 7, dark: 6 },
  autoContrast: true,
  luminanceThreshold: 0.35,
  colors: { steel, amber, green, red, gray, dark },
  fontFamily: 'Inter, "Segoe UI", system-ui, -apple-system, "DejaVu Sans", sans-serif',
  fontFamilyMonospace: 'ui-monospace, "SF Mono", Menlo, "DejaVu Sans Mono", monospace',
  defaultRadius: 'md',
  headings: { fontWeight: '650', sizes: { h1: { fontSize: '1.5rem' }, h2: { fontSize: '1.15rem' }, h3: { fontSize: '1rem' } } },
  components: {
    Modal: { defaultProps: { overlayProps: { backgroundOpacity: 0.45 }, transitionProps: { duration: 120 }, closeButtonProps: { 'aria-label': 'Close' } } },
    // The menu's own invisible first stop is not allowed inside a menu; the first item is one.
    Menu: { defaultProps: { withInitialFocusPlaceholder: false } },
    MenuItem: { defaultProps: { 'data-autofocus': true } },
    Tooltip: { defaultProps: { withArrow: true, openDelay: 250 } },
    Badge: { defaultProps: { radius: 'sm', tt: 'none', fw: 600 } },
    Select: { defaultProps: { comboboxProps: { shadow: 'md' } } },
    Table: { defaultProps: { verticalSpacing: 'xs' } },
  },
});

/** Marks in the dark: tinted enough to be told apart at a glance, with a bright word on them. */
const tints = Object.fromEntries(
  Object.entries({ steel, amber, green, red, gray }).flatMap(([name, c]) => [
    [`--mantine-color-${name}-light`, `color-mix(in srgb, ${c[5]} 26%, #171f28)`],
    [`--mantine-color-${name}-light-hover`, `color-mix(in srgb, ${c[5]} 34%, #171f28)`],
    [`--mantine-color-${name}-light-color`, c[1]],
  ]),
);

/** Own tokens; `--sy-*` are used by the canvas and the status marks. */
export const variables: CSSVariablesResolver = () => ({
  variables: {},
  light: {
    '--mantine-color-dimmed': '#55616d',
    '--mantine-color-body': '#ffffff',
    '--sy-page': '#f3f6f9',
    '--sy-panel': '#ffffff',
    '--sy-line': '#dbe2ea',
    '--sy-line-strong': '#b7c3cf',
    '--sy-canvas': '#eef2f6',
    '--sy-dot': '#cbd5df',
    '--sy-add': '#17713c',
    '--sy-edit': '#945200',
    '--sy-del': '#a82525',
    '--sy-brand': '#16324a',
  },
  dark: {
    ...tints,
    '--mantine-color-dimmed': '#9fabb8',
    '--mantine-color-body': '#151c24',
    '--sy-page': '#0e141a',
    '--sy-panel': '#171f28',
    '--sy-line': '#2a343f',
    '--sy-line-strong': '#485563',
    '--sy-canvas': '#0f151b',
    '--sy-dot': '#28323d',
    '--sy-add': '#5fd08c',
    '--sy-edit': '#ffb968',
    '--sy-del': '#ff8f8f',
    '--sy-brand': '#0b1a27',
  },
});
