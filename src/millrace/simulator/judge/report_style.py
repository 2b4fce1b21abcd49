"""The report's style: one column, light and dark, any script; colours that the figures refer to by number."""

from __future__ import annotations

from typing import Final

STYLE: Final = """
:root {
  color-scheme: light dark;
  --ground: light-dark(#f6f7f6, #101514);
  --card: light-dark(#ffffff, #171f1e);
  --mill: light-dark(#0a6e5c, #4fc3ab);
  --warm: light-dark(#a3372a, #f0907f);
  --warm-soft: light-dark(#f9e2de, #43211c);
  --c01: light-dark(#14201d, #e6eeeb);
  --c02: light-dark(#52635e, #9db0aa);
  --c03: light-dark(#dbe3e0, #2a3735);
  --c10: light-dark(#0a6e5c, #4fc3ab);
  --c11: light-dark(#b8452f, #f0907f);
  --c12: light-dark(#2f5fa8, #8ab4f8);
  --c13: light-dark(#94660a, #e3b341);
  --c14: light-dark(#7a3e9d, #c79be8);
  --c15: light-dark(#5a6663, #a9b8b3);
  --c30: light-dark(#2f5fa8, #6d9eeb);
  --c31: light-dark(#6b8fc4, #a8c7fa);
  --c32: light-dark(#8fb8ae, #7fb5a8);
  --c33: light-dark(#d9822b, #f2a65a);
  --c34: light-dark(#a3372a, #e07a66);
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--ground); color: var(--c01);
  font: 16px/1.55 system-ui, "Noto Sans", "Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans Arabic", sans-serif;
}
main, header, footer { max-width: 66rem; margin: 0 auto; padding: 0 1.25rem; }
header { padding-block: 2.2rem .6rem; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .35rem; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 0 0 .25rem; letter-spacing: -.005em; }
h3 { font-size: 1rem; margin: 1.2rem 0 .2rem; }
p { margin: .25rem 0 .8rem; max-width: 46rem; }
.soft, .bounds, caption, figcaption { color: var(--c02); }
nav {
  position: sticky; top: 0; z-index: 1; background: color-mix(in srgb, var(--ground) 93%, transparent);
  backdrop-filter: blur(6px); border-block-end: 1px solid var(--c03);
}
nav > div {
  max-width: 66rem; margin: 0 auto; padding: .5rem 1.25rem; display: flex; flex-wrap: wrap; gap: .3rem 1.1rem;
}
nav .key { margin: 0 0 0 auto; font-size: .85rem; }
nav a { color: var(--c02); text-decoration: none; font-size: .9rem; }
nav a:hover { color: var(--mill); text-decoration: underline; }
:focus-visible { outline: 2px solid var(--mill); outline-offset: 2px; }
section {
  background: var(--card); border: 1px solid var(--c03); border-radius: .9rem; padding: 1.1rem 1.25rem 1.2rem;
  margin-block: 1.1rem; scroll-margin-top: 3.2rem;
}
.key {
  display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; margin: 0 0 .6rem; padding: 0; list-style: none; font-size: .92rem;
}
.key li { display: flex; align-items: center; gap: .45rem; overflow-wrap: anywhere; }
.swatch { flex: none; inline-size: 1.5rem; block-size: .7rem; border-radius: .2rem; background: var(--of); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .93rem; font-variant-numeric: tabular-nums; inline-size: 100%; }
caption { text-align: start; font-size: .9rem; padding-block: .5rem .3rem; }
th, td { padding: .42rem .8rem .42rem 0; text-align: end; vertical-align: top; border-block-end: 1px solid var(--c03); }
th:first-child { text-align: start; font-weight: 500; min-inline-size: 11rem; }
thead th { color: var(--c02); font-weight: 600; font-size: .86rem; vertical-align: bottom; }
tbody tr:last-child > * { border-block-end: 0; }
.value { font-weight: 550; white-space: nowrap; }
.bounds { display: inline-block; font-size: .8rem; white-space: nowrap; padding-inline-start: .6rem; }
details { margin-block-start: .8rem; }
summary { cursor: pointer; color: var(--mill); font-weight: 550; }
details > .scroll { margin-block-start: .4rem; }
.bad { color: var(--warm); }
.bad .value::before { content: "▼ "; font-size: .75em; }
.good { color: var(--mill); }
.good .value::before { content: "▲ "; font-size: .75em; }
.flag {
  background: var(--warm-soft); color: var(--warm); border-radius: .5rem; padding: .1rem .45rem; font-weight: 600;
}
figure { margin: .6rem 0 .2rem; overflow-x: auto; }
figure svg { display: block; height: auto; min-inline-size: 30rem; }
figure svg text { font-family: inherit !important; }
figure.small svg { min-inline-size: 0; }
figcaption { font-size: .88rem; max-width: 46rem; }
.note { border-inline-start: 3px solid var(--c03); padding-inline-start: .8rem; color: var(--c02); font-size: .92rem; }
footer { color: var(--c02); font-size: .88rem; padding-block: .4rem 2.5rem; }
@media print { nav { position: static; } section { break-inside: avoid; } }
"""
