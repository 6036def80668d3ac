/**
 * The JSON files that come with a model on the Hugging Face Hub: `preprocessor_config.json` says how images become
 * pixels, `config.json` what the model is.
 *
 * @module
 */
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { PixelSize } from "../images/pixels.ts";
import { type PixelTransform, pixelTransformFromConfig } from "../images/transform.ts";
import type { ModelConfig } from "./recognize_family.ts";

/** How images become pixels, if there is a `preprocessor_config.json` beside the model or one folder up. */
export async function readTransform(path: string): Promise<PixelTransform | undefined> {
  const json = await readBeside(path, "preprocessor_config.json");
  return json === undefined ? undefined : pixelTransformFromConfig(json);
}

/** What the model is, if there is a `config.json` beside it or one folder up. */
export async function readModelConfig(path: string): Promise<ModelConfig | undefined> {
  const json = await readBeside(path, "config.json");
  return typeof json === "object" && json !== null ? json : undefined;
}

// Hub repositories keep the configuration one folder above `onnx/`.
async function readBeside(path: string, name: string): Promise<unknown> {
  for (const folder of [dirname(path), dirname(dirname(path))]) {
    const file = join(folder, name);
    let text: string;
    try {
      text = await readFile(file, "utf8");
    } catch {
      continue;
    }
    try {
      return JSON.parse(text);
    } catch (error) {
      throw new SyntaxError(`Cannot read ${file}: it must be JSON`, { cause: error });
    }
  }
  return undefined;
}

/** The size of images that a `config.json` names. */
export function configuredSize(config: ModelConfig | undefined): PixelSize | undefined {
  const size = config?.vision_config?.image_size ?? config?.image_size;
  const [heightPx, widthPx] = Array.isArray(size) ? size : [size, size];
  const isGiven = Number.isInteger(heightPx) && heightPx > 0 && Number.isInteger(widthPx) && widthPx > 0;
  return isGiven ? { heightPx, widthPx } : undefined;
}
