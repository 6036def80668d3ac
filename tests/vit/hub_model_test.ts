import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { openVit } from "../../lib/vit/vit.ts";
import { contentOf, repo } from "../hub/fake_hub.ts";
import { withHub } from "../hub/with_hub.ts";

const fixtures = fileURLToPath(new URL("../fixtures/vits/", import.meta.url));
const text = (json: unknown) => new TextEncoder().encode(JSON.stringify(json));
const source = `hf:${repo}/onnx/vit_external.onnx`;

const processor = {
  image_processor_type: "ViTImageProcessor",
  size: { height: 28, width: 28 },
  image_mean: [0.1, 0.2, 0.3],
  image_std: [0.5, 0.5, 0.5],
};

Deno.test("openVit() fetches a model of the Hub with its weights and its configuration, and needs the Hub once", () =>
  withHub(async (hub, options) => {
    for (const name of (await readdir(fixtures)).filter((name) => name.startsWith("vit_external"))) {
      const isLarge = !name.endsWith(".onnx");
      hub.files.set(`onnx/${name}`, { content: await readFile(join(fixtures, name)), isLarge });
    }
    hub.files.set("onnx/vit_external_quantized.onnx", { content: contentOf(1000), isLarge: true });
    hub.files.set("preprocessor_config.json", { content: text(processor), isLarge: false });
    hub.files.set("config.json", { content: text({ model_type: "vit" }), isLarge: false });

    const vit = await openVit(source, { hub: options });
    const local = await openVit(join(fixtures, "vit_external.onnx"));
    assert.equal(vit.fingerprint, local.fingerprint);
    assert.deepEqual(vit.transform.mean, [0.1, 0.2, 0.3]);
    assert.equal(vit.family, "vit");
    const pixels = new Float32Array(3 * vit.heightPx * vit.widthPx).fill(0.5);
    const [opened, expected] = await Promise.all([vit.openLayers([0]), local.openLayers([0])]);
    assert.deepEqual(await opened.run(pixels), await expected.run(pixels));
    await Promise.all([opened.close(), expected.close()]);
    // Other models of the repository stay where they are.
    assert.equal((await readdir(dirname(vit.path))).includes("vit_external_quantized.onnx"), false);

    hub.seen.length = 0;
    const again = await openVit(source, { hub: { ...options, offline: true } });
    assert.deepEqual([again.fingerprint, again.family, hub.seen.length], [vit.fingerprint, "vit", 0]);
  }));

Deno.test("openVit() says which file of the Hub there is not", () =>
  withHub(async (_hub, options) => {
    await assert.rejects(
      openVit(`hf:${repo}/onnx/none.onnx`, { hub: options }),
      /^Error: Cannot fetch hf:.*none\.onnx/,
    );
  }));
