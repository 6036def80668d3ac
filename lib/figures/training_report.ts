/**
 * One web page about a training run, in one file that opens from disk: facts, curves, comparison with other runs, and
 * how often latents are active. It fetches nothing and runs no script.
 *
 * @module
 */
import { replaceFile } from "../runtime/files.ts";
import { Html, html } from "./atlas/html.ts";
import { styleCss } from "./atlas/style.ts";
import type { Figure } from "./figure.ts";
import { formatCount, formatShare, formatValue } from "./format.ts";
import { plotParetoFront } from "./pareto_plot.ts";
import { type LatentDensities, plotDensityHistogram } from "./summary_plots.ts";
import { plotTraining, type TrainingRun } from "./training_plots.ts";
import { heldOutPoints, type TrainingPoint } from "./training_point.ts";

/** Options of {@linkcode writeTrainingReport}. */
export interface TrainingReportOptions {
  /** The log, in the order of the steps. */
  points: readonly TrainingPoint[];
  /** The same quantities on held-out tokens, beside those that points carry. @default {[]} */
  heldOut?: readonly TrainingPoint[];
  /** At most six other runs to compare with. @default {[]} */
  runs?: readonly TrainingRun[];
  /** Name of the run where there are others. @default {"this run"} */
  name?: string;
  /** Facts for the top of the page, such as `{ Dictionary: "TopK 32", Images: 3731 }`. @default {{}} */
  facts?: Readonly<Record<string, string | number>>;
  /** Share of tokens on which each latent is active, shape [dSae]; without it there is no histogram. */
  densities?: ArrayLike<number>;
  /** Latents of the dictionary. By default the number of densities, if there are any. */
  dSae?: number;
  /** Heading of the page. @default {"Training report"} */
  title?: string;
}

/** Figures are drawn for a wide and a narrow page: one that only shrinks cannot be read on a phone. */
const WIDE_PX = 900;
const NARROW_PX = 360;

const reportCss = /* css */ `
.drawn svg { display: block; width: calc(100% + 32px); height: auto; max-width: ${WIDE_PX}px; margin: 0 -16px; }
.drawn .narrow { display: none; }
@media (max-width: 640px) { .drawn .full { display: none; } .drawn .narrow { display: block; } .drawn svg { max-width: 480px; } }
.runs table { min-width: 0; max-width: 760px; }
.runs .intro { margin-top: 12px; }
`;

/**
 * Writes the page to `path`, in one step.
 *
 * @throws {RangeError} If a density is not in [0, 1], or an option of the plots is out of range.
 * @throws {Error} If the file cannot be written; what was there before stays.
 */
export async function writeTrainingReport(path: string, options: TrainingReportOptions): Promise<void> {
  const { points, heldOut = [], runs = [], name = "this run", densities, title = "Training report" } = options;
  const dSae = options.dSae ?? (densities && densities.length > 0 ? densities.length : undefined);
  const all: TrainingRun[] = [{ name, points, heldOut, dSae }, ...runs.map((run) => ({ dSae, ...run }))];
  const sections = [
    drawn("Curves", (widthPx) =>
      plotTraining(points, {
        widthPx,
        heldOut,
        runs,
        name,
        dSae,
        title: "Curves",
        panels: ["normalizedMse", "mse", "loss", "l0", "l1", "gradientNorm", "learningRate", "tokensPerSecond"],
      })),
  ];
  if (all.some((run) => run.points.some(({ nDead }) => nDead !== undefined))) {
    const hasHeldOut = all.some((run) => heldOutPoints(run.points, run).some(({ nDead }) => nDead !== undefined));
    sections.push(
      drawn(
        "Dead latents",
        (widthPx) =>
          plotTraining(points, {
            widthPx,
            heldOut,
            runs,
            name,
            dSae,
            title: "Dead latents",
            subtitle: "",
            caption: hasHeldOut ? "Held out: latents that are active on none of those tokens." : undefined,
            panels: ["nDead"],
            heightPx: 280,
          }),
      ),
    );
  }
  if (densities !== undefined) {
    const summary = densitiesOf(densities);
    sections.push(
      drawn(
        "Densities",
        (widthPx) => plotDensityHistogram(summary, { widthPx }),
      ),
    );
  }
  if (runs.length > 0) sections.push(comparison(all));
  const body = html`
    <main>
      <h1>${title}</h1>
      ${factList(options, { dSae })}
      ${sections}
    </main>
  `;
  await replaceFile(path, page(title, body));
}

function page(title: string, body: Html): string {
  return html`
    <!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8">
        <meta name="viewport" content="width=device-width, initial-scale=1">
        <title>${title}</title>
        <link rel="icon" href="data:,">
        <style>${new Html(styleCss + reportCss)}</style>
      </head>
      <body>
        ${body}
      </body>
    </html>
  `.text.trimStart();
}

/** A figure at both widths; the style sheet shows one. */
function drawn(name: string, draw: (widthPx: number) => Figure): Html {
  return html`
    <section class="drawn" aria-label="${name}">
      <div class="full">${new Html(draw(WIDE_PX).svg)}</div>
      <div class="narrow">${new Html(draw(NARROW_PX).svg)}</div>
    </section>
  `;
}

/** Facts that were given, then where the run ended. */
function factList({ points, facts = {} }: TrainingReportOptions, { dSae }: { dSae?: number }): Html {
  const last = points.at(-1);
  const shown: [string, string | number][] = Object.entries(facts);
  if (last !== undefined) {
    shown.push(["Steps", formatCount(last.step)], ["Tokens seen", formatCount(last.nTokens)]);
    shown.push(["Last loss", formatValue(last.loss)]);
    if (last.normalizedMse !== undefined) shown.push(["Last normalized MSE", formatValue(last.normalizedMse)]);
    if (last.l0 !== undefined) shown.push(["Last L0", formatValue(last.l0)]);
    if (last.nDead !== undefined) shown.push(["Dead latents", describeDead(last.nDead, dSae)]);
  }
  return html`<dl class="facts">${
    shown.map(([name, value]) =>
      html`
        <div>
          <dt>${name}</dt>
          <dd>${value}</dd>
        </div>
      `
    )
  }</dl>`;
}

/** The runs' last values as a table and, where they can be, as dots. Held-out values count more than those of a batch. */
function comparison(runs: readonly TrainingRun[]): Html {
  const ends = runs.map(({ name, points, heldOut, dSae }) => {
    const last = points.at(-1);
    const measured = heldOutPoints(points, { heldOut }).at(-1) ?? last;
    const { l0 = last?.l0 ?? NaN, normalizedMse = last?.normalizedMse ?? NaN } = measured ?? {};
    return { name, last, dSae, l0, normalizedMse };
  });
  const hasDots = ends.filter(({ l0, normalizedMse }) => l0 > 0 && normalizedMse > 0).length > 1;
  const rows = ends.map(({ name, last, dSae, l0, normalizedMse }) =>
    html`
      <tr>
        <td>${name}</td>
        <td class="number">${formatCount(last?.nTokens ?? 0)}</td>
        <td class="number">${formatValue(normalizedMse)}</td>
        <td class="number">${formatValue(l0)}</td>
        <td class="number">${last?.nDead === undefined ? "–" : describeDead(last.nDead, dSae)}</td>
      </tr>
    `
  );
  return html`
    ${hasDots ? drawn("Sparse or faithful", (widthPx) => plotParetoFront(ends, { widthPx })) : ""}
    <section class="runs">
      <h2>Runs</h2>
      <div class="wide">
        <table>
          <thead>
            <tr>
              <th scope="col">Run</th>
              <th scope="col" class="number">Tokens</th>
              <th scope="col" class="number">Normalized MSE</th>
              <th scope="col" class="number">L0</th>
              <th scope="col" class="number">Dead latents</th>
            </tr>
          </thead>
          <tbody>${rows}</tbody>
        </table>
      </div>
      <p class="intro">Values at the end of each run: on held-out tokens if there are any, else on its last batch.</p>
    </section>
  `;
}

function describeDead(nDead: number, dSae: number | undefined): string {
  return dSae === undefined
    ? formatCount(nDead)
    : `${formatCount(nDead)} of ${formatCount(dSae)} (${formatShare(nDead / dSae)})`;
}

/** What the histogram reads of a summary. */
function densitiesOf(densities: ArrayLike<number>): LatentDensities {
  for (let latent = 0; latent < densities.length; latent++) {
    if (!(densities[latent] >= 0 && densities[latent] <= 1)) {
      throw new RangeError(
        `Cannot write training report: densities must be between 0 and 1, current value is ${densities[latent]}`,
      );
    }
  }
  const latent = (i: number) => ({ density: densities[i], nActive: densities[i] > 0 ? 1 : 0 });
  return { dSae: densities.length, latent };
}
