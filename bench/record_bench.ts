/**
 * Recording beside the bare model on ready pixels: what opening, decoding, resizing and batching cost, and what they must
 * cost at least. Medians of rounds in which all take turns. Decoding runs beside resizing and beside the model, so with
 * `c` cores that the model keeps busy the floor is its time and a `c`-th of the processor time of making pixels.
 *
 *     deno run -A bench/record_bench.ts
 *     deno run -A bench/record_bench.ts --model clip_b16.onnx --images photos/ --count 32 --batch 8 --layers 3,11
 *
 * @module
 */
import { availableParallelism } from "node:os";
import process from "node:process";
import { parseArgs } from "node:util";
import { embeddedPaths } from "../lib/embedded.ts";
import { readImage } from "../lib/images/decode.ts";
import { openImages } from "../lib/images/open.ts";
import { toPixelValues } from "../lib/images/pixels.ts";
import { recordActivations } from "../lib/vit/record.ts";
import { openVit } from "../lib/vit/vit.ts";

const paths = embeddedPaths();
const { values: options } = parseArgs({
  options: {
    model: { type: "string", default: paths.vit },
    images: { type: "string", default: paths.images },
    layers: { type: "string", default: String(paths.layer) },
    count: { type: "string", default: "512" },
    batch: { type: "string", default: "32" },
    rounds: { type: "string", default: "5" },
  },
});

/** Wall and processor time, in ms. */
interface Times {
  wall: number;
  cpu: number;
}

async function timed(body: () => Promise<void>): Promise<Times> {
  const before = process.cpuUsage();
  const start = performance.now();
  await body();
  const { user, system } = process.cpuUsage(before);
  return { wall: performance.now() - start, cpu: (user + system) / 1e3 };
}

const vit = await openVit(options.model);
const images = await openImages(options.images);
const [nImages, batchSize] = [Number(options.count), Number(options.batch)];
const layers = options.layers.split(",").map(Number);
const imageIndices = Array.from({ length: nImages }, (_, i) => i % images.nImages);
const batches = Array.from(
  { length: Math.ceil(nImages / batchSize) },
  (_, batch) => imageIndices.slice(batch * batchSize, (batch + 1) * batchSize),
);
const imageLength = 3 * vit.heightPx * vit.widthPx;
const pixels = Float32Array.from({ length: batchSize * imageLength }, (_, i) => Math.sin(i));
const opened = await vit.openLayers(layers);

const contestants: Record<string, () => Promise<void>> = {
  "bare model": async () => {
    for (const batch of batches) await opened.run(pixels.subarray(0, batch.length * imageLength));
  },
  "opening the model": async () => {
    await (await vit.openLayers(layers)).close();
  },
  "making pixels": async () => {
    for (const batch of batches) {
      await Promise.all(batch.map(async (imageIndex, i) => {
        const image = await readImage(images, imageIndex, { background: vit.transform.background });
        toPixelValues(image, vit.transform, { into: pixels.subarray(i * imageLength, (i + 1) * imageLength) });
      }));
    }
  },
  "recordActivations()": async () => {
    const recording = recordActivations(vit, images, { layers, imageIndices, batchSize });
    for await (const batch of recording) void batch;
  },
};

const times: Record<string, Times[]> = {};
for (let round = 0; round <= Number(options.rounds); round++) {
  for (const [name, run] of Object.entries(contestants)) {
    const result = await timed(run);
    // The first round warms up.
    if (round > 0) (times[name] ??= []).push(result);
  }
}
const median = (values: readonly number[]) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
const wall = (name: string) => median(times[name].map((time) => time.wall));
const cpu = (name: string) => median(times[name].map((time) => time.cpu));
console.log(
  `${nImages} images by ${batchSize}, layers ${layers.join(", ")}, medians of ${options.rounds} in ms an image`,
);
for (const name of Object.keys(contestants)) {
  console.log(
    `${name.padEnd(24)}${(wall(name) / nImages).toFixed(2).padStart(9)}  ` +
      `(processor ${(cpu(name) / nImages).toFixed(2)})`,
  );
}
const bare = wall("bare model");
const floor = bare + cpu("making pixels") / availableParallelism();
console.log(`${"floor".padEnd(24)}${(floor / nImages).toFixed(2).padStart(9)}`);
const recorded = wall("recordActivations()");
console.log(
  `recording is ${(recorded / bare).toFixed(2)}× the bare model, ${(recorded / floor).toFixed(2)}× the floor`,
);
// onnxruntime's threads would keep the process.
process.exit(0);
