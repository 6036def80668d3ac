/**
 * The first page of the atlas, and the data of its table. The table is filled by `atlas.js` a page at a time, as a
 * browser stalls on 25,000 rows of HTML.
 *
 * @module
 */
import type { LatentSummary, Summary } from "../../summary/summary.ts";
import { formatCount } from "../format.ts";
import { plotDensityAgainstMean, plotDensityHistogram } from "../summary_plots.ts";
import { Html, html, page } from "./html.ts";
import { CROPS_PER_SIDE, THUMBS_PER_SIDE } from "./sheets.ts";
import type { LabelCount } from "./tally.ts";

/** What the first page shows besides the summary. */
export interface IndexPageOptions {
  title: string;
  /** More facts, shown first. */
  facts: Readonly<Record<string, string | number>>;
  nAlive: number;
  /** Address of a latent's page, if it has one. */
  href: (latent: number) => string | undefined;
}

const TOKENS = { patches: "patch tokens", cls: "CLS tokens", all: "tokens, CLS included" };

/** The page as HTML text. */
export function indexPage(summary: Summary, options: IndexPageOptions): string {
  const { title, nAlive, href } = options;
  const facts: Record<string, string | number> = {
    ...options.facts,
    Images: formatCount(summary.nImages),
    Tokens: `${formatCount(summary.nTokens)} ${TOKENS[summary.tokens]}`,
    "Mean L0": `${summary.meanL0.toFixed(1)} latents active per token`,
    Latents: `${formatCount(summary.dSae)}: ${formatCount(nAlive)} alive, ${formatCount(summary.dSae - nAlive)} dead`,
  };
  const columns: [name: string, explanation: string, kind: string][] = [
    ["Latent", "Number of the latent in the dictionary", "number"],
    ["Top images", "", ""],
    ["Density", "Share of all tokens on which the latent is active", "number"],
    ["Mean active", "Mean activation over the tokens on which it is active", "number"],
    ["Maximum", "Largest activation on any token", "number"],
    ["Images", "Images with at least one active token", "number"],
    ["Top label", "Most frequent label among its top images", "text"],
    ["Purity", "Share of the top label among the top images that have a label", "number"],
  ];
  const body = html`
    <main>
      <h1>${title}</h1>
      <p class="intro">A sparse autoencoder splits what a vision transformer knows about each patch of an image into a few
    active <em>latents</em> out of many. Each latent below is shown by the images that activate it most. If they have
    something in common, that is what the latent stands for; on the page of a
    latent, colored patches are where it is active.</p>
      <dl class="facts">${Object.entries(facts).map(([name, value]) =>
        html`
          <div>
            <dt>${name}</dt>
            <dd>${value}</dd>
          </div>
        `
      )}</dl>
      <section class="plots" aria-label="Plots">
        <div>${withoutTabStops(plotDensityAgainstMean(summary, { widthPx: 620, heightPx: 400, href }).svg)}</div>
        <div>${new Html(plotDensityHistogram(summary, { widthPx: 620, heightPx: 400 }).svg)}</div>
      </section>
      <section id="latents" aria-label="Latents">
        <h2>Latents</h2>
        <div class="controls"><label>Find <input type="search" id="search" placeholder="number or label"></label>
    <span id="count" role="status"></span>
    <span class="pager"><button id="back" type="button">← Back</button> <span id="place"></span>
    <button id="forward" type="button">More →</button></span></div>
        <noscript><p>The table needs JavaScript; the pages in the folder <code>latents</code> open without it.</p></noscript>
        <div class="wide">
          <table>
            <thead>
              <tr>${columns.map(([name, explanation, kind], i) =>
                kind === "" ? html`<th scope="col">${name}</th>` : html`
                  <th scope="col" class="${kind}"
                    title="${explanation}"><button type="button" data-column="${i}">${name}</button></th>
                `
              )}</tr>
            </thead>
            <tbody id="rows"></tbody>
          </table>
        </div>
      </section>
    </main>
  `;
  return page({ title, root: "", body, scripts: ["data.js", "atlas.js"] });
}

/** With thousands of dots, the tab key would never reach the table, which has the same links. */
function withoutTabStops(svg: string): Html {
  return new Html(svg.replaceAll("<a ", '<a tabindex="-1" '));
}

/** One row of the table. */
export interface IndexRow {
  readonly latent: LatentSummary;
  /** Places of its first images in the sprite sheets. */
  readonly slots: readonly number[];
  readonly topLabel?: LabelCount;
}

/** `data.js`: the rows of the table, written piece by piece. Numbers keep four digits. */
export function* indexData(
  rows: Iterable<IndexRow>,
  options: { pageNameLetters: number; dSae: number },
): Generator<string> {
  const labels = new Map<string, number>();
  const round = (value: number) => Number(value.toPrecision(4));
  yield `"use strict";\nvar atlas = ${
    JSON.stringify({ ...options, cropsPerSide: CROPS_PER_SIDE, thumbsPerSide: THUMBS_PER_SIDE })
  };\natlas.rows = [\n`;
  for (const { latent, slots, topLabel } of rows) {
    let label = -1;
    if (topLabel !== undefined) {
      label = labels.get(topLabel.label) ?? labels.size;
      labels.set(topLabel.label, label);
    }
    const { density, meanActive, maxActivation, nImagesActive } = latent;
    const numbers = [round(density), round(meanActive), round(maxActivation), nImagesActive];
    yield `${JSON.stringify([latent.latent, slots, ...numbers, label, topLabel ? round(topLabel.share) : -1])},\n`;
  }
  yield `];\natlas.labels = ${JSON.stringify([...labels.keys()])};\n`;
}
