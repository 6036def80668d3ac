/**
 * The page of one latent: its top images with heat maps, what its activations look like, and which labels its images
 * share.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import type { LatentSummary, TopImage } from "../../summary/summary.ts";
import type { Colormap } from "../colormap.ts";
import { formatCount, formatShare, formatValue } from "../format.ts";
import { heatmapRgba, largest } from "../heatmap.ts";
import { plotActivationHistogram, plotPercentiles } from "../latent_plots.ts";
import { Html, html, page } from "./html.ts";
import { encodeRgbaPng } from "./png.ts";
import { spriteStyle } from "./sheets.ts";
import { tallyLabels } from "./tally.ts";

/** What is known about images and patches. */
export interface LatentPageOptions {
  /** Title of the atlas. */
  title: string;
  /** File names of the pages before and after, if there are any. */
  previous?: string;
  next?: string;
  /** Top images shown. */
  nImages: number;
  info: (imageIndex: number) => { readonly name: string; readonly label?: string };
  /** Place of an image in the sprite sheets. */
  slot: (imageIndex: number) => number;
  heat?: (latent: number, imageIndex: number) => ArrayLike<number> | undefined;
  gridWidth: number;
  gridHeight: number;
  colormap: Colormap;
  /** CSS gradient of the colormap. */
  gradient: string;
}

/** The page as HTML text. */
export function latentPage(latent: LatentSummary, options: LatentPageOptions): string {
  const { title, previous, next, info, heat, gradient } = options;
  const top = latent.topImages.slice(0, options.nImages);
  const heats = top.map(({ imageIndex }) => heat?.(latent.latent, imageIndex));
  const upper = heats.reduce<number>((most, values) => Math.max(most, values ? largest(values) : 0), 0);
  const hasHeat = heats.some((values) => values !== undefined);
  const step = (name: string | undefined, text: string, rel: string) =>
    name === undefined ? html`<span>${text}</span>` : html`<a href="${name}" rel="${rel}">${text}</a>`;
  const body = html`<header class="bar"><a href="../index.html">${title}</a>
<nav aria-label="Latents">${step(previous, "← Previous", "prev")}${step(next, "Next →", "next")}</nav></header>
<main>
<h1>Latent ${latent.latent}</h1>
${statistics(latent)}
<section aria-label="Top images">
<h2>Images that activate it most</h2>
${hasHeat ? heatControls(upper, gradient) : undefined}
<div class="grid">
${top.map((image, i) => imageCell(image, heats[i], upper, options))}</div>
</section>
${labels(top.map(({ imageIndex }) => info(imageIndex).label))}
<section class="plots" aria-label="Plots">
<h2>Its activations</h2>
<div>${new Html(plotActivationHistogram(latent, { ...PLOT, title: "How often each value occurs", bins: 32 }).svg)}</div>
<div>${new Html(plotPercentiles(latent, { ...PLOT, title: "Value at each percentile" }).svg)}</div>
</section>
</main>`;
  return page({ title: `Latent ${latent.latent} · ${title}`, root: "../", body, scripts: ["atlas.js"] });
}

const PLOT = { widthPx: 480, heightPx: 300 };

function statistics(latent: LatentSummary): Html {
  const rows: [name: string, value: string, explanation: string][] = [
    ["Density", formatShare(latent.density), "Share of all tokens on which the latent is active (above zero)"],
    ["Mean active", formatValue(latent.meanActive), "Mean activation over the tokens on which it is active"],
    ["Maximum", formatValue(latent.maxActivation), "Largest activation on any token"],
    ["Active tokens", formatCount(latent.nActive), "Number of tokens on which it is active"],
    ["Active images", formatCount(latent.nImagesActive), "Number of images with at least one active token"],
    [
      "Tokens per image",
      formatValue(latent.activeTokensPerImage),
      "Active tokens per image, over the images on which it is active: small for a detail, large for a background",
    ],
  ];
  return html`<dl class="stats">${
    rows.map(([name, value, explanation]) =>
      html`
        <div title="${explanation}" tabindex="0">
          <dt>${name}</dt>
          <dd>${value}</dd>
        </div>
      `
    )
  }</dl>`;
}

function heatControls(upper: number, gradient: string): Html {
  return html`
    <div class="controls" role="group" aria-label="Heat map">
      <label><input type="checkbox" id="heat" checked> Heat map</label>
      <label>Opacity <input type="range" id="opacity" min="0" max="100" value="85"></label>
      <label><input type="checkbox" id="smooth"> Smooth</label>
      <label><input type="checkbox" id="peak" checked> Strongest patch</label>
      <span class="scale">0 <i style="background:${gradient}"></i> ${formatValue(upper)}</span>
    </div>
  `;
}

function imageCell(
  image: TopImage,
  heat: ArrayLike<number> | undefined,
  upper: number,
  options: LatentPageOptions,
): Html {
  const { imageIndex, value, patchIndex } = image;
  const { gridWidth, gridHeight, colormap } = options;
  const { name, label } = options.info(imageIndex);
  let overlay: Html | undefined;
  if (heat !== undefined) {
    const rgba = heatmapRgba(heat, { gridWidth, gridHeight, upper, colormap, opacity: 1 });
    const png = Buffer.from(encodeRgbaPng(rgba, { width: gridWidth, height: gridHeight })).toString("base64");
    overlay = html`<img class="heat" alt="" src="data:image/png;base64,${png}">`;
  }
  const percent = (share: number) => `${Math.round(share * 1e4) / 100}%`;
  const peak = patchIndex >= 0 && patchIndex < gridWidth * gridHeight
    ? html`<span class="peak" style="left:${percent(patchIndex % gridWidth / gridWidth)};top:${
      percent(Math.floor(patchIndex / gridWidth) / gridHeight)
    };width:${percent(1 / gridWidth)};height:${percent(1 / gridHeight)}"></span>`
    : undefined;
  return html`
    <figure>
      <div
        class="picture"><div class="crop" role="img" aria-label="${name}" style="${spriteStyle(
          "crops",
          options.slot(imageIndex),
          "../",
        )}"></div>${overlay}${peak}</div>
      <figcaption><b>${formatValue(value)}</b> ${label}<span title="${name}">${name}</span></figcaption>
    </figure>
  `;
}

function labels(all: readonly (string | undefined)[]): Html | undefined {
  const tally = tallyLabels(all);
  if (tally.length === 0) return undefined;
  return html`
    <section aria-label="Labels">
      <h2>Labels of these images</h2>
      <ul class="tally">${tally.map(({ label, count, share }) =>
        html`<li><span>${label}</span><i style="width:${(share * 50).toFixed(1)}%"></i>${count}</li>`
      )}</ul>
    </section>
  `;
}
