/**
 * The style sheet of the atlas. Light only: the heat maps are made for pictures on white.
 *
 * @module
 */
import { fontFamily, palette } from "../frame.ts";
import { CROPS_PER_SIDE, THUMBS_PER_SIDE } from "./sheets.ts";

/** Text of `style.css`. */
export const styleCss: string = /* css */ `
:root { color-scheme: light; --ink: ${palette.ink}; --muted: ${palette.muted}; --rule: ${palette.rule};
  --accent: ${palette.accent}; --data: ${palette.data}; --heat: 0.85; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: var(--ink); font: 15px/1.5 ${fontFamily}; font-variant-numeric: tabular-nums; }
main { max-width: 1280px; margin: 0 auto; padding: 24px clamp(16px, 4vw, 48px) 64px; }
h1 { font-size: 28px; line-height: 1.2; margin: 8px 0 12px; letter-spacing: -0.01em; }
h2 { font-size: 18px; margin: 40px 0 12px; }
a { color: #1f5f99; text-decoration: none; }
a:hover { text-decoration: underline; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; border-radius: 2px; }
.intro { max-width: 68ch; color: var(--muted); margin: 0 0 20px; }
.bar { display: flex; justify-content: space-between; gap: 16px; padding: 12px clamp(16px, 4vw, 48px);
  border-bottom: 1px solid var(--rule); position: sticky; top: 0; background: #fff; z-index: 2; }
.bar > a { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.bar nav { display: flex; gap: 20px; white-space: nowrap; }
.bar nav span { color: #b4bcc6; }
dl { margin: 0; }
dt { color: var(--muted); font-size: 13px; }
dd { margin: 0; overflow-wrap: anywhere; }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(44%, 220px), 1fr)); gap: 12px 32px;
  padding: 16px 0; border-block: 1px solid var(--rule); }
.stats { display: flex; flex-wrap: wrap; gap: 12px 36px; }
.stats > div { cursor: help; }
.stats dt { text-decoration: underline dotted #b4bcc6; text-underline-offset: 3px; }
.stats dd { font-size: 20px; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 24px; margin-top: 24px; }
.plots h2 { grid-column: 1 / -1; margin: 16px 0 0; }
/* Figures have a margin of their own: pull them out by it, so that their titles line up with the text. */
.plots svg { display: block; width: calc(100% + 32px); height: auto; max-width: 752px; margin: 0 -16px; }
.plots a circle:hover, .plots a:focus circle { fill: var(--accent); fill-opacity: 1; }
.controls { display: flex; flex-wrap: wrap; align-items: center; gap: 8px 24px; margin: 0 0 16px; color: var(--muted); font-size: 14px; }
.controls label { display: inline-flex; align-items: center; gap: 6px; }
.controls input { accent-color: var(--accent); }
.controls input[type=range] { width: 120px; }
.controls input[type=search] { font: inherit; padding: 6px 10px; border: 1px solid #cbd2d9; border-radius: 6px; width: 220px; }
.scale { display: inline-flex; align-items: center; gap: 8px; }
.scale i { width: 120px; height: 10px; border-radius: 2px; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(44%, 160px), 1fr)); gap: 20px 16px; }
figure { margin: 0; min-width: 0; }
.picture { position: relative; aspect-ratio: 1; border: 1px solid var(--rule); border-radius: 4px; overflow: hidden; }
.crop, .heat { position: absolute; inset: 0; width: 100%; height: 100%; }
.crop { background-size: ${CROPS_PER_SIDE}00% ${CROPS_PER_SIDE}00%; background-repeat: no-repeat; }
.heat { image-rendering: pixelated; opacity: var(--heat); }
.smooth .heat { image-rendering: auto; }
.no-heat .heat, .no-peak .peak { display: none; }
.peak { position: absolute; border: 2px solid #fff; outline: 1.5px solid var(--ink); outline-offset: -1px; border-radius: 1px; }
figcaption { font-size: 13px; line-height: 1.4; margin-top: 6px; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
figcaption span { display: block; color: var(--muted); overflow: hidden; text-overflow: ellipsis; }
.tally { list-style: none; margin: 0; padding: 0; max-width: 560px; font-size: 14px; }
.tally li { display: flex; align-items: center; gap: 10px; padding: 2px 0; }
.tally span { flex: none; width: min(40%, 180px); overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.tally i { background: var(--data); height: 12px; border-radius: 2px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; min-width: 760px; font-size: 14px; }
th, td { padding: 6px 12px 6px 0; text-align: left; white-space: nowrap; border-bottom: 1px solid var(--rule); }
th { color: var(--muted); font-weight: 400; position: sticky; top: 0; background: #fff; }
th button { all: unset; cursor: pointer; }
th button:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
th button::after { content: " ↕"; color: #cbd2d9; }
th[aria-sort=ascending] button::after { content: " ↑"; color: var(--accent); }
th[aria-sort=descending] button::after { content: " ↓"; color: var(--accent); }
th.number, td.number { text-align: right; }
td.label { max-width: 260px; overflow: hidden; text-overflow: ellipsis; }
td:nth-child(1) { padding-right: 24px; }
td:nth-child(2), th:nth-child(2) { padding-left: 12px; }
td:nth-child(7), th:nth-child(7) { padding-left: 16px; }
.thumb { display: inline-block; width: 40px; height: 40px; margin-right: 4px; border-radius: 3px; vertical-align: middle;
  background-size: ${THUMBS_PER_SIDE}00% ${THUMBS_PER_SIDE}00%; background-repeat: no-repeat; }
.pager { margin-left: auto; }
.pager button { font: inherit; color: inherit; background: none; border: 1px solid #cbd2d9; border-radius: 6px; padding: 4px 10px; cursor: pointer; }
.pager button:disabled { opacity: 0.4; cursor: default; }
@media (max-width: 640px) { .plots svg { width: calc(100% + 18px); margin: 0 -9px; } }
@media print { .bar, .controls { display: none; } }
`.trimStart();
