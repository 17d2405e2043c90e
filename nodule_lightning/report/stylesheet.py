"""Stylesheet of all pages, light and dark, without scripts, fonts or other external files."""

from typing import Final

STYLESHEET: Final = """
:root { color-scheme: light dark; --ink: #1f2933; --faint: #5f6c7b; --paper: #f6f7f9; --card: #ffffff;
  --line: #dde2e8; --accent: #0072b2; --warn: #fff4d6; --warn-line: #e0a800; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e9ef; --faint: #9aa7b5; --paper: #14181d; --card: #1d232a;
    --line: #323b46; --accent: #56b4e9; --warn: #3a3014; --warn-line: #c99a1b; } }
* { box-sizing: border-box; }
body { margin: 0; padding: 2rem 1rem 3rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif; }
main { max-width: 68rem; margin: 0 auto; }
h1, h2, p, li, figcaption { overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: 0 0 1.2rem; }
h2 { font-size: 1.05rem; margin: 0 0 .7rem; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 1.2rem 1.4rem;
  margin: 0 0 1.2rem; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(22rem, 100%), 1fr)); gap: 0 1.2rem; }
.pair section { min-width: 0; overflow-x: auto; }
.score { font-size: 3.2rem; font-weight: 650; line-height: 1.1; letter-spacing: -.02em; color: var(--accent); }
.faint { color: var(--faint); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .32rem .5rem; text-align: right; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
th:last-child, td:last-child { padding-right: 0; }
td:nth-child(n + 2) { white-space: nowrap; }
thead th { font-weight: 600; color: var(--faint); font-size: .86rem; }
tr:last-child > * { border-bottom: 0; }
meter { width: 5rem; max-width: 100%; vertical-align: middle; }
.settings table { table-layout: fixed; }
.settings td { overflow-wrap: anywhere; }
.settings td:last-child { text-align: left; white-space: normal; }
figure { margin: 0; }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto; background: #fff; border-radius: 6px;
  padding: .5rem; }
figcaption { margin-top: .6rem; color: var(--faint); font-size: .92rem; }
pre { margin: 0; padding: .8rem 1rem; background: var(--paper); border-radius: 6px; white-space: pre-wrap;
  overflow-wrap: anywhere; font-size: .88rem; }
.warning { background: var(--warn); border-color: var(--warn-line); }
.warning ul { margin: 0; padding-left: 1.2rem; }
.wide { overflow-x: auto; }
.wide td:first-child { min-width: 8rem; max-width: 18rem; overflow-wrap: anywhere; }
@media (max-width: 40rem) {
  body { padding: 1rem .6rem 2rem; }
  section { padding: 1rem .9rem; }
  th, td { padding: .32rem .2rem; }
  meter { width: 2.5rem; }
  .wide img { max-width: none; width: 40rem; }
}
@media (max-width: 24rem) { meter { display: none; } }
footer { color: var(--faint); font-size: .86rem; text-align: center; }
"""
