import assert from "node:assert/strict";
import { listHubFiles } from "../../lib/hub/hub.ts";
import { etagOf, repo } from "./fake_hub.ts";
import { withHub } from "./with_hub.ts";

Deno.test("listHubFiles() lists every page, sorted, with sizes and the checksums of large files", () =>
  withHub(async (hub, options) => {
    const sha256 = etagOf(hub.files.get("layer 3/sae.pt")!);
    const sae = { path: "layer 3/sae.pt", sizeBytes: 300_001, sha256 };
    assert.deepEqual(await listHubFiles(`hf:${repo}`, options), [
      { path: "README.md", sizeBytes: 13 },
      { path: "cfg.json", sizeBytes: 11 },
      sae,
    ]);
    assert.equal(hub.seen.length, 2);
    assert.deepEqual(await listHubFiles(`hf:${repo}/layer 3`, options), [sae]);
    assert.deepEqual(await listHubFiles(`hf:${repo}@v1`, options), [{ path: "cfg.json", sizeBytes: 11 }]);
    assert.equal((await listHubFiles(`hf:${repo}@refs/pr/1`, options)).length, 3);
  }));

Deno.test("listHubFiles() asks again when the Hub is busy", () =>
  withHub(async (hub, options) => {
    hub.troubles.push({ host: "hub", times: 2, status: 500 });
    assert.equal((await listHubFiles(`hf:${repo}`, options)).length, 3);
  }));
