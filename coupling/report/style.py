"""The style sheet of the report's page, for screens and for print."""

STYLE = """
:root { --line: #bbb; --soft: #f4f4f4; }
body { font: 16px/1.5 system-ui, "Helvetica Neue", Arial, sans-serif; color: #111;
  background: #fff; max-width: 60rem; margin: 0 auto; padding: 1rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 1rem 0 .5rem; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; border-bottom: 1px solid var(--line); }
p { max-width: 46rem; }
table { border-collapse: collapse; width: 100%; font-size: .8rem; margin: 1rem 0;
  font-variant-numeric: tabular-nums; }
caption { caption-side: top; text-align: left; color: #444; padding-bottom: .35rem; }
th, td { text-align: right; padding: .25rem .4rem; border-bottom: 1px solid #ddd;
  vertical-align: top; }
th:first-child, td:first-child { text-align: left; }
thead th { border-bottom: 2px solid #333; vertical-align: bottom; max-width: 8rem; }
tbody th { font-weight: normal; }
table.text td, table.text th { text-align: left; }
td.words, th.words { text-align: left; }
table.slim { width: auto; min-width: 50%; }
.scroll { overflow-x: auto; }
td span { white-space: nowrap; }
table.wide td span + span { display: block; color: #444; }
#verdict { background: var(--soft); border-left: 4px solid #0072B2; margin-top: 1.5rem;
  padding: 1rem 1.25rem .5rem; }
#verdict h2 { margin-top: 0; }
#verdict p { max-width: none; margin: .6rem 0; }
#verdict p:first-of-type { font-weight: bold; font-size: 1.1em; }
figure { margin: 1.25rem 0; }
figure svg { max-width: 100%; height: auto; display: block; }
figcaption { font-size: .8rem; color: #444; }
.pair { display: flex; flex-wrap: wrap; gap: 1rem; }
.pair figure { flex: 1 1 18rem; margin: 0; }
pre { font-size: .75rem; background: var(--soft); padding: .75rem; overflow-x: auto; }
summary { cursor: pointer; }
code { font-size: .9em; overflow-wrap: anywhere; }
@media (max-width: 50rem) { td span + span { display: block; color: #444; } }
@page { margin: 15mm; }
@media print {
  body { font-size: 10pt; max-width: none; padding: 0; }
  h2 { break-after: avoid; }
  table { font-size: 7.5pt; break-inside: avoid; }
  table.text { break-inside: auto; }
  tr { break-inside: avoid; }
  figure, .example { break-inside: avoid; }
  .scroll { overflow: visible; }
  #verdict { border: 1px solid #333; background: none; }
}
"""
