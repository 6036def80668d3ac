/**
 * Commands on files of the Hub, with a fake one on this machine.
 *
 * @module
 */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { repo } from "../hub/fake_hub.ts";
import { withHub } from "../hub/with_hub.ts";

const cli = fileURLToPath(new URL("../../cli.ts", import.meta.url));
const checkpoint = fileURLToPath(new URL("../fixtures/saev/s5_HEAD_TopK.pt", import.meta.url));

/** The command line as a process of its own, since an environment belongs to the whole process. */
async function runCliIn(env: Record<string, string>, ...args: string[]) {
  const command = new Deno.Command(Deno.execPath(), { args: ["run", "-A", cli, ...args], env });
  const { code, stdout, stderr } = await command.output();
  const [out, error] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  return { status: code, stdout: out, stderr: error };
}

Deno.test("describe takes an SAE of the Hub, and without a network the one that is in the cache", () =>
  withHub(async (hub, { hubUrl, cacheDir }) => {
    hub.files.set("layer_3/sae.pt", { content: await readFile(checkpoint), isLarge: true });
    const env = { HF_ENDPOINT: hubUrl, HF_HUB_CACHE: cacheDir, HF_TOKEN: "" };
    const source = `hf:${repo}/layer_3/sae.pt`;
    const online = await runCliIn(env, "describe", source);
    assert.equal(online.status, 0, online.stderr);
    assert.match(
      online.stdout,
      /^128 latents for activations of width 32, from saev, schema 5\nActivation: TopK, k = 8/,
    );
    const offline = await runCliIn({ ...env, HF_HUB_OFFLINE: "1" }, "describe", source);
    assert.deepEqual([offline.status, offline.stdout], [0, online.stdout]);
    const missing = await runCliIn(env, "describe", `hf:${repo}/layer_4/sae.pt`);
    assert.equal(missing.status, 1);
    assert.match(
      missing.stderr,
      /^error: Cannot open SAE hf:someone.*layer_4\/sae\.pt must exist in someone\/tiny-sae at main, it does not$/m,
    );
    assert.equal(missing.stderr.trim().split("\n").length, 1);
  }));
