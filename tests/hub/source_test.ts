import assert from "node:assert/strict";
import { isHubSource, parseHubSource } from "../../lib/hub/hub.ts";
import { hubSettings } from "../../lib/hub/settings.ts";
import { formatHubSource } from "../../lib/hub/source.ts";
import { join } from "node:path";
import { homedir, tmpdir } from "node:os";
import process from "node:process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";

Deno.test("parseHubSource() takes names apart", () => {
  const model = { kind: "model", repo: "osunlp/SAE_x.1", revision: undefined, path: "" };
  const cases: [string, object][] = [
    ["hf:osunlp/SAE_x.1", model],
    ["hf://osunlp/SAE_x.1/", model],
    ["hf:models/osunlp/SAE_x.1", model],
    ["hf:osunlp/SAE_x.1/a b/c.pt", { ...model, path: "a b/c.pt" }],
    ["hf:osunlp/SAE_x.1@v1/c@2.pt", { ...model, revision: "v1", path: "c@2.pt" }],
    ["hf:osunlp/SAE_x.1@refs/pr/1/c.pt", { ...model, revision: "refs/pr/1", path: "c.pt" }],
    ["hf:osunlp/SAE_x.1@feature%2Fx/c.pt", { ...model, revision: "feature/x", path: "c.pt" }],
    ["hf:datasets/osunlp/SAE_x.1/c.pt", { ...model, kind: "dataset", path: "c.pt" }],
  ];
  for (const [source, parts] of cases) assert.deepEqual(parseHubSource(source), parts, source);
});

Deno.test("formatHubSource() is the inverse of parseHubSource()", () => {
  for (const source of ["hf:a/b", "hf:a/b/c d/e.pt", "hf:a/b@x%2Fy/c", "hf:datasets/a/b@v1/c"]) {
    assert.equal(formatHubSource(parseHubSource(source)), source);
  }
});

Deno.test("parseHubSource() refuses what is no name, and what leaves the repository", () => {
  const form = "it must be of the form hf:owner/repository/path or hf:owner/repository@revision/path";
  const within = (path: string) => `its path must stay within the repository, current value is ${path}`;
  const cases: [string, string][] = [
    ["osunlp/sae/x.pt", form],
    ["hf:gpt2", form],
    ["hf:", form],
    ["hf:/a/b", form],
    ["hf:spaces/a/b/c", "it must name a model or a data set, current kind is spaces"],
    ["hf:a/../c", 'owner and repository must be letters, digits, ".", "_" and "-", current value is a/..'],
    ["hf:a/b--c/d", 'owner and repository must be letters, digits, ".", "_" and "-", current value is a/b--c'],
    ["hf:a/b/../../c", within("../../c")],
    ["hf:a/b//c", within("/c")],
    ["hf:a/b/c:/d", within("c:/d")],
    ["hf:a/b/..\\c", within("..\\c")],
    ["hf:a/b@..%2F../c", "its revision must be a branch, tag or commit"],
    ["hf:a/b@%zz/c", "its revision must be a branch, tag or commit"],
  ];
  for (const [source, message] of cases) {
    assert.throws(() => parseHubSource(source), { name: "TypeError", message: `Cannot use ${source}: ${message}` });
  }
});

Deno.test("isHubSource() tells names from paths", () => {
  assert.equal(isHubSource("hf:a/b/c"), true);
  assert.equal(isHubSource("out/hf:a/b"), false);
});

/** Settings with an environment of its own. */
async function settingsWith(env: Record<string, string>) {
  const names = [
    ..."HF_HOME HF_HUB_CACHE HUGGINGFACE_HUB_CACHE XDG_CACHE_HOME HF_ENDPOINT HF_TOKEN HF_TOKEN_PATH".split(" "),
    ..."HUGGING_FACE_HUB_TOKEN HF_HUB_OFFLINE TRANSFORMERS_OFFLINE HF_HUB_DISABLE_IMPLICIT_TOKEN".split(" "),
  ];
  const before = names.map((name) => process.env[name]);
  try {
    for (const name of names) delete process.env[name];
    Object.assign(process.env, env);
    return await hubSettings({});
  } finally {
    names.forEach((name, i) => {
      if (before[i] === undefined) delete process.env[name];
      else process.env[name] = before[i];
    });
  }
}

Deno.test("hubSettings() reads the environment as Python's huggingface_hub does", async () => {
  const home = await mkdtemp(join(tmpdir(), "sparsight-home-"));
  try {
    const bare = await settingsWith({ XDG_CACHE_HOME: home });
    assert.equal(bare.cacheDir, join(home, "huggingface", "hub"));
    assert.equal(bare.hubUrl, "https://huggingface.co");
    assert.equal(bare.token, undefined);
    assert.equal(bare.offline, false);
    const { cacheDir } = await settingsWith({ HF_TOKEN_PATH: join(home, "none") });
    assert.equal(cacheDir, join(homedir(), ".cache", "huggingface", "hub"));

    await writeFile(join(home, "token"), "hf_from_file\n");
    assert.equal((await settingsWith({ HF_HOME: home })).token, "hf_from_file");
    assert.equal((await settingsWith({ HF_HOME: home })).cacheDir, join(home, "hub"));
    const full = await settingsWith({
      HF_HOME: home,
      HF_HUB_CACHE: "~/cache",
      HF_TOKEN: "hf_from_environment",
      HF_ENDPOINT: "http://mirror.test/",
      HF_HUB_OFFLINE: "true",
    });
    assert.equal(full.cacheDir, join(homedir(), "cache"));
    assert.equal(full.token, "hf_from_environment");
    assert.equal(full.hubUrl, "http://mirror.test");
    assert.equal(full.offline, true);
    const implicit = await settingsWith({ HF_HOME: home, HF_HUB_DISABLE_IMPLICIT_TOKEN: "1" });
    assert.equal(implicit.token, undefined);
  } finally {
    await rm(home, { recursive: true });
  }
});

Deno.test("hubSettings() refuses an address that is none", async () => {
  await assert.rejects(hubSettings({ hubUrl: "mirror.test" }), {
    name: "TypeError",
    message: "Cannot use the Hub: its address must be a URL of http or https, current value is mirror.test",
  });
});
