"""The look of a report: one narrow column of sections, charts side by side where there is room, light or dark."""

STYLE = """
:root{color-scheme:light dark;--bg:#fcfcfa;--fg:#1d2328;--dim:#5c666f;--rule:#dfe2e0;--card:#f2f3f0;
--good:#1b7f46;--warn:#9a6400;--bad:#b3261e;--c1:#2563c9;--c2:#b8620b;--c3:#1b7f46;--c4:#c03a3a;--c5:#7a5bb5}
@media (prefers-color-scheme:dark){:root{--bg:#14181b;--fg:#e4e7e9;--dim:#9aa5ad;--rule:#2d3439;--card:#1d2327;
--good:#5fc98b;--warn:#e0ac4f;--bad:#f08a80;--c1:#79aaf5;--c2:#e8a35a;--c3:#5fc98b;--c4:#ef8a86;--c5:#b9a0ea}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--fg);font:16px/1.55 system-ui,-apple-system,"Segoe UI","Noto Sans",
"Noto Sans CJK SC","PingFang SC","Microsoft YaHei","WenQuanYi Zen Hei",sans-serif}
main{max-width:1160px;margin:0 auto;padding:28px 20px 48px}
h1{font-size:1.5rem;margin:.1em 0;overflow-wrap:anywhere}h2{font-size:1.2rem;margin:0 0 .6em}
h3{font-size:1rem;margin:1.6em 0 .4em}small,.kicker,footer,figcaption{color:var(--dim)}
h2 small{font-weight:400;font-size:.95rem}.kicker{margin:0;font-size:.9rem}p{margin:.3em 0}
section{border-top:1px solid var(--rule);padding-top:20px;margin-top:28px}
.state{font-weight:600}.good{--tone:var(--good)}.warn{--tone:var(--warn)}.bad{--tone:var(--bad)}.plain{--tone:var(--dim)}
.state,li.warn{color:var(--tone)}
.card{background:var(--card);border-left:4px solid var(--tone);padding:10px 14px;margin:10px 0;border-radius:0 6px 6px 0;
overflow-wrap:anywhere}.card strong{font-weight:600}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,320px),1fr));gap:18px}
.beside{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr));gap:0 36px}.beside>div{min-width:0}
figure{margin:0;min-width:0}figcaption{font-size:.9rem}svg{width:100%;height:auto;display:block}
svg text{font-size:11px;fill:var(--dim)}.end{text-anchor:end}.middle{text-anchor:middle}
svg line{stroke-width:1}.grid{stroke:var(--rule)}.level{stroke:var(--dim);stroke-dasharray:2 3}
.mark{stroke:var(--bad);stroke-dasharray:4 3}
polyline{fill:none;stroke-width:1.8;stroke-linejoin:round}polyline.thin{stroke-width:1;opacity:.35}
.c1{stroke:var(--c1);--own:var(--c1)}.c2{stroke:var(--c2);--own:var(--c2)}.c3{stroke:var(--c3);--own:var(--c3)}
.c4{stroke:var(--c4);--own:var(--c4)}.c5{stroke:var(--c5);--own:var(--c5)}circle{fill:var(--own)}
.legend{display:flex;flex-wrap:wrap;gap:2px 14px;font-size:.85rem}.legend i{display:inline-block;width:10px;height:10px;
border-radius:3px;background:var(--own);margin-right:5px}.legend b{font-weight:600}
.interval{width:120px;display:inline-block;vertical-align:middle}.interval .c1{stroke-width:3}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-size:.92rem;font-variant-numeric:tabular-nums}
th{text-align:left;color:var(--dim);font-weight:500}th,td{padding:4px 18px 4px 0;border-bottom:1px solid var(--rule);
vertical-align:top}tbody tr:last-child td{border-bottom:0}
td:first-child{min-width:7.5em}table.numbers td+td,table.numbers th+th{white-space:nowrap}
code{font:.92em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}
details{margin:12px 0}summary{cursor:pointer;color:var(--dim)}ul{padding-left:20px;margin:.4em 0}li{overflow-wrap:anywhere}
footer{border-top:1px solid var(--rule);margin-top:32px;padding-top:12px;font-size:.85rem;overflow-wrap:anywhere}
@media (max-width:480px){main{padding:18px 14px 36px}h1{font-size:1.25rem}}
@media print{body{background:#fff}details{display:block}}
"""
