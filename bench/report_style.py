"""The style sheet of a report: one column on a phone, cards in two columns on a wide screen, light or dark."""

STYLE = """
:root { color-scheme: light dark; --bg: #f3f5f8; --card: #ffffff; --ink: #1c2430; --muted: #5b6675; --edge: #dfe4ea;
  --accent: #1f6feb; --soft: #e8f0fe; --warn: #8a4b00; --warn-bg: #fff4e0; }
@media (prefers-color-scheme: dark) { :root { --bg: #0e1319; --card: #161c24; --ink: #e6eaf0; --muted: #9aa6b5;
  --edge: #2c3644; --accent: #6cb0ff; --soft: #1b2a40; --warn: #ffcf8a; --warn-bg: #33260f; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--bg); color: var(--ink); -webkit-text-size-adjust: 100%;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 28px 20px 48px; }
header .over { margin: 0; color: var(--muted); font-size: 13px; font-weight: 600; letter-spacing: .02em; }
h1 { margin: 2px 0 6px; font-size: 28px; line-height: 1.2; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { margin: 36px 0 12px; font-size: 19px; letter-spacing: -.005em; overflow-wrap: anywhere; }
h3 { margin: 0 0 10px; font-size: 15px; }
p { margin: 0 0 8px; } .lead { color: var(--muted); max-width: 75ch; } .cards + .lead { margin-top: 12px; }
.cards { display: grid; gap: 14px; grid-template-columns: repeat(2, minmax(0, 1fr)); align-items: start; }
.card { background: var(--card); border: 1px solid var(--edge); border-radius: 12px; padding: 16px 18px; min-width: 0; }
.tiles { display: grid; gap: 14px; grid-template-columns: repeat(auto-fit, minmax(170px, 1fr)); margin-top: 18px; }
.tile .label { color: var(--muted); font-size: 13px; }
.tile .value { font-size: 27px; font-weight: 650; line-height: 1.25; letter-spacing: -.01em;
  font-variant-numeric: tabular-nums; }
.tile .value small { font-size: 14px; font-weight: 500; color: var(--muted); letter-spacing: 0; }
.tile .note { color: var(--muted); font-size: 13px; }
.scroll { overflow-x: auto; padding: 4px 0; }
table { border-collapse: collapse; width: 100%; font-size: 14px; font-variant-numeric: tabular-nums; }
th { text-align: left; color: var(--muted); font-weight: 600; font-size: 13px; white-space: nowrap; }
th, td { padding: 7px 22px 7px 0; border-bottom: 1px solid var(--edge); vertical-align: top; }
tr:last-child > * { border-bottom: 0; } th:last-child, td:last-child { padding-right: 0; }
th.n, td.n { text-align: right; white-space: nowrap; } td.name, th.name { white-space: nowrap; }
table.facts th { font-weight: 500; width: 38%; white-space: normal; } table.facts td { overflow-wrap: anywhere; }
.meter { display: inline-block; width: 64px; height: 7px; margin-left: 8px; border-radius: 4px; background: var(--edge);
  vertical-align: middle; overflow: hidden; }
.meter i { display: block; height: 100%; background: var(--accent); border-radius: 4px; }
.tag { display: inline-block; padding: 0 7px; border-radius: 9px; font-size: 12px; background: var(--soft); }
.doubt { color: var(--warn); } .doubts { background: var(--warn-bg); color: var(--warn); margin-top: 14px; }
.doubts ul { margin: 0; padding-left: 18px; }
pre { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere;
  font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
svg.chart { display: block; width: 100%; height: auto; }
.together { grid-column: 1 / -1; display: grid; gap: 18px 26px;
  grid-template-columns: repeat(auto-fit, minmax(250px, 1fr)); }
footer { margin-top: 36px; color: var(--muted); font-size: 13px; }
a { color: var(--accent); }
@media (max-width: 760px) { main { padding: 18px 14px 32px; } .cards { grid-template-columns: minmax(0, 1fr); }
  h1 { font-size: 23px; } .card { padding: 14px; }
  th, td { padding-right: 14px; }
  .tiles { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 10px; } .tile .value { font-size: 22px; } }
@media print { body { background: none; } .card { break-inside: avoid; } }
"""
