"""The look of the page: one column that fits a phone, light or dark as the reader has it."""

from .figure import INK, OURS, PAPER, RIVAL

THEME = {INK: "var(--ink)", PAPER: "var(--paper)", OURS: "var(--ours)", RIVAL: "var(--rival)"}
"""The figure's colours as the page's."""

COLORS = 9
"""How many colours the networks share: Tol's muted scheme, safe for the colour-blind."""

CSS = f"""
:root {{
  color-scheme: light dark;
  --ink: {INK}; --paper: {PAPER}; --ours: {OURS}; --rival: {RIVAL};
  --faint: #6662; --quiet: #5a5a5a; --loud: #b00020;
}}
@media (prefers-color-scheme: dark) {{
  :root {{
    --ink: #e6e6e6; --paper: #161616; --ours: #ff8a3d; --rival: #58aee0;
    --faint: #aaa3; --quiet: #a8a8a8; --loud: #ff7a85;
  }}
}}
* {{ box-sizing: border-box; }}
body {{
  margin: 0 auto; padding: 1rem; max-width: 76rem;
  background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere;
}}
h1 {{ line-height: 1.2; }}
h2 {{ margin-top: 2.5rem; }}
.headline {{ font-size: 1.15rem; padding-left: 1.2rem; }}
.warning {{ border: 2px solid var(--loud); color: var(--loud); padding: .6rem; font-weight: 700; }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; overflow-wrap: normal; }}
th, td {{ padding: .3rem .55rem; border-bottom: 1px solid var(--faint); text-align: right; white-space: nowrap; }}
thead th {{ vertical-align: bottom; white-space: normal; min-width: 5.4rem; }}
th:first-child {{ position: sticky; left: 0; background: var(--paper); text-align: left; }}
tbody th {{ font-weight: 400; }}
tr.ours > * {{ color: var(--ours); font-weight: 700; }}
.remarks, .parts, .failed {{ font-size: .85rem; color: var(--quiet); }}
.failed {{ color: var(--loud); }}
.figures {{ display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); }}
figure {{ margin: 0; }}
figure svg {{ width: 100%; height: auto; }}
dl {{ display: grid; grid-template-columns: max-content 1fr; gap: .15rem .8rem; font-size: .85rem; }}
dt {{ color: var(--quiet); }}
dd {{ margin: 0; }}
h4 {{ margin: 1rem 0 .2rem; }}
.bar {{ display: flex; height: 1.3rem; gap: 1px; }}
.bar span {{ min-width: 1px; }}
.parts {{ list-style: none; display: flex; flex-wrap: wrap; gap: 0 1rem; margin: .2rem 0; padding: 0; }}
.parts i {{ display: inline-block; width: .7em; height: .7em; margin-right: .35em; }}
.c0 {{ background: #cc6677; }} .c1 {{ background: #4a3fa8; }} .c2 {{ background: #ddcc77; }}
.c3 {{ background: #117733; }} .c4 {{ background: #88ccee; }} .c5 {{ background: #882255; }}
.c6 {{ background: #44aa99; }} .c7 {{ background: #999933; }} .c8 {{ background: #aa4499; }}
.outside {{ background: #8c8c8c; }}
"""
